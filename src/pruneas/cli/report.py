"""`pruneas report`: the final report again, from a run's records."""

from pathlib import Path
from typing import Annotated

import typer

from pruneas.cli.search import print_front, print_result


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Print the result of a finished run again, or of searches at several budgets."""
    from pruneas.run import load
    from pruneas.run.sweep import is_sweep, load_sweep

    if is_sweep(run):
        print_front(load_sweep(run), as_json=as_json)
        return
    result = load(run)
    print_result(result.record, result.folder, as_json=as_json)
