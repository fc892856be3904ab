"""The most that candidates may cost, in one quantity or several, and what of that they use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pruneas.architecture import Budget, Quantity, amount_text
from pruneas.cost.model import CostModel, Widths
from pruneas.cost.widths import LegalWidths
from pruneas.errors import BudgetError

FILLED: tuple[Quantity, ...] = ("flops", "params", "latency")
"""Where several are limited, the first of these is what candidates use as much of as the others allow."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest cost allowed of each quantity that is limited."""

    most: Mapping[Quantity, int]

    @classmethod
    def of(cls, budget: Budget, model: CostModel, legal: LegalWidths) -> Limits:
        """What a budget allows. Raises BudgetError, with what can be reached, where no legal widths meet it."""
        most = {each.quantity: each.most(model.base_cost(each.quantity)) for each in budget.limits}
        reached = []
        for quantity, allowed in most.items():
            least, base = int(model.cost(legal.lowest, quantity)), model.base_cost(quantity)
            if least > allowed:
                reached.append(
                    f"it allows {amount_text(allowed, quantity)}, the narrowest legal network has "
                    f"{amount_text(least, quantity)} of the base network's {amount_text(base, quantity)} (a share of "
                    f"{np.ceil(least / base * 1e4) / 1e4:.4f})"
                )
        if reached:
            raise BudgetError(
                f"budget {budget} cannot be met: {'; '.join(reached)}. Raise the budget, or lower widths.minimum or "
                "widths.multiple_of"
            )
        return cls(most)

    @property
    def filled(self) -> Quantity:
        """The quantity that is used up as far as all limits allow."""
        return next((quantity for quantity in FILLED if quantity in self.most), "flops")

    @property
    def counted(self) -> dict[Quantity, int]:
        """The limits that weights alone decide about, which masks can meet, too."""
        return {quantity: most for quantity, most in self.most.items() if quantity in ("flops", "params")}

    def fit(self, model: CostModel, widths: Widths) -> Any:
        """Whether candidates keep every limit: (candidates, groups) -> (candidates,), or (groups,) -> ()."""
        kept: Any = True
        for quantity, most in self.most.items():
            kept = kept & (model.cost(widths, quantity) <= most)
        return kept

    def use(self, model: CostModel, widths: Widths) -> float:
        """The share of the limit that a candidate (groups,) uses most of: at most 1 where all hold."""
        return max((int(model.cost(widths, quantity)) / most for quantity, most in self.most.items()), default=0.0)

    def to_json(self) -> dict[str, int]:
        return {str(quantity): most for quantity, most in self.most.items()}

    @classmethod
    def from_json(cls, data: Mapping[Quantity, int]) -> Limits:
        return cls({quantity: int(most) for quantity, most in data.items()})

    def __str__(self) -> str:
        return " and ".join(amount_text(most, quantity) for quantity, most in self.most.items())
