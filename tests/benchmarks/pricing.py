"""What pricing and projection take, and how much of a budget projection leaves, all measured in one run.

    python -m tests.benchmarks.pricing           # measure, print, write results/pricing.json

fvcore's count is timed on the network that is built already; searches that count would build each candidate, too.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from pruneas.architecture import Reference
from pruneas.cost.count import count
from pruneas.cost.limits import Limits
from pruneas.cost.model import CostModel
from pruneas.cost.projection import project
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.networks import make
from pruneas.run.machine import hardware, versions
from pruneas.structure.build import structure_of
from tests.nets import image

RESULT = Path(__file__).parent / "results" / "pricing.json"
NETWORKS = (
    "pruneas:resnet20", "pruneas:vgg16", "torchvision:resnet18", "torchvision:resnet50", "torchvision:resnext50_32x4d",
    "torchvision:mobilenet_v2", "torchvision:efficientnet_b0", "torchvision:shufflenet_v2_x1_0",
    "torchvision:densenet121",
)  # fmt: skip
BATCH = 4096
"""Candidates priced at a time."""
PROJECTIONS = 100
"""Shapes exp(N(0, 0.7)) * base projected onto budgets of 0.3 to 0.7 of the FLOPs, for every network and multiple."""


def main() -> None:
    torch.set_num_threads(1)
    measured = {
        "pricing": pricing("torchvision:resnet50"),
        "projection": [projection(network, multiple_of) for network in NETWORKS for multiple_of in (1, 8)],
        "hardware": hardware("cpu", workers=1, threads=1).partition(";")[0] + ", 1 thread",
        "versions": versions(),
    }
    RESULT.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    show(measured)


def pricing(name: str) -> dict:
    """Candidates a second, by the closed form and by fvcore."""
    network, _, model = priced(name)
    widths = np.random.default_rng(0).integers(1, model.base_widths + 1, size=(BATCH, len(model.groups)))
    ours = median_seconds(lambda: model.cost(widths, "flops"), 20)
    fvcores = median_seconds(lambda: count(network, image(3, 224, 224)), 5)
    return {"network": name, "batch": BATCH, "candidates_per_second": BATCH / ours, "counts_per_second": 1 / fvcores}


def projection(name: str, multiple_of: int) -> dict:
    """Milliseconds and unused shares of projections of random shapes onto random budgets."""
    _, structure, model = priced(name)
    legal = LegalWidths.of(structure, WidthRules(multiple_of=multiple_of))
    rng = np.random.default_rng(0)
    seconds, unused = [], []
    for _ in range(PROJECTIONS):
        shape = model.base_widths * np.exp(0.7 * rng.normal(size=len(model.groups)))
        most = int(rng.uniform(0.3, 0.7) * model.base.flops)
        start = time.perf_counter()
        widths = project(shape, model, legal, Limits({"flops": most}))
        seconds.append(time.perf_counter() - start)
        unused.append(1 - int(model.flops(widths)) / most)
    return {
        "network": name,
        "multiple_of": multiple_of,
        "groups": len(model.groups),
        "median_ms": statistics.median(seconds) * 1e3,
        "slowest_ms": max(seconds) * 1e3,
        "mean_unused": statistics.mean(unused),
        "largest_unused": max(unused),
    }


def priced(name: str) -> tuple:
    reference = Reference.parse(name)
    network = make(reference)
    structure = structure_of(network, reference, image(3, 32, 32) if name.startswith("pruneas") else image(3, 224, 224))
    return network, structure, CostModel.of(structure, network)


def median_seconds(work: Callable[[], object], times: int) -> float:
    work()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def show(measured: dict) -> None:
    table = Table(
        title="projection: milliseconds (median, slowest), share of the budget unused (mean, most)", padding=0
    )
    table.add_column("network", no_wrap=True)
    for heading in ("groups", "step", "ms", "slow", "mean", "most"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in measured["projection"]:
        table.add_row(
            row["network"], str(row["groups"]), str(row["multiple_of"]), f"{row['median_ms']:.2f}",
            f"{row['slowest_ms']:.1f}", f"{row['mean_unused']:.2%}", f"{row['largest_unused']:.2%}",
        )  # fmt: skip
    pricing = measured["pricing"]
    console = Console()
    console.print(table)
    console.print(
        f"{pricing['network']}: {pricing['candidates_per_second']:,.0f} candidates a second, fvcore counts "
        f"{pricing['counts_per_second']:.1f}; {measured['hardware']}; written to {RESULT}"
    )


if __name__ == "__main__":
    main()
