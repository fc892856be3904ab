"""How long networks take on this machine: with PyTorch on the CPU and a GPU, and with onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pruneas.architecture import Inputs
from pruneas.cost.latency import measure, pass_of, processor
from pruneas.errors import ExportError
from pruneas.export.graphs import missing, write_onnx
from pruneas.networks import examples
from pruneas.report.records import LatencyRecord, TimingRecord

BATCHES = (1, 64)
SECONDS = 1.0
"""For each network and batch, where seven rounds do not take longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A network to be timed, and its share of the base network's FLOPs."""

    network: nn.Module
    flops_share: float


def time_networks(networks: Mapping[str, Timed], inputs: Inputs, *, device: str = "cpu") -> LatencyRecord:
    """Time networks in turn, 'base' among them: on the CPU, on `device` or else a GPU if there is one, and with
    onnxruntime if it is installed; one input and a batch of 64. They are on the CPU afterwards."""
    timings: list[TimingRecord] = []
    notes: list[str] = []
    gpus = [device] if device != "cpu" else ["cuda"] if torch.cuda.is_available() else []
    with tempfile.TemporaryDirectory() as folder:
        places: dict[str, Callable[[int], Passes]] = {}
        for each in ("cpu", *gpus):
            places[place(each)] = _torch_passes(networks, inputs, each)
        if lacking := missing("onnx"):
            notes.append(f"Not timed with onnxruntime: {', '.join(lacking)} is not installed.")
        else:
            try:
                places[f"onnxruntime, {processor()}"] = _onnx_passes(networks, inputs, Path(folder))
            except ExportError as error:
                notes.append(f"Not timed with onnxruntime: {str(error).removeprefix('--format onnx: ')}.")
        for where, passes in places.items():
            for batch in BATCHES:
                try:
                    measured = measure(passes(batch), seconds=SECONDS)
                except torch.OutOfMemoryError:
                    notes.append(f"Not timed at a batch of {batch} on {where}: out of memory.")
                    continue
                timings += [
                    TimingRecord(
                        name=name,
                        flops_share=networks[name].flops_share,
                        where=where,
                        batch=batch,
                        median=found.median,
                        low=found.low,
                        high=found.high,
                    )
                    for name, found in measured.items()
                ]
    for timed in networks.values():
        timed.network.to("cpu")
    return LatencyRecord(threads=torch.get_num_threads(), timings=tuple(timings), notes=tuple(notes))


def place(device: str) -> str:
    """What a network runs on, as records name it."""
    return f"PyTorch, {processor() if device == 'cpu' else torch.cuda.get_device_name(device)}"


Passes = dict[str, Callable[[], object]]


def _torch_passes(networks: Mapping[str, Timed], inputs: Inputs, device: str) -> Callable[[int], Passes]:
    return lambda batch: {
        name: pass_of(timed.network, inputs, batch=batch, device=device) for name, timed in networks.items()
    }


def _onnx_passes(networks: Mapping[str, Timed], inputs: Inputs, folder: Path) -> Callable[[int], Passes]:
    paths = {
        name: write_onnx(timed.network, inputs, folder / f"{index}.onnx")
        for index, (name, timed) in enumerate(networks.items())
    }
    return lambda batch: {name: _onnx_pass(path, inputs, batch) for name, path in paths.items()}


def _onnx_pass(path: Path, inputs: Inputs, batch: int) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = examples(inputs, batch=batch)
    feed = {each.name: tensor.numpy() for each, tensor in zip(session.get_inputs(), given, strict=True)}
    return lambda: session.run(None, feed)
