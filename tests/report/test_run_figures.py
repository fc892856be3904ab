import dataclasses

import pytest

from pruneas.report import run_figures
from pruneas.report.figures import Line, Points
from pruneas.search.stopping import Extrapolation


def by_name(plot):
    return {series.name: series for series in plot.series}


def test_each_arm_is_a_point_at_its_flops_with_mean_and_spread(made_up_run):
    figure = run_figures.final_comparison(made_up_run, made_up_run.result)
    assert figure.num_marks == len(made_up_run.result.arms) == 4
    (uniform,) = by_name(figure)["uniform"].marks
    assert (uniform.x, uniform.y) == (1_234_567, pytest.approx(0.91))
    assert (uniform.low, uniform.high) == (pytest.approx(0.90), pytest.approx(0.92))
    (base,) = by_name(figure)["base"].marks
    assert base.low is None  # one seed has no spread
    assert by_name(figure)["search #17 (winner)"].style == "winner"


def test_differences_have_their_intervals(made_up_run):
    figure = run_figures.differences(made_up_run, made_up_run.result)
    assert [(row.label, row.low, row.high) for row in figure.rows] == [
        ("slimming", -0.01, 0.03),
        ("search #17", 0.0212, 0.0612),
    ]
    assert [row.ticks[0].value for row in figure.rows] == [0.01, 0.0412]


def test_widths_are_shares_of_the_bases_the_winners_as_bars(made_up_run):
    figure = run_figures.widths(made_up_run)
    assert [(row.label, row.value, row.text) for row in figure.rows] == [
        ("features.0", 1.0, "16 of 16"),
        ("features.3", 0.5, "16 of 32"),
        ("features.7", 20 / 64, "20 of 64"),
    ]
    assert [(tick.name, tick.value) for tick in figure.rows[2].ticks] == [("uniform", 45 / 64), ("slimming", 30 / 64)]
    assert figure.num_marks == 3 * 3


def test_before_there_is_a_winner_the_best_searched_candidate_has_the_bars(made_up_run):
    figure = run_figures.widths(dataclasses.replace(made_up_run, result=None))
    assert figure.bars == "search #17 (best so far)"
    assert [row.value for row in figure.rows] == [1.0, 0.5, 20 / 64]
    alone = dataclasses.replace(made_up_run, result=None, trials=())
    assert run_figures.widths(alone).bars == "uniform"


def test_every_trained_candidate_is_a_point_and_every_failure_a_cross(made_up_run):
    figure = run_figures.history(made_up_run)
    series = by_name(figure)
    assert len(made_up_run.trained) == 4  # six, one failed, one repeats
    assert {name: len(s.marks) for name, s in series.items() if isinstance(s, Points)} == {
        "proposed by the search": 2,
        "uniform": 1,
        "slimming": 1,
        "failed": 1,
    }
    assert series["best so far"].points == [(0.0, 0.70), (1.0, 0.75), (2.0, 0.75), (17.0, 0.82)]
    assert "diverged" in series["failed"].marks[0].tip
    assert "1 that repeat earlier widths" in figure.caption


@pytest.mark.parametrize(("quantity", "cost"), [("flops", 1_200_017.0), ("params", 43_300.0)])
def test_the_search_is_shown_by_cost_with_its_front(made_up_run, quantity, cost):
    figure = run_figures.search_cost(made_up_run, quantity)
    assert figure.num_marks == 4 + 1  # the front is one
    (line,) = [series for series in figure.series if isinstance(series, Line)]
    assert line.points[-1] == (cost, 0.82)
    assert len(line.points) == (3 if quantity == "flops" else 1)  # 0.70, 0.75, 0.82; of the params the last is least
    assert [guide.value for guide in figure.guides] == ([1_237_772] if quantity == "flops" else [])


def test_a_training_is_a_line(made_up_run):
    figure = run_figures.training_curves(made_up_run, "test")
    assert figure.num_marks == 3
    assert figure.series[0].points == [(1.0, 0.4), (2.0, 0.6)]
    assert run_figures.training_curves(made_up_run, "selection").num_marks == 2


def test_layers_have_their_cost_before_and_after_and_small_ones_share_a_row(made_up_run):
    flops, params = run_figures.layer_costs(made_up_run, made_up_run.result)
    assert [(row.label, row.track, row.value, row.ticks[0].value) for row in flops.rows] == [
        ("features.0", 1_000_000, 500_000, 500_000),
        ("features.3", 1_400_000, 700_000, 700_000),
        ("classifier", 75_535, 37_767, 37_767),
        ("2 small layers", 10, 4, 4),
    ]
    assert "2.48 M in all" in flops.caption and "1.24 M" in flops.caption
    assert [row.label for row in params.rows] == ["features.0", "classifier"]


def test_importance_says_what_stands_out_of_chance(made_up_run):
    figure = run_figures.importance(made_up_run)
    assert figure.caption.startswith("1 of 2 groups stands out.")
    assert [(row.label, row.value, row.text) for row in figure.rows] == [
        ("features.0", 0.05, "narrower"),
        ("features.3", 0.01, ""),
    ]
    assert figure.num_marks == 4


def test_an_architecture_looks_the_same_in_every_figure(made_up_run):
    styles = run_figures.styles(made_up_run)
    assert styles == {"base": "base", "uniform": "uniform", "slimming": "other1", "search #17": "winner"}
    assert by_name(run_figures.history(made_up_run))["slimming"].style == "other1"
    assert by_name(run_figures.training_curves(made_up_run, "selection"))["slimming"].style == "other1"


def test_candidates_that_were_stopped_early_are_told_apart_and_are_no_best(made_up_run):
    early = Extrapolation(epoch=3, accuracy=0.9, low=0.85, high=0.95)
    last = dataclasses.replace(made_up_run.trials[-1], accuracy=0.9, extrapolation=early)
    run = dataclasses.replace(made_up_run, trials=(*made_up_run.trials[:-1], last))
    series = by_name(run_figures.history(run))
    (mark,) = series["stopped early, extrapolated"].marks
    assert (mark.x, mark.y, mark.low, mark.high) == (last.number, 0.9, 0.85, 0.95)
    assert "stopped after epoch 3, extrapolated to 90.00 % (prediction interval 85.00 to 95.00 %)" in mark.tip
    assert max(accuracy for _, accuracy in series["best so far"].points) == 0.75
    cost = run_figures.search_cost(run, "flops")
    assert cost.num_marks == 3 + 1
    assert "1 that were stopped early are not shown" in cost.caption
