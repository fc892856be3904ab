"""Running a generator, as a job for a process of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from pruneas.architecture import Quantity
from pruneas.cost.model import CostModel
from pruneas.cost.widths import LegalWidths
from pruneas.errors import RunError, StructureError
from pruneas.generators import Task, find_methods
from pruneas.generators.method import Penalty
from pruneas.search.train import Epoch, Report, images_per_epoch
from pruneas.structure.groups import Structure
from pruneas.training import DataSource, EpochRecord, FitResult, Recipe, fit


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
    if "training" in method.needs:
        data = proposal.data.load()

    def train(network: nn.Module, *, penalty: Penalty | None = None) -> FitResult:
        nonlocal images
        assert data is not None

        def after_epoch(record: EpochRecord) -> None:
            per_epoch = images_per_epoch(proposal.recipe, len(data.train))
            report(Epoch(record.epoch, proposal.recipe.epochs, record.validation_accuracy, per_epoch))

        result = fit(
            network,
            data,
            proposal.recipe,
            seed=proposal.seed,
            device=proposal.device,
            penalty=penalty,
            after_epoch=after_epoch,
        )
        images += result.images
        return result

    task = Task(
        structure=proposal.structure,
        model=proposal.model,
        legal=proposal.legal,
        most=proposal.most,
        quantity=proposal.quantity,
        seed=proposal.seed,
        state=load_file(proposal.weights) if proposal.weights is not None and "weights" in method.needs else None,
        train=train if data is not None else None,
        total_learning_rate=proposal.recipe.total_learning_rate(len(data.train)) if data is not None else 0.0,
        options=proposal.options,
    )
    found = method.generate(task)
    cost = int(task.model.cost(found.widths, task.quantity))
    if not task.legal.holds(found.widths) or cost > task.most:
        raise StructureError(
            f"generator {method.name}: its widths must be legal and cost at most {task.most} {task.quantity}; it gave "
            f"{found.widths.tolist()}, which cost {cost}"
        )
    ranking = found.ranking
    return GeneratorRecord(
        method=method.name,
        widths=proposal.model.mapping(found.widths),
        flops=int(proposal.model.flops(found.widths)),
        params=int(proposal.model.params(found.widths)),
        keep=None if found.keep is None else {name: [int(i) for i in kept] for name, kept in found.keep.items()},
        scope=None if ranking is None else ranking.scope,
        scores=None if ranking is None else {name: scores.tolist() for name, scores in ranking.scores.items()},
        seed=proposal.seed,
        images=images,
        seconds=time.perf_counter() - began,
    )
