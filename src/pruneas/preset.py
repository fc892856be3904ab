"""Named architectures that come with pruneas: targets of published pruning methods, as data in `presets/`.

A preset is read like an architecture file: `Architecture.load("preset:vgg16-a")`. Each file says where its widths come
from and, where sources disagree, which one it follows and why. `tests/presets.py` writes them.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pruneas.errors import ArchitectureError

PREFIX = "preset:"


def presets() -> dict[str, str]:
    """The presets that come with pruneas: name -> one line on what it is and whose."""
    return {name: _read(path)["summary"] for name, path in _files().items()}


def architecture_text(name: str) -> str:
    """The JSON of a preset's architecture; `name` is without the prefix. Raises ArchitectureError for others."""
    files = _files()
    if name not in files:
        near = get_close_matches(name, files, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(files)}"
        raise ArchitectureError(f"{PREFIX}{name}: there is no preset called {name!r}; {hint}")
    return json.dumps(_read(files[name])["architecture"])


def _files() -> dict[str, Path]:
    return {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.json"))}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
