"""The Optuna study of a run: the only place, with `trials.py`, that speaks Optuna.

Every trial's proposal follows from the run's seed, the trial's number and the trials before it: the sampler is made
anew for each. So a search that was killed asks for the same widths again, and `--fresh` repeats them.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping

import optuna
from optuna.samplers import PartialFixedSampler, RandomSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from pruneas.search.parameters import Range
from pruneas.search.samplers import sampler_for

STUDY = "pruneas"


def open_study(storage: RDBStorage, name: str = STUDY) -> optuna.Study:
    """The study of that name, made if there is none."""
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
    with warnings.catch_warnings():
        # The dashboard's axis is called so; Optuna 5 still calls the method experimental.
        warnings.filterwarnings("ignore", r".*set_metric_names", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(["validation accuracy"])
    return study


def draw(trial: optuna.Trial, ranges: Mapping[str, Range]) -> dict[str, float]:
    """Give a trial its parameters, those that it does not have yet."""
    return {name: trial.suggest_float(name, limits.low, limits.high, log=limits.log) for name, limits in ranges.items()}


def complete(
    study: optuna.Study,
    frozen: FrozenTrial,
    ranges: Mapping[str, Range],
    sampler: str,
    run_seed: int,
    num_anchors: int,
) -> optuna.Trial:
    """Give a trial whose asking was cut off the parameters that it would have had.

    All are drawn again, in a copy of the study as it was: one draw follows another, and a sampler that finds half of a
    trial would keep away from it.
    """
    copy = optuna.create_study(direction="maximize")
    copy.add_trials(study.get_trials()[: frozen.number])
    values = draw(ask_next(copy, frozen.number, sampler, run_seed, num_anchors), ranges)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.sampler = PartialFixedSampler(values, RandomSampler())
    trial = optuna.Trial(study, frozen._trial_id)
    draw(trial, ranges)
    return trial


def opened(study: optuna.Study, frozen: FrozenTrial) -> optuna.Trial:
    """A trial to report to: nothing is sampled for it."""
    study.sampler = RandomSampler()
    return optuna.Trial(study, frozen._trial_id)


def report_epoch(trial: optuna.Trial, epoch: int, accuracy: float) -> None:
    """Add a point to the curve that the dashboard shows; those that are there stay (a training done again)."""
    with warnings.catch_warnings(), contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
        warnings.filterwarnings("ignore", r"The reported value is ignored")
        trial.report(accuracy, epoch)


def ask_next(study: optuna.Study, number: int, sampler: str, run_seed: int, num_anchors: int) -> optuna.Trial:
    """The next trial, which will have that number: an enqueued one, or a proposal."""
    study.sampler = sampler_for(sampler, run_seed, number, num_anchors)
    return study.ask()
