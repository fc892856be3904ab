"""Architectures that others learn from, by the files or runs that people name. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from pruneas.architecture import Architecture
from pruneas.errors import ArchitectureError


def source_file(path: Path) -> Path:
    """The file of an architecture, or of a finished run's winner.

    Raises ArchitectureError for a folder that holds no finished run.
    """
    best = path / "best" / "architecture.json"
    if path.is_dir() and not best.exists():
        raise ArchitectureError(f"{path}: holds no finished run; give an architecture's file")
    return best if path.is_dir() else path


def mask_files(paths: list[Path]) -> dict[str, Path]:
    """The files of masks of those of the architecture files that have some, by `Architecture.mask`."""
    found = {}
    for path in paths:
        if (mask := Architecture.load(path).mask) is not None:
            found[mask] = path.with_suffix(".mask.safetensors")
    return found
