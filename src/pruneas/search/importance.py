"""How much the width of each group has to do with accuracy, as far as the trials of a search can tell.

Optuna's PED-ANOVA asks in which of its values a parameter differs between the best trials and all of them
[Watanabe2023]. It is asked about widths, not about the sampler's multipliers: those have a common scale that means
nothing. With few trials everything looks important to some degree, so the same is done with the accuracies shuffled
over the trials: what only chance makes is told beside it.

[Watanabe2023] PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces, IJCAI 2023
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pruneas.search.records import TrialRecord

LEAST = 20
"""Of fewer trained candidates nothing is said."""
BEST_SHARE = 0.25
SHUFFLES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """Of one group's width. `value` is PED-ANOVA's, `chance` what in 95 % of the shuffles no group's value exceeds.
    `direction` is the rank correlation of width and accuracy: above 0, wider was better."""

    group: str
    value: float
    chance: float
    direction: float


def distinct(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials that were trained: copies say nothing new, failures nothing at all. Those that were stopped early are
    known to be none of the best, which is what is asked."""
    return [trial for trial in trials if trial.accuracy is not None and trial.copied_from is None]


def importances(trials: Sequence[TrialRecord], *, seed: int) -> list[Importance]:
    """The importance of every group whose width was tried at several values; empty for fewer than `LEAST` trials."""
    trained = distinct(trials)
    if len(trained) < LEAST:
        return []
    groups = [group for group in trained[0].widths if len({trial.widths[group] for trial in trained}) > 1]
    widths = np.array([[trial.widths[group] for group in groups] for trial in trained], dtype=np.float64)
    accuracies = np.array([trial.accuracy for trial in trained], dtype=np.float64)
    if not groups or accuracies.min() == accuracies.max():
        return []
    found = _evaluated(widths, accuracies)
    shuffler = np.random.default_rng(seed)
    highest = [_evaluated(widths, shuffler.permutation(accuracies)).max() for _ in range(SHUFFLES)]
    chance = float(np.quantile(highest, 0.95))
    return [
        Importance(group=group, value=float(value), chance=chance, direction=_correlation(column, accuracies))
        for group, value, column in zip(groups, found, widths.T, strict=True)
    ]


def _evaluated(widths: npt.NDArray[np.float64], accuracies: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """PED-ANOVA's importance of each column. Shapes (trials, groups), (trials,) -> (groups,)."""
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = [str(index) for index in range(widths.shape[1])]
    ranges: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.FloatDistribution(float(column.min()), float(column.max()))
        for name, column in zip(names, widths.T, strict=True)
    }
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.create_trial(
                params=dict(zip(names, map(float, row), strict=True)), distributions=ranges, value=float(accuracy)
            )
            for row, accuracy in zip(widths, accuracies, strict=True)
        ]
    )
    found = PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE).evaluate(study)
    return np.array([found.get(name, 0.0) for name in names])


def _correlation(column: npt.NDArray[np.float64], accuracies: npt.NDArray[np.float64]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(column, accuracies).statistic)
