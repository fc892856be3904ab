"""Is one architecture better than uniform scaling, or is it noise?

Seeds of different networks hardly correlate, so nothing is paired: every architecture is compared with uniform scaling
by Dunnett's test, which pools the variance over all of them and holds its confidence for all comparisons at once.

Questions that need other comparisons (is training from scratch as good as fine-tuning?) are a family of their own each,
with the same pooled variance, and each family holds its confidence as a whole.

[Dunnett1955] A multiple comparison procedure for comparing several treatments with a control, JASA 50
[Sidak1967] Rectangular confidence regions for the means of multivariate normal distributions, JASA 62
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Versus:
    """A sample that others are held against. `others` are compared with it, by name."""

    control: Sequence[float]
    others: Mapping[str, Sequence[float]]


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
    samples = [control, *others.values(), *pooled_only]
    return simultaneous([Versus(control=control, others=others)], samples, confidence=confidence)


def simultaneous(
    family: Sequence[Versus], samples: Sequence[Sequence[float]], *, confidence: float = CONFIDENCE
) -> dict[str, Difference]:
    """Differences to several controls, whose intervals hold all at once with the confidence.

    With one control it is Dunnett's comparison [Dunnett1955]; with one other to each control, as where pairs are
    compared, the studentised maximum modulus [Sidak1967]. `samples` are all that the variance is pooled over, each
    once; no sample may take part in the comparisons with two controls, nor one name appear twice. Samples of fewer
    than two values are left out, and with a control of fewer all that is compared with it; nothing is returned where
    there is no spread at all.
    """
    pool = [np.asarray(sample, dtype=np.float64) for sample in samples if len(sample) > 1]
    compared = [
        (np.asarray(each.control, dtype=np.float64), {n: np.asarray(o) for n, o in each.others.items() if len(o) > 1})
        for each in family
        if len(each.control) > 1
    ]
    compared = [(control, others) for control, others in compared if others]
    if not compared or sum(sample.var() for sample in pool) < 1e-12:
        return {}
    freedom = sum(len(sample) - 1 for sample in pool)
    pooled = math.sqrt(sum(((sample - sample.mean()) ** 2).sum() for sample in pool) / freedom)
    sizes = [np.array([len(control), *map(len, others.values())]) for control, others in compared]
    critical = critical_value(sizes, freedom, confidence)
    found = {}
    for control, others in compared:
        for name, sample in others.items():
            value = float(sample.mean() - control.mean())
            half = critical * pooled * math.sqrt(1 / len(sample) + 1 / len(control))
            found[name] = Difference(value=value, low=value - half, high=value + half)
    return found


def critical_value(sizes: Sequence[npt.NDArray[np.int64]], freedom: int, confidence: float) -> float:
    """The t that all comparisons stay below at once, two-sided [Dunnett1955, equation 3].

    `sizes`: for each control the number of values of its sample, then of each sample that is compared with it. Given
    the controls' means and the pooled variance the comparisons are independent, so their joint probability is an
    integral over the variance of a product of integrals over a control's mean each. scipy.stats.dunnett integrates by
    random points, whose noise its search for t takes for convergence: it warns, and at 99 % it was seen to give 98 %.
    Quadrature gives four digits, and always the same.
    """
    control, weights = np.polynomial.hermite_e.hermegauss(40)
    quantiles, shares = np.polynomial.legendre.leggauss(60)
    spread = np.sqrt(stats.chi2.ppf((quantiles + 1) / 2, freedom) / freedom)
    # The correlation of comparisons i and j with one control is joint_i * joint_j.
    joints = [np.sqrt(each[1:] / (each[1:] + each[0]))[:, None, None] for each in sizes]

    def inside(t: float, joint: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The probability that all comparisons with one control stay below t, by the spread. (spreads,)"""
        alone = np.sqrt(1 - joint**2)
        high = special.ndtr((joint * control[:, None] + t * spread) / alone)
        low = special.ndtr((joint * control[:, None] - t * spread) / alone)
        return np.asarray(weights @ (high - low).prod(axis=0)) / math.sqrt(2 * math.pi)

    def coverage(t: float) -> float:
        return float(np.prod([inside(t, joint) for joint in joints], axis=0) @ shares) / 2

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


Word = Literal["better", "worse", "no difference seen", "the same", "cannot be told"]


def judge(difference: Difference | None, control: str, *, seeds: int, control_seeds: int) -> tuple[Word, str]:
    """What a comparison shows, in a word and in a sentence with its numbers. `control` is what it is compared with."""
    if difference is None:
        reason = (
            f"a spread needs two trainings of each, there are {seeds} and {control_seeds}"
            if min(seeds, control_seeds) < 2
            else "there is no spread to measure a difference against"
        )
        return "cannot be told", f"cannot be compared with {control}: {reason}"
    value, half = difference.value * 100, difference.detectable * 100
    interval = f"{CONFIDENCE:.0%} interval {difference.low * 100:+.2f} to {difference.high * 100:+.2f}"
    if difference.low > 0:
        return "better", f"better than {control} by {value:.2f} points ({interval})"
    if difference.high < 0:
        return "worse", f"worse than {control} by {-value:.2f} points ({interval})"
    return "no difference seen", (
        f"no difference to {control} to be seen: {value:+.2f} points ({interval}); below {half:.2f} points none could "
        "have been"
    )


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
