"""`pruneas export`: the found architecture as files that others can use."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run, or an architecture file.")],
    formats: Annotated[
        str, typer.Option("--format", help="Formats, with commas: json, safetensors.")
    ] = "json,safetensors",
    out: Annotated[Path | None, typer.Option(help="Where to write. \\[the run's folder]")] = None,
) -> None:
    """Write the found architecture and its weights to files, each checked by reading it back."""
    from pruneas.export import export as write

    for path in write(run, [name.strip() for name in formats.split(",")], out):
        typer.echo(str(path))
