import warnings
from typing import get_args

import optuna
import pytest
from optuna.trial import TrialState

from pruneas.catalogue import SAMPLERS, TIES, Tie
from pruneas.config import Search
from pruneas.search.samplers import sampler_for

ANCHORS = 3


def found(name, run_seed, trials=24):
    """What a sampler proposes: a parabola over two multipliers, the sampler made anew for each trial as in a search."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    for anchor in (0.5, 1.0, 2.0):
        study.enqueue_trial({"a": anchor, "b": 1.0})
    for number in range(trials):
        study.sampler = sampler_for(name, run_seed, number, ANCHORS)
        trial = study.ask()
        a, b = (trial.suggest_float(each, 0.5, 2.0, log=True) for each in "ab")
        study.tell(trial, -((a - 1.4) ** 2) - (b - 0.8) ** 2)
    return study.get_trials(states=(TrialState.COMPLETE,))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_begins_with_the_anchors_and_repeats_itself_without_repeating_a_proposal(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none of what users cannot do anything about
        first, second = (found(name, 7, 16) for _ in range(2))
    assert [trial.params["a"] for trial in first[:3]] == [0.5, 1.0, 2.0]
    assert [trial.params for trial in first] == [trial.params for trial in second]
    assert len({tuple(trial.params.values()) for trial in first}) == len(first)


@pytest.mark.parametrize("name", ["gp", "tpe", "cma"])  # the evolutionary one needs more trials than that
def test_a_sampler_that_learns_ends_nearer_to_the_optimum_than_random_draws_do(name):
    def late(sampler):
        return sum(trial.value for seed in range(2) for trial in found(sampler, seed, 24)[-6:])

    assert late(name) > late("random")


def test_the_names_that_a_space_takes_are_those_there_are():
    fields = Search.model_fields
    assert set(get_args(fields["sampler"].annotation)) == set(SAMPLERS)
    assert fields["tie"].annotation == Tie
    assert set(get_args(Tie)) == set(TIES)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="no sampler called 'gpp'"):
        sampler_for("gpp", 0, 0, 0)
