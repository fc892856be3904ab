"""A user's trained weights: safetensors, or torch files read without unpickling code."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from pruneas.errors import NetworkError


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weights file by name; one inside a dictionary's 'state_dict' or 'model' is found, too.

    Raises NetworkError where the file is missing, damaged, or holds anything else than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on pickle protocols: what comes out is checked below
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise NetworkError(
            f"{path}: is damaged, or holds more than tensors, which could run code when loaded. Save the state alone: "
            "torch.save(network.state_dict(), path)"
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise NetworkError(f"{path}: cannot be read as weights: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise NetworkError(f"{path}: must hold a state: a dictionary of tensors by parameter name")
    return {str(name).removeprefix("module."): tensor for name, tensor in found.items()}


def fit_to(network: torch.nn.Module, state: Mapping[str, torch.Tensor], place: str) -> None:
    """Load a state into a network. Raises NetworkError naming what is missing, too much, or of another shape."""
    own = network.state_dict()
    complaints = [f"{name} is missing" for name in own if name not in state]
    complaints += [f"{name} is not in the network" for name in state if name not in own]
    complaints += [
        f"{name} has shape {tuple(state[name].shape)}, the network's has {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if complaints:
        more = f" and {len(complaints) - 4} more" if len(complaints) > 4 else ""
        raise NetworkError(f"{place}: does not fit the network: {'; '.join(complaints[:4])}{more}")
    own.update(state)  # a state of its own also tells modules their version, without which some refuse it
    network.load_state_dict(own)
