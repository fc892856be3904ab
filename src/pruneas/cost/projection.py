"""Anything -> legal widths inside the budget, using as much of it as the widths' steps allow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pruneas.architecture import Budget, Quantity
from pruneas.cost.model import CostModel, Widths
from pruneas.cost.widths import LegalWidths
from pruneas.errors import BudgetError

Shape = npt.NDArray[np.float64]
"""Wanted widths up to a common scale, positive. Shape (groups,)."""


def limit(model: CostModel, legal: LegalWidths, budget: Budget) -> int:
    """The largest count that a candidate may have.

    Raises BudgetError where even the narrowest legal network costs more.
    """
    most = budget.limit(model.base_cost(budget.quantity))
    least = int(model.cost(legal.lowest, budget.quantity))
    if least > most:
        base = model.base_cost(budget.quantity)
        raise BudgetError(
            f"budget {budget} cannot be met: it allows {most:,} {budget.quantity}, the narrowest legal network has "
            f"{least:,} of the base network's {base:,} (a share of {np.ceil(least / base * 1e4) / 1e4:.4f}). "
            "Raise the budget, or lower widths.minimum or widths.multiple_of"
        )
    return most


def project(shape: Shape, model: CostModel, legal: LegalWidths, most: int, quantity: Quantity) -> Widths:
    """The widths of this shape that fit `most`: a common scale by bisection, rounded down, then filled.

    Filling gives the next step to the group furthest below its unrounded width, as long as one fits: that keeps a
    uniform shape uniform to within a step. What remains goes to the step that uses most of it. Shape (groups,).
    """
    low, high = 0.0, float(np.max(legal.highest / shape)) * 1.001
    if model.cost(legal.floor(high * shape), quantity) <= most:
        low = high
    else:
        for _ in range(60):
            middle = (low + high) / 2
            if model.cost(legal.floor(middle * shape), quantity) <= most:
                low = middle
            else:
                high = middle
            if high - low < 1e-9 * high:
                break
    wanted = np.clip(low * shape, legal.lowest, legal.highest)
    return fill(legal.floor(low * shape), wanted, model, legal, most, quantity)


def fill(widths: Widths, wanted: Shape, model: CostModel, legal: LegalWidths, most: int, quantity: Quantity) -> Widths:
    """Widen legal widths step by step towards `wanted` and a step beyond while the budget allows. Shape (groups,)."""
    widths = widths.copy()
    given = np.zeros(len(widths), dtype=np.bool_)
    while True:
        wider = legal.next(widths)
        candidates = np.flatnonzero((wider > widths) & ~given)
        if not len(candidates):
            return widths
        trials = np.repeat(widths[None], len(candidates), axis=0)
        trials[np.arange(len(candidates)), candidates] = wider[candidates]
        costs = model.cost(trials, quantity)
        fits = costs <= most
        if not fits.any():
            return widths
        # Furthest below first, in steps of its own size; equal ones by what uses the budget best, then by position.
        missing = (wanted - widths)[candidates] / np.maximum(wider - widths, 1)[candidates]
        order = np.lexsort((candidates, -costs, -np.round(missing, 6)))
        chosen = next(index for index in order if fits[index])
        widths = trials[chosen]
        if widths[candidates[chosen]] >= wanted[candidates[chosen]]:
            given[candidates[chosen]] = True  # at most one step beyond what was wanted


def uniform(model: CostModel, legal: LegalWidths, most: int, quantity: Quantity) -> Widths:
    """Uniform scaling: every group the same share of its base width, as large as fits."""
    return project(model.base_widths.astype(np.float64), model, legal, most, quantity)
