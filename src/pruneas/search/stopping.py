"""When a trial need not be trained to its end, and what it would have come to.

Only the best few trials of a search, the finalists, are ever looked at again; all the others only teach the sampler. So
a training may end as soon as it can no longer come among the best few: its trial is *complete*, with the value that its
curve points to. (A trial told as pruned is invisible to a Gaussian process, which then proposes the same corner again.)

What a curve points to is read off the trainings that went to their end: for each epoch a line, by least squares, from
the accuracy after it to the accuracy at the end, with the interval in which a new training lies. Early epochs of a
one-cycle schedule rank architectures badly; then the interval is wide, and nothing is stopped. That only bad trainings
are missing among those at the end does not bend the line, as they are chosen by what it is read off at; it makes it
less sure of bad ones, whose intervals widen with their distance.

A rule is made when its trial is asked for, and written down: whoever trains it, wherever and however often it is
interrupted, stops at the same epoch.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

LEAST = 8
"""Trainings that went to their end, from which on others may be stopped."""
FIRST_SHARE = 1 / 3
"""Of the epochs, before which nothing is stopped."""
CONFIDENCE = 0.95
"""Of a line's interval, taken by itself. A rule looks after every epoch, and networks that collapse follow no line, so
more often than this says does an end lie outside: 15 of 69 did in a replay of two searches on digits, and 2 of the 69
were stopped though they would have come among the best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extrapolation:
    """What a training that was stopped after `epoch` epochs would have come to: an accuracy on the validation images,
    and the prediction interval of the line that says so (see CONFIDENCE), all in [0, 1]."""

    epoch: int
    accuracy: float
    low: float
    high: float

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Extrapolation | None:
        """None for None: of a training that went to its end."""
        return None if data is None else cls(**data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The accuracy at the end against that after `epoch` epochs, over `num` trainings.

    `mean` and `squares`: of the accuracies after the epoch, their mean and the sum of squared distances from it.
    `margin`: the standard deviation about the line, times the quantile of Student's t for the interval.
    """

    epoch: int
    slope: float
    intercept: float
    num: int
    mean: float
    squares: float
    margin: float

    @classmethod
    def through(cls, epoch: int, after: Sequence[float], ends: Sequence[float]) -> Line | None:
        """None where nothing can be read off it: all accuracies are equal, or higher ones end lower."""
        from scipy import stats  # a second to load, and whoever trains never gets here

        mean, end, freedom = statistics.fmean(after), statistics.fmean(ends), len(after) - 2
        squares = sum((x - mean) ** 2 for x in after)
        if freedom < 1 or len(set(after)) == 1 or len(set(ends)) == 1:
            return None
        slope = sum((x - mean) * (y - end) for x, y in zip(after, ends, strict=True)) / squares
        if slope <= 0:
            return None
        intercept = end - slope * mean
        residuals = [y - intercept - slope * x for x, y in zip(after, ends, strict=True)]
        deviation = math.sqrt(sum(residual**2 for residual in residuals) / freedom)
        return cls(
            epoch=epoch,
            slope=slope,
            intercept=intercept,
            num=len(after),
            mean=mean,
            squares=squares,
            margin=deviation * float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)),
        )

    def at(self, accuracy: float) -> Extrapolation:
        """Where a training ends that has this accuracy now."""
        end = self.intercept + self.slope * accuracy
        half = self.margin * math.sqrt(1 + 1 / self.num + (accuracy - self.mean) ** 2 / self.squares)
        low, end, high = (min(max(value, 0.0), 1.0) for value in (end - half, end, end + half))
        return Extrapolation(epoch=self.epoch, accuracy=end, low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Stop a training as soon as its prediction interval ends below `goal`. `lines`: of the epochs that are asked."""

    goal: float
    lines: tuple[Line, ...]

    @classmethod
    def of(cls, curves: Sequence[Sequence[float]], epochs: int, best: int) -> Rule | None:
        """The rule from trainings that went to their end: their validation accuracies after each of `epochs` epochs.

        A training has to come among the `best` of them. None where they are too few to say.
        """
        if len(curves) < max(LEAST, best):
            return None
        ends = [curve[-1] for curve in curves]
        lines = (
            Line.through(epoch, [curve[epoch - 1] for curve in curves], ends)
            for epoch in range(max(1, math.ceil(FIRST_SHARE * epochs)), epochs)
        )
        found = tuple(line for line in lines if line is not None)
        return cls(goal=sorted(ends, reverse=True)[best - 1], lines=found) if found else None

    def stopped(self, curve: Sequence[float]) -> Extrapolation | None:
        """What a training ends with that is to be stopped now; None while it is to go on. `curve`: its accuracies."""
        line = next((line for line in self.lines if line.epoch == len(curve)), None)
        found = None if line is None else line.at(curve[-1])
        return found if found is not None and found.high < self.goal else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Rule:
        return cls(goal=data["goal"], lines=tuple(Line(**line) for line in data["lines"]))
