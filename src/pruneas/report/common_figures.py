"""What the figures of a run and of a comparison have in common: accuracies with their spread, differences of them with
their intervals, widths against those of the base network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pruneas.report.figures import Axis, Mark, Row, Rows, Style, Tick
from pruneas.report.numbers import count, percent, points, share, with_spread

LEAST_ACCURACY, LEAST_COST = 0.005, 0.03
"""What an axis spans at least: half a point of accuracy; of a cost this share of it."""


def accuracy_mark(x: float, mean: float, std: float | None, tip: str) -> Mark:
    """A mean accuracy with its spread."""
    low, high = (None, None) if std is None else (mean - std, mean + std)
    return Mark(x=x, y=mean, low=low, high=high, tip=tip)


def accuracy_tip(
    name: str, mean: float, std: float | None, flops: float, flops_share: float, by_seed: Sequence[float]
) -> str:
    """What a mark of an architecture's accuracy is, in words."""
    seeds = ", ".join(map(percent, by_seed))
    return (
        f"{name}: {with_spread(mean, std)} % at {count(round(flops))} FLOPs ({share(flops_share)} of the base "
        f"network's); by seed {seeds}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrasted:
    """A difference in accuracy with its interval. `name` is the symbol's, `label` the line's; `text` stands at its end.

    `difference` is None where nothing could be measured: the line holds its text alone.
    """

    label: str
    name: str
    style: Style
    difference: float | None
    interval: tuple[float, float] | None
    text: str


def difference_rows(title: str, caption: str, contrasts: Sequence[Contrasted], confidence: float) -> Rows:
    """A line each, with zero in sight."""
    return Rows(
        title=title,
        caption=f"{caption} An interval that holds zero is no difference that was shown.",
        axis=Axis(label="percentage points of test accuracy", unit="points", least_span=LEAST_ACCURACY),
        rows=[_difference_row(each, confidence) for each in contrasts],
        style="base",
    )


def _difference_row(each: Contrasted, confidence: float) -> Row:
    low, high = (None, None) if each.interval is None else each.interval
    interval = "unknown" if low is None or high is None else f"{points(low)} to {points(high)} points"
    value = each.difference
    tick = [] if value is None else [_difference_tick(each, value)]
    return Row(
        label=each.label,
        tip=f"{each.label}: {100 * confidence:g} % interval {interval}",
        low=low,
        high=high,
        text=each.text,
        ticks=tick,
    )


def _difference_tick(each: Contrasted, value: float) -> Tick:
    return Tick(name=each.name, style=each.style, value=value, tip=f"{each.label}: {points(value)} points")


Named = tuple[str, Mapping[str, float]]
"""An architecture's name and widths."""


def width_rows(
    base: Mapping[str, int],
    bar: Named,
    others: Sequence[Named],
    how: Mapping[str, Style],
    style: Style,
    *,
    std: Mapping[str, float] | None = None,
    title: str = "Width of every group",
    caption: str = "",
) -> Rows:
    """Widths of one architecture as bars of that style, of the others as symbols, against those of the base network.

    `std` is the spread of the first one's widths, where they are means. A `caption` goes on with what is said of all.
    """
    name, _ = bar
    beside = " and of the others (symbols)" if others else ""
    return Rows(
        title=title,
        caption=f"Channels of {name} (bars, with the number at the end){beside}, as a share of the base network's."
        f"{caption}",
        axis=Axis(label="share of the base network's width", unit="percent", from_zero=True),
        rows=[_width_row(group, width, bar, others, how, (std or {}).get(group)) for group, width in base.items()],
        bars=name,
        style=style,
        tracks="base network",
    )


def _width_row(
    group: str, width: int, bar: Named, others: Sequence[Named], how: Mapping[str, Style], std: float | None
) -> Row:
    name, its = bar
    mean = its.get(group, width)
    channels = _channels(mean) if std is None else f"{_channels(mean)} ± {std:.1f}"
    return Row(
        label=group,
        tip=f"{group}: {name} {channels} of {width}",
        value=mean / width,
        low=None if std is None else max(mean - std, 0.0) / width,
        high=None if std is None else (mean + std) / width,
        track=1.0,
        text=f"{channels} of {width}",
        ticks=[
            Tick(
                name=other,
                style=how.get(other, "search"),
                value=widths.get(group, width) / width,
                tip=f"{group}: {other} {_channels(widths.get(group, width))} of {width}",
            )
            for other, widths in others
        ],
    )


def _channels(number: float) -> str:
    """A width, or the mean of some."""
    return str(number) if isinstance(number, int) else f"{number:.1f}"
