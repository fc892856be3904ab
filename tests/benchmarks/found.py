"""What a search finds, by the bench protocol: against uniform scaling, the generators and two other tools.

    pip install ./tests/benchmarks/peers
    python -m tests.benchmarks.found --data folder:PATH [--work FOLDER] [--budgets 0.5 0.3] [--workers N]
    python -m tests.benchmarks.tables

VGG-16 at a quarter of its width, 15,000 training and 2,500 validation images of CIFAR-10, 12 epochs, the 10,000 test
images once a training, five seeds. At each budget `pruneas search` with the space's own settings, then `pruneas
compare` of its run: what it found, what its generators and the other tools make of the same base network, uniform
scaling, all trained from scratch by the same recipe with the same seeds. It stops at any time and goes on when given
again; the finished records, without the distributions of weights, go to results/found/, one file a budget.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from pruneas.report.live import PlainLines
from pruneas.run.compare import compare, of_run
from pruneas.run.search import search
from tests.benchmarks.comparison import NUM_SEEDS, arguments, keep, space_of
from tests.benchmarks.generators import BUDGETS

RESULTS = Path(__file__).parent / "results" / "found"
GENERATORS = ("l1", "slimming", "torch-pruning", "fastnas")
"""The first two propose widths in the search, too; the last two are those of tests/benchmarks/peers."""
ARMS = ("unpruned", "scratch-e")


def main() -> None:
    parser = arguments(__doc__ or "", "runs/benchmark-found")
    parser.add_argument("--budgets", nargs="+", default=BUDGETS)
    given = parser.parse_args()
    command = shlex.join(["python", "-m", "tests.benchmarks.found", *sys.argv[1:]])
    for budget in given.budgets:
        space, run = space_of(given, {"budget": budget}), given.work / budget
        with PlainLines() as lines:
            search(space, run=run, fresh=False, download=False, command=command, observer=lines)
            asked = of_run(run, {}, generators=GENERATORS, arms=ARMS, num_seeds=NUM_SEEDS)
            result = compare(asked, command=command, observer=lines)
        keep(result, RESULTS / f"{budget}.json")


if __name__ == "__main__":
    main()
