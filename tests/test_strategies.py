"""The benchmark of search strategies, on a made-up table: the true one takes hours to make and minutes to search."""

import json

import numpy as np
import optuna
import pytest

from pruneas.config import Space
from tests.benchmarks import strategies
from tests.benchmarks.strategies import ANCHORS, DEFAULT, RANDOM, TPE_DEFAULT, Problem, search, summary
from tests.benchmarks.width_table import COMBINATIONS, SEEDS, Table


@pytest.fixture(scope="module")
def problem():
    wide = np.log(COMBINATIONS) @ [0.1, 0.5, 0.2, 0.4, 0.3]
    return Problem.of(np.exp(-wide)[:, None] * np.ones(SEEDS))


def test_what_is_proposed_is_snapped_to_the_nearest_network_inside_the_budget(problem):
    rng = np.random.default_rng(0)
    for _ in range(20):
        network = problem.snapped(np.exp(rng.normal(size=5)) * 16)
        widths = problem.widths(network)
        assert problem.model.flops(widths) <= problem.most
        # A network of the table that is within the budget stays what it is, if no wider one of its shape is.
        again = problem.snapped(widths.astype(float))
        assert problem.model.flops(problem.widths(again)) <= problem.most


def test_a_search_ends_nearer_to_the_best_than_its_anchors(problem):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    anchors = min(problem.regret(problem.snapped(np.array(each, dtype=float))) for each in ANCHORS.values())
    for name in ("random, group", "tpe, group", "cma, mixture"):
        strategy = strategies.strategies()[name]
        found = search(problem, strategy, seed=0)
        assert len(found) == len(strategies.CHECKS)
        assert 0 <= found[-1] <= anchors
        assert strategy.tie == "mixture" or found[-1] < anchors


def test_regrets_are_summed_up_with_intervals_by_hand():
    rows = summary({RANDOM: np.array([2.0, 4.0]), TPE_DEFAULT: np.array([1.0, 3.0]), "x": np.array([1.0, 2.0])})
    assert rows["x"]["regret"] == 1.5
    assert rows["x"]["of_random"] == 0.5
    assert rows["x"]["minus_tpe"] == -0.5
    half = 12.7062 * 0.5  # Student's t for one degree of freedom, times 1/sqrt(2) / sqrt(2)
    assert rows["x"]["high"] - 1.5 == pytest.approx(half, rel=1e-4)


def test_a_part_of_the_table_is_refused(tmp_path, monkeypatch):
    Table.empty().write(tmp_path / "table.npz")
    monkeypatch.setattr("sys.argv", ["strategies", "--table", str(tmp_path / "table.npz")])
    with pytest.raises(ValueError, match="0 of 3125 combinations are trained"):
        strategies.main()


def test_the_default_that_is_measured_is_the_default():
    defaults = Space.load("digits").search
    assert (defaults.sampler, defaults.tie) == DEFAULT
    assert f"{DEFAULT[0]}, {DEFAULT[1]}" in strategies.strategies()


def test_a_result_can_be_shown(capsys):
    row = {"regret": 1.0, "low": 0.5, "high": 1.5, "of_random": 0.5, "minus_tpe": -0.1, "minus_tpe_half": 0.05}
    course = {"gp, group": [3.0, 2.0, 1.0]}
    result = {"trials": 60, "searches": 2, "checks": [20, 40, 60], "strategies": {"gp, group": row}, "course": course}
    strategies.show(json.loads(json.dumps(result)))
    assert "gp" in capsys.readouterr().out


def test_between_the_tables_networks_the_truth_is_linear_and_seeds_scatter_as_they_do_there() -> None:
    logs = np.log(COMBINATIONS)
    plane = 2 - logs @ [0.01, 0.05, 0.02, 0.04, 0.03]
    table = plane[:, None] * (1 + 0.1 * np.random.default_rng(1).standard_normal((len(plane), SEEDS)))
    found = Problem.of(np.repeat(plane[:, None], SEEDS, axis=1), between=True)
    assert len(found.truth) > 100_000
    assert found.truth == pytest.approx(2 - found.logs @ [0.01, 0.05, 0.02, 0.04, 0.03])
    noisy = Problem.of(table, between=True)
    assert (noisy.losses / noisy.truth[:, None]).std() == pytest.approx(0.1, rel=0.05)
    assert found.regret(found.snapped(np.array([3.0, 5.0, 7.0, 11.0, 13.0]))) > 0
