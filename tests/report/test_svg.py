import re
import xml.etree.ElementTree as ElementTree

import pytest

from pruneas.report.figures import Axis, Grid, Grids, Guide, Line, Mark, Plot, Points, Row, Rows, Tick, front
from pruneas.report.svg import ROWS_A_PART, SHADE, WIDTH, _domain, _shortened, _side_by_side, _ticks, _written, draw

SHARE = Axis(label="share", unit="percent", from_zero=True)
COST = Axis(label="FLOPs", unit="count")


def plot(*series, **more):
    values = {"title": "t", "caption": "c", "x": COST, "y": Axis(label="accuracy", unit="percent"), **more}
    return Plot(series=series, **values)


def rows(*each, **more):
    return Rows(
        **{"title": "t", "caption": "c", "axis": SHARE, "rows": each, "bars": "found", "tracks": "base", **more}
    )


def marks(drawings):
    return sum(len(re.findall('class="mark ', drawing)) for drawing in drawings)


def elements(drawing, name):
    root = ElementTree.fromstring(drawing.replace('xmlns="http://www.w3.org/2000/svg"', ""))
    return [element for element in root.iter(name)]


def test_a_plot_has_a_mark_a_point_and_a_mark_a_line():
    points = Points(name="p", style="search", marks=[Mark(x=1e6 * i, y=i / 10, tip=f"{i}") for i in range(7)])
    line = Line(name="l", style="front", points=[(1e6, 0.1), (2e6, 0.3)], steps=True, tip="a line")
    nothing = Line(name="n", style="base", points=[], tip="")
    single = Line(name="s", style="base", points=[(1e6, 0.5)], tip="one epoch")
    figure = plot(points, line, nothing, single, guides=[Guide(along="x", value=3e6, label="budget")])
    assert figure.num_marks == 9
    assert marks(draw(figure)) == 9
    assert ">budget</text>" in draw(figure)[0]


def test_rows_have_a_mark_a_bar_an_interval_and_a_tick():
    tick = Tick(name="uniform", style="uniform", value=0.5, tip="u")
    figure = rows(
        Row(label="a", tip="a", value=0.25, track=1.0, ticks=[tick, tick]),
        Row(label="b", tip="b", low=-0.1, high=0.2, ticks=[tick]),
        Row(label="c", tip="c"),
    )
    assert figure.num_marks == 5
    assert marks(draw(figure)) == 5


def test_a_row_has_a_whole_interval_or_none():
    with pytest.raises(ValueError, match="row 'a': must have both ends of its interval, or neither"):
        Row(label="a", tip="", low=0.0)


def test_a_bar_and_the_spread_around_its_end_are_one_mark():
    figure = rows(Row(label="a", tip="a", value=0.5, low=0.4, high=0.6))
    assert figure.num_marks == marks(draw(figure)) == 1
    assert 'class="whisker spread"' in draw(figure)[0]


def test_joined_points_are_a_mark_each_and_their_line_goes_where_they_are_drawn():
    figure = plot(
        *(
            Points(name=name, style=style, joined=True, marks=[Mark(x=x, y=0.5, tip="") for x in (2e6, 1e6)])
            for name, style in (("a", "other1"), ("b", "other2"))
        ),
        side_by_side=True,
    )
    drawing = draw(figure)[0]
    assert figure.num_marks == marks([drawing]) == 4
    lines = [path.get("d") for path in elements(drawing, "path") if path.get("class") == "line"]
    through = [line for line in lines if "L" in line]
    assert len(through) == 2 and len(set(through)) == 2
    for line in through:
        for place in line[1:].split("L"):
            assert f"M{place}" in drawing  # a symbol stands there


def test_grids_have_a_mark_a_cell_shaded_by_its_share():
    wide = Grid(label="stage 1", rows=[[0.1] * 7] * 7)
    figure = Grids(title="t", caption="c", grids=[Grid(label="<0>", rows=[[0.0, 0.4], [0.8, 0.2]]), wide, wide])
    (drawing,) = draw(figure)
    assert figure.num_marks == marks([drawing]) == 4 + 49 + 49
    cells = [cell for cell in elements(drawing, "rect") if cell.get("class") == "cell"]
    shades = [float(cell.get("fill-opacity")) for cell in cells[:4]]
    assert shades == pytest.approx([0.0, SHADE / 2, SHADE, SHADE / 4], abs=0.006)  # written with two decimals
    assert all(float(cell.get("x")) + float(cell.get("width")) <= WIDTH for cell in cells)
    texts = [text.text for text in elements(drawing, "text")]
    assert texts[:5] == ["<0>", "0", "40", "80", "20"]
    places = {(cell.get("x"), cell.get("y")) for cell in cells}
    assert len(places) == len(cells)


def test_small_shares_are_written_with_a_digit_more():
    (drawing,) = draw(Grids(title="t", caption="c", grids=[Grid(label="a", rows=[[0.012, 0.031]])]))
    assert [text.text for text in elements(drawing, "text")] == ["a", "1.2", "3.1"]


def test_bars_are_as_long_as_what_they_stand_for():
    drawing = draw(rows(Row(label="a", tip="", value=0.25, track=1.0), Row(label="b", tip="", value=0.5, track=1.0)))[0]
    tracks = [float(r.get("width")) for r in elements(drawing, "rect") if r.get("class") == "track"][1:]  # key first
    bars = [float(r.get("width")) for r in elements(drawing, "rect") if r.get("class") == "bar"][1:]
    assert [bar / track for bar, track in zip(bars, tracks, strict=True)] == pytest.approx([0.25, 0.5], abs=0.001)


def test_many_rows_are_several_drawings_and_one_file():
    figure = rows(*(Row(label=f"layer{i}", tip="", value=i / 100, track=1.0) for i in range(100)))
    parts = draw(figure)
    assert len(parts) == -(-100 // ROWS_A_PART)
    assert marks(parts) == marks(draw(figure, standalone=True)) == 100
    assert len(draw(figure, standalone=True)) == 1


def test_names_and_tips_are_text():
    points = Points(name="<script>", style="search", marks=[Mark(x=1.0, y=1.0, tip="</svg><script>x")])
    drawing = draw(plot(points, title='"><b>'))[0]
    assert "<script" not in drawing and "<b>" not in drawing
    assert [title.text for title in elements(drawing, "title")] == ["</svg><script>x"]


@pytest.mark.parametrize("x", [0.0, 1.0, 303_552.0, 4e9])
def test_equal_values_and_single_points_are_drawn_inside(x):
    drawing = draw(plot(Points(name="p", style="search", marks=[Mark(x=x, y=1.0, tip="")] * 2)))[0]
    circles = [c for c in elements(drawing, "circle")][1:]  # without the key's
    assert len(circles) == 2
    height = float(elements(drawing, "svg")[0].get("viewBox").split()[3])
    for circle in circles:
        assert 0 < float(circle.get("cx")) < WIDTH
        assert 0 < float(circle.get("cy")) < height


def test_an_empty_plot_is_drawn():
    assert marks(draw(plot())) == 0


def test_ticks_are_round_and_inside():
    assert _ticks(0.0, 1.0, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert _ticks(-0.12, 0.15, 5) == pytest.approx([-0.1, 0.0, 0.1])
    assert _ticks(0.7, 3.2, 5, whole=True) == [1, 2, 3]


@pytest.mark.parametrize(
    ("ticks", "unit", "labels"),
    [
        ([0.5, 0.6, 0.7], "percent", ["50 %", "60 %", "70 %"]),
        ([0.985, 0.99, 0.995], "percent", ["98.5 %", "99.0 %", "99.5 %"]),
        ([-0.01, 0.0, 0.01], "points", ["-1", "0", "+1"]),
        ([303_400.0, 303_500.0], "count", ["303.4 k", "303.5 k"]),
        ([0.0, 2e8, 4e8], "count", ["0 M", "200 M", "400 M"]),
        ([1.0, 2.0], "whole", ["1", "2"]),
        ([0.0, 0.02], "number", ["0.00", "0.02"]),
        ([], "count", []),
    ],
)  # fmt: skip
def test_axes_are_written_with_as_many_digits_as_tell_ticks_apart(ticks, unit, labels):
    assert _written(ticks, unit) == labels


def test_a_domain_holds_all_values_and_spans_at_least_what_is_asked_for():
    assert _domain([0.2, 0.4], SHARE)[0] == 0.0
    low, high = _domain([0.900, 0.901], Axis(label="", unit="percent", least_span=0.05))
    assert low < 0.900 and high > 0.901 and high - low >= 0.05
    assert _domain([0.5, 1.0], Axis(label="", unit="percent"))[1] < 1.02  # no room for a tick of 110 %


def test_marks_upon_each_other_are_moved_apart_in_their_order():
    assert _side_by_side([100.0, 100.5, 300.0, 101.0]) == [-14.0, 0.0, 0.0, 14.0]
    assert _side_by_side([]) == []


def test_long_names_lose_their_middle():
    text = _shortened("features.denseblock4.denselayer16.conv2", 120)
    assert text.startswith("featu") and text.endswith("conv2") and "…" in text
    assert _shortened("conv1", 120) == "conv1"


def test_the_front_is_what_nothing_else_beats_in_both():
    points = [(3.0, 0.7), (1.0, 0.5), (2.0, 0.5), (2.5, 0.9), (4.0, 0.9), (1.0, 0.4)]
    assert front(points) == [(1.0, 0.5), (2.5, 0.9)]
    assert front([]) == []


def test_a_file_of_its_own_brings_its_colours():
    drawing = draw(rows(Row(label="a", tip="", value=0.5)), standalone=True)[0]
    root = ElementTree.fromstring(drawing)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    used = set(re.findall(r"var\((--[a-z0-9]+)\)", drawing))
    assert used <= set(re.findall(r"(--[a-z0-9]+):", drawing))
