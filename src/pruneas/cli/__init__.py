"""The command line: one file a command, each only a translation into one library call.

Nothing heavy is imported here, so that `--help` and mistakes are answered at once: torch, Optuna and the rest come in
inside the commands, after what was typed has been checked. stdout is the result, stderr the progress.

Exit codes: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted.
"""

import contextlib
import os
import sys

import typer

from pruneas.cli.compare import compare
from pruneas.cli.dashboard import dashboard
from pruneas.cli.export import export
from pruneas.cli.failures import told
from pruneas.cli.generate import generate
from pruneas.cli.inspect import inspect
from pruneas.cli.report import report
from pruneas.cli.search import search
from pruneas.cli.spaces import presets, spaces
from pruneas.cli.train import train
from pruneas.cli.worker import worker

app = typer.Typer(
    name="pruneas",
    help="Neural architecture search in which pruning methods propose the channel widths.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)

for command in (search, worker, inspect, generate, train, compare, report, export, dashboard, spaces, presets):
    app.command()(told(command))


def main() -> None:
    """What the console script `pruneas` and `python -m pruneas` run."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character gets a question mark instead of a traceback.
            stream.reconfigure(errors="replace")
    try:
        try:
            app(prog_name="pruneas")
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has gone (`pruneas report RUN | head`); Python's own last flush must not complain either.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
