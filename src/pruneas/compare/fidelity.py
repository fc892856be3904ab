"""How well short trainings rank architectures: what a search goes by, held against full trainings.

[Fieller1957] Tests for rank correlation coefficients. I, Biometrika 44
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEAST = 4
"""Architectures from which on an interval can be given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCorrelation:
    """Spearman's rank correlation over `num` architectures, with its interval."""

    value: float
    low: float
    high: float
    num: int


def rank_correlation(
    short: Sequence[float], full: Sequence[float], *, confidence: float = 0.95
) -> RankCorrelation | None:
    """Spearman's correlation of two accuracies of the same architectures.

    The interval is Fisher's, with the variance 1.06 / (n - 3) of ranks [Fieller1957]: wide for as few architectures as
    are trained in full, and optimistic where many are tied. None for fewer than LEAST, or where one side is constant.
    """
    if len(short) < LEAST or np.ptp(short) == 0 or np.ptp(full) == 0:
        return None
    value = float(stats.spearmanr(short, full).statistic)
    bounded = math.atanh(min(max(value, -1 + 1e-9), 1 - 1e-9))
    half = float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt(1.06 / (len(short) - 3))
    return RankCorrelation(value=value, low=math.tanh(bounded - half), high=math.tanh(bounded + half), num=len(short))
