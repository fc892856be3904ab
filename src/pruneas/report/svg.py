"""Figures drawn as SVG: plain shapes with classes, coloured by style sheet, so that a page is small and prints sharp.

Every mark is an element of class `mark`; its `title` is what a browser shows of it under the pointer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

from pruneas.report.figures import Axis, Figure, Grid, Grids, Line, Mark, Plot, Points, Row, Rows, Style, Unit
from pruneas.report.markup import Markup, joined, tag

WIDTH = 440.0
PLOT_HEIGHT, ROW_HEIGHT = 220.0, 21.0
ROWS_A_PART = 36
"""So many rows are one drawing: a page that is printed breaks between drawings only."""
LABEL_WIDTH = 184.0
CELL, SHADE = 34.0, 0.55
"""The side of a grid's cell, and how opaque the darkest is: its number, in the colour of text, stays readable."""
APART = 14.0
FONT = 12.5
_NARROW, _WIDE = frozenset("fijlrtI.,:;|!'()[] 1"), frozenset("mwMW%@")

STYLE = """
svg.figure { display: block; width: 100%; height: auto; font: 12.5px system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
svg.figure text { fill: var(--muted); }
svg.figure text.strong { fill: var(--ink); }
svg.figure .grid { stroke: var(--grid); }
svg.figure .axis { stroke: var(--muted); }
svg.figure .guide { stroke: var(--muted); stroke-dasharray: 4 3; }
svg.figure .track { fill: var(--track); }
svg.figure .bar, svg.figure .symbol { fill: var(--c); }
svg.figure .symbol { stroke: var(--paper); }
svg.figure .symbol.open { fill: var(--paper); stroke: var(--c); stroke-width: 2; }
svg.figure .symbol.cross { fill: none; stroke: var(--c); stroke-width: 2.2; }
svg.figure .line { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linecap: round; stroke-linejoin: round; }
.s-base > .line { stroke-dasharray: 5 5; }
.s-other2 > .line { stroke-dasharray: 10 4; }
.s-other3 > .line { stroke-dasharray: 2 4; }
.s-other4 > .line { stroke-dasharray: 10 4 2 4; }
.s-other5 > .line { stroke-dasharray: 10 4 2 4 2 4; }
.s-other6 > .line { stroke-dasharray: 6 3 2 3; }
svg.figure .whisker { fill: none; stroke: var(--c); stroke-width: 1.6; }
svg.figure .whisker.spread { stroke: var(--ink); stroke-width: 1.3; }
svg.figure .cell { fill: var(--c); stroke: var(--rule); }
.s-winner, .s-front { --c: var(--winner); }
.s-searched, .s-search, .s-stopped { --c: var(--searched); }
.s-uniform { --c: var(--ink); }
.s-base { --c: var(--muted); }
.s-other1 { --c: var(--other1); }
.s-other2 { --c: var(--other2); }
.s-other3 { --c: var(--other3); }
.s-other4 { --c: var(--other4); }
.s-other5 { --c: var(--other5); }
.s-other6 { --c: var(--other6); }
.s-failed { --c: var(--failed); }
"""
LIGHT = """--ink: #1b1f24; --muted: #5b6470; --grid: #e4e7eb; --track: #e6eaf0; --paper: #ffffff; --panel: #f5f7f9;
--rule: #d5dae0; --winner: #0b62c4; --searched: #76a9de; --other1: #c8500a; --other2: #00805f; --other3: #9b3f8d;
--other4: #8a6d00; --other5: #3f51b5; --other6: #a03050; --failed: #b3261e;"""
DARK = """--ink: #e7eaee; --muted: #a3adb9; --grid: #2a3139; --track: #2c343e; --paper: #14181d; --panel: #1b2027;
--rule: #363e48; --winner: #5aa9ff; --searched: #4d7fb5; --other1: #ff9a57; --other2: #3ecfa4; --other3: #e08fd2;
--other4: #d9ba45; --other5: #9fa8f5; --other6: #f08fa8; --failed: #ff7b72;"""

Place = Callable[[float, float], tuple[float, float]]
"""From values to where they are drawn."""


def draw(figure: Figure, *, standalone: bool = False) -> list[Markup]:
    """The figure's drawings: one, or several of which each holds some of many rows.

    A `standalone` one is a file of its own: it brings its colours, on a white ground, and is always whole.
    """
    if isinstance(figure, Plot):
        return [_plot(figure, standalone)]
    if isinstance(figure, Grids):
        return [_grids(figure, standalone)]
    num_parts = 1 if standalone else math.ceil(len(figure.rows) / ROWS_A_PART)
    size = math.ceil(len(figure.rows) / max(1, num_parts))
    parts = [figure.rows[index * size : (index + 1) * size] for index in range(num_parts)]
    return [_rows(figure, part, standalone) for part in parts]


# Two axes -----------------------------------------------------------------------------------------------------------


def _plot(plot: Plot, standalone: bool) -> Markup:
    extents = list(_extents(plot))
    guided = {along: [guide.value for guide in plot.guides if guide.along == along] for along in ("x", "y")}
    x_low, x_high = _domain([x for x, _, _ in extents] + guided["x"], plot.x)
    y_low, y_high = _domain([y for _, *ends in extents for y in ends] + guided["y"], plot.y)
    y_ticks = _ticks(y_low, y_high, 6)
    y_labels = _written(y_ticks, plot.y.unit)
    left, right = 12.0 + max(map(_length, y_labels), default=0.0), WIDTH - 14
    keys = [
        (each.name, each.style, "line" if isinstance(each, Line) else "joined" if each.joined else "symbol")
        for each in plot.series
    ]
    legend, under = _legend(keys)
    top = under + 34
    bottom = top + PLOT_HEIGHT
    middle = (left + right) / 2

    def at(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x_low) / (x_high - x_low), (y - y_low) / (y_high - y_low)
        return left + across * (right - left), bottom - up * (bottom - top)

    parts = [*legend, tag("text", plot.y.label, x=0.0, y=top - 11, class_="strong")]
    for value, label in zip(y_ticks, y_labels, strict=True):
        _, y = at(x_low, value)
        parts.append(tag("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", label, x=left - 7, y=y + 4, text_anchor="end"))
    parts += _axis(plot.x, x_low, x_high, lambda value: at(value, y_low)[0], bottom)
    parts.append(tag("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"))
    parts.append(tag("text", plot.x.label, x=middle, y=bottom + 37, text_anchor="middle", class_="strong"))
    for guide in plot.guides:
        x, y = at(guide.value, guide.value)
        if guide.along == "x":
            parts.append(tag("line", x1=x, x2=x, y1=top - 3, y2=bottom, class_="guide"))
            half = _length(guide.label) / 2  # above the figure, beside the name of the other axis
            x = min(max(x, _length(plot.y.label) + half + 12), right - half)
            parts.append(tag("text", guide.label, x=x, y=top - 11, text_anchor="middle"))
        else:
            parts.append(tag("line", x1=left, x2=right, y1=y, y2=y, class_="guide"))
            parts.append(tag("text", guide.label, x=right - 2, y=y - 5, text_anchor="end"))
    drawn = [each for each in plot.series if isinstance(each, Points)]
    places = [at(mark.x, mark.y) for each in drawn for mark in each.marks]
    aside = _side_by_side([x for x, _ in places]) if plot.side_by_side else [0.0] * len(places)
    moved = iter([(x + shift, y) for (x, y), shift in zip(places, aside, strict=True)])
    where = [[next(moved) for _ in each.marks] for each in drawn]
    parts += [_line(each, at) for each in plot.series if isinstance(each, Line) and each.points]
    parts += [_joint(each.style, mine) for each, mine in zip(drawn, where, strict=True) if each.joined and mine]
    parts += [
        _point(each.style, mark, place, at)
        for each, mine in zip(drawn, where, strict=True)
        for mark, place in zip(each.marks, mine, strict=True)
    ]
    return _svg(parts, bottom + 44, f"{plot.title}: {plot.y.label} against {plot.x.label}", standalone)


def _extents(plot: Plot) -> Iterator[tuple[float, float, float]]:
    """x, and the lowest and the highest y there, of everything in a plot."""
    for series in plot.series:
        if isinstance(series, Line):
            yield from ((x, y, y) for x, y in series.points)
        else:
            for mark in series.marks:
                yield mark.x, mark.y if mark.low is None else mark.low, mark.y if mark.high is None else mark.high


def _line(line: Line, at: Place) -> Markup:
    points = [at(x, y) for x, y in line.points]
    first, *rest = points
    title = tag("title", line.tip)
    if not rest:
        return tag(
            "g", title, tag("circle", cx=first[0], cy=first[1], r=3, class_="bar"), class_=f"mark s-{line.style}"
        )
    path = f"M{first[0]:.1f},{first[1]:.1f}"
    for x, y in rest:
        path += f"H{x:.1f}V{y:.1f}" if line.steps else f"L{x:.1f},{y:.1f}"
    return tag("g", title, tag("path", d=path, class_="line"), class_=f"mark s-{line.style}")


def _joint(style: Style, places: Sequence[tuple[float, float]]) -> Markup:
    """The line through points that are drawn there. It is no mark: the points are."""
    path = "L".join(f"{x:.1f},{y:.1f}" for x, y in sorted(places))
    return tag("g", tag("path", d=f"M{path}", class_="line"), class_=f"s-{style}")


def _side_by_side(places: Sequence[float]) -> list[float]:
    """By how much to move marks that would lie upon each other, given where each is."""
    aside = [0.0] * len(places)
    clusters: list[list[int]] = []
    for index in sorted(range(len(places)), key=lambda index: places[index]):
        if clusters and places[index] - places[clusters[-1][0]] < APART:
            clusters[-1].append(index)
        else:
            clusters.append([index])
    for cluster in clusters:
        for place, index in enumerate(sorted(cluster)):
            aside[index] = APART * (place - (len(cluster) - 1) / 2)
    return aside


def _point(style: Style, mark: Mark, place: tuple[float, float], at: Place) -> Markup:
    x, y = place
    shapes = [tag("title", mark.tip)]
    if mark.low is not None and mark.high is not None:
        (_, low), (_, high) = at(mark.x, mark.low), at(mark.x, mark.high)
        path = f"M{x:.1f},{low:.1f}V{high:.1f}M{x - 4:.1f},{low:.1f}h8M{x - 4:.1f},{high:.1f}h8"
        shapes.append(tag("path", d=path, class_="whisker"))
    return tag("g", *shapes, _symbol(style, x, y), class_=f"mark s-{style}")


# One axis and names -------------------------------------------------------------------------------------------------


def _rows(figure: Rows, rows: Sequence[Row], standalone: bool) -> Markup:
    everything = [value for row in figure.rows for value in _values(row)]
    low, high = _domain([0.0, *everything], figure.axis)
    labels = max(_length(row.label) for row in figure.rows)
    texts = max(_length(row.text) for row in figure.rows)
    left, right = min(labels, LABEL_WIDTH) + 10, WIDTH - (texts + 10 if texts else 6)
    keys = [(figure.bars, figure.style, "bar")] * bool(figure.bars) + [(figure.tracks, figure.style, "track")] * bool(
        figure.tracks
    )
    keys += [(tick.name, tick.style, "tick") for row in figure.rows for tick in row.ticks]
    legend, top = _legend(keys)
    top += 6
    bottom = top + len(rows) * ROW_HEIGHT + 2

    def at(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    parts = legend
    for value in _ticks(low, high, 5):
        parts.append(tag("line", x1=at(value), x2=at(value), y1=top, y2=bottom, class_="grid"))
    for index, row in enumerate(rows):
        middle = top + (index + 0.5) * ROW_HEIGHT
        label = tag("text", tag("title", row.label), _shortened(row.label, LABEL_WIDTH), y=middle + 4, class_="strong")
        parts += [label, *_row(row, figure.style, middle, at)]
        if row.text:
            parts.append(tag("text", row.text, x=WIDTH - 2, y=middle + 4, text_anchor="end"))
    parts += _axis(figure.axis, low, high, at, bottom)
    parts.append(tag("line", x1=at(0.0), x2=at(0.0), y1=top, y2=bottom, class_="axis"))
    middle = (left + right) / 2
    parts.append(tag("text", figure.axis.label, x=middle, y=bottom + 36, text_anchor="middle", class_="strong"))
    return _svg(parts, bottom + 42, f"{figure.title}: {figure.axis.label}", standalone)


def _values(row: Row) -> list[float]:
    mine = [row.value, row.track, row.low, row.high, *(tick.value for tick in row.ticks)]
    return [value for value in mine if value is not None]


def _row(row: Row, style: Style, y: float, at: Callable[[float], float]) -> Iterator[Markup]:
    if row.track is not None:
        yield tag("rect", x=at(0.0), y=y - 7, width=at(row.track) - at(0.0), height=14, class_="track")
    shapes: list[Markup] = []
    if row.value is not None:
        ends = sorted((at(0.0), at(row.value)))
        shapes.append(tag("rect", x=ends[0], y=y - 5, width=max(ends[1] - ends[0], 0.6), height=10, class_="bar"))
    if row.low is not None and row.high is not None:
        low, high = at(row.low), at(row.high)
        path = f"M{low:.1f},{y:.1f}H{high:.1f}M{low:.1f},{y - 5:.1f}v10M{high:.1f},{y - 5:.1f}v10"
        shapes.append(tag("path", d=path, class_="whisker spread" if shapes else "whisker"))
    if shapes:
        yield tag("g", tag("title", row.tip), *shapes, class_=f"mark s-{style}")
    for tick in row.ticks:
        shape = _symbol(tick.style, at(tick.value), y, in_row=True)
        yield tag("g", tag("title", tick.tip), shape, class_=f"mark s-{tick.style}")


# Shares in cells ----------------------------------------------------------------------------------------------------


def _grids(figure: Grids, standalone: bool) -> Markup:
    """Grids beside one another, and below where there is no more room."""
    shares = [value for grid in figure.grids for row in grid.rows for value in row]
    highest = max(shares, default=0.0) or 1.0
    digits = 0 if highest >= 0.1 else 1
    parts: list[Markup] = []
    left = top = bottom = 0.0
    for grid in figure.grids:
        width = max(CELL * max((len(row) for row in grid.rows), default=0), _length(grid.label))
        if left and left + width > WIDTH:
            left, top = 0.0, bottom + 14
        parts.append(tag("text", grid.label, x=left, y=top + 14, class_="strong"))
        parts += _cells(grid, left, top + 22, highest, digits)
        bottom = max(bottom, top + 22 + CELL * len(grid.rows))
        left += width + 16
    return _svg(parts, bottom + 4, figure.title, standalone)


def _cells(grid: Grid, left: float, top: float, highest: float, digits: int) -> Iterator[Markup]:
    tips = iter(grid.tips)
    for index, row in enumerate(grid.rows):
        for place, value in enumerate(row):
            x, y = left + place * CELL, top + index * CELL
            shade = SHADE * value / highest
            cell = tag("rect", x=x, y=y, width=CELL, height=CELL, fill_opacity=shade, class_="cell")
            number = tag(
                "text", f"{100 * value:.{digits}f}", x=x + CELL / 2, y=y + CELL / 2 + 4.5, text_anchor="middle",
                class_="strong",
            )  # fmt: skip
            yield tag("g", tag("title", next(tips)), cell, number, class_="mark s-winner")


# Parts of all -------------------------------------------------------------------------------------------------------


def _svg(parts: Sequence[Markup], height: float, label: str, standalone: bool) -> Markup:
    box = f"-2 0 {WIDTH + 4:g} {height:.0f}"
    if not standalone:
        return tag("svg", *parts, viewBox=box, class_="figure", role="img", aria_label=label)
    style = tag("style", Markup(f"svg.figure {{ {LIGHT} }}{STYLE}"))
    ground = tag("rect", x=-2, y=0, width=WIDTH + 4, height=height, fill="#ffffff")
    size = {"width": 1.5 * WIDTH, "height": 1.5 * height}
    name = {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria_label": label}
    return tag("svg", style, ground, *parts, viewBox=box, class_="figure", **size, **name)


def _axis(axis: Axis, low: float, high: float, at: Callable[[float], float], y: float) -> Iterator[Markup]:
    ticks = _ticks(low, high, 5, whole=axis.unit == "whole")
    labels = _written(ticks, axis.unit)
    room = min((at(b) - at(a) for a, b in itertools.pairwise(ticks)), default=WIDTH)
    every = math.ceil((max(map(_length, labels), default=0.0) + 8) / room)
    for index, (value, label) in enumerate(zip(ticks, labels, strict=True)):
        x = at(value)
        yield tag("line", x1=x, x2=x, y1=y, y2=y + 4, class_="axis")
        if index % every == 0:
            inside = min(x, WIDTH - _length(label) / 2)
            yield tag("text", label, x=inside, y=y + 18, text_anchor="middle")


def _legend(keys: Sequence[tuple[str, Style, str]]) -> tuple[list[Markup], float]:
    """Each name once, and where it ends below."""
    parts: list[Markup] = []
    x, y = 0.0, 14.0
    for name, style, kind in dict.fromkeys(keys):
        text = _shortened(name, WIDTH - 42)
        if x and x + 32 + _length(text) > WIDTH:
            x, y = 0.0, y + 18
        reach = 26 if kind in ("line", "joined") else 14  # as long as the longest pattern of dashes
        through = tag("path", d=f"M{x:.1f},{y - 4:.1f}h{reach}", class_="line")
        if kind == "line":
            shape = through
        elif kind in ("bar", "track"):
            shape = tag("rect", x=x, y=y - 9, width=14, height=10, class_=kind)
        else:
            shape = _symbol(style, x + reach / 2, y - 4, in_row=kind == "tick")
            shape = joined([through, shape]) if kind == "joined" else shape
        parts.append(tag("g", shape, class_=f"s-{style}"))
        parts.append(tag("text", text, x=x + reach + 5, y=y))
        x += reach + 5 + _length(text) + 16
    return parts, y if parts else 0.0


def _symbol(style: Style, x: float, y: float, *, in_row: bool = False) -> Markup:
    if style == "uniform" and in_row:  # where bars end, a line across is read best
        return tag("rect", x=x - 1.75, y=y - 8.5, width=3.5, height=17, class_="symbol")
    if style in ("search", "front"):
        return tag("circle", cx=x, cy=y, r=3.6, class_="symbol")
    if style in ("winner", "searched"):
        return tag("circle", cx=x, cy=y, r=5.5, class_="symbol")
    shape, look = _SHAPES[style]
    return tag("path", d=f"M{x:.1f},{y:.1f}{shape}", class_=f"symbol{look}")


_SHAPES: dict[Style, tuple[str, str]] = {
    "uniform": ("m-5,-5h10v10h-10z", ""),
    "base": ("m0,-6l6,6l-6,6l-6,-6z", " open"),
    "other1": ("m0,-6.2l6,10.5h-12z", ""),
    "other2": ("m0,-6l6,6l-6,6l-6,-6z", ""),
    "other3": ("m0,6.2l6,-10.5h-12z", ""),
    "other4": ("m-2,-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z", ""),
    "other5": ("m-5,-5h10v10h-10z", " open"),
    "other6": ("m0,-6.2l6,10.5h-12z", " open"),
    "stopped": ("m-3.6,0a3.6,3.6 0 1,0 7.2,0a3.6,3.6 0 1,0 -7.2,0z", " open"),
    "failed": ("m-4.5,-4.5l9,9m0,-9l-9,9", " cross"),
}


def _domain(values: Sequence[float], axis: Axis) -> tuple[float, float]:
    """The lowest and the highest value that are drawn, with some room."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if axis.from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    least = max(axis.least_span, 1e-3 * max(abs(low), abs(high)), 1e-9)
    if (missing := least - (high - low)) > 0:
        low, high = low - missing / 2, high + missing / 2
    room = 0.06 * (high - low)
    top = high + room
    if axis.unit == "percent" and high <= 1.0:
        top = min(top, 1.0 + room / 3)
    return (low if axis.from_zero and low >= 0 else low - room), top


def _ticks(low: float, high: float, about: int, *, whole: bool = False) -> list[float]:
    """Round values between the two."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    step = max(step, 1.0) if whole else step
    return [index * step for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _written(ticks: Sequence[float], unit: Unit) -> list[str]:
    """Values on an axis, with as many digits as tell them apart."""
    if not ticks:
        return []
    largest = max(map(abs, ticks))
    scale, ending = 1.0, ""
    if unit in ("percent", "points"):
        scale, ending = 0.01, " %" if unit == "percent" else ""
    elif unit == "count":
        scale, ending = next(((s, e) for s, e in ((1e9, " G"), (1e6, " M"), (1e3, " k")) if largest >= s), (1.0, ""))
    step = (ticks[1] - ticks[0] if len(ticks) > 1 else largest or 1.0) / scale
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{value / scale:{'+' if unit == 'points' and value else ''}.{digits}f}{ending}" for value in ticks]


def _length(text: str) -> float:
    """About how long a text is drawn."""
    return FONT * sum(0.35 if c in _NARROW else 0.95 if c in _WIDE else 0.61 for c in text)


def _shortened(text: str, room: float) -> str:
    """Without its middle, where it is too long: both ends of a layer's name say where it is."""
    if _length(text) <= room:
        return text
    kept = len(text)
    while kept > 4 and _length(text[: kept // 2]) + _length(text[-kept // 2 :]) + FONT > room:
        kept -= 1
    return f"{text[: kept // 2]}…{text[-(kept // 2) :]}"
