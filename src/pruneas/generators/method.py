"""What a generator is given and what it gives: a pruning method as base network + budget -> architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import nn

from pruneas.architecture import Quantity
from pruneas.cost.model import CostModel, Widths
from pruneas.cost.widths import LegalWidths
from pruneas.generators.ranking import Ranking
from pruneas.networks.weights import fit_to
from pruneas.structure.build import Keep, build_widths
from pruneas.structure.groups import Structure
from pruneas.training import FitResult

Need = Literal["weights", "training"]
"""'weights': of the trained base network. 'training': it trains the base network itself, its own way."""
Penalty = Callable[[nn.Module], torch.Tensor]


class Train(Protocol):
    """Trains a network in place by the run's recipe; handed in, so that a method's compute is metered like any."""

    def __call__(self, network: nn.Module, *, penalty: Penalty | None = None) -> FitResult: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A base network and a budget. `state` holds the trained weights where the method needs them, `train` likewise.

    `total_learning_rate` is the sum of the recipe's learning rate over all steps of one training.
    """

    structure: Structure
    model: CostModel
    legal: LegalWidths
    most: int
    quantity: Quantity
    seed: int
    state: Mapping[str, torch.Tensor] | None = None
    train: Train | None = None
    total_learning_rate: float = 0.0
    options: Mapping[str, float | int | str | bool]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """Widths inside the budget (groups,); the channels they keep and the ranking, where the method has them."""

    widths: Widths
    keep: Keep | None = None
    ranking: Ranking | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A generator: its name, a line for people, its needs, and the function."""

    name: str
    summary: str
    needs: frozenset[Need]
    generate: Callable[[Task], Generated]
    options: frozenset[str] = frozenset()
