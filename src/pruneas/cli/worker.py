"""`pruneas worker`: one more process, or machine, for a search that goes on."""

import signal
from typing import Annotated

import typer

from pruneas.cli.options import (
    COMPUTE,
    DATA,
    Download,
    Quiet,
)
from pruneas.cli.search import view


def worker(
    target: Annotated[
        str, typer.Argument(metavar="RUN|URL", help="The run's folder, or the URL of its storage.", show_default=False)
    ],
    study: Annotated[
        str | None, typer.Option(help="One study of the storage. \\[all that are not over, in turn]")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Where the run's images are on this machine.", rich_help_panel=DATA)
    ] = None,
    download: Download = False,
    trust: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PACKAGE",
            help="Run the networks of this package, too, if the storage names one; optuna: its sampler cma. "
            "Repeatable.",
            rich_help_panel=DATA,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=COMPUTE)] = "auto",
    workers: Annotated[
        int,
        typer.Option(min=0, help="Trainings at the same time; 0: one per core, two at most.", rich_help_panel=COMPUTE),
    ] = 0,
    quiet: Quiet = False,
) -> None:
    """Join a search: train candidates until it is over.

    The run may be on this machine, or anywhere if its storage is a server (pruneas search --storage). Any number of
    workers may come and go; a trial of one that is gone is taken over by another. Settings travel in the study.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's: what was begun is free at once

    from pruneas import interrupts

    with interrupts.held_back():
        from pruneas.run.joining import work

    with view(quiet) as observer:
        finished = work(
            target,
            study=study,
            data=data,
            device=device,
            workers=workers,
            download=download,
            trust=trust or (),
            observer=observer,
        )
    typer.echo(f"over: {', '.join(finished) or 'nothing is left to do'}")
