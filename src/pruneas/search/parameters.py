"""How architectures become numbers that a sampler can propose: multipliers of widths, related to the anchors.

The parametrisation was chosen by measurement: floats on a log scale, never integers, and widths projected onto the
budget, so that no proposal is wasted. A common scale of all multipliers changes nothing after projection; known
architectures are written with geometric mean 1, or the same network would stand in many places.

A *tie* says how many multipliers there are: one a group, one a stage (groups whose channels are made on feature maps
of the same size), or one a stage beside a mixture of the anchors, whose weights say where the multipliers start from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pruneas.catalogue import Tie
from pruneas.cost.model import CostModel, Widths
from pruneas.cost.widths import LegalWidths

MARGIN = 1.5
LEAST_RANGE = 2.0
REMOVED_FROM = 0.75
"""A block's branch is taken out where its parameter, in [0, 1], is at least this: one in four at random."""
WEIGHT, WITHOUT = "weight of ", "without "
"""How the names of parameters begin that are an anchor's weight, and a block's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What a parameter may be."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Parametrisation:
    """Groups that may change, what their multipliers are tied to, and what is searched beside them.

    `free` are the groups' indices, `part` the index in `multipliers` of each one's. `mixed` are the anchors of a
    mixture by name, as logarithms of multipliers. Shapes (free groups,); `low` and `high` (multipliers,).
    """

    model: CostModel
    free: npt.NDArray[np.int64]
    part: npt.NDArray[np.int64]
    multipliers: tuple[str, ...]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    mixed: Mapping[str, npt.NDArray[np.float64]]
    blocks: tuple[str, ...]

    @classmethod
    def around(
        cls,
        anchors: Mapping[str, Widths],
        model: CostModel,
        legal: LegalWidths,
        *,
        tie: Tie = "group",
        stages: Mapping[str, int] | None = None,
        blocks: Sequence[str] = (),
    ) -> Parametrisation:
        """The range of each multiplier is the hull of the anchors' with a margin, and at least [1/2, 2].

        `stages`: of every group, by name, where the tie needs them; `blocks`: whose branches may be taken out.
        """
        free = np.flatnonzero(legal.lowest < legal.highest)
        logs = {name: _logs(widths, model, free) for name, widths in anchors.items()}
        if tie == "group":
            part, names = np.arange(len(free)), [model.groups[index] for index in free]
        else:
            assert stages is not None
            numbers, part = np.unique([stages[model.groups[index]] for index in free], return_inverse=True)
            names = [f"stage {number}" if number >= 0 else "no stage" for number in numbers]
        mixed = logs if tie == "mixture" and len(logs) > 1 else {}
        tied = np.stack([_mean(log, part, len(names)) for log in logs.values()])
        reach = tied if not mixed else np.zeros_like(tied)  # what the anchors differ in, their weights say
        return cls(
            model=model,
            free=free,
            part=part,
            multipliers=tuple(names),
            low=np.minimum(np.exp(reach.min(axis=0)) / MARGIN, 1 / LEAST_RANGE),
            high=np.maximum(np.exp(reach.max(axis=0)) * MARGIN, LEAST_RANGE),
            mixed=mixed,
            blocks=tuple(blocks),
        )

    @property
    def ranges(self) -> dict[str, Range]:
        """Every parameter with its range, in the order in which they are drawn."""
        return {
            **{WEIGHT + name: Range(low=0.0, high=1.0) for name in self.mixed},
            **{
                name: Range(low=float(low), high=float(high), log=True)
                for name, low, high in zip(self.multipliers, self.low, self.high, strict=True)
            },
            **{WITHOUT + name: Range(low=0.0, high=1.0) for name in self.blocks},
        }

    def encode(self, widths: Widths, removed: Sequence[str] = ()) -> dict[str, float]:
        """The parameters of an architecture, or of the nearest that they can say. Widths: (groups,)."""
        wanted = _logs(widths, self.model, self.free)
        nearest = min(self.mixed, key=lambda name: float(np.abs(self.mixed[name] - wanted).sum()), default=None)
        if nearest is not None:
            wanted = wanted - self.mixed[nearest]
        values = np.clip(np.exp(_mean(wanted, self.part, len(self.multipliers))), self.low, self.high)
        return {
            **{WEIGHT + name: float(name == nearest) for name in self.mixed},
            **{name: float(value) for name, value in zip(self.multipliers, values, strict=True)},
            **{WITHOUT + name: (REMOVED_FROM + 1) / 2 if name in removed else REMOVED_FROM / 2 for name in self.blocks},
        }

    def decode(self, parameters: Mapping[str, float]) -> npt.NDArray[np.float64]:
        """The shape of widths that parameters stand for, to be projected onto the budget. Shape (groups,)."""
        logs = np.log([parameters[name] for name in self.multipliers])[self.part]
        if self.mixed:
            weights = np.array([parameters[WEIGHT + name] for name in self.mixed])
            weights = weights / weights.sum() if weights.sum() > 0 else np.full(len(weights), 1 / len(weights))
            logs = logs + weights @ np.stack(list(self.mixed.values()))
        shape = self.model.base_widths.astype(np.float64)
        shape[self.free] *= np.exp(logs)
        return shape

    def removed(self, parameters: Mapping[str, float]) -> tuple[str, ...]:
        """The blocks whose branches parameters take out."""
        return tuple(name for name in self.blocks if parameters[WITHOUT + name] >= REMOVED_FROM)


def _logs(widths: Widths, model: CostModel, free: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Logarithms of multipliers, of mean 0. Shape (free groups,)."""
    logs = np.log(widths[free] / model.base_widths[free])
    centred: npt.NDArray[np.float64] = logs - logs.mean()
    return centred


def _mean(logs: npt.NDArray[np.float64], part: npt.NDArray[np.int64], num: int) -> npt.NDArray[np.float64]:
    """Means over what is tied: (free groups,) -> (num,)."""
    means: npt.NDArray[np.float64] = np.bincount(part, logs, num) / np.bincount(part, minlength=num)
    return means
