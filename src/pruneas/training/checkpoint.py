"""A training's state at the end of an epoch, so that a training that was killed goes on and ends alike.

On disk it is one safetensors file: the network's tensors, the optimiser's and the averaged ones, and the states of the
random generators; its header holds, as JSON, the epochs so far and what the training is, so that another training's
file is never taken up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pruneas.errors import RunError
from pruneas.files import replacing
from pruneas.networks.weights import fit_to


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything that a training changes. `networks`: the trained one and, by another name, its average."""

    networks: Mapping[str, nn.Module]
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    device: torch.device

    def copied(self) -> dict[str, Tensor]:
        """As it is now, on the CPU."""
        tensors = {
            f"{name}.{key}": tensor
            for name, network in self.networks.items()
            for key, tensor in network.state_dict().items()
        }
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
        tensors |= {"random.images": self.generator.get_state(), "random.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        # Tied weights share memory, which safetensors refuses; each name gets its own copy.
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}

    def put_back(self, tensors: Mapping[str, Tensor], place: str) -> None:
        """As it was copied. `place` is where the copy comes from, for a complaint that it does not fit."""
        for name, network in self.networks.items():
            fit_to(network, {key: tensors[f"{name}.{key}"] for key in network.state_dict()}, place)
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, index, key = name.split(".", 2)
                states.setdefault(int(index), {})[key] = tensor.clone()
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": states})
        for parameter, state in self.optimiser.state.items():
            for key, tensor in state.items():
                if isinstance(tensor, Tensor) and tensor.shape == parameter.shape:
                    # Fused kernels walk through memory: the same order (channels last) as the parameter's.
                    state[key] = torch.empty_like(parameter).copy_(tensor)
        self.generator.set_state(tensors["random.images"])
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)


def save(path: Path, epochs: Sequence[Any], identity: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a state, whole or not at all. Raises RunError where the disk refuses."""
    header = {"identity": _text(identity), "epochs": json.dumps([asdict(epoch) for epoch in epochs])}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file(dict(tensors), temporary, header)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{path}: cannot be written: {error}. Give the same command again when it can; it goes on where it was"
        ) from error


def load(path: Path, identity: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Tensor]] | None:
    """The epochs and the state in a file; None where there is none of this very training.

    A file that is damaged, or another training's, is left unread: the training begins anew and replaces it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("identity") != _text(identity):
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118: it is no mapping
            return json.loads(header["epochs"]), tensors
    except (OSError, SafetensorError, ValueError, KeyError):
        return None


def _text(identity: Mapping[str, Any]) -> str:
    return json.dumps(dict(identity), sort_keys=True)
