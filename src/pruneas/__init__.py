"""Neural architecture search in which pruning methods propose the channel widths.

    import pruneas

    result = pruneas.search(budget=0.5)                    # the default space, as `pruneas search --budget 0.5`
    print(result)                                          # the verdict
    network = result.architecture.build()                  # a torch.nn.Module, freshly initialised
    pruneas.Architecture.load("best/architecture.json").build()
    pruneas.Architecture.load("preset:vgg16-a").build()    # a published one: pruneas.presets() lists them
    pruneas.inspect("torchvision:resnet50").groups         # what can change, as `pruneas inspect torchvision:resnet50`

Importing this is cheap: torch and Optuna are loaded when they are first needed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

# The sub-packages first: were they loaded later, Python would put them in the place of functions of their names.
from pruneas import compare as _compare_package  # noqa: F401
from pruneas import search as _search_package  # noqa: F401
from pruneas.architecture import Architecture, Budget, Input, Reference
from pruneas.errors import PruneasError
from pruneas.preset import presets

if TYPE_CHECKING:
    from typing import Literal

    from pruneas.config import Space
    from pruneas.progress import Observer
    from pruneas.report.inspection import Inspection
    from pruneas.run import SearchResult
    from pruneas.run.compare import ComparisonResult
    from pruneas.run.sweep import SweepResult

__all__ = [
    "Architecture",
    "Budget",
    "Input",
    "PruneasError",
    "Reference",
    "compare",
    "inspect",
    "load",
    "presets",
    "search",
    "sweep",
]

try:
    __version__ = version("pruneas")
except PackageNotFoundError:  # the source tree on the path, not installed
    __version__ = "0+unknown"


def search(
    budget: str | float | None = None,
    space: str | Path = "digits",
    *,
    run: str | Path | None = None,
    fresh: bool = False,
    download: bool = False,
    storage: str | None = None,
    lease: float | None = None,
    overrides: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
) -> SearchResult:
    """Search the best channel widths within a budget, train the winner and the baselines, and compare them.

    Args:
        budget: the most a candidate may cost: 0.5 (of the base network's FLOPs), '120MFLOPs', 'params=2.5M',
            'memory=1.5MB' (of activations), 'latency=3ms' (measured here), several at once: '0.5+latency=3ms'.
        space: a shipped search space or the path of a file.
        run: the run's folder; by default one in runs/ named after the settings. Given again, the run goes on.
        fresh: begin anew in that folder.
        download: fetch missing images.
        storage: the URL of a database in place of the folder's study.db, for workers on other machines.
        lease: seconds after which the trial of a worker that does not answer is another's; by default 120.
        overrides: single values of the space by dotted key: `{"network.reference": "torchvision:resnet18"}`.
        observer: what is told of the progress; by default plain lines on stderr.
    """
    from pruneas.run import search as run_search

    given = dict(overrides or {}) | ({} if budget is None else {"budget": budget})
    arguments = {"budget": budget, "space": str(space), "storage": storage, "overrides": dict(overrides or {})}
    options: dict[str, Any] = {"run": run and Path(run), "fresh": fresh, "download": download, "storage": storage}
    with _told(observer) as told:
        chosen, command = _space(space, given), _command("search", arguments)
        return run_search(chosen, command=command, observer=told, lease=lease, **options)


def sweep(
    budgets: Sequence[str | float],
    space: str | Path = "digits",
    *,
    run: str | Path | None = None,
    fresh: bool = False,
    download: bool = False,
    storage: str | None = None,
    lease: float | None = None,
    overrides: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
) -> SweepResult:
    """Search within each of several budgets, with one base network and one set of generators.

    Args:
        budgets: as `search` takes one.
        run: the folder, in which each budget's run has one of its own.
        space, fresh, download, storage, lease, overrides, observer: as `search` takes them.
    """
    from pruneas.run.sweep import sweep as run_sweep

    texts = list(map(str, budgets))
    arguments = {"budgets": texts, "space": str(space), "storage": storage, "overrides": dict(overrides or {})}
    options: dict[str, Any] = {"run": run and Path(run), "fresh": fresh, "download": download, "storage": storage}
    with _told(observer) as told:
        chosen, command = _space(space, overrides), _command("sweep", arguments)
        return run_sweep(chosen, texts, command=command, observer=told, lease=lease, **options)


def compare(
    run: str | Path | None = None,
    *,
    generators: Sequence[str] | None = None,
    budgets: Sequence[str | float] = (),
    seeds: int | None = None,
    arms: Sequence[str] | None = None,
    bases: Literal["each", "once"] | None = None,
    cap: float | None = None,
    transfer: Sequence[str | Path] = (),
    trust: Sequence[str] = (),
    space: str | Path = "digits",
    overrides: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    download: bool = False,
    observer: Observer | None = None,
) -> ComparisonResult:
    """Train what pruning methods give by the paper's arms, beside uniform and random widths, and say what is noise.

    Args:
        run: a finished search, whose architecture, generators, base network and images are taken; else the space's.
        generators: pruning methods; by default the space's or the run's.
        budgets: 0.5 (of the base network's FLOPs), 'params=2.5M'; by default the space's or the run's.
        seeds: trainings of each arm.
        arms: some of 'unpruned', 'fine-tuned', 'scratch-e', 'scratch-b', 'ticket', 'random'; by default all.
        bases: 'each' seed has a base network of its own, 'once': one for all; by default 'each', of a run 'once'.
        cap: Scratch-B trains at most so many times the epochs; by default the paper's: none for small images, else 2.
        transfer: architecture files or runs whose design, stage by stage, is tried here, too.
        trust: packages whose factories the files of `transfer` may name, beside pruneas, torchvision and timm.
        space: a shipped search space or the path of a file.
        overrides: single values of the space by dotted key; of a run `compute.device` and `compute.workers` alone.
        folder: the comparison's; by default one in runs/ named after the space, or the run's own.
        download: fetch missing images.
        observer: what is told of the progress; by default plain lines on stderr.
    """
    from pruneas.run.compare import ARMS, of_run, of_space, transferred
    from pruneas.run.compare import compare as run_compare

    given = dict(overrides or {})
    options: dict[str, Any] = {
        "budgets": tuple(map(str, budgets)),
        "generators": generators,
        "num_seeds": seeds,
        "arms": ARMS if arms is None else tuple(arms),
        "cap": cap,
        **transferred([Path(each) for each in transfer], trust),
        **({} if bases is None else {"bases": bases}),
    }
    if run is None:
        methods = {} if generators is None else {"generators.methods": list(generators)}
        asked = of_space(_space(space, given | methods), **options)
    else:
        asked = of_run(Path(run), given, **options)
    arguments = {"run": run and str(run), "space": str(space), "overrides": given, **asked.to_json()}
    place = None if folder is None else Path(folder)
    with _told(observer) as told:
        return run_compare(
            asked, folder=place, download=download, command=_command("compare", arguments), observer=told
        )


def load(run: str | Path) -> SearchResult:
    """The result of a finished run. Raises PruneasError where there is none."""
    from pruneas.run import load as load_run

    return load_run(Path(run))


def inspect(
    network: str | Path | Reference,
    inputs: str | Sequence[int] | Sequence[str | Sequence[int] | Input] = (),
    *,
    trust: str | Sequence[str] = (),
) -> Inspection:
    """What can be done with a network: its width groups, what they and its layers cost, what cannot change and why.

    Args:
        network: a reference such as 'torchvision:resnet50', an architecture file or preset, or a search space.
        inputs: its inputs without the batch, '3x224x224' or (3, 224, 224) each; a single one may stand alone. Without
            any, those of the file or space; for networks of pruneas 3x32x32, of torchvision and timm what these are
            used with.
        trust: packages whose factories an architecture file may name.
    """
    from pruneas.report.inspection import inspect as look
    from pruneas.subject import Subject

    alone = isinstance(inputs, str) or any(isinstance(each, int) for each in inputs)
    given = [_input(each) for each in ([inputs] if alone else inputs)]
    return look(Subject.of(str(network), given, trust=trust))


def _input(given: Any) -> Input:
    return (
        given
        if isinstance(given, Input)
        else Input.parse(given if isinstance(given, str) else "x".join(map(str, given)))
    )


def _space(space: str | Path, overrides: Mapping[str, Any] | None) -> Space:
    from pruneas.config import Space

    return Space.load(space, dict(overrides or {}), spelling={})


def _command(name: str, arguments: Mapping[str, Any]) -> str:
    """The call as a run writes it down."""
    from pruneas.passwords import without_password

    known = {k: without_password(v) if k == "storage" else v for k, v in arguments.items() if v not in (None, {}, "")}
    return f"pruneas.{name}({', '.join(f'{k}={v!r}' for k, v in known.items())})"


def _told(observer: Observer | None) -> contextlib.AbstractContextManager[Observer]:
    from pruneas.report.live import PlainLines

    return PlainLines() if observer is None else contextlib.nullcontext(observer)
