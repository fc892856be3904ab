"""`pruneas spaces`: the search spaces that come with pruneas."""

from pathlib import Path

import typer

from pruneas.config import shipped_spaces


def spaces() -> None:
    """List the search spaces that come with pruneas."""
    found = shipped_spaces()
    room = max(map(len, found), default=0)
    for name, path in found.items():
        typer.echo(f"{name:{room}}  {_first_comment(path)}")


def _first_comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.lstrip("# ") for line in lines if line.startswith("#")), "")
