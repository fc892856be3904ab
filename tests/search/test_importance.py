from dataclasses import replace

import numpy as np
import pytest

from pruneas.search.importance import LEAST, importances
from pruneas.search.records import TrialRecord


def trials(num, accuracy, *, groups=4, seed=0, **more):
    """Candidates of random widths; `accuracy` is made of widths and noise."""
    random = np.random.default_rng(seed)
    for number in range(num):
        widths = random.integers(8, 64, groups)
        yield TrialRecord(
            **{
                "number": number, "origin": "search", "widths": {f"conv{i}": int(w) for i, w in enumerate(widths)},
                "flops": 1, "params": 1, "seed": 0, "accuracy": float(accuracy(widths, random.normal())), "loss": 0.0,
                "curve": (), "seconds": 0.0, "images": 1, **more,
            }
        )  # fmt: skip


def test_a_width_that_decides_stands_out_and_the_others_do_not():
    found = {each.group: each for each in importances(list(trials(60, lambda w, e: -w[1] + 0.1 * e)), seed=0)}
    assert [group for group, each in found.items() if each.value > each.chance] == ["conv1"]
    assert found["conv1"].direction == pytest.approx(-1.0, abs=0.05)


def test_noise_stands_out_about_as_rarely_as_it_is_said_to():
    seen = [
        any(each.value > each.chance for each in importances(list(trials(24, lambda w, e: e, seed=seed)), seed=seed))
        for seed in range(8)
    ]
    assert sum(seen) <= 2  # 5 % of the cases; more than two of eight: 0.6 %


def test_the_same_trials_give_the_same_answer():
    candidates = list(trials(30, lambda w, e: w[0] + e))
    assert importances(candidates, seed=3) == importances(candidates, seed=3)


def test_of_few_trials_of_copies_and_of_failures_nothing_is_said():
    candidates = list(trials(LEAST - 1, lambda w, e: w[0]))
    copies = list(trials(5, lambda w, e: w[0], copied_from=0))
    failures = [replace(each, accuracy=None, failure="diverged") for each in trials(5, lambda w, e: 0)]
    assert importances([*candidates, *copies, *failures], seed=0) == []


def test_a_width_that_never_changes_is_left_out_and_equal_accuracies_say_nothing():
    candidates = [
        TrialRecord.from_json({**each.to_json(), "widths": {**each.widths, "stem": 16}})
        for each in trials(30, lambda w, e: w[0])
    ]
    assert [each.group for each in importances(candidates, seed=0)] == ["conv0", "conv1", "conv2", "conv3"]
    assert importances(list(trials(30, lambda w, e: 0.5)), seed=0) == []
