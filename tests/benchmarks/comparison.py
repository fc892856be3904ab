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
from typing import Any

from pruneas.config import Space
from pruneas.files import write_text
from pruneas.report.live import PlainLines
from pruneas.run.compare import ComparisonResult, compare, of_space
from tests.benchmarks.generators import BUDGETS, PROTOCOL

RESULT = Path(__file__).parent / "results" / "comparison.json"
GENERATORS = ("l1", "slimming")
NUM_SEEDS = 5


def arguments(description: str, work: str) -> argparse.ArgumentParser:
    """What every table of whole runs is asked for."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder:PATH, or cifar10[:ROOT]")
    parser.add_argument("--work", type=Path, default=Path(work))
    parser.add_argument("--workers", type=int, default=0)
    return parser


def space_of(given: argparse.Namespace, more: dict[str, Any]) -> Space:
    """The bench protocol's space, with what was asked for."""
    asked = {"data.source": given.data, "compute.workers": given.workers}
    return Space.load("cifar10-vgg16-quarter", {**PROTOCOL, **asked, **more})


def keep(result: ComparisonResult, path: Path) -> None:
    """Write a finished record without the distributions of weights and paths of this machine, and say what it shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = result.record
    data = replace(record.data, name=record.data.name.partition(":")[0])
    command = " ".join(record.command.split()[:3])  # python -m MODULE
    write_text(path, replace(record, weights=(), data=data, command=command).to_json() + "\n")
    print(result)


def main() -> None:
    given = arguments(__doc__ or "", "runs/benchmark-comparison").parse_args()
    space = space_of(given, {"generators.methods": list(GENERATORS)})
    asked = of_space(space, budgets=BUDGETS, generators=GENERATORS, num_seeds=NUM_SEEDS)
    command = shlex.join(["python", "-m", "tests.benchmarks.comparison", *sys.argv[1:]])
    with PlainLines() as lines:
        result = compare(asked, folder=given.work, command=command, observer=lines)
    keep(result, RESULT)


if __name__ == "__main__":
    main()
