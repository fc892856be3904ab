"""The samplers by name. Which of them is the default follows from `tests/benchmarks/strategies.py`."""

from __future__ import annotations

import warnings

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from pruneas.seeds import derive

RANDOM_TRIALS = 8
"""A model of the trials says nothing before there are some: at least so many are anchors or random."""
POPULATION = 10
"""Of the evolutionary sampler: Optuna's 50 would be one generation of a usual search."""


def sampler_for(name: str, run_seed: int, number: int, num_anchors: int) -> BaseSampler:
    """The sampler that proposes trial `number`, one of `catalogue.SAMPLERS`.

    The covariance-matrix and the evolutionary sampler learn from what they proposed themselves, not from the anchors.
    """
    seed = derive(run_seed, "sampler", number)
    startup = num_anchors + 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "gp":
                return GPSampler(
                    seed=seed, n_startup_trials=max(RANDOM_TRIALS, startup), warn_independent_sampling=False
                )
            case "tpe":
                return TPESampler(seed=seed, n_startup_trials=startup)
            case "cma":
                return CmaEsSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
            case "nsga2":
                crossover = optuna.samplers.nsgaii.BLXAlphaCrossover()
                return NSGAIISampler(seed=seed, population_size=POPULATION, crossover=crossover)
            case "random":
                return RandomSampler(seed=seed)
    raise ValueError(f"there is no sampler called {name!r}")
