"""Options that several commands have, each said once, and the panels that `--help` shows them in."""

import re
from pathlib import Path
from typing import Annotated

import typer

RUN, DATA, COMPUTE, OUTPUT = "The run", "Network and images", "Machine", "Output"

NetworkName = Annotated[
    str | None,
    typer.Option(help="pruneas:vgg16, torchvision:NAME, timm:NAME or package.module:factory.", rich_help_panel=DATA),
]
InputSizes = Annotated[str | None, typer.Option(help="The shape of one input: 3,32,32.", rich_help_panel=DATA)]
DataName = Annotated[
    str | None,
    typer.Option(help="digits, cifar10\\[:ROOT], cifar100\\[:ROOT] or folder:PATH.", rich_help_panel=DATA),
]
BaseWeights = Annotated[
    Path | None, typer.Option(help="Trained weights of the base, which then is not trained.", rich_help_panel=DATA)
]
Download = Annotated[
    bool, typer.Option("--download", help="Fetch missing images from the internet.", rich_help_panel=DATA)
]
Seed = Annotated[int | None, typer.Option(help="Where every random number comes from.", rich_help_panel=RUN)]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=COMPUTE)]
Workers = Annotated[
    int | None,
    typer.Option(help="Trainings at the same time; 0: one per core, two at most.", rich_help_panel=COMPUTE),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.", rich_help_panel=OUTPUT)]


def sizes(text: str) -> list[int] | str:
    """The sizes in `3,32,32` or `3x32x32`; any other text as it is, for the space to complain about."""
    is_right = re.fullmatch(r"\s*\d+(\s*[,x]\s*\d+)*\s*", text)
    return [int(size) for size in re.split(r"[,x]", text)] if is_right else text


def names(text: str) -> list[str]:
    """The parts of a list with commas."""
    return [name.strip() for name in text.split(",")]
