"""Anything -> legal widths inside the budget, using nearly all of it.

Rounding down the largest scale of a shape that fits leaves up to a step of every group unused, a good part of a narrow
network. So what remains is spent: first a step for those furthest below their share, then by exchanges, one group a
step wider for another a step narrower. No group ends more than a step off its share.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import numpy.typing as npt

from pruneas.cost.limits import Limits
from pruneas.cost.model import CostModel, Polynomial, Quadratic, Widths
from pruneas.cost.widths import LegalWidths

Shape = npt.NDArray[np.float64]
"""Wanted widths, positive; where called a shape, up to a common scale. Shape (groups,)."""

CLOSE = 0.002
"""Exchanges end where no more than this share of the budget is unused."""
ENOUGH = 0.01
"""Smaller scales are tried where more than this share of the budget is unused, down to NEAR of the largest."""
NEAR = 0.8


def project(shape: Shape, model: CostModel, legal: LegalWidths, limits: Limits) -> Widths:
    """The widths of this shape that use what the limits allow. Shape (groups,).

    Every group is within a step of its share: a scale common to all, NEAR to 1 times the next after the largest that
    fits, times `shape`, clipped to what is legal. More than ENOUGH of every limit is left only where the search is
    stuck at each of these scales: from the widths it came to, neither a group's step nor an exchange of two groups'
    steps that stays within a step of the shares uses more. Such is the case next to the narrowest network, where the
    cheapest step may cost more than is left, and for networks of few groups; other widths may use more. Of several
    limits one is near its end, and what `limits.filled` names is used as far as the others allow.

    A single limit that allows more never gives widths that cost less. For which move is preferred depends on the widths
    so far and not on the limit, no move lowers the cost, and the first that fits is made: two searches are the same
    until the one with more makes a move that the other cannot afford, and from then on costs more than all that the
    other may.
    """
    scales = _breakpoints(shape, legal)
    end = bisect_right(
        range(len(scales)), 0, key=lambda index: int(not limits.fit(model, legal.floor(scales[index] * shape)))
    )
    if end == 0:
        raise ValueError(f"the narrowest legal network costs more than {limits}; see Limits.of")
    widths = legal.floor(scales[end - 1] * shape)
    if end == len(scales):
        return widths
    prices = _Prices(model, limits)
    best = _fill(widths, scales[end] * shape, legal, prices)
    # Where that is stuck, because one group's step is dear: the largest steps first, and smaller scales.
    for scale in scales[end:0:-1]:
        if limits.use(model, best) >= 1 - ENOUGH or scale < NEAR * scales[end]:
            break
        narrowest, _ = _reach(scale * shape, legal)
        found = _exchange(narrowest, scale * shape, legal, prices)
        best = max(best, found, key=lambda widths: int(model.cost(widths, limits.filled)))
    return best


def uniform(model: CostModel, legal: LegalWidths, limits: Limits) -> Widths:
    """Uniform scaling: every group the same share of its base width, as large as fits."""
    return project(model.base_widths.astype(np.float64), model, legal, limits)


def fill(widths: Widths, wanted: Shape, model: CostModel, legal: LegalWidths, limits: Limits) -> Widths:
    """Spend what legal widths leave of the limits, within a step of those wanted. Shape (groups,).

    Each group is widened by a step where that fits, those furthest below what is wanted, in their steps, first; then
    groups exchange steps until less than CLOSE is unused or none helps.
    """
    return _fill(widths, wanted, legal, _Prices(model, limits))


def _fill(widths: Widths, wanted: Shape, legal: LegalWidths, prices: _Prices) -> Widths:
    wider = legal.next(widths)
    missing = (np.clip(wanted, legal.lowest, legal.highest) - widths) / legal.step
    for group in np.argsort(-np.round(missing, 6), kind="stable"):
        trial = widths.copy()
        trial[group] = wider[group]
        if prices.limits.fit(prices.model, trial):
            widths = trial
    return _exchange(widths, wanted, legal, prices)


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


class _Prices:
    """What moves cost under limits. Those that are polynomials tell all pairs of moves at once; `slow` are the others,
    which have to be tried one by one."""

    def __init__(self, model: CostModel, limits: Limits) -> None:
        self.model, self.limits = model, limits
        prices = {quantity: model.price(quantity) for quantity in {limits.filled, *limits.most}}
        self.quadratics = {name: Quadratic.of(price) for name, price in prices.items() if isinstance(price, Polynomial)}
        self.slow = Limits({name: most for name, most in limits.most.items() if name not in self.quadratics})


def _exchange(widths: Widths, wanted: Shape, legal: LegalWidths, prices: _Prices) -> Widths:
    """Widen groups, or one in exchange for another's narrowing, within a step of what is wanted, while that helps.

    What uses most of the rest of what is filled goes first.
    """
    low, high = _reach(wanted, legal)
    limits, quadratics, slow = prices.limits, prices.quadratics, prices.slow
    widths = widths.copy()
    while True:
        costs = {name: quadratic(widths) for name, quadratic in quadratics.items()}
        used = [costs[name] / most for name, most in limits.most.items() if name in costs]
        if max(used, default=0.0) >= 1 - CLOSE or slow.use(prices.model, widths) >= 1 - CLOSE:
            break
        narrower, wider = np.maximum(legal.previous(widths), low), np.minimum(legal.next(widths), high)
        gains = {name: quadratic.gains(widths, narrower, wider) for name, quadratic in quadratics.items()}
        useful = gains[limits.filled].copy()
        for name, each in gains.items():
            if name in limits.most:
                useful[each > limits.most[name] - costs[name]] = 0
        moved = _first_move(widths, narrower, wider, useful, prices.model, slow)
        if moved is None:
            break
        widths = moved
    return widths


def _first_move(
    widths: Widths,
    narrower: Widths,
    wider: Widths,
    useful: npt.NDArray[np.int64],
    model: CostModel,
    limits: Limits,
) -> Widths | None:
    """The widths after the most useful move that keeps these limits; None where none is of use. `useful`: (groups,
    groups), what is gained where the first group is made narrower and the second wider."""
    for _ in range(np.count_nonzero(useful > 0)):
        best = np.argmax(useful)
        narrowed, widened = np.unravel_index(best, useful.shape)
        moved = widths.copy()
        moved[narrowed] = narrower[narrowed]
        moved[widened] = wider[widened]
        if limits.fit(model, moved):
            return moved
        useful.flat[best] = 0
    return None
