import warnings

import optuna
import pytest

from pruneas.catalogue import SAMPLERS
from pruneas.errors import RunError
from pruneas.search.parameters import Range
from pruneas.search.storage import address, connect
from pruneas.search.study import ask_next, complete, draw, open_study, report_epoch, sampler_for


def study_in(database):
    return open_study(connect(address(database)))


def asked(study, sampler, count, seed=0):
    values = []
    for _ in range(count):
        trial = ask_next(study, len(study.get_trials()), sampler, seed, 0)
        values.append(trial.suggest_float("x", 0.5, 2.0, log=True))
        study.tell(trial, values[-1])
    return values


def test_opening_a_study_warns_of_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study_in(tmp_path / "study.db")


@pytest.mark.parametrize("sampler", ["gp", "tpe", "random"])
def test_the_same_seed_asks_for_the_same_values(tmp_path, sampler):
    first = asked(study_in(tmp_path / "a.db"), sampler, 10)
    assert asked(study_in(tmp_path / "b.db"), sampler, 10) == first
    assert asked(study_in(tmp_path / "c.db"), sampler, 10, seed=1) != first


def test_a_study_that_was_closed_goes_on_as_if_it_had_not(tmp_path):
    whole = asked(study_in(tmp_path / "a.db"), "gp", 10)
    parts = asked(study_in(tmp_path / "b.db"), "gp", 4)
    assert parts + asked(study_in(tmp_path / "b.db"), "gp", 6) == whole


RANGES = {name: Range(low=0.5, high=2.0, log=True) for name in ("x", "y", "z")}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("num_before", [0, 8])
@pytest.mark.parametrize("num_drawn", [0, 1, 2])
def test_a_trial_that_was_half_drawn_becomes_what_it_would_have_been(tmp_path, sampler, num_before, num_drawn):
    """At random, where each draw follows the one before; and by a model, which draws all at once and looks at what
    runs: the last trial of a batch of two."""
    found = []
    for name in ("whole", "parts"):
        study = study_in(tmp_path / f"{name}.db")
        for number in range(num_before):
            trial = ask_next(study, number, sampler, 0, 0)
            study.tell(trial, sum(draw(trial, RANGES).values()))
        draw(ask_next(study, num_before, sampler, 0, 0), RANGES)
        trial = ask_next(study, num_before + 1, sampler, 0, 0)
        if name == "parts":
            draw(trial, dict(list(RANGES.items())[:num_drawn]))
            study = study_in(tmp_path / "parts.db")
            complete(study, study.get_trials()[-1], RANGES, sampler, 0, 0)
        else:
            draw(trial, RANGES)
        found.append([each.params for each in study.get_trials()])
    assert found[0] == found[1]


def test_a_point_of_a_curve_that_is_there_already_is_no_drama(tmp_path):
    study = study_in(tmp_path / "a.db")
    trial = ask_next(study, 0, "random", 0, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report_epoch(trial, 1, 0.5)
        report_epoch(trial, 1, 0.6)
        study.tell(trial, 0.5)
        report_epoch(trial, 2, 0.7)
    assert study.trials[0].intermediate_values == {1: 0.5}


def test_random_trials_come_before_the_model_says_anything():
    sampler = sampler_for("gp", 0, 0, 7)
    assert isinstance(sampler, optuna.samplers.GPSampler)
    assert sampler._n_startup_trials == 10


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to look at" * 100, b"SQLite format 3\0" + b"x" * 5000]
)
def test_a_file_that_is_no_study_is_told(tmp_path, content):
    (tmp_path / "study.db").write_bytes(content)
    with pytest.raises(RunError, match=r"cannot be read as an Optuna study .* delete it and give the command again"):
        study_in(tmp_path / "study.db")
