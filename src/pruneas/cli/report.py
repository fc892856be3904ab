"""`pruneas report`: the final report of a run or a comparison again, in the terminal or as a page."""

from pathlib import Path
from typing import Annotated

import typer

from pruneas.cli.compare import print_comparison, print_state
from pruneas.cli.search import print_front, print_result, print_run_state


def report(
    run: Annotated[
        Path,
        typer.Argument(help="The folder of a run or a comparison."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="Write a page with all figures, and print its path.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Of --html. \\[report.html in the folder]")
    ] = None,
) -> None:
    """Print the result of a finished run or comparison again, or of searches at several budgets, or write its page.

    Of one that is not finished it is said how far it is.
    """
    if as_html and as_json:
        raise typer.BadParameter("give one of --html and --json")
    if out is not None and not as_html:
        raise typer.BadParameter("--out is the file of --html: give both")
    if as_html:
        from pruneas.run.report import write_report

        typer.echo(str(write_report(run, out)))
        return
    from pruneas.run import load
    from pruneas.run.compare import load_comparison
    from pruneas.run.comparison_state import is_comparison, read_state
    from pruneas.run.folder import RESULT
    from pruneas.run.sweep import is_sweep, load_sweep

    if is_sweep(run):
        print_front(load_sweep(run), as_json=as_json)
        return
    if is_comparison(run):
        state = None if as_json else read_state(run)
        if state is None or state.is_finished:
            print_comparison(load_comparison(run), as_json=as_json)
        else:
            print_state(state)
        return
    if not as_json and (run / "run.json").exists() and not (run / RESULT).exists():
        from pruneas.run.report import read_run

        print_run_state(read_run(run))
        return
    result = load(run)
    print_result(result.record, result.folder, as_json=as_json)
