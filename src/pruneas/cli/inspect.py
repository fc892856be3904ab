"""`pruneas inspect`: what can be done with a network, before anything is trained."""

import contextlib
import sys
from typing import Annotated

import typer

from pruneas.architecture import Input
from pruneas.subject import Subject


def inspect(
    network: Annotated[
        str,
        typer.Argument(
            metavar="REF",
            help="torchvision:resnet50, 'pruneas:vgg16(width=0.25)', package.module:factory, an architecture file "
            "(.json), or a search space (a name or a .toml file).",
        ),
    ],
    input: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SIZES",
            help="One input without the batch: 3x224x224, or 128:int64 for indices; once for each argument of forward. "
            "\\[pruneas: 3x32x32, torchvision, timm and files: their own]",
        ),
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(metavar="PACKAGE", help="A package whose networks an architecture file may name. Repeatable."),
    ] = None,
    every_group: Annotated[bool, typer.Option("--groups", help="Show every group on its own.")] = False,
    every_layer: Annotated[bool, typer.Option("--layers", help="Show every layer on its own.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show the width groups of a network, what they cost, and what cannot change and why.

    Nothing is trained: the network is made, traced once, and tried at other widths.
    """
    subject = Subject.of(network, [Input.parse(each) for each in input or ()], trust=trust or ())

    with contextlib.redirect_stdout(sys.stderr):  # what a network's own code prints is not the result
        from pruneas.report.inspection import inspect as look

        found = look(subject)
    if as_json:
        typer.echo(found.to_json())
        return
    from rich.console import Console

    from pruneas.report.overview import overview

    Console(highlight=False).print(overview(found, every_group=every_group, every_layer=every_layer))
