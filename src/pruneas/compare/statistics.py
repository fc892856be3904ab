"""Is one architecture better than uniform scaling, or is it noise?

Seeds of different networks hardly correlate, so nothing is paired: every architecture is compared with uniform scaling
by Dunnett's test, which pools the variance over all of them and holds its confidence for all comparisons at once.

[Dunnett1955] A multiple comparison procedure for comparing several treatments with a control, JASA 50
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Mean accuracy minus the control's, with its simultaneous interval. `detectable`: the interval's half-width, the
    smallest difference that this many seeds of this spread could have told from noise."""

    value: float
    low: float
    high: float

    @property
    def detectable(self) -> float:
        return (self.high - self.low) / 2


def against_control(
    control: Sequence[float], others: Mapping[str, Sequence[float]], *, confidence: float = CONFIDENCE
) -> dict[str, Difference] | None:
    """Dunnett's comparison of each sample with the control's [Dunnett1955].

    None where nothing can be said: fewer than two values in a sample, or no spread at all.
    """
    samples = [list(control), *map(list, others.values())]
    if not others or min(map(len, samples)) < 2 or sum(np.var(sample) for sample in samples) < 1e-12:
        return None
    # The multivariate t is integrated by quasi-random points: a fixed generator gives the same interval every time.
    result = stats.dunnett(*samples[1:], control=samples[0], rng=np.random.default_rng(0))
    interval = result.confidence_interval(confidence)
    return {
        name: Difference(value=float(np.mean(sample) - np.mean(samples[0])), low=float(low), high=float(high))
        for name, sample, low, high in zip(others, samples[1:], interval.low, interval.high, strict=True)
    }


def sampling_error(accuracy: float, num_images: int) -> float:
    """The standard error of an accuracy that comes of the test set's size alone (binomial)."""
    return math.sqrt(max(accuracy * (1 - accuracy), 0.0) / num_images)


def verdict(name: str, is_searched: bool, seeds: int, difference: Difference | None) -> str:
    """One plain sentence: whether these widths are really better than uniform scaling at the same budget.

    `seeds` is the number of trainings of each architecture.
    """
    what = (
        f"The found widths ({name})"
        if is_searched
        else f"No searched widths did better than a generator's: the winner is {name}, whose widths"
    )
    if difference is None:
        return (
            f"{what} cannot be compared with uniform scaling: {seeds} seeds of each show no spread to measure a "
            "difference against."
        )
    points = f"{abs(difference.value) * 100:.2f} points"
    interval = (
        f"{CONFIDENCE:.0%} interval {difference.low * 100:+.2f} to {difference.high * 100:+.2f}, {seeds} seeds each"
    )
    if difference.low > 0:
        return f"{what} are better than uniform scaling at the same budget: by {points} of test accuracy ({interval})."
    if difference.high < 0:
        return f"{what} are worse than uniform scaling at the same budget: by {points} of test accuracy ({interval})."
    return (
        f"{what} are not shown to be better than uniform scaling at the same budget: the difference of "
        f"{difference.value * 100:+.2f} points of test accuracy is within the noise ({interval}); anything below "
        f"{difference.detectable * 100:.2f} points could not have been told from it."
    )
