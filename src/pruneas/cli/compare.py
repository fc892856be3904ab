"""`pruneas compare`: pruning methods by the paper's arms, and what the differences are worth."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pruneas.cli.options import (
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
from pruneas.cli.search import check_paths, view
from pruneas.config import FLAGS, Space
from pruneas.errors import SpaceError
from pruneas.passwords import command_line

if TYPE_CHECKING:
    from pruneas.report.comparison_state import ComparisonState
    from pruneas.run.compare import ComparisonResult


def compare(
    run: Annotated[
        Path | None,
        typer.Argument(help="A finished search: its architecture, generators, base network and images are taken."),
    ] = None,
    generators: Annotated[
        str | None, typer.Option(help="Pruning methods, with commas: l1,slimming. \\[the space's, or the run's]")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="One or more, with commas: 0.5,0.3 or params=2.5M. \\[the space's, or the run's]")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Trainings of each arm. \\[the space's, or the run's]")] = None,
    arms: Annotated[
        str | None,
        typer.Option(help="Of unpruned,fine-tuned,scratch-e,scratch-b,ticket,random; uniform always is there. \\[all]"),
    ] = None,
    bases: Annotated[
        Literal["each", "once"] | None,
        typer.Option(help="A base network for each seed, or one for all. \\[each; of a run once]"),
    ] = None,
    cap: Annotated[
        float | None,
        typer.Option(
            help="scratch-b trains at most so many times the epochs; inf: no cap. \\[inf; from 64 pixels on 2]"
        ),
    ] = None,
    transfer: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE|RUN", help="Architectures whose design is tried here, too. Repeatable."),
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PACKAGE", help="Run the factories that --transfer's files name of it.", show_default=False
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            help="A shipped search space (pruneas spaces lists them) or a file. \\[digits]", show_default=False
        ),
    ] = None,
    network: NetworkName = None,
    input: InputSizes = None,
    data: DataName = None,
    weights: BaseWeights = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of the base.", rich_help_panel=RUN)] = None,
    seed: Seed = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--run", help="The comparison's folder. \\[runs/SPACE-compare-HASH, or RUN/comparison]", rich_help_panel=RUN
        ),
    ] = None,
    download: Download = False,
    device: Device = None,
    workers: Workers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train what pruning methods give by the paper's arms, beside uniform scaling, and say what is noise.

    The same command goes on with an interrupted comparison. More budgets, generators, arms and seeds add to what is
    there, and trainings that other runs in the same folder have done are taken over.
    """
    machine = {"compute.device": device, "compute.workers": workers}
    own: dict[str, Any] = {
        "network.reference": network,
        "network.input": None if input is None else sizes(input),
        "network.weights": None if weights is None else str(weights),
        "data.source": data,
        "recipe.epochs": epochs,
        "compute.seed": seed,
    }
    given = {key: value for key, value in {**machine, **own}.items() if value is not None}
    if run is not None:
        fixed = {"--space": space, **{FLAGS[key]: value for key, value in own.items()}}
        if complaints := [
            f"{flag}: must be left out: the run's own is taken" for flag, v in fixed.items() if v is not None
        ]:
            raise SpaceError(complaints)

    from pruneas.run.compare import ARMS, of_run, of_space, transferred
    from pruneas.run.compare import compare as run_compare

    options: dict[str, Any] = {
        "budgets": _listed(budget) or (),
        "generators": _listed(generators),
        "num_seeds": seeds,
        "arms": _listed(arms) or ARMS,
        "cap": cap,
        **transferred(transfer or [], trust or ()),
        **({} if bases is None else {"bases": bases}),
    }
    if run is None:
        methods = {} if generators is None else {"generators.methods": list(dict.fromkeys(options["generators"]))}
        chosen = Space.load("digits" if space is None else space, given | methods)
        check_paths(chosen, given)
        asked = of_space(chosen, **options)
    else:
        asked = of_run(run, given, **options)
    command = command_line(["pruneas", *sys.argv[1:]])
    with view(quiet) as observer:
        result = run_compare(asked, folder=folder, download=download, command=command, observer=observer)
    print_comparison(result, as_json=as_json)


def print_comparison(result: "ComparisonResult", *, as_json: bool) -> None:
    """The result on stdout: JSON with the folder in it, or the tables and where the page and the folder are."""
    if as_json:
        record = json.loads(result.record.to_json())
        typer.echo(json.dumps({"folder": str(result.folder), **record}, indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    from pruneas.report.comparison_terminal import table

    Console(highlight=False).print(table(result.record))
    page = result.folder / "report.html"
    typer.echo("\n" + (f"page: {page}\n" if page.exists() else "") + f"comparison: {result.folder}")


def print_state(state: "ComparisonState") -> None:
    """On stdout how far a comparison is that is not finished, with what an earlier command of it has found."""
    from rich.console import Console

    from pruneas.report.comparison_terminal import so_far, table

    console = Console(highlight=False)
    console.print(so_far(state))
    if state.result is not None:
        console.print("\nThe result of an earlier command:", style="bold")
        console.print(table(state.result))
    typer.echo(f"\ncomparison: {state.folder}")


def _listed(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(names(text))
