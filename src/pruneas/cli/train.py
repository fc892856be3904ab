"""`pruneas train`: an architecture trained from scratch, by the paper's arms."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pruneas.architecture import Architecture
from pruneas.cli.options import (
    DATA,
    OUTPUT,
    RUN,
    DataName,
    Device,
    Download,
    Quiet,
    Seed,
    Workers,
)
from pruneas.cli.search import check_paths, view
from pruneas.config import Space
from pruneas.passwords import command_line
from pruneas.report.numbers import count, share
from pruneas.run.sources import mask_files

if TYPE_CHECKING:
    from pruneas.run.train import TrainResult


def train(
    architecture: Annotated[Path, typer.Argument(metavar="ARCH.json", help="An architecture's file.")],
    space: Annotated[
        str, typer.Option(help="The search space whose images and recipe are used; a shipped one or a file.")
    ] = "digits",
    arm: Annotated[
        Literal["scratch-e", "scratch-b"],
        typer.Option(help="The recipe's epochs, or the base network's compute, for a smaller one longer."),
    ] = "scratch-e",
    cap: Annotated[
        float, typer.Option(min=1.0, help="scratch-b trains at most so many times the recipe's epochs.")
    ] = 2.0,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings, each with a seed of its own.")] = 1,
    data: DataName = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of the recipe.", rich_help_panel=RUN)] = None,
    seed: Seed = None,
    run: Annotated[Path | None, typer.Option(help="The folder. \\[runs/SPACE-ARM-HASH]", rich_help_panel=RUN)] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PACKAGE",
            help="A package whose networks an architecture file may name. Repeatable.",
            rich_help_panel=DATA,
        ),
    ] = None,
    download: Download = False,
    device: Device = None,
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.", rich_help_panel=OUTPUT)] = False,
    quiet: Quiet = False,
) -> None:
    """Train an architecture from scratch, and say how well it does on the test images.

    The same command goes on with an interrupted training; more seeds add to those that are there. The masks of a masked
    architecture, in the .mask.safetensors beside its file, are held all along. With several GPUs, `torchrun
    --nproc-per-node 4 -m -- pruneas train ...` spreads each training over them.
    """
    wanted = Architecture.load(architecture, trust=trust or ())
    wanted.check_trust()
    masks = None if wanted.mask is None else mask_files([architecture])[wanted.mask]
    given: dict[str, Any] = {
        "data.source": data,
        "recipe.epochs": epochs,
        "compute.seed": seed,
        "compute.device": device,
        "compute.workers": workers,
    }
    given = {key: value for key, value in given.items() if value is not None}
    chosen = Space.load(space, given)
    check_paths(chosen, given)

    from pruneas.run.train import RECORD, follow, is_follower
    from pruneas.run.train import train as run_train

    if is_follower():
        follow(chosen)
        return
    with view(quiet) as observer:
        result = run_train(
            chosen,
            wanted,
            masks=masks,
            arm=arm,
            cap=cap,
            num_seeds=seeds,
            run=run,
            download=download,
            command=command_line(["pruneas", *sys.argv[1:]]),
            observer=observer,
        )
    if as_json:
        typer.echo(json.dumps(json.loads((result.folder / RECORD).read_text(encoding="utf-8")), indent=2))
        return
    spread = "" if result.std is None else f" ± {100 * result.std:.2f}"
    each = " ".join(f"{100 * accuracy:.2f}" for accuracy in result.accuracies)
    typer.echo(
        f"{result.arm}, {result.epochs} epochs: test accuracy {100 * result.mean:.2f}{spread} % ({each}; "
        f"{len(result.accuracies)} seed{'s' * (len(result.accuracies) > 1)})\n{_cost(result)}\n"
        f"weights: {result.weights}"
    )


def _cost(result: "TrainResult") -> str:
    """What the network costs, and apart from it what masks leave of that."""
    if result.masked_flops is None or result.masked_params is None:
        return f"cost: {count(result.flops)} FLOPs, {count(result.params)} params"
    return (
        f"masked cost: {count(result.masked_flops)} FLOPs ({share(result.masked_flops / result.flops)} of the "
        f"network's), {count(result.masked_params)} params ({share(result.masked_params / result.params)}): what the "
        "masks leave, not to be ranked with that of widths, because dense hardware computes the zeros, too"
    )
