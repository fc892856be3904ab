"""Reading exports back in a fresh process, and holding what they do to what the network did.

    python -m pruneas.export.reload FOLDER

reads `request.json` and the tensors beside it, and prints one JSON line: what it found of each export.
"""

from __future__ import annotations

import contextlib
import copy
import json
import runpy
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pruneas.architecture import Architecture, Inputs
from pruneas.cost.count import Count, count
from pruneas.errors import ExportError
from pruneas.networks import tensors_of
from pruneas.networks.weights import fit_to, read_weights

TOLERANCES = {"python": 1e-5, "safetensors": 1e-5, "torch-export": 1e-5, "onnx": 1e-3}
"""The largest difference of outputs, as a share of the largest output. JSON holds no weights, so nothing is run."""
BATCHES = (1, 2, 3)
"""One is where exporters specialise."""
Passes = dict[str, list[torch.Tensor]]
"""The tensors that come out, by the batch that went in ('1', '2', '3'), and in training mode ('training')."""


def verify(files: Mapping[str, Path], network: nn.Module, counted: Count, architecture: Architecture) -> None:
    """Read exports back in a fresh process: same outputs on the same inputs, same FLOPs and parameters.

    Outputs are those of batches of 1, 2 and 3; of Python source, in training mode as well. ONNX has outputs alone: its
    exporter folds normalisation into convolutions, and fvcore cannot count its graphs. Raises ExportError for the first
    export that gives another network.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = {str(batch): _inputs(architecture.inputs, batch) for batch in BATCHES}
        expected = _passes(copy.deepcopy(network), given)
        for name, tensors in (("inputs", given), ("expected", expected)):
            flat = {f"{key}/{index}": each for key, list_ in tensors.items() for index, each in enumerate(list_)}
            save_file({key: each.detach().clone().contiguous() for key, each in flat.items()}, f"{folder}/{name}")
        request = {
            "files": {name: str(path.resolve()) for name, path in files.items()},
            "architecture": architecture.to_json(),
            "trust": sorted(architecture.trust),
        }
        Path(folder, "request.json").write_text(json.dumps(request), encoding="utf-8")
        done = subprocess.run([sys.executable, "-m", __name__, folder], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise ExportError(f"the fresh process that reads the exports back ended with: {last}")
    for name, found in json.loads(done.stdout.splitlines()[-1]).items():
        if "failure" in found:
            raise ExportError(f"--format {name}: cannot be read back in a fresh process: {found['failure']}")
        if found["difference"] > TOLERANCES.get(name, 0.0):
            raise ExportError(
                f"--format {name}: read back, its outputs must be the network's within {TOLERANCES[name]:g} of the "
                f"largest, they differ by {found['difference']:.2g} ({found['worst']}). Nothing was written"
            )
        for quantity in ("flops", "params"):
            if found[quantity] not in (None, getattr(counted, quantity)):
                raise ExportError(
                    f"--format {name}: read back, it has {found[quantity]:,} {quantity}, the network has "
                    f"{getattr(counted, quantity):,}. Nothing was written"
                )


def _inputs(inputs: Inputs, batch: int) -> list[torch.Tensor]:
    """Noise; of indices, zeros and ones, which every network takes."""
    generator = torch.Generator().manual_seed(batch)
    return [
        torch.randn(batch, *each.shape, generator=generator)
        if each.dtype == "float32"
        else torch.randint(0, 2, (batch, *each.shape), generator=generator)
        for each in inputs
    ]


@torch.no_grad()
def _passes(network: nn.Module, given: Mapping[str, list[torch.Tensor]]) -> Passes:
    network.eval()
    found = {key: list(tensors_of(network(*tensors))) for key, tensors in given.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found["training"] = list(tensors_of(network.train()(*given[str(BATCHES[-1])])))
    return found


def _reloaded(folder: Path) -> dict[str, Any]:
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    architecture = Architecture.from_json(request["architecture"]).trusting(request["trust"])
    given, expected = (_nested(load_file(folder / name)) for name in ("inputs", "expected"))
    found: dict[str, Any] = {}
    for name, path in request["files"].items():
        try:
            passes, counted = READERS[name](Path(path), architecture, given)
            found[name] = {"flops": None, "params": None, **counted, **_difference(passes, expected)}
        except Exception as error:  # whatever it is, it is told which export it was
            found[name] = {"failure": f"{type(error).__name__}: {str(error)[:300]}"}
    return found


def _nested(flat: Mapping[str, torch.Tensor]) -> Passes:
    nested: dict[str, dict[int, torch.Tensor]] = {}
    for key, tensor in flat.items():
        name, _, index = key.partition("/")
        nested.setdefault(name, {})[int(index)] = tensor
    return {name: [each[index] for index in sorted(each)] for name, each in nested.items()}


def _difference(passes: Passes, expected: Passes) -> dict[str, Any]:
    """The largest difference, as a share of the largest output of that pass; infinite where shapes or NaNs differ."""
    worst, place = 0.0, "nowhere"
    for key, tensors in passes.items():
        if len(tensors) != len(expected[key]):
            return {"difference": float("inf"), "worst": f"{len(tensors)} outputs, {key}"}
        for found, wanted in zip(tensors, expected[key], strict=True):
            if found.shape != wanted.shape:
                return {"difference": float("inf"), "worst": f"shape {tuple(found.shape)}, {key}"}
            largest = wanted.double().abs().max().item() or 1.0
            share = ((found.double() - wanted.double()).abs().max() / largest).item() if found.numel() else 0.0
            if not share <= worst:
                worst, place = share if share == share else float("inf"), f"batch {key}"
    return {"difference": worst, "worst": place}


def _counted(network: nn.Module, inputs: Inputs) -> dict[str, int]:
    found = count(network, inputs)
    return {"flops": found.flops, "params": found.params}


def _json(path: Path, architecture: Architecture, given: Any) -> tuple[Passes, dict[str, int]]:
    read = Architecture.load(path).trusting(architecture.trust)
    return {}, _counted(read.build(seed=0), read.inputs)


def _safetensors(path: Path, architecture: Architecture, given: Any) -> tuple[Passes, dict[str, int]]:
    network = architecture.build(seed=1)
    fit_to(network, read_weights(path), str(path))
    return _passes(network, given), _counted(network, architecture.inputs)


def _python(path: Path, architecture: Architecture, given: Any) -> tuple[Passes, dict[str, int]]:
    network = runpy.run_path(str(path))["load"]()
    return _passes(network, given), _counted(network, architecture.inputs)


@torch.no_grad()
def _torch_export(path: Path, architecture: Architecture, given: Any) -> tuple[Passes, dict[str, int]]:
    program = torch.export.load(path)
    network = program.module().requires_grad_(False)  # else fvcore's tracing refuses its parameters as constants

    class Plain(nn.Module):
        """Evaluation mode is what was exported; such a module has no other and refuses to be asked for it."""

        def forward(self, *inputs: torch.Tensor) -> Any:
            return network(*inputs)

    passes = {key: list(tensors_of(network(*tensors))) for key, tensors in given.items()}
    params = sum(parameter.numel() for parameter in program.parameters())
    return passes, {"flops": count(Plain(), architecture.inputs).flops, "params": params}


def _onnx(path: Path, architecture: Architecture, given: Any) -> tuple[Passes, dict[str, int]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    passes = {
        key: [
            torch.as_tensor(out)
            for out in session.run(None, {n: t.numpy() for n, t in zip(names, tensors, strict=True)})
        ]
        for key, tensors in given.items()
    }
    return passes, {}


Reader = Callable[[Path, Architecture, Any], tuple[Passes, dict[str, int]]]
READERS: Mapping[str, Reader] = {
    "json": _json,
    "safetensors": _safetensors,
    "python": _python,
    "torch-export": _torch_export,
    "onnx": _onnx,
}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = _reloaded(Path(sys.argv[1]))
    print(json.dumps(answer))
