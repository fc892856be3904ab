"""Anything -> legal widths inside the budget, using nearly all of it.

Rounding down the largest scale of a shape that fits leaves up to a step of every group unused, a good part of a narrow
network. So what remains is spent: first a step for those furthest below their share, then by exchanges, one group a
step wider for another a step narrower. No group ends more than a step off its share.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import numpy.typing as npt

from pruneas.architecture import Budget, Quantity
from pruneas.cost.model import CostModel, Quadratic, Widths
from pruneas.cost.widths import LegalWidths
from pruneas.errors import BudgetError

Shape = npt.NDArray[np.float64]
"""Wanted widths, positive; where called a shape, up to a common scale. Shape (groups,)."""

CLOSE = 0.002
"""Exchanges end where no more than this share of the budget is unused."""
ENOUGH = 0.01
"""Smaller scales are tried where more than this share of the budget is unused, down to NEAR of the largest."""
NEAR = 0.8


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
    """The widths of this shape that use `most`, at most. Shape (groups,).

    Every group is within a step of its share: a scale common to all, NEAR to 1 times the next after the largest that
    fits, times `shape`, clipped to what is legal. More than ENOUGH of `most` is left only where the search is stuck at
    each of these scales: from the widths it came to, neither a group's step nor an exchange of two groups' steps that
    stays within a step of the shares uses more of it. Such is the case next to the narrowest network, where the
    cheapest step may cost more than is left, and for networks of few groups; other widths may use more.

    A larger `most` never gives widths that cost less. For which move is preferred depends on the widths so far and not
    on `most`, no move lowers the cost, and the first that fits is made: two searches are the same until the one with
    more makes a move that the other cannot afford, and from then on costs more than all that the other may.
    """

    def cost(widths: Widths) -> int:
        return int(model.cost(widths, quantity))

    scales = _breakpoints(shape, legal)
    end = bisect_right(range(len(scales)), most, key=lambda index: cost(legal.floor(scales[index] * shape)))
    if end == 0:
        raise ValueError(f"the narrowest legal network costs more than {most:,} {quantity}; see limit()")
    widths = legal.floor(scales[end - 1] * shape)
    if end == len(scales):
        return widths
    best = fill(widths, scales[end] * shape, model, legal, most, quantity)
    quadratic = Quadratic.of(model.flops if quantity == "flops" else model.params)
    # Where that is stuck, because one group's step is dear: the largest steps first, and smaller scales.
    for scale in scales[end:0:-1]:
        if most - cost(best) <= ENOUGH * most or scale < NEAR * scales[end]:
            break
        narrowest, _ = _reach(scale * shape, legal)
        best = max(best, _exchange(narrowest, scale * shape, legal, most, quadratic), key=cost)
    return best


def uniform(model: CostModel, legal: LegalWidths, most: int, quantity: Quantity) -> Widths:
    """Uniform scaling: every group the same share of its base width, as large as fits."""
    return project(model.base_widths.astype(np.float64), model, legal, most, quantity)


def fill(widths: Widths, wanted: Shape, model: CostModel, legal: LegalWidths, most: int, quantity: Quantity) -> Widths:
    """Spend what legal widths leave of `most`, within a step of those wanted. Shape (groups,).

    Each group is widened by a step where that fits, those furthest below what is wanted, in their steps, first; then
    groups exchange steps until less than CLOSE is unused or none helps.
    """
    wider = legal.next(widths)
    missing = (np.clip(wanted, legal.lowest, legal.highest) - widths) / legal.step
    for group in np.argsort(-np.round(missing, 6), kind="stable"):
        trial = widths.copy()
        trial[group] = wider[group]
        if model.cost(trial, quantity) <= most:
            widths = trial
    return _exchange(widths, wanted, legal, most, Quadratic.of(model.flops if quantity == "flops" else model.params))


def _breakpoints(shape: Shape, legal: LegalWidths) -> Shape:
    """The scales at which a group of this shape takes its next legal width, ascending from 0. Shape (scales,)."""
    widths = [
        np.append(np.arange((low // step + 1) * step, high, step), high) / wanted
        for low, high, step, wanted in zip(legal.lowest, legal.highest, legal.step, shape, strict=True)
        if low < high
    ]
    return np.unique(np.concatenate([[0.0], *widths]))


def _reach(wanted: Shape, legal: LegalWidths) -> tuple[Widths, Widths]:
    """The narrowest and the widest legal widths within a step of those wanted. Shapes (groups,)."""
    wanted = np.clip(wanted, legal.lowest, legal.highest)
    return legal.ceil(wanted - legal.step), legal.floor(wanted + legal.step)


def _exchange(widths: Widths, wanted: Shape, legal: LegalWidths, most: int, cost: Quadratic) -> Widths:
    """Widen groups, or one in exchange for another's narrowing, within a step of what is wanted, while that helps.

    What uses most of the rest goes first.
    """
    low, high = _reach(wanted, legal)
    widths, left = widths.copy(), most - cost(widths)
    while left > CLOSE * most:
        narrower, wider = np.maximum(legal.previous(widths), low), np.minimum(legal.next(widths), high)
        gains = cost.gains(widths, narrower, wider)
        gains[gains > left] = 0
        narrowed, widened = np.unravel_index(np.argmax(gains), gains.shape)
        if gains[narrowed, widened] <= 0:
            break
        left -= int(gains[narrowed, widened])
        widths[narrowed] = narrower[narrowed]
        widths[widened] = wider[widened]
    return widths
