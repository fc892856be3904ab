"""An architecture and its weights as files, each checked by reading it back."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from pruneas.architecture import Architecture
from pruneas.cost.count import count
from pruneas.errors import ArchitectureError, NetworkError, RunError
from pruneas.files import replacing, write_text
from pruneas.networks.weights import fit_to, read_weights


def export(run_or_file: Path, formats: list[str], out: Path | None) -> list[Path]:
    """Write the formats asked for; returns what was written.

    `run_or_file` is the folder of a finished run or an architecture file; `out` defaults to that folder's `export/`,
    or to `export/` beside the file. Raises RunError for formats that do not exist, runs that are not finished, and
    where nothing can be written.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise RunError(f"--format: must be among {', '.join(FORMATS)}, got {', '.join(map(repr, unknown)) or 'none'}")
    if not run_or_file.exists():
        raise RunError(f"{run_or_file}: there is no such run or architecture file")
    is_run = run_or_file.is_dir()
    source = run_or_file / "best" / "architecture.json" if is_run else run_or_file
    if is_run and not (source.exists() and (run_or_file / "result.json").exists()):
        raise RunError(f"{run_or_file}: holds no finished run; give the search's command again to go on with it")
    architecture = Architecture.load(source)
    folder = out or (run_or_file / "export" if is_run else run_or_file.parent / "export")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written: {error.strerror}; give another folder with --out") from error
    return [FORMATS[name](architecture, source, folder) for name in dict.fromkeys(formats)]


def _json(architecture: Architecture, source: Path, folder: Path) -> Path:
    """The architecture file. Checked by building the network that it describes and counting it."""
    path = folder / "architecture.json"
    write_text(path, architecture.to_json() + "\n")
    written = Architecture.load(path)
    found, base = count(written.build(), written.inputs), count(architecture.build(), architecture.inputs)
    if (found.flops, found.params) != (base.flops, base.params):
        raise ArchitectureError(f"{path}: read back, it builds another network")
    return path


def _safetensors(architecture: Architecture, source: Path, folder: Path) -> Path:
    """The weights of a run's winner. Checked, before and after, by loading them into the network they are for."""
    weights = source.parent / "weights.safetensors"
    if not weights.exists():
        raise RunError(
            f"{weights}: is missing; weights are exported from a run's folder, an architecture file has none"
        )
    try:
        fit_to(architecture.build(), read_weights(weights), str(weights))
    except NetworkError as error:
        run = source.parent.parent
        raise RunError(
            f"{error}. Delete {run / 'result.json'} and give the search's command again: {run / 'best'} is made anew"
        ) from error
    path = folder / "weights.safetensors"
    with replacing(path) as temporary:
        shutil.copyfile(weights, temporary)
    fit_to(architecture.build(), read_weights(path), str(path))
    return path


FORMATS: Mapping[str, Callable[[Architecture, Path, Path], Path]] = {"json": _json, "safetensors": _safetensors}
