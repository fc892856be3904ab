"""`pruneas generate`: a pruning method's architectures, without a search."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pruneas.architecture import Architecture, Budget
from pruneas.catalogue import GENERATORS, other_generators
from pruneas.cli.options import (
    DATA,
    OUTPUT,
    RUN,
    BaseWeights,
    DataName,
    Device,
    Download,
    InputSizes,
    Quiet,
    Seed,
    names,
    sizes,
)
from pruneas.cli.search import check_paths, view
from pruneas.config import FLAGS, Space
from pruneas.errors import SpaceError
from pruneas.passwords import command_line
from pruneas.run.sources import mask_files, source_file


def generate(
    method: Annotated[str | None, typer.Argument(help="A method of --list.", show_default=False)] = None,
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    budget: Annotated[
        str | None, typer.Option(help="One or more, with commas: 0.5,0.3 or params=2.5M. \\[the space's]")
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(help="In place of budgets: the share of all channels that goes, as papers give it: 0.6"),
    ] = None,
    sources: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="FILE", help="Architectures, or runs, that the method learns from."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The file; each of several has its budget in its name.", rich_help_panel=OUTPUT
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="The methods, a line each.", rich_help_panel=OUTPUT)] = False,
    space: Annotated[
        str, typer.Option(help="A shipped search space (pruneas spaces lists them) or a file.", rich_help_panel=DATA)
    ] = "digits",
    network: Annotated[
        str | None,
        typer.Option(help="pruneas:vgg16, torchvision:NAME or package.module:factory.", rich_help_panel=DATA),
    ] = None,
    input: InputSizes = None,
    data: DataName = None,
    weights: BaseWeights = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PACKAGE",
            help="A package whose networks a file of --from may name. Repeatable.",
            rich_help_panel=DATA,
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of the base.", rich_help_panel=RUN)] = None,
    seed: Seed = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Where the base network is kept. \\[runs/SPACE-generate-HASH]", rich_help_panel=RUN),
    ] = None,
    download: Download = False,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """The architecture that a pruning method gives for a network and a budget.

    Several budgets, and later commands, share one trained base network.
    """
    if listed or method is None:
        for name, summary in {**GENERATORS, **dict.fromkeys(other_generators(), "of another package")}.items():
            typer.echo(f"{name:<16} {summary}")
        return
    if more and not sources:
        raise SpaceError(
            [f"unexpected {more[0]!r}: one method at a time; architectures to learn from come after --from"]
        )
    given: dict[str, Any] = {
        "network.reference": network,
        "network.input": None if input is None else sizes(input),
        "network.weights": None if weights is None else str(weights),
        "data.source": data,
        "recipe.epochs": epochs,
        "generators.methods": [method],
        "compute.seed": seed,
        "compute.device": device,
    }
    given = {key: value for key, value in given.items() if value is not None}
    chosen = Space.load(space, given, spelling={**FLAGS, "generators.methods": "METHOD"})
    check_paths(chosen, given)
    if budget is not None and share is not None:
        raise SpaceError(["--share: is in place of --budget; give one of the two"])
    budgets = [] if share is not None else names(budget or str(chosen.budget))
    for each in budgets:
        Budget.parse(each)
    files = [*(sources or []), *map(Path, more or [])]
    files = [source_file(file) for file in files]
    learned_from = [Architecture.load(file, trust=trust or ()) for file in files]
    for source in learned_from:
        source.check_trust()

    from pruneas.run.generate import generate as run_generate

    with view(quiet) as observer:
        found = run_generate(
            chosen,
            method,
            budgets=budgets,
            shares=[] if share is None else _shares(share),
            sources=learned_from,
            masks=mask_files(files),
            out=out,
            run=run,
            download=download,
            command=command_line(["pruneas", *sys.argv[1:]]),
            observer=observer,
        )
    for target, path in found.items():
        architecture = Architecture.load(path)
        removed = f", without {' '.join(architecture.removed)}" if architecture.removed else ""
        typer.echo(f"{target}: {' '.join(map(str, architecture.widths.values()))}{removed}\n  {path}")


def _shares(text: str) -> list[float]:
    try:
        shares = [float(each) for each in text.split(",")]
        if not all(0 <= share < 1 for share in shares):
            raise ValueError
    except ValueError:
        raise SpaceError([f"--share: must be numbers in [0, 1), with commas, such as 0.4,0.6, got {text!r}"]) from None
    return shares
