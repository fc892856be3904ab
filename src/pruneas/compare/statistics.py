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
    """Mean accuracy minus the control's, with its simultaneous interval.

    `detectable` is the interval's half-width: the smallest difference seen that these seeds could have told from noise.
    A true difference of that size is seen as larger, and so told, in about half of all repetitions.
    """

    value: float
    low: float
    high: float

    @property
    def detectable(self) -> float:
        return (self.high - self.low) / 2


def against_control(
    control: Sequence[float],
    others: Mapping[str, Sequence[float]],
    *,
    pooled_only: Sequence[Sequence[float]] = (),
    confidence: float = CONFIDENCE,
) -> dict[str, Difference]:
    """Dunnett's comparison of each sample with the control's [Dunnett1955].

    `pooled_only` are samples that say how much seeds scatter, but are not compared. Samples of fewer than two values
    are left out; nothing is returned where the control is one of them, or where there is no spread at all.
    """
    compared = {name: np.asarray(sample, dtype=np.float64) for name, sample in others.items() if len(sample) > 1}
    reference = np.asarray(control, dtype=np.float64)
    pool = [reference, *compared.values(), *(np.asarray(sample) for sample in pooled_only if len(sample) > 1)]
    if not compared or len(reference) < 2 or sum(sample.var() for sample in pool) < 1e-12:
        return {}
    sizes = np.array([len(reference), *map(len, compared.values())])
    freedom = sum(len(sample) - 1 for sample in pool)
    pooled = math.sqrt(sum(((sample - sample.mean()) ** 2).sum() for sample in pool) / freedom)
    critical = critical_value(sizes, freedom, confidence)
    found = {}
    for name, sample in compared.items():
        value = float(sample.mean() - reference.mean())
        half = critical * pooled * math.sqrt(1 / len(sample) + 1 / len(reference))
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


def verdict(winner: str, searched: str | None, differences: Mapping[str, Difference], seeds: Mapping[str, int]) -> str:
    """Plain sentences: whether the found widths are really better than uniform scaling at the same budget.

    `winner` is what the validation images chose, 'uniform' if that was uniform scaling; `searched` the best
    architecture that the search itself proposed, None where it proposed none. `seeds`: trainings of each, by name.
    """

    def told(name: str) -> str:
        return _told(differences.get(name), seeds[name], seeds["uniform"])

    if winner == searched:
        return f"The found widths ({winner}) {told(winner)}"
    rest = "" if searched is None else f" The best searched widths ({searched}) {told(searched)}"
    if winner == "uniform":
        return f"No widths were found that beat uniform scaling: it did best itself on the validation images.{rest}"
    return f"The validation images chose the widths of a generator, {winner}: they {told(winner)}{rest}"


def _told(difference: Difference | None, seeds: int, control_seeds: int) -> str:
    if difference is None:
        reason = (
            f"a spread needs two trainings of each, there are {seeds} and {control_seeds}"
            if min(seeds, control_seeds) < 2
            else f"{seeds} seeds of each show no spread to measure a difference against"
        )
        return f"cannot be compared with uniform scaling: {reason}."
    points = f"{abs(difference.value) * 100:.2f} points"
    trained = f"{seeds} seeds each" if seeds == control_seeds else f"{seeds} and {control_seeds} seeds"
    interval = f"{CONFIDENCE:.0%} interval {difference.low * 100:+.2f} to {difference.high * 100:+.2f}, {trained}"
    if difference.low > 0 or difference.high < 0:
        word = "better" if difference.low > 0 else "worse"
        return f"are {word} than uniform scaling at the same budget: by {points} of test accuracy ({interval})."
    return (
        "are not shown to be better than uniform scaling at the same budget: the difference of "
        f"{difference.value * 100:+.2f} points of test accuracy is within the noise ({interval}); anything below "
        f"{difference.detectable * 100:.2f} points could not have been told from it."
    )
