"""An architecture and its weights as files, each checked by reading it back in a fresh process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pruneas.architecture import Architecture
from pruneas.cost.count import Count, count
from pruneas.errors import NetworkError, RunError
from pruneas.export.card import card
from pruneas.export.graphs import missing, write_onnx, write_torch_export
from pruneas.export.reload import verify
from pruneas.export.taken import Taken
from pruneas.export.text import python_text
from pruneas.files import write_text
from pruneas.networks.weights import fit_to, read_weights
from pruneas.search.train import save_state
from pruneas.structure.build import build_widths, structure_for
from pruneas.structure.masks import Masks, check_masks, initialise_masked, mask_path, read_masks

CARD = "model-card.md"


def export(
    run_or_file: Path,
    formats: list[str],
    out: Path | None,
    *,
    weights: Path | None = None,
    with_card: bool = False,
    trust: str | Collection[str] = (),
) -> list[Path]:
    """Write the formats asked for, all or none of them; returns what was written.

    `run_or_file` is the folder of a finished run or an architecture file; `out` defaults to that folder's `export/`,
    or to `export/` beside the file. `weights` are those of the architecture; a run has its own. Without any, what is
    exported is freshly initialised, and says so. `trust` names packages whose factories an architecture file may name.
    Raises RunError for formats that do not exist, runs that are not finished, and where nothing can be written,
    ExportError for an export that cannot be made or is another network when it is read back.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise RunError(f"--format: must be among {', '.join(FORMATS)}, got {', '.join(map(repr, unknown)) or 'none'}")
    for name in formats:
        if lacking := missing(name):
            raise RunError(f"--format {name}: {', '.join(lacking)} is not installed: pip install 'pruneas[{name}]'")
    taken = _taken(run_or_file, weights, trust)
    if "safetensors" in formats and not taken.has_weights:
        raise RunError(
            f"{run_or_file}: safetensors hold weights, an architecture file has none; give them with --weights FILE, "
            "or export a run's folder"
        )
    folder = out or (run_or_file if run_or_file.is_dir() else run_or_file.parent) / "export"
    with _making(folder) as made:
        counted = count(taken.network, taken.architecture.inputs)
        written = {name: FORMATS[name](taken, counted, made) for name in dict.fromkeys(formats)}
        verify(written, taken.network, counted, taken.architecture)
        if with_card:
            write_text(made / CARD, card(taken, counted))
        return [folder / name for name in sorted(os.listdir(made))]


@contextlib.contextmanager
def _making(folder: Path) -> Iterator[Path]:
    """A folder of its own inside the one asked for; its files move there when all is well."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
    except OSError as error:
        raise RunError(f"{folder}: cannot be written: {error.strerror}; give another folder with --out") from error
    try:
        yield made
        for path in made.iterdir():
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _taken(run_or_file: Path, weights: Path | None, trust: str | Collection[str]) -> Taken:
    if not run_or_file.exists():
        raise RunError(f"{run_or_file}: there is no such run or architecture file")
    is_run = run_or_file.is_dir()
    source = run_or_file / "best" / "architecture.json" if is_run else run_or_file
    result = run_or_file / "result.json"
    if is_run and not (source.exists() and result.exists()):
        raise RunError.without_result(run_or_file)
    architecture = Architecture.load(source, trust=trust)
    own = source.with_name("weights.safetensors")
    path = weights or (own if is_run and own.exists() else None)
    masks = {} if architecture.mask is None else read_masks(mask_path(source), architecture.mask)
    structure = structure_for(architecture)
    network = build_widths(structure, architecture.widths, architecture.removed, architecture.selections, seed=0)
    if path is None:
        initialise_masked(network, masks, seed=0)
    else:
        try:
            fit_to(network, read_weights(path), str(path))
        except NetworkError as error:
            if weights is not None:
                raise
            raise RunError(
                f"{error}. Delete {result} and give the search's command again: {source.parent} is made anew"
            ) from error
        _check_masked(network, masks, path)
    return Taken(
        architecture=architecture,
        structure=structure,
        network=network.eval(),
        weights=path,
        mask=mask_path(source) if architecture.mask is not None else None,
        result=result.read_text(encoding="utf-8") if is_run else None,
        facts=_facts(source.with_name("weights.json")) if is_run and path == own else {},
    )


def _check_masked(network: nn.Module, masks: Masks, path: Path) -> None:
    """Raises ArchitectureError for masks of another network, NetworkError for weights that they say are zero."""
    parameters = dict(network.named_parameters())
    check_masks(masks, {name: parameter.shape for name, parameter in parameters.items()})
    counts = {name: int(((parameters[name] != 0) & ~mask).sum()) for name, mask in masks.items()}
    if strange := [f"{name} has {count:,} that are not" for name, count in counts.items() if count]:
        more = f" and {len(strange) - 4} tensors more" if len(strange) > 4 else ""
        raise NetworkError(
            f"{path}: the weights that the architecture's mask leaves out must be zero; "
            f"{'; '.join(strange[:4])}{more}. Give the weights that were trained with this mask"
        )


def _facts(path: Path) -> dict[str, Any]:
    """What a run says of its weights: whose, trained on what, the images' normalisation, the classes."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {error}; delete the run's result.json and search again") from error
    return dict(found)


def _json(taken: Taken, counted: Count, folder: Path) -> Path:
    path = folder / "architecture.json"
    write_text(path, taken.architecture.to_json() + "\n")
    if taken.mask is not None:
        shutil.copyfile(taken.mask, mask_path(path))
    return path


def _safetensors(taken: Taken, counted: Count, folder: Path) -> Path:
    path = folder / "weights.safetensors"
    save_state(taken.network.state_dict(), path)
    return path


def _python(taken: Taken, counted: Count, folder: Path) -> Path:
    path = folder / "network.py"
    write_text(path, python_text(taken, counted))
    tensors = {name: buffer for name, buffer in taken.network.named_buffers()}
    torch.save({**tensors, **taken.network.state_dict()}, path.with_suffix(".pt"))
    return path


def _torch_export(taken: Taken, counted: Count, folder: Path) -> Path:
    return write_torch_export(taken.network, taken.architecture.inputs, folder / "network.pt2")


def _onnx(taken: Taken, counted: Count, folder: Path) -> Path:
    return write_onnx(taken.network, taken.architecture.inputs, folder / "network.onnx")


FORMATS: Mapping[str, Callable[[Taken, Count, Path], Path]] = {
    "json": _json,
    "python": _python,
    "safetensors": _safetensors,
    "onnx": _onnx,
    "torch-export": _torch_export,
}
