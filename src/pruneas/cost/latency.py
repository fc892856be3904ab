"""How long a network takes, measured on this machine. Kept apart from counts: FLOPs are not time.

What is compared is timed in turn, round after round, so that whatever else the machine does meets all alike.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pruneas.architecture import Inputs
from pruneas.networks import examples

WARM_UP, LEAST_ROUNDS, MOST_ROUNDS = 2, 7, 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds of one pass over a batch: the median of all rounds, and the quartiles around it."""

    median: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


def measure(
    passes: Mapping[str, Callable[[], object]], *, seconds: float = 2.0, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Latency]:
    """Time each of `passes`, in turn, for about so many seconds each; at least seven rounds."""
    for _ in range(WARM_UP):
        for run in passes.values():
            run()
    taken: dict[str, list[float]] = {name: [] for name in passes}
    began = clock()
    for done in range(MOST_ROUNDS):
        if done >= LEAST_ROUNDS and clock() - began > seconds * len(passes):
            break
        for name, run in passes.items():
            before = clock()
            run()
            taken[name].append(1000 * (clock() - before))
    return {name: _latency(times) for name, times in taken.items()}


def pass_of(network: nn.Module, inputs: Inputs, *, batch: int, device: str) -> Callable[[], None]:
    """One pass in evaluation mode over a batch of zeros, until the device has done it. Moves the network there."""
    network = network.to(device).eval()
    given = examples(inputs, batch=batch, device=device)

    @torch.inference_mode()
    def run() -> None:
        network(*given)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    return run


def processor() -> str:
    """The name of this machine's processor."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    return model


def _latency(times: list[float]) -> Latency:
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return Latency(median=median, low=low, high=high, rounds=len(times))
