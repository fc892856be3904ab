"""What a generator is given and what it gives: a pruning method as base network + budget -> architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from torch import nn

from pruneas.architecture import Architecture
from pruneas.cost.limits import Limits
from pruneas.cost.masked import masked_cost
from pruneas.cost.model import CostModel, Widths
from pruneas.cost.projection import Shape, project
from pruneas.cost.widths import LegalWidths
from pruneas.errors import StructureError
from pruneas.generators.ranking import Ranking, walk, walk_share
from pruneas.generators.scales import batch_norm_scales
from pruneas.networks.weights import fit_to
from pruneas.structure.build import Keep, build_widths
from pruneas.structure.groups import Structure
from pruneas.structure.masks import Masks
from pruneas.training import EpochRecord, FitResult, Recipe

Need = Literal["weights", "data", "training", "batch norm", "blocks", "sources"]
"""'weights': of the trained base network. 'data': training images. 'training': it trains the base network itself, its
own way. 'batch norm': on every group that can change. 'blocks': residual branches that can be taken out. 'sources':
architectures found before, perhaps for other networks."""
Penalty = Callable[[nn.Module], torch.Tensor]


class Train(Protocol):
    """Trains a network in place by the run's recipe; handed in, so that a method's compute is metered like any.

    The callbacks are those of `pruneas.training.fit`.
    """

    def __call__(
        self,
        network: nn.Module,
        *,
        penalty: Penalty | None = None,
        after_step: Callable[[nn.Module], None] | None = None,
        after_epoch: Callable[[EpochRecord], None] | None = None,
    ) -> FitResult: ...


class Images(Protocol):
    """Training images, normalised and not augmented, each once, in an order that the task's seed gives.

    Batches of images (n, channels, height, width) and labels (n,), the last one perhaps smaller, on the task's device.
    Reading them is metered as a training's images are.
    """

    def __call__(self, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A base network and a budget, or in place of the budget the share of all channels that is to go.

    `state` holds the trained weights where the method needs them; `images`, `train` with `recipe` and `num_images`, and
    `sources` likewise. `masks` are those of sources that have some, by `Architecture.mask`.
    """

    structure: Structure
    model: CostModel
    legal: LegalWidths
    limits: Limits
    share: float | None = None
    seed: int
    state: Mapping[str, torch.Tensor] | None = None
    images: Images | None = None
    train: Train | None = None
    recipe: Recipe | None = None
    num_images: int = 0
    sources: tuple[Architecture, ...] = ()
    masks: Mapping[str, Masks] = field(default_factory=dict)
    device: str = "cpu"
    options: Mapping[str, float | int | str | bool] = field(default_factory=dict)

    def network(self) -> nn.Module:
        """A new base network: with the trained weights where there are some, freshly initialised otherwise."""
        network = build_widths(self.structure, self.structure.widths, seed=self.seed)
        if self.state is not None:
            fit_to(network, self.state, "the trained base network's state")
        return network

    def option(self, name: str, default: float) -> float:
        """A number of `[generators.options.<method>]`."""
        value = self.options.get(name, default)
        if isinstance(value, str | bool):
            raise ValueError(f"option {name!r} must be a number, got {value!r}")
        return float(value)

    def some_images(self, most: int, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches of at most so many of the training images, at least one: no more are read than are used."""
        assert self.images is not None
        left = max(1, most)
        for images, labels in self.images(batch_size):
            yield images[:left], labels[:left]
            left -= len(labels)
            if left <= 0:
                return

    def walk(self, ranking: Ranking) -> tuple[Widths, Keep]:
        """The widths that a ranking leaves at the budget, or at the share, and which channels they are."""
        if self.share is not None:
            return walk_share(ranking, self.model, self.legal, self.share)
        return walk(ranking, self.model, self.legal, self.limits)

    def project(self, shape: Shape) -> Widths:
        """The widths of this shape: as wide as the budget allows, or with the share of all channels gone.

        With a share they are rounded down. Shape (groups,).
        """
        if self.share is not None:
            left = (1.0 - self.share) * self.model.base_widths.sum()
            low, high = 0.0, float(np.max(self.legal.highest / shape))
            for _ in range(60):
                middle = (low + high) / 2
                fits = np.clip(middle * shape, self.legal.lowest, self.legal.highest).sum() <= left
                low, high = (middle, high) if fits else (low, middle)
            return self.legal.floor(high * shape)
        return project(shape, self.model, self.legal, self.limits)

    def uniform(self) -> Widths:
        """The same share of every group: what the budget allows, or what the share leaves. Shape (groups,)."""
        return self.project(self.model.base_widths.astype(np.float64))

    @property
    def changing(self) -> tuple[str, ...]:
        """The groups that may be made narrower."""
        return tuple(np.array(self.model.groups)[self.legal.lowest < self.legal.highest].tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """Widths inside the budget (groups,), and the blocks whose branches are taken out.

    `keep` and `ranking` are there where the method has them. `state` holds weights for the network of this architecture
    where the method makes some of its own; without it the fine-tuned arm inherits what `keep` says: of `trained`, the
    base network as the method trained it, where it does (from the initialisation that the task's seed gives), else of
    the base. `masks` are of the
    base network's weights by name, True where a weight stays: an architecture of its own beside the widths, whose cost
    (`cost/masked.py`) is inside the budget, too, but never to be ranked with that of widths.
    `notes` are what whoever uses the architecture has to know: where the method could not do what it is named for.
    """

    widths: Widths
    removed: tuple[str, ...] = ()
    keep: Keep | None = None
    ranking: Ranking | None = None
    state: Mapping[str, torch.Tensor] | None = None
    trained: Mapping[str, torch.Tensor] | None = None
    masks: Masks | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A generator: its name, a line for people, its needs, and the function.

    `uniform_widths` says that its widths are uniform scaling's, whatever it ranks.
    """

    name: str
    summary: str
    needs: frozenset[Need]
    generate: Callable[[Task], Generated]
    options: frozenset[str] = frozenset()
    uniform_widths: bool = False

    def __call__(self, task: Task) -> Generated:
        """Check its needs, generate, and check what it gives.

        Raises StructureError naming the need that is missing, or what is illegal or over the budget.
        """
        for need, why in _missing(task).items():
            if need in self.needs:
                raise StructureError(f"generator {self.name} needs {need}: {why}")
        found = self.generate(task)
        model = task.model.without(task.structure, found.removed) if found.removed else task.model
        if not task.legal.holds(found.widths) or (task.share is None and not task.limits.fit(model, found.widths)):
            cost = Limits({quantity: int(model.cost(found.widths, quantity)) for quantity in task.limits.most})
            raise StructureError(
                f"generator {self.name}: its widths must be legal and cost at most {task.limits}; it gave "
                f"{found.widths.tolist()}, which cost {cost}"
            )
        if found.masks is not None and task.share is None:
            for quantity, most in task.limits.counted.items():
                masked = masked_cost(task.structure, task.model, found.masks, quantity)
                if masked > most:
                    raise StructureError(
                        f"generator {self.name}: its masks must leave at most {most} {quantity}, found {masked}"
                    )
        return found


def _missing(task: Task) -> dict[Need, str]:
    """The needs that a task does not meet, each with what is missing."""
    missing: dict[Need, str] = {}
    if task.state is None:
        missing["weights"] = "the base network is not trained"
    if task.images is None:
        missing["data"] = "there are no images"
    if task.train is None:
        missing["training"] = "there is nothing to train on"
    if not task.sources:
        missing["sources"] = "there are no architectures to learn from"
    if not task.structure.blocks:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(task.structure.unremovable.items())[:3])
        missing["blocks"] = f"no residual branch can be taken out{f' ({reasons})' if reasons else ''}"
    network = build_widths(task.structure, task.structure.widths, seed=task.seed)
    scales = batch_norm_scales(task.structure, network)
    without = [name for name in task.changing if not scales[name]]
    if without:
        missing["batch norm"] = f"groups without one: {', '.join(without[:4])}"
    return missing
