"""Where a run happens: the device it trains on, its workers, and how both are named in results."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import torch

from pruneas.cost.latency import processor
from pruneas.errors import SpaceError

PACKAGES = ("pruneas", "torch", "torchvision", "fvcore", "optuna", "numpy", "scipy", "scikit-learn")


def resolve_device(device: str) -> str:
    """'auto' is the first GPU, or the CPU. Raises SpaceError for a GPU that is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and (
        not torch.cuda.is_available() or torch.device(device).index not in (None, *range(torch.cuda.device_count()))
    ):
        raise SpaceError([f"compute.device: {device!r} is not there; torch sees {torch.cuda.device_count()} GPUs"])
    return device


def num_workers(asked: int, device: str) -> int:
    """How many trainings run at a time: as asked, or one per core up to two; one on a GPU."""
    if asked:
        return asked
    return min(2, num_cores()) if device == "cpu" else 1


def gpus(device: str) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES is to each of several trainings at a time: where no single GPU is named and there are
    several, each sees one of them."""
    if device != "cuda" or torch.cuda.device_count() < 2:
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else list(map(str, range(torch.cuda.device_count())))
    return tuple(names[: torch.cuda.device_count()])


def num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware(device: str, workers: int, threads: int) -> str:
    """A line that tells what the numbers of a run were measured on."""
    gpu = f", {torch.cuda.get_device_name(device)}" if device.startswith("cuda") else ""
    each = f"{threads} thread{'s' * (threads > 1)} each"
    return f"{processor()}, {num_cores()} cores{gpu}; {workers} trainings at a time, {each}"


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found
