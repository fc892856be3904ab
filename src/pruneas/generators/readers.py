"""What the layers that read a group's channels see of training images: windows of their inputs at random places.

ThiNet and channel regression choose channels by what the next layer makes of them. Readers are convolutions (grouped
ones, too) and linear layers. A transposed convolution, attention's packed projections and a functional call with a
weight of its own are none: a group that nothing else reads keeps its strongest filters by their L1 norm, the weights
that read it stay as they are, and a note says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruneas.structure.groups import Group, Structure

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""These and not classes made of them, which may do something else with their weight."""
PLACES = 10  # an image and call, as in both papers' code
BATCH = 64


def readers_of(structure: Structure, group: Group, network: nn.Module) -> dict[str, list[str]]:
    """The weights of layers that read a group's channels, in dimension 1, each with the modules that hold it."""
    weights = {member.parameter for member in group.members if member.role == "in" and member.dim == 1}
    found = defaultdict(list)
    for name, module in network.named_modules():
        weight = structure.aliases.get(f"{name}.weight", f"{name}.weight")
        if type(module) in LAYERS and weight in weights:
            found[weight].append(name)
    return dict(found)


def notes_on(unread: Sequence[str]) -> tuple[str, ...]:
    """What to tell of groups that no reader said anything about."""
    if not unread:
        return ()
    names = ", ".join(unread[:4]) + (", ..." if len(unread) > 4 else "")
    return (f"no convolution or linear layer that was reached reads {names}: filters stay there by their L1 norm",)


def position_of(structure: Structure, group: Group, weight: str) -> npt.NDArray[np.int64]:
    """For each index of a reader's input dimension the group's channel that it belongs to, or -1. Shape (inputs,)."""
    layout = structure.layouts[weight, 1]
    return np.where(layout.groups == list(structure.widths).index(group.name), layout.positions, -1)


@torch.no_grad()
def captured(network: nn.Module, modules: Collection[str], images: Tensor) -> dict[str, list[Tensor]]:
    """What each module is given, call by call, when the network runs in evaluation mode."""
    inputs: dict[str, list[Tensor]] = {name: [] for name in modules}
    handles = []
    for name in modules:

        def note(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any], name: str = name) -> None:
            given = args[0] if args else options["input"]
            inputs[name].append(given.clone())  # what follows may change it in place

        handles.append(network.get_submodule(name).register_forward_pre_hook(note, with_kwargs=True))
    try:
        network.eval()(images)
    finally:
        for handle in handles:
            handle.remove()
    return inputs


def windows(module: nn.Module, inputs: Tensor) -> Tensor:
    """All windows of a reader's inputs that its kernel is laid on, without copying them.

    Shape (images, *places, input channels, *kernel); of a linear layer (images, places, features).
    """
    if isinstance(module, nn.Linear):
        return inputs.reshape(len(inputs), -1, inputs.shape[-1])
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    kernel, dilation = module.kernel_size, module.dilation
    if module.padding == "valid":
        padding = [(0, 0) for _ in kernel]
    elif module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        padding = [(total // 2, total - total // 2) for total in totals]
    else:
        padding = [(int(each), int(each)) for each in module.padding]
    ends = [end for pair in reversed(padding) for end in pair]
    view = F.pad(inputs, ends, mode="constant" if module.padding_mode == "zeros" else module.padding_mode)
    for dim, (size, step, gap) in enumerate(zip(kernel, module.stride, dilation, strict=True)):
        view = view.unfold(2 + dim, gap * (size - 1) + 1, step)[..., ::gap]
    return view.movedim(1, 1 + len(kernel))


def random_places(view: Tensor, module: nn.Module, generator: torch.Generator) -> Tensor:
    """Numbers of `PLACES` windows an image, with repetition, drawn on the CPU. Shape (images, PLACES)."""
    return torch.randint(int(np.prod(_places(view, module))), (len(view), PLACES), generator=generator)


def rows(view: Tensor, module: nn.Module, places: Tensor) -> Tensor:
    """The windows at these places. Shape (rows, parts, inputs of a part, kernel); more than one part: grouped."""
    image = torch.arange(len(view))[:, None].expand_as(places)
    index = torch.unravel_index(places, _places(view, module))
    picked = view[tuple(each.to(view.device) for each in (image, *index))].double()
    parts = int(getattr(module, "groups", 1))
    channels = picked.shape[2]
    return picked.reshape(picked.shape[0] * picked.shape[1], parts, channels // parts, -1)


def kernels(module: nn.Module) -> Tensor:
    """The module's weight in double precision. Shape (outputs, inputs of a part, kernel)."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach().double().reshape(*weight.shape[:2], -1)


def with_tensor(structure: Structure, state: Mapping[str, Tensor], name: str, tensor: Tensor) -> dict[str, Tensor]:
    """The state with another tensor of this name, and of all its further names."""
    return {key: tensor if structure.aliases.get(key, key) == name else each for key, each in state.items()}


def _places(view: Tensor, module: nn.Module) -> tuple[int, ...]:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return tuple(view.shape[1 : view.ndim - 1 - (weight.ndim - 2)])
