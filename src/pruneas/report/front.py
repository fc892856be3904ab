"""Accuracy against cost over several budgets, as values and in a terminal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pruneas.report.numbers import count, percent, points, share
from pruneas.report.records import ArmRecord, ResultRecord

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPoint:
    """What a search found at one budget. Accuracies are means over `seeds` of the test accuracy, shares in [0, 1].

    `is_dominated`: another budget's architecture costs no more FLOPs and is better, on the mean. `difference` is that
    to uniform scaling at the same budget, None where that won.
    """

    budget: str
    name: str
    flops: int
    flops_share: float
    params: int
    accuracy: float
    spread: float | None
    seeds: int
    uniform_accuracy: float
    difference: float | None
    interval: tuple[float, float] | None
    is_dominated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontRecord:
    """The front of accuracy against cost, and the base network's accuracy beside it (None where it was not trained)."""

    base_accuracy: float | None
    base_flops: int
    points: tuple[FrontPoint, ...]

    @classmethod
    def of(cls, results: Sequence[ResultRecord]) -> FrontRecord:
        """From the results of searches on the same base network, one a budget."""
        winners = [record.arm(record.winner) for record in results]
        base = next((arm for record in results if (arm := record.by_role("base")) is not None), None)
        return cls(
            base_accuracy=None if base is None else base.mean,
            base_flops=results[0].base_flops,
            points=tuple(_point(record, winners) for record in results),
        )

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}, indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> FrontRecord:
        """Read what `to_json` wrote. Raises ValueError for anything else."""
        try:
            data = json.loads(text)
            if data.pop("schema") != SCHEMA:
                raise ValueError(f"schema: must be {SCHEMA}, the version this pruneas reads")
            intervals = [None if p["interval"] is None else tuple(p["interval"]) for p in data["points"]]
            found = [
                FrontPoint(**{**p, "interval": interval}) for p, interval in zip(data["points"], intervals, strict=True)
            ]
            return cls(**{**data, "points": tuple(found)})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"is no front: {error}") from error


def _point(record: ResultRecord, winners: Sequence[ArmRecord]) -> FrontPoint:
    winner, uniform = record.arm(record.winner), record.by_role("uniform")
    uniform = winner if uniform is None else uniform
    return FrontPoint(
        budget=record.budget,
        name=winner.name,
        flops=winner.flops,
        flops_share=winner.flops_share,
        params=winner.params,
        accuracy=winner.mean,
        spread=winner.std,
        seeds=len(winner.seeds),
        uniform_accuracy=uniform.mean,
        difference=winner.difference,
        interval=winner.interval,
        is_dominated=any(
            other.flops <= winner.flops
            and other.mean >= winner.mean
            and (other.flops, other.mean) != (winner.flops, winner.mean)
            for other in winners
        ),
    )


def front_table(front: FrontRecord) -> RenderableType:
    """The front, to be printed by rich."""
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("budget", "architecture", "accuracy, %", "FLOPs", "of base", "params", "vs uniform"):
        rows.add_column(name, no_wrap=name != "architecture")
    for point in front.points:
        spread = "" if point.spread is None else f" ± {percent(point.spread)}"
        interval = "" if point.interval is None else f" ({points(point.interval[0])}, {points(point.interval[1])})"
        rows.add_row(
            Text(point.budget),
            Text(point.name),
            f"{percent(point.accuracy)}{spread}{' -' if point.is_dominated else ''}",
            count(point.flops),
            share(point.flops_share),
            count(point.params),
            "" if point.difference is None else f"{points(point.difference)}{interval}",
        )
    if front.base_accuracy is not None:
        rows.add_row("", "base", percent(front.base_accuracy), count(front.base_flops), share(1.0), "", "")
    least = "Accuracy on test images, mean ± spread over seeds; -: another one has no more FLOPs and is better."
    return Group(rows, Text(least, style="dim"))
