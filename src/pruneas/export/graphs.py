"""Networks as PyTorch's exporters write them: a graph of operators in evaluation mode, for batches of any size."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from pruneas.architecture import Inputs
from pruneas.errors import ExportError
from pruneas.networks import examples

EXTRA = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
"""The packages that a format needs beside what pruneas does, by the name of the extra."""


def missing(name: str) -> list[str]:
    """The packages that a format needs and that are not installed."""
    return [package for package in EXTRA.get(name, ()) if importlib.util.find_spec(package) is None]


def write_torch_export(network: nn.Module, inputs: Inputs, path: Path) -> Path:
    """Write what torch.export makes of a network (`.pt2`). Raises ExportError where it cannot."""
    with _told("torch-export"):
        torch.export.save(_program(network, inputs), path)
    return path


def write_onnx(network: nn.Module, inputs: Inputs, path: Path) -> Path:
    """Write a network as ONNX, in one file. Raises ExportError where PyTorch cannot."""
    with _told("onnx"):
        torch.onnx.export(_program(network, inputs), f=path, external_data=False, dynamo=True, verbose=False)
    return path


def _program(network: nn.Module, inputs: Inputs) -> torch.export.ExportedProgram:
    given = tuple(examples(inputs, batch=2))
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(copy.deepcopy(network).eval(), given, dynamic_shapes=tuple({0: batch} for _ in given))


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # on what the exporters themselves will change
            yield
    except Exception as error:  # the exporters raise whatever the network's own code makes them
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
        raise ExportError(
            f"--format {name}: PyTorch cannot export this network: {type(error).__name__}: {lines[0][:300]}"
        ) from error
