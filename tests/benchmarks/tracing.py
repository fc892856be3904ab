"""How long tracing takes beside Torch-Pruning's dependency graph, and how much memory beside a forward pass.

    pip install ./tests/benchmarks/peers
    python -m tests.benchmarks.tracing           # measure, print, write results/tracing.json

Times are of one process with one thread, the two in turn on the same network, after one run of each that does not
count. Memory is of a fresh process each, in which the network is loaded: the most held at a time, less what was held
before. That is told twice: of a process in which a tiny network went the same way before, and of one in which none did,
so that what PyTorch loads on first use counts as well.
"""

import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from pruneas.architecture import Inputs, Reference
from pruneas.networks import examples, make
from pruneas.run.machine import hardware, versions
from pruneas.structure.build import structure_of
from tests.nets import INPUT, NETS, image

RESULT = Path(__file__).parent / "results" / "tracing.json"
NETWORKS = ("resnet50", "densenet121", "mobilenet_v3_large", "efficientnet_b0")
INPUTS = image(3, 224, 224)
REPEATS = 7
PROCESSES = 3
"""Fresh processes for each measurement of memory."""


def main() -> None:
    torch.set_num_threads(1)
    measured = {
        "load_before": os.getloadavg()[0],
        "networks": [{"network": f"torchvision:{name}", **seconds(name), **memory(name)} for name in NETWORKS],
        "repeats": REPEATS,
        "processes": PROCESSES,
        "hardware": hardware("cpu", workers=1, threads=1).partition(";")[0] + ", 1 thread",
        "versions": {**versions(), "torch-pruning": importlib.metadata.version("torch-pruning")},
    }
    RESULT.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    show(measured)


def seconds(name: str) -> dict[str, object]:
    """Medians, and the fastest and slowest, of both on one network."""
    network, reference = loaded(name)
    (image,) = examples(INPUTS)
    ways: dict[str, Callable[[], object]] = {
        "pruneas": lambda: structure_of(network, reference, INPUTS),
        "torch_pruning": lambda: torch_pruning_of(network, image),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(1 + REPEATS):
        for way, work in ways.items():
            start = time.perf_counter()
            work()
            taken[way].append(time.perf_counter() - start)
    return {
        f"{way}_seconds": {"median": statistics.median(each[1:]), "least": min(each[1:]), "most": max(each[1:])}
        for way, each in taken.items()
    }


def torch_pruning_of(network: nn.Module, image: torch.Tensor) -> object:
    import torch_pruning as tp

    classifier = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    return tp.pruner.MagnitudePruner(
        network,
        example_inputs=image,
        importance=tp.importance.MagnitudeImportance(p=1),
        pruning_ratio=0.5,
        ignored_layers=[classifier],
    )


def forward(network: nn.Module, reference: Reference, inputs: Inputs) -> None:
    with torch.no_grad():
        network(*examples(inputs))


WAYS: dict[str, Callable[[nn.Module, Reference, Inputs], object]] = {"forward": forward, "tracing": structure_of}


def memory(name: str) -> dict[str, float]:
    """The MiB that a pass, and tracing, add to a loaded network: medians of fresh processes."""
    found = {}
    for way in WAYS:
        for use in ("again", "first"):
            command = [sys.executable, "-m", "tests.benchmarks.tracing", way, use, name]
            told = [subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True) for _ in range(PROCESSES)]
            found[f"{way}_{use}_mib"] = statistics.median(float(each.stdout) for each in told)
    return found


def added(way: str, use: str, name: str) -> float:
    """In this process: the most memory held while it goes on, less what was held before, in MiB."""
    torch.set_num_threads(1)
    network, reference = loaded(name)
    if use == "again":
        tiny = NETS["Chain"]
        WAYS[way](tiny.factory().eval(), tiny.reference, INPUT)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the most held begins anew
    before = held("VmRSS")
    WAYS[way](network, reference, INPUTS)
    return held("VmHWM") - before


def held(kind: str) -> float:
    """Memory of this process in MiB, as Linux tells it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{kind}:")[2].split()[0]) / 1024


def loaded(name: str) -> tuple[nn.Module, Reference]:
    reference = Reference(f"torchvision:{name}", {})
    return make(reference).eval(), reference


def show(measured: dict) -> None:
    table = Table(title=f"medians of {REPEATS} at 3x224x224; memory added, again (first)", padding=0)
    table.add_column("network", no_wrap=True)
    for heading in ("ours s", "T-P s", "tracing MiB", "forward MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in measured["networks"]:
        ours, theirs = row["pruneas_seconds"]["median"], row["torch_pruning_seconds"]["median"]
        table.add_row(
            row["network"], f"{ours:.2f}", f"{theirs:.2f}",
            *(f"{row[f'{way}_again_mib']:.0f} ({row[f'{way}_first_mib']:.0f})" for way in ("tracing", "forward")),
        )  # fmt: skip
    console = Console()
    console.print(table)
    console.print(f"{measured['hardware']}; written to {RESULT.name}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(added(*sys.argv[1:]))
    else:
        main()
