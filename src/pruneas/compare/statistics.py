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
import numpy.typing as npt
from scipy import optimize, special, stats

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
    samples = [np.asarray(sample, dtype=np.float64) for sample in (control, *others.values())]
    if not others or min(map(len, samples)) < 2 or sum(sample.var() for sample in samples) < 1e-12:
        return None
    sizes = np.array([len(sample) for sample in samples])
    freedom = int(sizes.sum() - len(samples))
    pooled = math.sqrt(sum(((sample - sample.mean()) ** 2).sum() for sample in samples) / freedom)
    critical = critical_value(sizes, freedom, confidence)
    found = {}
    for name, sample in zip(others, samples[1:], strict=True):
        value = float(sample.mean() - samples[0].mean())
        half = critical * pooled * math.sqrt(1 / len(sample) + 1 / sizes[0])
        found[name] = Difference(value=value, low=value - half, high=value + half)
    return found


def critical_value(sizes: npt.NDArray[np.int64], freedom: int, confidence: float) -> float:
    """The t that all comparisons with the first sample stay below at once, two-sided [Dunnett1955, equation 3].

    Given the control's mean and the pooled variance the comparisons are independent, so their joint probability is a
    double integral of a product. scipy.stats.dunnett integrates by random points, whose noise its search for t takes
    for convergence: it warns, and at 99 % it was seen to give 98 %. Quadrature gives four digits, and always the same.
    """
    control, weights = np.polynomial.hermite_e.hermegauss(40)
    quantiles, shares = np.polynomial.legendre.leggauss(60)
    spread = np.sqrt(stats.chi2.ppf((quantiles + 1) / 2, freedom) / freedom)
    joint = np.sqrt(sizes[1:] / (sizes[1:] + sizes[0]))[:, None, None]  # correlation of i and j: joint_i * joint_j
    alone = np.sqrt(1 - joint**2)

    def coverage(t: float) -> float:
        high = special.ndtr((joint * control[:, None] + t * spread) / alone)
        low = special.ndtr((joint * control[:, None] - t * spread) / alone)
        return float(weights @ (high - low).prod(axis=0) @ shares) / (2 * math.sqrt(2 * math.pi))

    return float(optimize.brentq(lambda t: coverage(t) - confidence, 0.0, 1e3))


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
