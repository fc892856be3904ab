"""How far latency by the table of layers is off what networks take that the table was not made from.

    python -m tests.benchmarks.latency           # measure, print, write results/latency.json

For each network a table is measured as a search with a budget of latency does it; ten networks of random widths, timed
in turn with those that the table is made from, are what it is held to. A second table, right after, says how much the
machine itself moves between two measurements.
"""

import json
from pathlib import Path

import torch
from rich.console import Console

from pruneas.cost.latency_table import HELD_OUT, time_layers
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.run.machine import hardware, versions
from tests.benchmarks.pricing import priced

RESULT = Path(__file__).parent / "results" / "latency.json"
NETWORKS = ("pruneas:vgg16(width=0.25)", "pruneas:resnet20", "torchvision:resnet18")


def main() -> None:
    rows = []
    for name in NETWORKS:
        _, structure, model = priced(name)
        legal = LegalWidths.of(structure, WidthRules(multiple_of=8))
        tables = [time_layers(structure, model, legal, device="cpu", seed=seed) for seed in (0, 1)]
        base = [float(table.price(structure)(model.base_widths)) / 10**9 for table in tables]
        rows.append({"network": name, "errors": [table.error for table in tables], "base_milliseconds": base})
        Console().print(rows[-1])
    measured = {
        "held_out": HELD_OUT,
        "threads": torch.get_num_threads(),
        "rows": rows,
        "hardware": hardware("cpu", workers=1, threads=torch.get_num_threads()).partition(";")[0],
        "versions": versions(),
    }
    RESULT.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
