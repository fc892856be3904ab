"""`pruneas export`: the found architecture as files that others can use."""

from pathlib import Path
from typing import Annotated

import typer

from pruneas.cli.options import names


def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN|ARCH.json", help="The folder of a finished run, or an architecture file.")
    ],
    formats: Annotated[
        str, typer.Option("--format", help="Formats, with commas: json, python, safetensors, onnx, torch-export.")
    ] = "json,safetensors",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to write. \\[export/ there]")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights of the architecture. \\[the run's; a file has none]")
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Write a model card, too: how it was found, measured latency.")
    ] = False,
    trust: Annotated[
        list[str] | None,
        typer.Option(metavar="PACKAGE", help="A package whose networks an architecture file may name. Repeatable."),
    ] = None,
) -> None:
    """Write the found architecture and its weights to files, each checked by reading it back in a fresh process."""
    from pruneas.export import export as write

    for path in write(run, names(formats), out, weights=weights, with_card=card, trust=trust or ()):
        typer.echo(str(path))
