"""Whether `torch.compile` computes a training's steps: decided from its own epochs' measured seconds.

The decision follows from what is recorded of the epochs so far, which is in the checkpoint: a training that was killed
goes on with the same one. Compiled steps round differently, so where the decision is left to measurement, two machines
may get different last digits.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn

COMPILE = ("auto", "on", "off")
WORTH_SECONDS = 600.0
"""A training that has less than this left is not compiled: compiling alone takes up to minutes."""


class Epoch(Protocol):
    @property
    def seconds(self) -> float: ...
    @property
    def compiled(self) -> bool: ...


def is_worth_it(epochs: Sequence[Epoch], num_epochs: int) -> bool:
    """Whether the next epoch of a training should be compiled, given those it has had.

    The first is not, and tells how long the rest would take. If that is long, the second, which includes compiling, and
    the third are. The third tells what is gained: if that paid for the compiling by the end, all others are, too.
    """
    if len(epochs) == 0:
        return False
    plain = epochs[0].seconds
    if len(epochs) == 1:
        return plain * (num_epochs - 1) > WORTH_SECONDS
    if len(epochs) == 2 or not epochs[1].compiled:
        return epochs[1].compiled
    second, third = epochs[1].seconds, epochs[2].seconds
    return epochs[2].compiled and second - third < (plain - third) * (num_epochs - 1)


def missing_tool(device: torch.device) -> str | None:
    """What `torch.compile` would need here and does not find: on a CPU it writes C++, on a GPU Triton does its work."""
    if device.type == "cpu":
        compiler = os.environ.get("CXX", "")
        found = any(name and shutil.which(name) for name in (compiler, "g++", "clang++", "c++"))
        return None if found else "a C++ compiler"
    return None if importlib.util.find_spec("triton") else "Triton"


def compiled(model: nn.Module, *, graphs: bool) -> nn.Module:
    """The model with its forward and backward passes compiled; in CUDA graphs if asked.

    A CUDA graph computes gradients into the same memory each time, so they cannot be added up over parts of a batch.
    """
    found = torch.compile(model, mode="reduce-overhead" if graphs else None)
    assert isinstance(found, nn.Module)
    return found


def is_failure(error: Exception) -> bool:
    """Whether an error came of compiling rather than of what is compiled."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
