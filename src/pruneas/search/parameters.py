"""How widths become numbers that a sampler can propose: one log-multiplier a group, related to the anchors.

The parametrisation was chosen by measurement: floats on a log scale, never integers, and widths projected onto the
budget, so that no proposal is wasted. A common scale of all multipliers changes nothing after projection; known
architectures are written with geometric mean 1, or the same network would stand in many places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pruneas.cost.model import CostModel, Widths
from pruneas.cost.widths import LegalWidths

MARGIN = 1.5
LEAST_RANGE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parametrisation:
    """Groups that may change, and the range of each one's multiplier. Shapes (free groups,)."""

    model: CostModel
    free: npt.NDArray[np.int64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    @classmethod
    def around(cls, anchors: Sequence[Widths], model: CostModel, legal: LegalWidths) -> Parametrisation:
        """The range of each multiplier is the hull of the anchors' with a margin, and at least [1/2, 2]."""
        free = np.flatnonzero(legal.lowest < legal.highest)
        multipliers = np.stack([_multipliers(widths, model, free) for widths in anchors])
        return cls(
            model=model,
            free=free,
            low=np.minimum(multipliers.min(axis=0) / MARGIN, 1 / LEAST_RANGE),
            high=np.maximum(multipliers.max(axis=0) * MARGIN, LEAST_RANGE),
        )

    @property
    def names(self) -> list[str]:
        return [self.model.groups[index] for index in self.free]

    def encode(self, widths: Widths) -> dict[str, float]:
        """The multipliers of an architecture, brought into the range. Widths: (groups,)."""
        values = np.clip(_multipliers(widths, self.model, self.free), self.low, self.high)
        return {name: float(value) for name, value in zip(self.names, values, strict=True)}

    def decode(self, multipliers: Mapping[str, float]) -> npt.NDArray[np.float64]:
        """The shape of widths that multipliers stand for, to be projected onto the budget. Shape (groups,)."""
        shape = self.model.base_widths.astype(np.float64)
        shape[self.free] *= [multipliers[name] for name in self.names]
        return shape


def _multipliers(widths: Widths, model: CostModel, free: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    shares: npt.NDArray[np.float64] = widths[free] / model.base_widths[free]
    multipliers: npt.NDArray[np.float64] = shares / np.exp(np.log(shares).mean())
    return multipliers
