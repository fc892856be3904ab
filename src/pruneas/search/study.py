"""The Optuna study of a run: the only place, with `trials.py`, that speaks Optuna.

Every trial's proposal follows from the run's seed, the trial's number and the trials before it: the sampler is made
anew for each. So a search that was killed asks for the same widths again, and `--fresh` repeats them.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from pruneas.seeds import derive

STUDY = "pruneas"
RANDOM_TRIALS = 8
"""A model of the trials says nothing before there are some: at least so many are anchors or random."""


def open_study(database: Path) -> optuna.Study:
    """The study in a run's SQLite file, made if there is none.

    Write-ahead logging with a long timeout: the dashboard reads while the search writes.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{database.resolve()}", engine_kwargs={"connect_args": {"timeout": 120}}
    )

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()  # the next connection has the pragmas
    study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize", load_if_exists=True)
    study.set_metric_names(["validation accuracy"])
    return study


def sampler_for(name: str, run_seed: int, number: int, num_anchors: int) -> BaseSampler:
    """The sampler that proposes trial `number`."""
    seed = derive(run_seed, "sampler", number)
    startup = max(RANDOM_TRIALS, num_anchors + 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "gp":
            return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        if name == "tpe":
            return TPESampler(seed=seed, n_startup_trials=num_anchors + 3)
        return RandomSampler(seed=seed)


def reopened(study: optuna.Study, frozen: FrozenTrial) -> optuna.Trial:
    """A running trial to go on with: what it has been given stays, the rest is sampled as it would have been."""
    return optuna.Trial(study, frozen._trial_id)


def ask_next(study: optuna.Study, sampler: str, run_seed: int, num_anchors: int) -> optuna.Trial:
    """The next trial: an enqueued anchor, or a proposal."""
    trials = study.get_trials(deepcopy=False)
    waiting = [trial.number for trial in trials if trial.state == TrialState.WAITING]
    study.sampler = sampler_for(sampler, run_seed, min(waiting, default=len(trials)), num_anchors)
    return study.ask()
