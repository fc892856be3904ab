"""From widths to a network, and from a trained network's weights to those that survive in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from pruneas.architecture import Architecture, Reference
from pruneas.errors import ArchitectureError, StructureError
from pruneas.networks import make, provider
from pruneas.structure.dye import trace_network
from pruneas.structure.groups import Structure, find_groups
from pruneas.structure.replay import constructors, sizes_of

Keep = Mapping[str, Sequence[int]]
"""Which channels of each group survive: positions in [0, base width), one per unit of width, ascending."""


def analyse(network: Reference, input_shape: tuple[int, ...]) -> Structure:
    """Make the base network and trace its groups; `input_shape` is without the batch.

    Raises NetworkError where it cannot be made and StructureError where it cannot be traced.
    """
    with torch.random.fork_rng(devices=[]):
        return structure_of(make(network), network, input_shape)


def structure_of(module: nn.Module, network: Reference, input_shape: tuple[int, ...]) -> Structure:
    """The structure of a network that has been made already."""
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    shapes = {name: tuple(t.shape) for name, t in named.items() if t.ndim and t.is_floating_point()}
    try:
        trace = trace_network(module, [torch.empty(1, *input_shape)])
    except StructureError as error:
        raise StructureError(f"network {network} at input {'x'.join(map(str, input_shape))}: {error}") from error
    learned = frozenset(name for name, _ in module.named_parameters())
    return find_groups(trace, network, input_shape, shapes, learned)


def describe(structure: Structure, widths: Mapping[str, int]) -> Architecture:
    """The architecture of these widths."""
    return Architecture(
        network=structure.network,
        provider=provider(structure.network),
        input_shape=structure.input_shape,
        structure=structure.fingerprint,
        widths={group.name: int(widths[group.name]) for group in structure.groups},
    )


def build(architecture: Architecture, *, seed: int | None = None) -> nn.Module:
    """The network of an architecture, freshly initialised; `seed` makes the initialisation repeatable.

    Raises ArchitectureError where the factory no longer gives the structure that the architecture was made for.
    """
    structure = analyse(architecture.network, architecture.input_shape)
    if structure.fingerprint != architecture.structure:
        raise ArchitectureError(
            f"architecture of {architecture.network}: it was made with {architecture.provider}, whose network had "
            f"structure {architecture.structure}; {provider(architecture.network)} here gives {structure.fingerprint}. "
            "Install the version it was made with"
        )
    return build_widths(structure, architecture.widths, seed=seed)


def build_widths(structure: Structure, widths: Mapping[str, int], *, seed: int | None = None) -> nn.Module:
    """Replay the factory at these widths.

    Raises ArchitectureError for widths that are missing, unknown or outside of [1, base], and StructureError where
    the network's own code does not allow them.
    """
    complaints = [f"unknown group {name!r}" for name in widths if name not in structure.widths]
    for group in structure.groups:
        found = widths.get(group.name)
        if found is None or not 1 <= found <= group.width:
            complaints.append(f"group {group.name!r}: width must be in 1..{group.width}, found {found}")
    if complaints:
        raise ArchitectureError(f"architecture of {structure.network}: " + "; ".join(complaints))
    shapes = shapes_at(structure, widths)
    with torch.random.fork_rng(devices=[]):
        with constructors() as recording:
            base = make(structure.network)
        names = recording.names(base)

        def sizes(index: int) -> Mapping[str, object] | None:
            name = names[index] if index < len(names) else None
            if name is None:
                return None
            prefix = f"{name}." if name else ""
            layer = recording.layers[index]
            own = {
                leaf: shapes[prefix + leaf]
                for leaf, _ in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
                if prefix + leaf in shapes
            }
            return sizes_of(layer, own)

        if seed is not None:
            torch.manual_seed(seed)
        try:
            with constructors(sizes) as replayed:
                network = make(structure.network)
        except ValueError as error:
            raise StructureError(f"network {structure.network}: it cannot be rebuilt: {error}") from error
    if len(replayed.layers) != len(recording.layers):
        raise StructureError(
            f"network {structure.network}: its factory made {len(recording.layers)} layers, then {len(replayed.layers)}: "
            "it must make the same layers each time"
        )
    _slice_hand_made(structure, network, widths, shapes)
    return network


def shapes_at(structure: Structure, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter and buffer at these widths."""
    vector = np.array([widths[group.name] for group in structure.groups], dtype=np.int64)
    shapes = {}
    for name, shape in structure.shapes.items():
        forms = [structure.form((name, dim)) for dim in range(len(shape))]
        shapes[name] = tuple(int(form.constant + form.coefficients @ vector) for form in forms)
    return shapes


def _slice_hand_made(
    structure: Structure, network: nn.Module, widths: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Cut the parameters that no constructor sized (layer scale, class token), then hold every shape to the asked one."""
    keep = leading(structure, widths)
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, shape in shapes.items():
        tensor = named.get(name)
        if tensor is not None and tuple(tensor.shape) == structure.shapes[name] != shape:
            tensor.data = _surviving(structure, name, tensor.data, keep)
        if tensor is None or tuple(tensor.shape) != shape:
            found = None if tensor is None else tuple(tensor.shape)
            raise StructureError(
                f"network {structure.network}: rebuilt, its parameter {name!r} must have shape {shape}, found {found}"
            )


def leading(structure: Structure, widths: Mapping[str, int]) -> dict[str, list[int]]:
    """The first channels of every group: what to keep where it does not matter which."""
    return {group.name: list(range(widths[group.name])) for group in structure.groups}


def inherit(structure: Structure, state: Mapping[str, torch.Tensor], keep: Keep) -> dict[str, torch.Tensor]:
    """The state of the base network, cut to the channels that survive: loads into the network built at those widths.

    Tensors that tracing did not dye (counters) are taken as they are.
    """
    return {
        name: _surviving(structure, name, tensor, keep) if name in structure.shapes else tensor.clone()
        for name, tensor in state.items()
    }


def _surviving(structure: Structure, name: str, tensor: torch.Tensor, keep: Keep) -> torch.Tensor:
    kept = [np.zeros(group.width, dtype=np.bool_) for group in structure.groups]
    for group, mask in zip(structure.groups, kept, strict=True):
        mask[list(keep[group.name])] = True
    for dim in range(tensor.ndim):
        layout = structure.layouts[name, dim]
        stays = np.ones(len(layout.groups), dtype=np.bool_)
        for index, mask in enumerate(kept):
            mine = layout.groups == index
            stays[mine] = mask[layout.positions[mine]]
        tensor = tensor.index_select(dim, torch.from_numpy(np.flatnonzero(stays)).to(tensor.device))
    return tensor.clone()
