"""The paper's arms: what an architecture that a method gave is trained from, and by which recipe [Liu2019, section 3].

    fine-tuned   the weights that the method left in it, a constant low rate for a quarter of the epochs
    scratch-e    fresh weights, as many epochs as the base network
    scratch-b    fresh weights, as much compute as the base network's training
    ticket       the base network's own initial weights under the same channels, or masks; else as scratch-e

The paper fine-tunes at one rate for all. Here the best of three is chosen by the validation images, for each seed.

[Liu2019] Rethinking the Value of Network Pruning, arXiv 1810.05270
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors.torch import load_file

from pruneas.generators import Method
from pruneas.search.propose import GeneratorRecord
from pruneas.search.train import Training, save_state
from pruneas.structure.build import Keep, build_widths, inherit, leading
from pruneas.structure.groups import Structure
from pruneas.training import DataSource, Recipe

Arm = Literal["unpruned", "fine-tuned", "scratch-e", "scratch-b", "ticket"]
ARMS: tuple[Arm, ...] = get_args(Arm)
RATES = (0.003, 0.01, 0.03)
"""Of fine-tuning, as shares of the peak rate; the paper's is 0.01."""
PASSES = 3
"""A training step in forward passes: one forward, and one backward that costs twice as much."""
SMALL_IMAGE = 64
"""Pixels a side below which Scratch-B has no cap: the paper caps it on ImageNet alone, at twice the epochs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """Files of states of a pruned network: what the method left of the trained base network (`inherited`), and what
    the base network began with (`original`). Where one of them is None, `without` says why."""

    inherited: Path | None = None
    original: Path | None = None
    without: str = "it was not made from a trained network"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An architecture, and what its trainings may begin with.

    `flops` and `params` are what it costs: what masks leave, where it has some; `built_flops` and `built_params` those
    of the network that is built.
    """

    widths: Mapping[str, int]
    removed: tuple[str, ...] = ()
    selections: Mapping[str, Sequence[int]] = field(default_factory=dict)
    flops: int
    params: int
    built_flops: int
    built_params: int
    masks: Path | None = None
    starts: Starts = field(default_factory=Starts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """What all trainings of a comparison have in common. `cap`: of Scratch-B, times the recipe's epochs."""

    structure: Structure
    base_flops: int
    data: DataSource
    recipe: Recipe
    device: str
    cap: float
    rates: tuple[float, ...] = RATES
    compile: str = "auto"

    def trainings(self, candidate: Candidate, arm: Arm, seed: int) -> dict[float | None, Training]:
        """The trainings of an arm for one seed by fine-tuning rate, of which one is chosen; None: other arms' only one.

        Empty where the arm needs weights that there are none of.
        """
        recipe, initial = self.recipe.scratch_e(), None
        if arm in ("fine-tuned", "ticket"):
            initial = candidate.starts.inherited if arm == "fine-tuned" else candidate.starts.original
            if initial is None:
                return {}
        if arm == "scratch-b":
            recipe = self.recipe.scratch_b(max(1.0, self.base_flops / candidate.flops), cap=self.cap)
        recipes: dict[float | None, Recipe] = {None: recipe}
        if arm == "fine-tuned":
            recipes = {rate: self.recipe.fine_tune(rate=rate) for rate in self.rates}
        return {
            rate: Training(
                structure=self.structure,
                widths=candidate.widths,
                removed=candidate.removed,
                selections=candidate.selections,
                flops=candidate.built_flops,
                params=candidate.built_params,
                data=self.data,
                recipe=each,
                seed=seed,
                device=self.device,
                initial=initial,
                masks=candidate.masks,
                test=True,
                compile=self.compile,
            )
            for rate, each in recipes.items()
        }


def default_cap(shape: Sequence[int]) -> float:
    """How many times the recipe's epochs Scratch-B trains at most, by the shape of the images [Liu2019, section 3]."""
    return math.inf if max(shape[1:]) < SMALL_IMAGE else 2.0


def starts(
    structure: Structure,
    method: Method,
    record: GeneratorRecord,
    *,
    generators: Path,
    base: Path,
    base_seed: int | None,
    folder: Path,
    masked: bool,
) -> Starts:
    """Write the states that the fine-tuned and the ticket arm begin with.

    `generators` is the folder of the method's files; `base` the trained base network's weights; `base_seed` what it was
    initialised by, None where it was not trained here. A method that trains the base network itself leaves those
    weights to be inherited, and began with an initialisation by its own seed. With masks all channels are kept.
    """
    keep: Keep | None = leading(structure, structure.widths) if masked else record.keep
    removed = () if masked else tuple(record.removed)
    if not method.needs & {"weights", "training"}:
        return Starts()
    if keep is None:
        return Starts(without="the method does not say which channels it keeps")
    state: Mapping[str, torch.Tensor] | None = None
    trains = "weights" not in method.needs
    if record.weights is not None and not masked:
        state = load_file(generators / record.weights)
    elif trains and record.trained is not None:
        state = inherit(structure, load_file(generators / record.trained), keep, removed)
    elif not trains:
        state = inherit(structure, load_file(base), keep, removed)
    seed = record.seed if trains else base_seed
    initial = None if seed is None else build_widths(structure, structure.widths, seed=seed).state_dict()
    return Starts(
        inherited=None if state is None else _written(state, folder / "inherited.safetensors"),
        original=None
        if initial is None
        else _written(inherit(structure, initial, keep, removed), folder / "original.safetensors"),
        without="the method left no weights of the network that it trained"
        if state is None
        else "the base network was not trained here, so what it began with is not known",
    )


def _written(state: Mapping[str, torch.Tensor], path: Path) -> Path:
    save_state(state, path)
    return path
