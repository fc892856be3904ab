"""Masks of a network's weights: files of them, and networks that are trained from scratch with them on.

A masked architecture is the base network's with `Architecture.mask`, the SHA-256 of a safetensors file that lies beside
its JSON: `net.json` and `net.mask.safetensors`. The file holds one boolean tensor a weight, True where it stays.

Initialisation follows the code of [Liu2019]: a convolution's weights are drawn from N(0, 2 / n), n being the weights
that are left for each input channel, kernel * kernel * outputs where none is masked.

[Liu2019] Rethinking the Value of Network Pruning, arXiv 1810.05270
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from pruneas.errors import ArchitectureError
from pruneas.files import replacing

Masks = Mapping[str, torch.Tensor]
"""Boolean tensors by the weights' names, of their shapes: True where a weight stays."""


def mask_path(architecture: Path) -> Path:
    """Where the masks of an architecture file lie."""
    return architecture.with_suffix(".mask.safetensors")


def write_masks(masks: Masks, path: Path) -> str:
    """Write masks, whole or not at all. Returns the SHA-256 that `Architecture.mask` holds."""
    with replacing(path) as temporary:
        save_file({name: mask.cpu().contiguous() for name, mask in sorted(masks.items())}, temporary)
    return _digest(path)


def read_masks(path: Path, sha256: str | None = None) -> dict[str, torch.Tensor]:
    """Raises ArchitectureError where the file is missing, not the one of that SHA-256, or holds no masks."""
    try:
        found = _digest(path)
        if sha256 not in (None, found):
            raise ArchitectureError(
                f"{path}: must be the mask file with SHA-256 {sha256}, found {found}: it was changed or belongs to "
                "another architecture"
            )
        masks = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArchitectureError(f"{path}: cannot be read: {error}") from error
    if strange := [name for name, mask in masks.items() if mask.dtype != torch.bool]:
        raise ArchitectureError(f"{path}: must hold boolean tensors; {', '.join(strange[:4])} is not")
    return masks


def check_masks(masks: Masks, shapes: Mapping[str, Sequence[int]]) -> None:
    """Raises ArchitectureError for masks that are not of a network whose parameters have these shapes."""
    for name, mask in masks.items():
        shape = shapes.get(name)
        if shape is None or tuple(shape) != tuple(mask.shape) or mask.ndim < 2:
            found = "no such weight" if shape is None else f"one of {tuple(shape)}"
            raise ArchitectureError(f"mask of {name!r}, {tuple(mask.shape)}: the network has {found}")


def initialise_masked(network: nn.Module, masks: Masks, *, seed: int) -> None:
    """Draw the masked weights anew, for as many as are left, and set the others to zero.

    All else keeps its initialisation. Raises ArchitectureError for masks that are not of this network.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(network.named_parameters())
    check_masks(masks, {name: parameter.shape for name, parameter in parameters.items()})
    for name, mask in masks.items():
        weight = parameters[name]
        left = max(1, int(mask.sum())) / mask.shape[1]
        drawn = torch.randn(mask.shape, generator=generator) * (2.0 / left) ** 0.5
        with torch.no_grad():
            weight.copy_(drawn.to(weight) * mask.to(weight))


def hold(masks: Masks) -> Callable[[nn.Module], None]:
    """What keeps masked weights at zero: to be called after every step of a training.

    The others move as if the masked ones' gradients had been zero.
    """
    there: dict[torch.device, dict[str, torch.Tensor]] = {}

    @torch.no_grad()
    def after_step(network: nn.Module) -> None:
        for name, mask in masks.items():
            weight = network.get_parameter(name)
            on_device = there.setdefault(weight.device, {})
            weight.mul_(on_device.setdefault(name, mask.to(weight)))

    return after_step


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
