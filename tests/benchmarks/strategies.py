"""Samplers and parametrisations on the width table: how far from the best network a search of 60 trials ends.

    python -m tests.benchmarks.strategies            # all of them, 30 seeds each; print, write results/strategies.json
    python -m tests.benchmarks.strategies --between  # the same on all integer widths, interpolated between the table's
    python -m tests.benchmarks.strategies --table FILE --out FILE --workers N    # a worker takes one core

A search is the one of `pruneas search`: the anchors first, then what the sampler proposes; what was trained before does
not count. A proposal's shape is scaled to the budget and snapped to the nearest network of the table inside of it, by
distances of logarithms of widths. A trial tells minus the log-loss of one of the three seeds, drawn for each network.
At the end the best TOP trials are trained with all seeds, as finalists are, and the best mean is what was found. Its
*regret*: its mean log-loss minus that of the best network inside the budget.

Anchors are those of a search: uniform scaling and what l1 and slimming give at this budget (slimming likewise),

    pruneas generate l1 --network tests.benchmarks.width_table.network:plain --input 1x8x8 --data digits --budget 0.2

Beside every sampler and parametrisation around these anchors stand plain random search and TPE as Optuna sets it up,
over all widths of the table and from uniform scaling alone: what a user of Optuna would do. What is measured lies in
the result file, strategy by strategy; the script goes on where it stopped.
"""

import argparse
import itertools
import json
import multiprocessing
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import optuna
import torch
from optuna.samplers import BaseSampler
from rich.console import Console
from rich.table import Table as Rows
from scipy import stats
from scipy.interpolate import RegularGridInterpolator

from pruneas.architecture import Input, Reference
from pruneas.catalogue import SAMPLERS, TIES, Tie
from pruneas.cost.model import CostModel
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.files import write_text
from pruneas.generators.stages import group_stages
from pruneas.networks import make
from pruneas.run.machine import hardware, versions
from pruneas.search.parameters import Parametrisation
from pruneas.search.samplers import sampler_for
from pruneas.search.worker import COPIES_IN_A_ROW
from pruneas.structure.build import structure_of
from tests.benchmarks.width_table import COMBINATIONS, FILE, SEEDS, WIDTHS, Table

RESULT = Path(__file__).parent / "results" / "strategies.json"
BETWEEN = RESULT.with_name("strategies-between.json")
NETWORK = "tests.benchmarks.width_table.network:plain"
BUDGET = 0.2
"""Of the widest network's FLOPs."""
TRIALS, SEARCHES, TOP, CHECKS = 60, 30, 5, (10, 20, 40, 60)
"""Trials of a search; searches of a strategy, each with a seed of its own; finalists; after how many trials to look."""
CONFIDENCE = 0.95
ANCHORS: Mapping[str, tuple[int, ...]] = {
    "uniform": (16, 16, 16, 16, 16),
    "l1": (6, 8, 5, 8, 7),
    "slimming": (7, 4, 7, 9, 15),
}
ALONE = {"uniform": ANCHORS["uniform"]}
RANDOM, TPE_DEFAULT = "random search over all widths", "TPE over all widths, Optuna's settings"
DEFAULT: tuple[str, Tie] = ("gp", "group")
"""What `pruneas search` does unless told otherwise; a test holds it equal to the space's defaults."""

Sampler = Callable[[int, int], BaseSampler]
"""The sampler of a trial: run seed, trial's number."""


@dataclass(frozen=True)
class Strategy:
    """How to search, and the shapes that are tried first. `everywhere`: over all widths, not around the anchors."""

    sampler: Sampler
    tie: Tie
    anchors: Mapping[str, tuple[int, ...]]
    everywhere: bool = False


@dataclass(frozen=True)
class Problem:
    """Networks inside the budget: logarithms of widths (networks, 5), log-losses of seeds (networks, 3), their truth
    (networks,), which on the table is their mean."""

    model: CostModel
    legal: LegalWidths
    stages: Mapping[str, int]
    logs: npt.NDArray[np.float64]
    losses: npt.NDArray[np.float64]
    truth: npt.NDArray[np.float64]
    most: int

    @classmethod
    def of(cls, losses: npt.NDArray[np.floating], between: bool = False) -> "Problem":
        """Of the table's losses (3125, 3); `between`: of all integer widths, interpolated."""
        reference = Reference.parse(NETWORK)
        network = make(reference)
        structure = structure_of(network, reference, (Input((1, 8, 8)),))
        model = CostModel.of(structure, network)
        widths, losses, truth = _filled(losses) if between else (np.array(COMBINATIONS), losses, losses.mean(axis=1))
        most = int(BUDGET * model.base.flops)
        inside = model.flops(widths) <= most
        return cls(
            model=model,
            legal=LegalWidths.of(structure, WidthRules(minimum=min(WIDTHS) / max(WIDTHS))),
            stages=group_stages(structure),
            logs=np.log(widths[inside]),
            losses=losses[inside].astype(np.float64),
            truth=truth[inside].astype(np.float64),
            most=most,
        )

    def snapped(self, shape: npt.NDArray[np.float64]) -> int:
        """The network nearest to this shape at the budget."""
        low, high = 1e-3, 1e3
        for _ in range(60):
            scale = (low * high) ** 0.5
            widths = np.clip(scale * shape, min(WIDTHS), max(WIDTHS))
            low, high = (scale, high) if self._flops(widths) <= self.most else (low, scale)
        wanted = np.log(np.clip(low * shape, min(WIDTHS), max(WIDTHS)))
        return int(((self.logs - wanted) ** 2).sum(axis=1).argmin())

    def _flops(self, widths: npt.NDArray[np.float64]) -> float:
        """The cost of widths that are no integers: the same polynomial."""
        polynomial = self.model.flops
        sizes = widths @ polynomial.coefficients.T + polynomial.constants
        return float((sizes[polynomial.a] * sizes[polynomial.b]) @ polynomial.factors)

    def widths(self, network: int) -> npt.NDArray[np.int64]:
        """Of a network inside the budget. Shape (5,)."""
        return np.exp(self.logs[network]).round().astype(np.int64)

    def regret(self, network: int) -> float:
        return float(self.truth[network] - self.truth.min())


def _filled(
    losses: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Every integer width between the table's: widths (networks, 5), made-up seeds' log-losses and their truth.

    The truth is the table's mean, linear between logarithms of widths in every dimension; each seed adds normal noise
    whose deviation is the table's, as a share of the log-loss.
    """
    means = losses.mean(axis=1, dtype=np.float64)
    relative = float(np.sqrt((losses.var(axis=1, ddof=1) / means**2).mean()))
    widths = np.array(list(itertools.product(range(min(WIDTHS), max(WIDTHS) + 1), repeat=5)))
    truth = RegularGridInterpolator([np.log(WIDTHS)] * 5, means.reshape([len(WIDTHS)] * 5))(np.log(widths))
    noise = np.random.default_rng(0).standard_normal((len(truth), SEEDS))
    return widths, truth[:, None] * (1 + relative * noise), truth


def search(problem: Problem, strategy: Strategy, seed: int) -> list[float]:
    """The regret of what a search has found after each of CHECKS trials."""
    exact = [problem.snapped(np.array(shape, dtype=np.float64)) for shape in strategy.anchors.values()]
    anchors = dict(zip(strategy.anchors, map(problem.widths, exact), strict=True))
    parametrisation = Parametrisation.around(
        anchors, problem.model, problem.legal, tie=strategy.tie, stages=problem.stages
    )
    if strategy.everywhere:
        ones = np.ones(len(parametrisation.multipliers))
        parametrisation = replace(parametrisation, low=ones * min(WIDTHS) / max(WIDTHS), high=ones)
    drawn = np.random.default_rng(seed).integers(SEEDS, size=len(problem.losses))
    study = optuna.create_study(direction="maximize")
    for widths in anchors.values():
        study.enqueue_trial(parametrisation.encode(widths))
    trained: dict[int, float] = {}
    found: list[float] = []
    number = copies = 0
    while len(trained) < TRIALS and copies < COPIES_IN_A_ROW:
        study.sampler = strategy.sampler(seed, number)
        trial = study.ask()
        parameters = {
            name: trial.suggest_float(name, limits.low, limits.high, log=limits.log)
            for name, limits in parametrisation.ranges.items()
        }
        network = exact[number] if number < len(exact) else problem.snapped(parametrisation.decode(parameters))
        copies = copies + 1 if network in trained else 0
        trained[network] = -float(problem.losses[network, drawn[network]])
        study.tell(trial, trained[network])
        if not copies and len(trained) in CHECKS:
            found.append(_chosen(problem, trained))
        number += 1
    return found + [_chosen(problem, trained)] * (len(CHECKS) - len(found))  # nothing new is proposed any more


def _chosen(problem: Problem, trained: Mapping[int, float]) -> float:
    finalists = sorted(trained, key=lambda network: -trained[network])[:TOP]
    return problem.regret(min(finalists, key=lambda network: problem.losses[network].mean()))


def strategies() -> dict[str, Strategy]:
    """Every sampler with every tie, and what stands beside them."""

    def ours(name: str, anchors: Mapping[str, tuple[int, ...]] = ANCHORS) -> Sampler:
        return lambda seed, number: sampler_for(name, seed, number, len(anchors))

    defaults: dict[int, BaseSampler] = {}  # one sampler for a whole search, as Optuna is used

    def optunas(seed: int, _number: int) -> BaseSampler:
        return defaults.setdefault(seed, optuna.samplers.TPESampler(seed=seed))

    gp, group = DEFAULT
    return {
        **{f"{name}, {tie}": Strategy(ours(name), tie, ANCHORS) for name in SAMPLERS for tie in TIES},
        f"{gp}, {group}, from uniform alone": Strategy(ours(gp, ALONE), group, ALONE),
        f"{gp}, {group}, over all widths": Strategy(ours(gp, ALONE), group, ALONE, everywhere=True),
        RANDOM: Strategy(ours("random", ALONE), "group", ALONE, everywhere=True),
        TPE_DEFAULT: Strategy(optunas, "group", ALONE, everywhere=True),
    }


def summary(regrets: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, dict[str, float]]:
    """Mean regret with its interval, beside random search's, and the mean difference to TPE's default, paired by seed.

    `regrets`: (searches,) by strategy. Intervals are Student's, of CONFIDENCE.
    """
    rows = {}
    for name, values in regrets.items():
        half = _half(values)
        difference = values - regrets[TPE_DEFAULT]
        rows[name] = {
            "regret": float(values.mean()),
            "low": float(values.mean() - half),
            "high": float(values.mean() + half),
            "of_random": float(values.mean() / regrets[RANDOM].mean()),
            "minus_tpe": float(difference.mean()),
            "minus_tpe_half": _half(difference),
        }
    return rows


def _half(values: npt.NDArray[np.float64]) -> float:
    """Half of the interval of a mean."""
    factor = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return factor * float(values.std(ddof=1)) / len(values) ** 0.5


def _facts(problem: Problem) -> dict[str, object]:
    """What there is to find."""
    means = problem.truth
    shapes = {name: np.array(shape, dtype=np.float64) for name, shape in ANCHORS.items()}
    best = np.argsort(means)[:100]
    return {
        "networks": len(means),
        "best": float(means.min()),
        "median": float(np.median(means)),
        "noise": float(np.sqrt(problem.losses[best].var(axis=1, ddof=1).mean() / SEEDS)),
        "anchors": {name: _anchor(problem, shape) for name, shape in shapes.items()},
    }


def _anchor(problem: Problem, shape: npt.NDArray[np.float64]) -> dict[str, object]:
    network = problem.snapped(shape)
    return {"widths": problem.widths(network).tolist(), "regret": problem.regret(network)}


def _prepare(losses: npt.NDArray[np.floating], between: bool) -> None:
    """What a worker keeps between searches."""
    global _problem
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    _problem = Problem.of(losses, between)


def _measured(name: str, seed: int) -> list[float]:
    return search(_problem, strategies()[name], seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=FILE)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--between", action="store_true", help="all integer widths, interpolated between the table's")
    arguments = parser.parse_args()
    out: Path = arguments.out or (BETWEEN if arguments.between else RESULT)
    losses = Table.complete(arguments.table).losses
    setting = {"budget": BUDGET, "trials": TRIALS, "searches": SEARCHES, "checks": list(CHECKS), "versions": versions()}
    before = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    found = before["found"] if all(before.get(name) == value for name, value in setting.items()) else {}
    result = {
        **setting,
        **_facts(Problem.of(losses, arguments.between)),
        "hardware": hardware("cpu", arguments.workers, 1),
    }
    with multiprocessing.get_context("spawn").Pool(arguments.workers, _prepare, (losses, arguments.between)) as pool:
        for name in strategies():
            if name not in found:
                searches = [(name, seed) for seed in range(SEARCHES)]
                found[name] = [
                    [round(regret, 5) for regret in each] for each in pool.starmap(_measured, searches, chunksize=1)
                ]
            print(f"{name}: {np.mean(found[name], axis=0).round(4).tolist()}", flush=True)
            result["found"] = found
            write_text(out, json.dumps(result) + "\n")
    for key, check in (("early", 0), ("strategies", -1)):
        result[key] = summary({name: np.array(values)[:, check] for name, values in found.items()})
    result["course"] = {name: np.mean(values, axis=0).tolist() for name, values in found.items()}
    write_text(out, json.dumps(result) + "\n")
    show(result)


def show(result: Mapping) -> None:
    table = Rows(title=f"regret after {result['trials']} trials, {result['searches']} searches each")
    for column in ("strategy", *(f"after {check}" for check in result["checks"]), "interval", "of random", "minus TPE"):
        table.add_column(column)
    for name, row in sorted(result["strategies"].items(), key=lambda item: item[1]["regret"]):
        table.add_row(
            name,
            *(f"{value:.4f}" for value in result["course"][name]),
            f"{row['low']:.4f} to {row['high']:.4f}",
            f"{row['of_random']:.2f}",
            f"{row['minus_tpe']:+.4f} ± {row['minus_tpe_half']:.4f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
