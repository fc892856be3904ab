import dataclasses
import re

import pytest

from pruneas.report import comparison_figures as figures
from pruneas.report.svg import draw
from tests.report.comparisons import around, many_rows, row, whole_comparison


@pytest.fixture(scope="module")
def record():
    return whole_comparison()


def series_of(figure):
    return {series.name: series for series in figure.series}


def every_figure(record):
    groups = figures.groups(record)
    shown = [figures.to_uniform(record, group) for group in groups]
    shown += [figures.question(record, each) for each in record.questions]
    shown += [
        figures.accuracy(record, arm, masked, quantity)
        for masked in (False, True)
        for arm in figures.trained_by(record, masked)
        for quantity in ("flops", "params")
    ]
    shown += [figures.compute(record, group) for group in groups]
    best, rest = figures.widths(record)
    return [*shown, *best, *rest, *figures.keep_maps(record), *figures.weights(record)]


def test_every_mark_of_every_figure_is_drawn(record):
    shown = every_figure(record)
    assert len({figure.title for figure in shown}) == len(shown)
    for figure in shown:
        drawn = sum(len(re.findall('class="mark ', drawing)) for drawing in draw(figure))
        assert drawn == figure.num_marks > 0, figure.title


def test_masks_are_shown_apart_from_widths(record):
    assert figures.groups(record) == [("0.5", False), ("0.5", True), ("0.3", False), ("0.3", True)]
    masks = figures.to_uniform(record, ("0.5", True))
    assert masks.title == "Difference to uniform at 0.5, masks"
    assert [each.label for each in masks.rows] == ["magnitude, scratch-e"]


def test_differences_have_their_intervals_and_what_they_show(record):
    figure = figures.to_uniform(record, ("0.5", False))
    found = {each.label: each for each in figure.rows}
    assert list(found) == [
        "random, scratch-e", "l1, fine-tuned", "l1, scratch-e", "l1, scratch-b", "l1, ticket", "guided, scratch-b",
    ]  # fmt: skip
    contrast = record.to_uniform("l1 at 0.5, scratch-b")
    line = found["l1, scratch-b"]
    assert (line.low, line.high) == contrast.interval
    assert (line.ticks[0].value, line.text) == (contrast.difference, "better")
    assert figure.num_marks == 2 * 6


def test_the_other_questions_name_rows_with_their_budget(record):
    question = next(each for each in record.questions if each.name == "scratch-b to fine-tuned")
    figure = figures.question(record, question)
    assert figure.title == "Scratch-b to fine-tuned"
    assert [each.label for each in figure.rows] == ["l1 at 0.5", "l1 at 0.3"]
    against = next(each for each in record.questions if each.name == "here to transferred")
    assert [each.label for each in figures.question(record, against).rows] == [
        "l1 at 0.5, scratch-b",
        "l1 at 0.3, scratch-b",
    ]


@pytest.mark.parametrize(("quantity", "cost"), [("flops", [6e5, 1e6]), ("params", [6e3, 1e4])])
def test_accuracy_over_the_budgets_is_a_joined_curve_for_each_architecture(record, quantity, cost):
    assert figures.trained_by(record, False) == ["fine-tuned", "scratch-e", "scratch-b", "ticket"]
    assert figures.trained_by(record, True) == ["scratch-e"]
    figure = figures.accuracy(record, "scratch-e", False, quantity)
    series = series_of(figure)
    assert list(series) == ["base", "uniform", "random", "l1"]
    assert [each.joined for each in series.values()] == [False, True, True, True]
    l1 = series["l1"].marks
    assert sorted(mark.x for mark in l1) == pytest.approx(cost)
    assert [mark.y for mark in l1] == pytest.approx([0.90, 0.90])
    assert all((mark.low, mark.high) == pytest.approx((0.899, 0.901)) for mark in l1)
    assert series["uniform"].style == "uniform" and series["base"].style == "base"
    assert figure.num_marks == 1 + 3 * 2
    assert figure.side_by_side == (quantity == "flops")  # where the budgets bring costs together


def test_an_arm_stands_beside_the_uniform_that_it_is_held_against(record):
    for arm, control in (("fine-tuned", "uniform, scratch-b"), ("ticket", "uniform, scratch-e")):
        assert list(series_of(figures.accuracy(record, arm, False, "flops"))) == ["base", control, "l1"]


def test_compute_is_the_arms_own_on_top_of_what_came_before(record):
    figure = figures.compute(record, ("0.3", False))
    found = {each.label: each for each in figure.rows}
    assert len(found) == figure.num_marks == 1 + 8
    assert (found["l1, scratch-e"].value, found["l1, scratch-e"].track) == (3e9, 4e9)
    assert (found["uniform, scratch-e"].value, found["uniform, scratch-e"].track) == (3e9, 3e9)
    assert "after 1.00 G in 2.0 s" in found["l1, scratch-e"].tip and "after" not in found["unpruned"].tip


def test_widths_have_the_spread_over_base_networks(record):
    (at_half, at_less), rest = figures.widths(record)
    assert rest == []
    assert (at_half.title, at_less.title) == ("Widths of l1 at 0.5", "Widths of l1 at 0.3")
    first = at_half.rows[0]
    assert first.text == "9.6 ± 1.5 of 16"
    assert (first.low, first.value, first.high) == pytest.approx((8.1 / 16, 0.6, 11.1 / 16))
    assert [(tick.name, tick.value) for tick in first.ticks] == [("uniform", 0.6)]
    assert at_half.num_marks == 2 * 2


def test_widths_of_one_base_network_have_no_spread(record):
    once = tuple(dataclasses.replace(each, bases=1, std=None) for each in record.widths)
    (figure, _), _ = figures.widths(dataclasses.replace(record, widths=once))
    assert figure.rows[0].low is None and figure.rows[0].text == "9.6 of 16"
    assert figure.caption.endswith("From one base network.")


def test_the_widths_of_the_most_accurate_architecture_of_every_budget_come_first(record):
    names = ("random", "guided", "l1", "uniform")
    given = tuple(dataclasses.replace(each, name=name) for each in record.widths[::2] for name in names)
    rows = [each for each in record.rows if each.name != "random"]
    rows += [dataclasses.replace(each, test_accuracies=(0.99,) * 3) for each in record.rows if each.name == "random"]
    best, rest = figures.widths(dataclasses.replace(record, widths=given, rows=tuple(rows)))
    assert [each.title for each in best] == ["Widths of l1 at 0.5", "Widths of l1 at 0.3"]  # 93 %, guided has 91 %
    titles = [f"Widths of {name} at {budget}" for budget in ("0.5", "0.3") for name in ("random", "guided")]
    assert [each.title for each in rest] == titles
    assert all(len(row.ticks) == 1 for each in [*best, *rest] for row in each.rows)  # uniform scaling's


def test_uniform_alone_has_its_widths_shown(record):
    alone = tuple(each for each in record.widths if each.name == "uniform")
    best, rest = figures.widths(dataclasses.replace(record, widths=alone))
    assert rest == [] and [figure.title for figure in best] == [
        "Widths of uniform at 0.5",
        "Widths of uniform at 0.3",
    ]


def test_groups_that_not_all_architectures_have_are_left_out(record):
    fewer = tuple(dataclasses.replace(each, mean={"features.3": 8.0}, std=None) for each in record.widths)
    (figure, _), _ = figures.widths(dataclasses.replace(record, widths=fewer))
    assert [each.label for each in figure.rows] == ["features.3"]


def test_keep_maps_have_a_cell_for_every_place_of_every_stage(record):
    first, second = figures.keep_maps(record)
    assert (first.title, second.title) == tuple(f"Kept places of kernels: magnitude at {b}" for b in ("0.5", "0.3"))
    assert [grid.label for grid in first.grids] == ["stage 0, 3 x 3", "stage 1, 3 x 3"]
    assert first.num_marks == 2 * 9
    assert first.grids[1].tips[5] == "stage 1, 3 x 3, row 2, column 3: 20.0 %"


def test_weights_are_shares_of_each_arm_beside_the_base_networks(record):
    shown = {figure.title: figure for figure in figures.weights(record)}
    l1 = shown["Weights of l1 at 0.5"]
    assert [line.name for line in l1.series] == ["unpruned", "fine-tuned", "scratch-e", "scratch-b", "ticket"]
    line = l1.series[0]
    assert [x for x, _ in line.points] == pytest.approx([-0.2, 0.0, 0.2])
    assert [y for _, y in line.points] == pytest.approx([1 / 7, 5 / 7, 1 / 7])
    assert line.tip == "unpruned: 7 weights, 71.4 % of them within ± 0.03"
    base = tuple(each for each in record.weights if each.row == "unpruned")
    (alone,) = figures.weights(dataclasses.replace(record, weights=base))
    assert (alone.title, alone.num_marks) == ("Weights of the base network", 1)
    assert figures.weights(dataclasses.replace(record, weights=())) == []


def test_a_budget_of_params_brings_costs_together_along_params():
    rows = [row("uniform", "scratch-e", around(0.9), "params=1k"), row("l1", "scratch-e", around(0.9), "params=1k")]
    record = dataclasses.replace(whole_comparison(many_rows()), rows=tuple(rows), contrasts=(), weights=())
    record = dataclasses.replace(record, budgets={"params=1k": {"params": 1000}})
    assert figures.accuracy(record, "scratch-e", False, "params").side_by_side
    assert not figures.accuracy(record, "scratch-e", False, "flops").side_by_side


def test_without_numbers_a_line_says_why():
    one_seed = [dataclasses.replace(each, seeds=(0,), epochs=(1,), **alone(each)) for each in many_rows()]
    figure = figures.to_uniform(whole_comparison(one_seed), ("0.5", False))
    assert figure.num_marks == 0
    assert {each.text for each in figure.rows} == {"unknown"}
    assert draw(figure)


def alone(each):
    return {"test_accuracies": each.test_accuracies[:1], "validation_accuracies": each.validation_accuracies[:1]}
