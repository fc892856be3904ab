"""What a run decides between its stages; whole runs are in test_search.py."""

from dataclasses import replace

import pytest

from pruneas.compare.finalists import Entrant
from pruneas.run.record import Arm, _fidelity
from pruneas.run.stages import _anchor, _best_searched, _generated, _roles
from pruneas.search.propose import GeneratorRecord
from pruneas.search.records import TrialRecord
from pruneas.search.train import TrainingRecord
from tests.nets import structure_of

BASE = {"a": 4}


def generated(*names):
    return [Entrant(name=name, origin=name, widths={"a": 2}) for name in names]


def entrant(name, origin="search"):
    return Entrant(name=name, origin=origin, widths={"a": 3})


def trial(number, origin, accuracy):
    return TrialRecord(
        number=number, origin=origin, widths={"a": number}, flops=1, params=1, seed=0, accuracy=accuracy, loss=0.0,
        curve=(), seconds=0.0, images=0,
    )  # fmt: skip


def trained(accuracy):
    return TrainingRecord(
        widths={"a": 1}, flops=1, params=1, seed=0, epochs=(), validation_accuracy=accuracy, validation_loss=0.0,
        test_accuracy=None, test_loss=None, seconds=0.0, images=0, precision="float32",
    )  # fmt: skip


def roles(winner, searched):
    found = _roles(BASE, generated("uniform", "l1"), winner, searched)
    return [(name, role) for name, (_, role) in found.items()]


def test_a_searched_winner_comes_last():
    winner = entrant("search #7")
    assert roles(winner, winner) == [
        ("base", "base"), ("uniform", "uniform"), ("l1", "generator"), ("search #7", "winner")
    ]  # fmt: skip


def test_where_a_generator_won_the_best_searched_is_shown_beside_it():
    assert roles(entrant("l1", "l1"), entrant("search #7")) == [
        ("base", "base"), ("uniform", "uniform"), ("l1", "winner"), ("search #7", "searched")
    ]  # fmt: skip


def test_uniform_scaling_keeps_its_role_where_it_won():
    assert roles(entrant("uniform", "uniform"), None) == [("base", "base"), ("uniform", "uniform"), ("l1", "generator")]


def test_the_best_searched_is_the_best_of_the_selection_or_else_of_the_trials():
    entrants = [entrant("search #3"), entrant("search #4"), entrant("l1", "l1")]
    selected = {"search #3": [trained(0.5)], "search #4": [trained(0.6)], "l1": [trained(0.9)]}
    assert _best_searched(entrants, selected, []).name == "search #4"
    trials = [trial(0, "uniform", 0.9), trial(1, "search", 0.2), trial(2, "search", 0.4), trial(3, "search", None)]
    assert _best_searched([entrant("l1", "l1")], {"l1": [trained(0.9)]}, trials).name == "search #2"
    assert _best_searched([entrant("l1", "l1")], {"l1": [trained(0.9)]}, trials[:1]) is None


def test_an_anchor_keeps_which_channels_are_selected():
    structure = structure_of("Selecting")
    keep = {"a.0": [1, 3, 5], "select": [0, 2, 4]}
    record = GeneratorRecord(
        method="slimming", widths={"a.0": 3, "select": 3}, removed=[], flops=1, params=1, keep=keep, scope="network",
        scores=None, weights=None, seed=0, images=0, seconds=0.0,
    )  # fmt: skip
    found = _generated(record.method, _anchor(structure, record))
    assert found.selections == {"select": (0, 2, 4)}
    assert found.fingerprint != replace(found, selections={}).fingerprint


def test_ranking_is_measured_over_every_architecture_that_was_also_trained_in_full():
    trials = [trial(0, "uniform", 0.1), trial(1, "l1", 0.2), trial(2, "search", 0.3), trial(3, "search", 0.4)]
    trials.append(trial(4, "search", None))
    selected = {"search #2": [trained(0.8)], "search #3": [trained(0.7), trained(0.8)]}
    arms = {
        "base": Arm(entrant=entrant("base", "base"), role="base", records=[trained(0.99)]),
        "uniform": Arm(entrant=entrant("uniform", "uniform"), role="uniform", records=[trained(0.5)]),
        "l1": Arm(entrant=entrant("l1", "l1"), role="generator", records=[trained(0.6)]),
    }
    found = _fidelity(arms, selected, trials)
    assert found.architectures == 4
    assert found.correlation == pytest.approx(0.8)  # one neighbouring pair the other way round
    assert found.low < 0.8 < found.high
    assert _fidelity(arms, {}, trials) is None
