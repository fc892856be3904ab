"""Running a generator, as a job for a process of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from pruneas.architecture import Quantity
from pruneas.cost.model import CostModel
from pruneas.cost.widths import LegalWidths
from pruneas.errors import RunError
from pruneas.generators import Task, find_methods
from pruneas.generators.method import Penalty
from pruneas.search.train import Epoch, Report, images_per_epoch
from pruneas.structure.groups import Structure
from pruneas.training import DataSource, EpochRecord, FitResult, Recipe, fit, in_order


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a generator is to work on. `weights`: of the trained base network, where the method needs them."""

    method: str
    structure: Structure
    model: CostModel
    legal: LegalWidths
    most: int
    quantity: Quantity
    data: DataSource
    recipe: Recipe
    seed: int
    device: str
    weights: Path | None
    options: Mapping[str, float | int | str | bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorRecord:
    """A generator's architecture and what it took. `keep`: the channels it keeps by group; `scores`: its ranking.

    `images` counts every image each time the method trained on it; the base network's training is not in it.
    """

    method: str
    widths: Mapping[str, int]
    removed: list[str]
    flops: int
    params: int
    keep: Mapping[str, list[int]] | None
    scope: str | None
    scores: Mapping[str, list[float]] | None
    seed: int
    images: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, path: Path) -> GeneratorRecord:
        """Raises RunError for a file that is no generator's record."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, OSError) as error:
            raise RunError(
                f"{path}: is not a generator's record ({error}); delete it and give the command again: the generator "
                "is run again, with the same seed"
            ) from error


def propose(report: Report, *, proposal: Proposal) -> GeneratorRecord:
    """Run the method. `report` gets an `Epoch` after each epoch that it trains."""
    began = time.perf_counter()
    images = 0
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
        per_epoch = images_per_epoch(proposal.recipe, len(data.train))

        def told(record: EpochRecord) -> None:
            report(Epoch(record.epoch, proposal.recipe.epochs, record.validation_accuracy, per_epoch))
            if after_epoch is not None:
                after_epoch(record)

        result = fit(
            network,
            data,
            proposal.recipe,
            seed=proposal.seed,
            device=proposal.device,
            penalty=penalty,
            after_step=after_step,
            after_epoch=told,
        )
        images += result.images
        return result

    def samples(batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        nonlocal images
        assert data is not None
        for batch, labels in in_order(data, batch_size, seed=proposal.seed, device=proposal.device):
            images += len(labels)
            yield batch, labels

    task = Task(
        structure=proposal.structure,
        model=proposal.model,
        legal=proposal.legal,
        most=proposal.most,
        quantity=proposal.quantity,
        seed=proposal.seed,
        state=load_file(proposal.weights) if proposal.weights is not None and "weights" in method.needs else None,
        images=samples if data is not None else None,
        train=train if data is not None else None,
        recipe=proposal.recipe,
        num_images=len(data.train) if data is not None else 0,
        device=proposal.device,
        options=proposal.options,
    )
    found = method(task)
    model = proposal.model.without(proposal.structure, found.removed)
    ranking = found.ranking
    return GeneratorRecord(
        method=method.name,
        widths=proposal.model.mapping(found.widths),
        removed=list(found.removed),
        flops=int(model.flops(found.widths)),
        params=int(model.params(found.widths)),
        keep=None if found.keep is None else {name: [int(i) for i in kept] for name, kept in found.keep.items()},
        scope=None if ranking is None else ranking.scope,
        scores=None if ranking is None else {name: scores.tolist() for name, scores in ranking.scores.items()},
        seed=proposal.seed,
        images=images,
        seconds=time.perf_counter() - began,
    )
