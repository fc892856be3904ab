"""The paper's arms by the bench protocol: the README's second table.

    python -m tests.benchmarks.comparison --data folder:PATH [--work FOLDER] [--workers N]
    python -m tests.benchmarks.tables

L1 norms and network slimming on VGG-16 at a quarter of its width, 15,000 training and 2,500 validation images of
CIFAR-10, 12 epochs, the 10,000 test images once a training; 50 % and 30 % of the FLOPs, five seeds, each with a base
network of its own. It is `pruneas compare` with these settings: it stops at any time and goes on when given again.
165 trainings, the longest of 40 epochs, and five of slimming's own. What is under way lies in the work folder; the
finished record, without the distributions of weights, goes to results/comparison.json.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from pruneas.config import Space
from pruneas.files import write_text
from pruneas.report.live import PlainLines
from pruneas.run.compare import compare, of_space
from tests.benchmarks.generators import BUDGETS, PROTOCOL

RESULT = Path(__file__).parent / "results" / "comparison.json"
GENERATORS = ("l1", "slimming")
NUM_SEEDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder:PATH, or cifar10[:ROOT]")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-comparison"))
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args()
    overrides = {
        **PROTOCOL,
        "data.source": given.data,
        "compute.workers": given.workers,
        "generators.methods": list(GENERATORS),
    }
    space = Space.load("cifar10-vgg16-quarter", overrides)
    asked = of_space(space, budgets=BUDGETS, generators=GENERATORS, num_seeds=NUM_SEEDS)
    command = shlex.join(["python", "-m", "tests.benchmarks.comparison", *sys.argv[1:]])
    with PlainLines() as lines:
        result = compare(asked, folder=given.work, command=command, observer=lines)
    write_text(RESULT, replace(result.record, weights=()).to_json() + "\n")
    print(result)


if __name__ == "__main__":
    main()
