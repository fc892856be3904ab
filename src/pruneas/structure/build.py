"""From widths to a network, and from a trained network's weights to those that survive in it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from pruneas.architecture import Architecture, Inputs, Reference
from pruneas.errors import ArchitectureError, NetworkError, StructureError
from pruneas.networks import examples, make, provider
from pruneas.structure.blocks import find_blocks, shortcut_of
from pruneas.structure.dye import trace_network
from pruneas.structure.groups import Dimension, Structure, find_groups
from pruneas.structure.held import set_values
from pruneas.structure.replay import Sizes, constructors, sizes_of, uninitialised
from pruneas.trust import package_of

Keep = Mapping[str, Sequence[int]]
"""Which channels of each group survive: positions in [0, base width), one per unit of width, ascending."""


def analyse(network: Reference, inputs: Inputs, *, trusted: bool = True) -> Structure:
    """Make the base network and trace its groups. One that is not trusted may take so much memory only.

    Raises NetworkError where it cannot be made and StructureError where it cannot be traced.
    """
    with torch.random.fork_rng(devices=[]):
        with uninitialised():
            module = make(network, trusted=trusted)
        return structure_of(module, network, inputs)


def structure_of(module: nn.Module, network: Reference, inputs: Inputs) -> Structure:
    """The structure of a network that has been made already."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    every = {**parameters, **dict(module.named_buffers(remove_duplicate=False))}
    lazy = [name for name, parameter in parameters.items() if is_lazy(parameter)]
    if lazy:
        raise StructureError(
            f"network {network}: {lazy[0]!r} of a lazy layer has no shape yet: the factory must run the network once"
        )
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule) or "_orig_mod" in part._modules:  # torch.jit's, torch.compile's
            raise StructureError(
                f"network {network}: {name or 'the network itself'!r} was compiled, and what it runs cannot be seen: "
                "the factory must give the module as it was before"
            )
    first: dict[int, str] = {}
    for name, tensor in every.items():
        first.setdefault(id(tensor), name)
    named = {name: every[name] for name in first.values()}
    aliases = {name: first[id(tensor)] for name, tensor in every.items() if name not in named}
    learned = frozenset(name for name in named if name in parameters)
    try:
        with torch.random.fork_rng(devices=[]):  # some networks draw numbers of their own
            trace = trace_network(module, examples(inputs))
    except StructureError as error:
        raise StructureError(f"network {network} at input {', '.join(map(str, inputs))}: {error}") from error
    shapes: dict[str, tuple[int, ...]] = {}
    for (name, _), size in trace.sizes.items():
        shapes[name] = (*shapes.get(name, ()), size)
    blocks = find_blocks(trace.record, named, {*aliases, *aliases.values()})
    indices = [name for name in shapes if not named[name].is_floating_point()]
    selections = {name: trace.record.source(name.rpartition(".")[0]) for name in indices}
    found = find_groups(trace, network, inputs, shapes, learned, blocks)
    return replace(found, aliases=aliases, selections=selections)


def describe(
    structure: Structure, widths: Mapping[str, int], removed: Collection[str] = (), keep: Keep | None = None
) -> Architecture:
    """The architecture of these widths, without the branches of the removed blocks.

    `keep`, where given, says what channel selections take; without it, the first channels.
    """
    gone = structure.without(removed)
    chosen = {name: keep[name] for name in structure.widths if name in structure.selecting - gone} if keep else {}
    return Architecture(
        network=structure.network,
        provider=provider(structure.network),
        inputs=structure.inputs,
        structure=structure.fingerprint,
        widths={name: int(widths[name]) for name in structure.widths if name not in gone},
        removed=tuple(block.name for block in structure.blocks if block.name in removed),
        selections={
            name: tuple(map(int, kept)) for name, kept in chosen.items() if list(kept) != list(range(len(kept)))
        },
        trust=frozenset([package_of(structure.network.name)]),  # its code has run
    )


def build(architecture: Architecture, *, seed: int | None = None) -> nn.Module:
    """The network of an architecture, freshly initialised; `seed` makes the initialisation repeatable.

    Raises ArchitectureError where the factory no longer gives the structure that the architecture was made for.
    """
    structure = structure_for(architecture)
    return build_widths(structure, architecture.widths, architecture.removed, architecture.selections, seed=seed)


def structure_for(architecture: Architecture) -> Structure:
    """The structure that an architecture's widths are of.

    Raises ArchitectureError where its factory is not trusted, no longer gives the structure that the architecture was
    made for, or the architecture selects channels where nothing does.
    """
    architecture.check_trust()
    trusted = package_of(architecture.network.name) in architecture.trust
    structure = analyse(architecture.network, architecture.inputs, trusted=trusted)
    if structure.fingerprint != architecture.structure:
        raise ArchitectureError(
            f"architecture of {architecture.network}: it was made with {architecture.provider}, whose network had "
            f"structure {architecture.structure}; {provider(architecture.network)} here gives {structure.fingerprint}. "
            "Install the version it was made with"
        )
    unselected = sorted(set(architecture.selections) - structure.selecting)
    if unselected:
        raise ArchitectureError(
            f"architecture of {architecture.network}: selections: no channel selection puts out {', '.join(unselected)}"
        )
    return structure


def build_widths(
    structure: Structure,
    widths: Mapping[str, int],
    removed: Collection[str] = (),
    keep: Keep | None = None,
    *,
    seed: int | None = None,
) -> nn.Module:
    """Replay the factory at these widths, then take out the branches of the removed blocks.

    Groups that only removed branches hold need no width. Channel selections take the channels that `keep` says, the
    first ones without it; what it says of other groups makes no difference to a new network. Raises ArchitectureError
    for widths that are missing, unknown or outside of [1, base], for selections that do not fit them and for unknown
    blocks, StructureError where the network's own code does not allow them.
    """
    complaints = [f"unknown group {name!r}" for name in widths if name not in structure.widths]
    complaints += [
        f"block {name!r} cannot be removed: {structure.unremovable.get(name, 'there is no such block')}"
        for name in removed
        if name not in {block.name for block in structure.blocks}
    ]
    widths = {**{name: structure.widths[name] for name in structure.without(removed)}, **widths}
    for group in structure.groups:
        found = widths.get(group.name)
        if found is None or not 1 <= found <= group.width:
            complaints.append(f"group {group.name!r}: width must be in 1..{group.width}, found {found}")
        elif keep and group.name in keep and group.name in structure.selecting:
            kept = list(keep[group.name])
            if len(kept) != found or kept != sorted(set(kept) & set(range(group.width))):
                complaints.append(
                    f"group {group.name!r}: its selection must hold {found} of 0..{group.width - 1}, ascending, found "
                    f"{str(kept)[:60]}"
                )
    if complaints:
        raise ArchitectureError(f"architecture of {structure.network}: " + "; ".join(complaints))
    shapes = shapes_at(structure, widths)
    with torch.random.fork_rng(devices=[]):
        with constructors() as layers, uninitialised():
            base = make(structure.network)
        # Tensors are found by identity: a shared one goes by the first of its names, a dropped layer's has none.
        names = {id(tensor): name for name, tensor in [*base.named_parameters(), *base.named_buffers()]}

        def sizes(index: int) -> Sizes:
            if index >= len(layers):
                return {}
            layer = layers[index]
            own = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
            asked = {leaf: shapes[names[id(tensor)]] for leaf, tensor in own if names.get(id(tensor)) in shapes}
            return sizes_of(layer, asked)

        if seed is not None:
            torch.manual_seed(seed)
        try:
            with constructors(sizes) as replayed:
                network = make(structure.network)
        except NetworkError as error:
            raise StructureError(f"it cannot be rebuilt at these widths: {error}") from error
    if len(replayed) != len(layers):
        raise StructureError(
            f"network {structure.network}: its factory made {len(layers)} layers, then {len(replayed)}: "
            "it must make the same layers each time"
        )
    _set_held(structure, network, widths)
    for block in structure.blocks:
        if block.name in removed:
            network.set_submodule(block.name, shortcut_of(network.get_submodule(block.name), block))
    gone = structure.parameters_of(removed)
    chosen = {name: kept for name, kept in (keep or {}).items() if name in structure.selecting}
    stay = surviving(structure, {**leading(structure, widths), **chosen})
    for name in structure.selections.keys() - gone:
        network.get_buffer(name).data = _cut(name, base.get_buffer(name), stay).clone()
    _slice_hand_made(structure, network, widths, {name: shape for name, shape in shapes.items() if name not in gone})
    return network


def shapes_at(structure: Structure, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter and buffer at these widths (groups,), before any block is removed."""
    vector = np.array([widths[group.name] for group in structure.groups], dtype=np.int64)
    shapes = {}
    for name, shape in structure.shapes.items():
        forms = [structure.form((name, dim)) for dim in range(len(shape))]
        shapes[name] = tuple(form.at(vector) for form in forms)
    return shapes


def leading(structure: Structure, widths: Mapping[str, int]) -> dict[str, list[int]]:
    """The first channels of every group: what to keep where it does not matter which."""
    return {group.name: list(range(widths[group.name])) for group in structure.groups}


def surviving(structure: Structure, keep: Keep) -> dict[Dimension, npt.NDArray[np.int64]]:
    """For every parameter dimension the indices that belong to channels that survive, ascending."""
    starts = np.cumsum([0, *structure.widths.values()])
    stays = np.zeros(starts[-1] + 1, dtype=np.bool_)
    for start, name in zip(starts, structure.widths, strict=False):
        stays[start + np.asarray(keep[name], dtype=np.int64)] = True
    stays[-1] = True  # where indices that are fixed are sent
    return {
        dimension: np.flatnonzero(stays[np.where(layout.groups < 0, -1, starts[layout.groups] + layout.positions)])
        for dimension, layout in structure.layouts.items()
    }


def inherit(
    structure: Structure, state: Mapping[str, torch.Tensor], keep: Keep, removed: Collection[str] = ()
) -> dict[str, torch.Tensor]:
    """The state of the base network, cut to what survives: loads into the network built at those widths.

    Tensors that tracing did not dye (counters) are taken as they are.
    """
    indices, gone = surviving(structure, keep), structure.parameters_of(removed)
    kept = OrderedDict(
        (name, _cut(structure.aliases.get(name, name), tensor, indices).clone())
        for name, tensor in state.items()
        if name not in gone
    )
    if hasattr(state, "_metadata"):  # the modules' versions, without which some refuse a state
        kept._metadata = state._metadata  # type: ignore[attr-defined]
    return kept


def _cut(name: str, tensor: torch.Tensor, indices: Mapping[Dimension, npt.NDArray[np.int64]]) -> torch.Tensor:
    for dim in range(tensor.ndim):
        if (name, dim) in indices:
            tensor = tensor.index_select(dim, torch.from_numpy(indices[name, dim]).to(tensor.device))
    return tensor


def _set_held(structure: Structure, network: nn.Module, widths: Mapping[str, int]) -> None:
    """Give modules that hold sizes as integers those of these widths."""
    base = np.array([group.width for group in structure.groups], dtype=np.int64)
    vector = np.array([widths[group.name] for group in structure.groups], dtype=np.int64)
    forms = [(held.derivation, held.size.constant, held.size.coefficients) for held in structure.held]
    set_values(network, [(how, int(c + each @ base), int(c + each @ vector)) for how, c, each in forms])


def _slice_hand_made(
    structure: Structure, network: nn.Module, widths: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Cut parameters that no constructor sized (layer scale, class token), then hold every shape to the asked one."""
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, shape in shapes.items():
        tensor = named.get(name)
        if tensor is not None and tuple(tensor.shape) == structure.shapes[name] != shape:
            tensor.data = _cut(name, tensor.data, surviving(structure, leading(structure, widths))).clone()
        if tensor is None or tuple(tensor.shape) != shape:
            found = None if tensor is None else tuple(tensor.shape)
            raise StructureError(
                f"network {structure.network}: rebuilt, its parameter {name!r} must have shape {shape}, found {found}"
            )
