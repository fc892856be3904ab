"""Running a generator, as a job for a process of its own."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from pruneas.architecture import Architecture
from pruneas.cost.limits import Limits
from pruneas.cost.masked import masked_cost
from pruneas.cost.model import CostModel
from pruneas.cost.widths import LegalWidths
from pruneas.errors import RunError
from pruneas.generators import Generated, Task, find_methods
from pruneas.generators.method import Penalty
from pruneas.search.train import Report, Reporter, save_state
from pruneas.structure.groups import Structure
from pruneas.structure.masks import mask_path, read_masks, write_masks
from pruneas.training import DataSource, EpochRecord, FitResult, Recipe, fit, in_order


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The most that an architecture may cost; in place of it, where `share` is given, the share of all channels that is
    to go."""

    limits: Limits
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a generator is to work on, and for which targets, by a name of the caller's.

    `weights`: of the trained base network, where the method needs them. `masks`: files of those of the sources that
    have some, by `Architecture.mask`. `folder`: where weights and masks that a method makes are left.
    """

    method: str
    targets: Mapping[str, Target]
    structure: Structure
    model: CostModel
    legal: LegalWidths
    data: DataSource
    recipe: Recipe
    seed: int
    device: str
    weights: Path | None
    folder: Path | None = None
    sources: tuple[Architecture, ...] = ()
    masks: Mapping[str, Path] = field(default_factory=dict)
    options: Mapping[str, float | int | str | bool]
    compile: str = "auto"

    @property
    def asked(self) -> str:
        """Stands for the options and the sources: a record that was made with others is not the answer to this one."""
        asked = [sorted(self.options.items()), [source.to_json() for source in self.sources]]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorRecord:
    """A generator's architecture and what it took. `keep`: the channels it keeps by group; `scores`: its ranking.

    `images` counts every image each time the method trained on it or took statistics of it, `seconds` are those of the
    method, for all targets of one proposal together; the base network's training is in neither. `weights` names the
    file with weights of the method's own, `trained` that of the base network as the method trained it. `mask` is the
    SHA-256 of its file of masks, if it gave some; what the base network costs with them on is `masked_flops` and
    `masked_params`, not to be ranked with `flops` and `params`. `notes` are the method's, and what else than the recipe
    its trainings depended on. `asked` stands for the options and sources that it was run with.
    """

    method: str
    widths: Mapping[str, int]
    removed: list[str]
    flops: int
    params: int
    keep: Mapping[str, list[int]] | None
    scope: str | None
    scores: Mapping[str, list[float]] | None
    weights: str | None
    seed: int
    images: int
    seconds: float
    mask: str | None = None
    masked_flops: int | None = None
    masked_params: int | None = None
    trained: str | None = None
    notes: tuple[str, ...] = ()
    asked: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, path: Path) -> GeneratorRecord:
        """Raises RunError for a file that is no generator's record."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**data, "notes": tuple(data.get("notes", ()))})
        except (ValueError, TypeError, AttributeError, OSError) as error:
            raise RunError(
                f"{path}: is not a generator's record ({error}); delete it and give the command again: the generator "
                "is run again, with the same seed"
            ) from error


def propose(report: Report, *, proposal: Proposal) -> dict[str, GeneratorRecord]:
    """Run the method, and give its record by target. `report` gets the `Progress` of what it trains.

    A ranking that does not depend on the target is made once and walked to each.
    """
    began = time.perf_counter()
    images = 0
    notes: list[str] = []
    data = None
    method = find_methods([proposal.method], {proposal.method: proposal.options})[-1]
    if method.needs & {"training", "data"}:
        data = proposal.data.load()

    def train(
        network: nn.Module,
        *,
        penalty: Penalty | None = None,
        after_step: Callable[[nn.Module], None] | None = None,
        after_epoch: Callable[[EpochRecord], None] | None = None,
    ) -> FitResult:
        nonlocal images
        assert data is not None
        reporter = Reporter(report, proposal.recipe, len(data.train))

        def stepped(model: nn.Module) -> None:
            if after_step is not None:
                after_step(model)
            reporter.after_step(model)

        def ended(record: EpochRecord) -> None:
            reporter.after_epoch(record)
            if after_epoch is not None:
                after_epoch(record)

        result = fit(
            network,
            data,
            proposal.recipe,
            seed=proposal.seed,
            device=proposal.device,
            penalty=penalty,
            after_step=stepped,
            after_epoch=ended,
            compile=proposal.compile,
        )
        images += result.images
        notes.extend(result.notes)
        return result

    def samples(batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        nonlocal images
        assert data is not None
        for batch, labels in in_order(data, batch_size, seed=proposal.seed, device=proposal.device):
            images += len(labels)
            yield batch, labels

    found: Generated | None = None
    results: dict[str, tuple[CostModel, Generated]] = {}
    for name, target in proposal.targets.items():
        task = Task(
            structure=proposal.structure,
            model=proposal.model,
            legal=proposal.legal,
            limits=target.limits,
            share=target.share,
            seed=proposal.seed,
            state=load_file(proposal.weights) if proposal.weights is not None and "weights" in method.needs else None,
            images=samples if data is not None else None,
            train=train if data is not None else None,
            recipe=proposal.recipe,
            num_images=len(data.train) if data is not None else 0,
            sources=proposal.sources,
            masks={sha256: read_masks(path, sha256) for sha256, path in proposal.masks.items()},
            device=proposal.device,
            options=proposal.options,
        )
        if found is None or found.ranking is None or found.state is not None:
            found = method(task)
        else:
            widths, keep = task.walk(found.ranking)
            found = replace(found, widths=widths, keep=keep)
        results[name] = proposal.model.without(proposal.structure, found.removed), found
    seconds = time.perf_counter() - began
    return {
        name: GeneratorRecord(
            method=method.name,
            widths=model.mapping(found.widths),
            removed=list(found.removed),
            flops=int(model.flops(found.widths)),
            params=int(model.params(found.widths)),
            keep=None if found.keep is None else {group: [int(i) for i in kept] for group, kept in found.keep.items()},
            scope=None if found.ranking is None else found.ranking.scope,
            scores=None
            if found.ranking is None
            else {group: scores.tolist() for group, scores in found.ranking.scores.items()},
            weights=_saved(proposal, name, found),
            seed=proposal.seed,
            images=images,
            seconds=seconds,
            **_saved_masks(proposal, name, found),
            trained=_saved_trained(proposal, found),
            notes=(*found.notes, *notes),
            asked=proposal.asked,
        )
        for name, (model, found) in results.items()
    }


def _saved(proposal: Proposal, target: str, found: Generated) -> str | None:
    """Leave weights of the method's own in a file. Returns its name, None where there are none."""
    if found.state is None or proposal.folder is None:
        return None
    name = f"{file_stem(proposal.method, target)}.weights.safetensors"
    save_state(found.state, proposal.folder / name)
    return name


def _saved_trained(proposal: Proposal, found: Generated) -> str | None:
    """Leave the base network as the method trained it in a file. Returns its name, None where it did not."""
    if found.trained is None or proposal.folder is None:
        return None
    name = f"{proposal.method}.trained.safetensors"
    save_state(found.trained, proposal.folder / name)
    return name


def _saved_masks(proposal: Proposal, target: str, found: Generated) -> dict[str, Any]:
    """Leave masks in the file that belongs to the masked architecture. Returns what a record says of them."""
    if found.masks is None or proposal.folder is None:
        return {}
    proposal.folder.mkdir(parents=True, exist_ok=True)
    path = mask_path(proposal.folder / masked_name(proposal.method, target))
    structure, model = proposal.structure, proposal.model
    return {
        "mask": write_masks(found.masks, path),
        "masked_flops": masked_cost(structure, model, found.masks, "flops"),
        "masked_params": masked_cost(structure, model, found.masks, "params"),
    }


def file_stem(method: str, target: str) -> str:
    """How the names of the files of a method and a target begin."""
    return "@".join(filter(None, (method, target)))


def masked_name(method: str, target: str) -> str:
    """The name of the file of the masked architecture; its masks lie beside it (`structure/masks.py`)."""
    return f"{file_stem(method, target)}.masked.architecture.json"
