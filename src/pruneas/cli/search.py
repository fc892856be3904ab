"""`pruneas search`: the whole job, from a space and a budget to an architecture and what it is worth."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pruneas.architecture import Budget
from pruneas.cli.options import (
    DATA,
    RUN,
    AsJson,
    BaseWeights,
    DataName,
    Device,
    Download,
    InputSizes,
    NetworkName,
    Quiet,
    Seed,
    Workers,
    names,
    sizes,
)
from pruneas.config import FLAGS, Space
from pruneas.errors import BudgetError, SpaceError
from pruneas.passwords import command_line
from pruneas.progress import Silent

if TYPE_CHECKING:
    from pruneas.progress import Observer
    from pruneas.report.records import ResultRecord
    from pruneas.report.run import RunRecords
    from pruneas.run.sweep import SweepResult


def search(
    budget: Annotated[
        str | None,
        typer.Option(
            help="The most a candidate may cost: 0.5 of the base's FLOPs, 120MFLOPs, params=2.5M, memory=1MB, "
            "latency=3ms, or several: 0.5+latency=3ms. \\[the space's]"
        ),
    ] = None,
    budgets: Annotated[
        str | None, typer.Option(help="Several budgets, with commas: a search each, and accuracy against cost.")
    ] = None,
    space: Annotated[
        str, typer.Option(help="A shipped search space (pruneas spaces lists them) or a file.")
    ] = "digits",
    trials: Annotated[int | None, typer.Option(help="Candidates to train.", rich_help_panel=RUN)] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of the base and the finalists.", rich_help_panel=RUN)
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Trainings of each finalist.", rich_help_panel=RUN)] = None,
    generators: Annotated[
        str | None, typer.Option(help="Pruning methods, with commas: uniform,l1,slimming.", rich_help_panel=RUN)
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="gp, tpe, cma, nsga2 or random.", rich_help_panel=RUN)] = None,
    tie: Annotated[
        str | None,
        typer.Option(help="Widths searched by group, stage, or as a mixture of generators'.", rich_help_panel=RUN),
    ] = None,
    blocks: Annotated[
        bool, typer.Option("--blocks", help="Search which residual branches are taken out, too.", rich_help_panel=RUN)
    ] = False,
    stopping: Annotated[
        bool,
        typer.Option(
            "--stopping",
            help="Stop trials early that cannot come among the finalists; their values are extrapolated.",
            rich_help_panel=RUN,
        ),
    ] = False,
    seed: Seed = None,
    run: Annotated[
        Path | None, typer.Option(help="The run's folder. \\[runs/SPACE-BUDGET-HASH]", rich_help_panel=RUN)
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Keep the study in a database that other machines reach: postgresql://USER@HOST/DATABASE.",
            rich_help_panel=RUN,
        ),
    ] = None,
    lease: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=1, help="A worker unheard of for so long loses its trial.", rich_help_panel=RUN
        ),
    ] = 120.0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew instead of going on with an earlier run.", rich_help_panel=RUN)
    ] = False,
    network: NetworkName = None,
    input: InputSizes = None,
    data: DataName = None,
    weights: BaseWeights = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Groups to leave at their width. Repeatable.", rich_help_panel=DATA),
    ] = None,
    download: Download = False,
    device: Device = None,
    workers: Workers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Search the best channel widths within a budget, and say whether they beat uniform scaling.

    The same command goes on with an interrupted run, and prints the result of a finished one.
    """
    given: dict[str, Any] = {
        "budget": budget,
        "network.reference": network,
        "network.input": None if input is None else sizes(input),
        "network.weights": None if weights is None else str(weights),
        "data.source": data,
        "recipe.epochs": epochs,
        "widths.freeze+": freeze or None,
        "generators.methods": None if generators is None else names(generators),
        "search.trials": trials,
        "search.sampler": sampler,
        "search.tie": tie,
        "search.blocks": blocks or None,
        "search.stopping": stopping or None,
        "finalists.seeds": seeds,
        "compute.seed": seed,
        "compute.device": device,
        "compute.workers": workers,
    }
    given = {key: value for key, value in given.items() if value is not None}
    several = None if budgets is None else _budgets(budgets, budget)
    chosen = Space.load(space, given)
    check_paths(chosen, given)
    command = command_line(["pruneas", *sys.argv[1:]])
    options: dict[str, Any] = {"run": run, "fresh": fresh, "download": download, "command": command}
    options |= {"storage": storage, "lease": lease}
    if several is not None:
        from pruneas.run.sweep import sweep

        with view(quiet) as observer:
            found = sweep(chosen, several, observer=observer, **options)
        print_front(found, as_json=as_json)
        return

    from pruneas.run import search as run_search

    with view(quiet) as observer:
        result = run_search(chosen, observer=observer, **options)
    print_result(result.record, result.folder, as_json=as_json)


def _budgets(text: str, budget: str | None) -> list[str]:
    """The budgets in `0.3,0.5`. Raises SpaceError for anything else."""
    if budget is not None:
        raise SpaceError(["--budgets: must not be given beside --budget; name every budget in --budgets"])
    complaints = []
    found: dict[str, str] = {}
    for part in names(text):
        try:
            parsed = str(Budget.parse(part))
            if parsed in found:
                complaints.append(f"--budgets: must name each budget once, got {part!r} more than once")
            found[parsed] = part
        except BudgetError as error:
            complaints.append(f"--budgets: {error}")
    if complaints:
        raise SpaceError(complaints)
    return list(found.values())


def print_front(found: "SweepResult", *, as_json: bool) -> None:
    """The front on stdout: JSON with the runs' results, or a table, each search's verdict, and the folder."""
    if as_json:
        results = [{"run": str(r.folder), **json.loads(r.record.to_json())} for r in found.results]
        whole = {"run": str(found.folder), "front": json.loads(found.front.to_json()), "results": results}
        typer.echo(json.dumps(whole, indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    from pruneas.report.front import front_table

    Console(highlight=False).print(front_table(found.front))
    for result in found.results:
        typer.echo(f"\n{result.record.budget}: {result.record.verdict}")
    typer.echo(f"\nrun: {found.folder}")


def print_result(record: "ResultRecord", folder: Path, *, as_json: bool) -> None:
    """The result on stdout: JSON with the run's folder in it, or the report and where its page and the folder are."""
    if as_json:
        typer.echo(json.dumps({"run": str(folder), **json.loads(record.to_json())}, indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    from pruneas.report.terminal import table

    Console(highlight=False).print(table(record))
    page = folder / "report.html"
    typer.echo("\n" + (f"page: {page}\n" if page.exists() else "") + f"run: {folder}")


def print_run_state(run: "RunRecords") -> None:
    """On stdout how far a run is that is not finished."""
    from rich.console import Console

    from pruneas.report.terminal import so_far

    Console(highlight=False).print(so_far(run))
    typer.echo(f"\nrun: {run.folder}")


def check_paths(space: Space, given: Mapping[str, object]) -> None:
    """What can be seen to be missing before torch is loaded."""
    complaints = []
    kind, _, path = space.data.source.partition(":")
    if kind == "folder" and not Path(path).expanduser().is_dir():
        complaints.append(("data.source", f"there is no folder {path!r}; it must hold train/ and test/ or val/"))
    weights = space.network.weights
    if weights is not None and not Path(weights).expanduser().is_file():
        complaints.append(("network.weights", f"there is no file {weights!r}"))
    if complaints:
        raise SpaceError([f"{FLAGS[key] if key in given else key}: {text}" for key, text in complaints])


@contextmanager
def view(quiet: bool) -> Iterator["Observer"]:
    """Where progress is told: a live view in a terminal, plain lines elsewhere, nowhere."""
    if quiet:
        yield Silent()
        return
    from rich.console import Console

    from pruneas.report.live import LiveView, PlainLines

    console = Console(stderr=True)
    with LiveView(console) if console.is_terminal and not console.is_dumb_terminal else PlainLines() as observer:
        yield observer
