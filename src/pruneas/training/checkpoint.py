"""A training's state at the end of an epoch, in one file, so that a training that was killed goes on and ends alike.

Safetensors: the network's tensors, the optimiser's and the averaged ones, and the states of the random generators; its
header holds, as JSON, the epochs so far and what the training is, so that another training's file is never taken up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pruneas.errors import RunError
from pruneas.files import replacing
from pruneas.networks.weights import fit_to


def save(
    path: Path,
    epochs: Sequence[Any],
    identity: Mapping[str, Any],
    networks: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    device: torch.device,
) -> None:
    """Write the state, whole or not at all. `networks`: the trained one and, by another name, its average.

    Raises RunError where the disk refuses.
    """
    tensors = {
        f"{name}.{key}": tensor for name, network in networks.items() for key, tensor in network.state_dict().items()
    }
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
    tensors |= {f"random.{name}": state for name, state in _random_states(generator, device).items()}
    header = {"identity": _text(identity), "epochs": json.dumps([asdict(epoch) for epoch in epochs])}
    # Tied weights share memory, which the format refuses; each name gets its own copy.
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file(plain, temporary, header)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{path}: cannot be written: {error}. Give the same command again when it can; it goes on where it was"
        ) from error


def load(
    path: Path,
    identity: Mapping[str, Any],
    networks: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    device: torch.device,
) -> list[dict[str, Any]] | None:
    """Put the state of a file back. Returns the epochs it holds; None where there is none of this very training.

    A file that is damaged, or another training's, is left unread: the training begins anew and replaces it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("identity") != _text(identity):
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118: it is no mapping
            epochs: list[dict[str, Any]] = json.loads(header["epochs"])
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
    for name, network in networks.items():
        fit_to(network, {key: tensors[f"{name}.{key}"] for key in network.state_dict()}, str(path))
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".", 2)
            states.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": states})
    for parameter, state in optimiser.state.items():
        for key, tensor in state.items():
            if isinstance(tensor, Tensor) and tensor.shape == parameter.shape:
                # Fused kernels walk through memory: the same order (channels last) as the parameter's.
                state[key] = torch.empty_like(parameter).copy_(tensor)
    generator.set_state(tensors["random.images"])
    torch.set_rng_state(tensors["random.cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"], device)
    return epochs


def _random_states(generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
    states = {"images": generator.get_state(), "cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _text(identity: Mapping[str, Any]) -> str:
    return json.dumps(dict(identity), sort_keys=True)
