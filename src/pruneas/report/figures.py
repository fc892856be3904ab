"""Figures as values, before anything is drawn: what is shown, one mark a record, and what is said about it.

There are three kinds. A `Plot` has two number axes and shows points, lines or both. `Rows` have one number axis and a
line for each named thing: a bar on a track, ticks beside it, an interval. `Grids` are small tables of shares, each cell
shaded and with its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Unit = Literal["percent", "points", "count", "whole", "number"]
"""How an axis is written: shares as percentages, their differences as points, 12.3 M, whole numbers, any numbers."""

Style = Literal[
    "winner", "searched", "uniform", "base", "search", "stopped", "failed", "front",
    "other1", "other2", "other3", "other4", "other5", "other6",
]  # fmt: skip
"""What something is, which decides its colour and its symbol. The page never tells two things apart by colour alone."""

OTHERS: Sequence[Style] = ("other1", "other2", "other3", "other4", "other5", "other6")
"""Styles of things without a role of their own, in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """`least_span` is how much of the quantity is shown at least, so that noise does not fill a figure."""

    label: str
    unit: Unit
    least_span: float = 0.0
    from_zero: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point; `low` and `high` are the ends of its vertical interval. `tip` is what it is, with its numbers."""

    x: float
    y: float
    tip: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Marks of one kind; each is drawn. `joined`: with a line through them, in the order of x."""

    name: str
    style: Style
    marks: Sequence[Mark]
    joined: bool = False

    @property
    def num_marks(self) -> int:
        return len(self.marks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line through points (x, y), which together are one mark. `steps`: it keeps its value up to the next point."""

    name: str
    style: Style
    points: Sequence[tuple[float, float]]
    tip: str
    steps: bool = False

    @property
    def num_marks(self) -> int:
        return 1 if self.points else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """A line across the figure at one value, which is named but is no mark."""

    along: Literal["x", "y"]
    value: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """`side_by_side`: points of about the same x are moved apart, so that all can be seen."""

    title: str
    caption: str
    x: Axis
    y: Axis
    series: Sequence[Points | Line]
    guides: Sequence[Guide] = ()
    side_by_side: bool = False

    @property
    def num_marks(self) -> int:
        return sum(each.num_marks for each in self.series)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A symbol in a row, at a value."""

    name: str
    style: Style
    value: float
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of `Rows`: a bar from zero to `value` on a track that ends at `track`, an interval from `low` to `high`
    (with a bar: the spread around its end), and ticks. `text` stands at its end."""

    label: str
    tip: str
    value: float | None = None
    track: float | None = None
    low: float | None = None
    high: float | None = None
    text: str = ""
    ticks: Sequence[Tick] = ()

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"row {self.label!r}: must have both ends of its interval, or neither")

    @property
    def is_drawn(self) -> bool:
        """Whether it has a bar or an interval."""
        return self.value is not None or self.low is not None

    @property
    def num_marks(self) -> int:
        return self.is_drawn + len(self.ticks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """`bars` and `tracks` are what the legend calls them, with the style of the bars."""

    title: str
    caption: str
    axis: Axis
    rows: Sequence[Row]
    bars: str = ""
    style: Style = "winner"
    tracks: str = ""

    @property
    def num_marks(self) -> int:
        return sum(row.num_marks for row in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Shares in [0, 1] in `rows` from top to bottom; each is a mark."""

    label: str
    rows: Sequence[Sequence[float]]

    @property
    def tips(self) -> list[str]:
        """What each cell is, row by row."""
        return [
            f"{self.label}, row {y}, column {x}: {100 * value:.1f} %"
            for y, row in enumerate(self.rows, 1)
            for x, value in enumerate(row, 1)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grids:
    """Cells are shaded from none, which is zero, to the highest share in all grids."""

    title: str
    caption: str
    grids: Sequence[Grid]

    @property
    def num_marks(self) -> int:
        return sum(len(row) for grid in self.grids for row in grid.rows)


Figure = Plot | Rows | Grids


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of points (cost, accuracy), those that no other one beats in both, by cost. Of equal ones, one."""
    best: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or accuracy > best[-1][1]:
            best.append((cost, accuracy))
    return best
