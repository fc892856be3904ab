"""`pruneas spaces`: the search spaces, and the presets, that come with pruneas."""

from collections.abc import Mapping
from pathlib import Path

import typer

from pruneas.config import shipped_spaces
from pruneas.preset import PREFIX
from pruneas.preset import presets as published


def spaces() -> None:
    """List the search spaces that come with pruneas."""
    _list({name: _first_comment(path) for name, path in shipped_spaces().items()})


def presets() -> None:
    """List the presets: architectures that published methods arrived at."""
    _list({f"{PREFIX}{name}": summary for name, summary in published().items()})


def _list(lines: Mapping[str, str]) -> None:
    room = max(map(len, lines), default=0)
    for name, line in lines.items():
        typer.echo(f"{name:{room}}  {line}")


def _first_comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.lstrip("# ") for line in lines if line.startswith("#")), "")
