"""Whether a network really can be built at the widths its groups allow; groups that break it are frozen.

A trace cannot see which sizes a network's code holds as Python constants (a pad of 8 channels, a view of 16 heads), but
rebuilding can: at other widths the pass fails, or the groups come out different.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch

from pruneas.errors import PruneasError, StructureError
from pruneas.structure.blocks import Block
from pruneas.structure.build import build_widths, leading, structure_of, surviving
from pruneas.structure.dye import OUTPUT
from pruneas.structure.groups import Group, Structure
from pruneas.structure.replay import uninitialised

Part = TypeVar("Part")


def confirmed(structure: Structure) -> Structure:
    """The structure with every group frozen whose change breaks the network, and only blocks that really come out.

    Raises StructureError where nothing is left that can change.
    """
    frozen: dict[str, str] = dict(structure.frozen)
    frozen |= {group.name: "it has one channel" for group in structure.groups if group.width == 1}
    free = [group for group in structure.groups if group.name not in frozen]
    suspects = _read_by_fixed(structure)
    good, broken = _sort_out(
        [[group for group in free if group.name not in suspects], [group for group in free if group.name in suspects]],
        lambda groups: _breaks(structure, groups, ()),
    )
    frozen |= {group.name: reason for group, reason in broken}
    blocks, stuck = _sort_out([list(structure.blocks)], lambda blocks: _breaks(structure, good, blocks))
    if not good:
        found = "; ".join(f"{name}: {reason}" for name, reason in frozen.items()) or "no width groups were found"
        raise StructureError(f"network {structure.network}: nothing in it can be made narrower: {found}")
    order = {block.name: index for index, block in enumerate(structure.blocks)}
    return replace(
        structure,
        frozen=frozen,
        blocks=tuple(sorted(blocks, key=lambda block: order[block.name])),
        unremovable={**structure.unremovable, **{block.name: reason for block, reason in stuck}},
    )


def _sort_out(
    lots: Sequence[list[Part]], breaks: Callable[[list[Part]], str | None]
) -> tuple[list[Part], list[tuple[Part, str]]]:
    """Which parts can change, and which break the network, each with the reason; found by halving lots that break.

    Each lot is tried together with those known to be good: parts that only break in company are found out as well.
    """
    good: list[Part] = []
    broken: list[tuple[Part, str]] = []
    pending = [lot for lot in reversed(lots) if lot]
    while pending:
        some = pending.pop()
        reason = breaks([*good, *some])
        if reason is None:
            good += some
        elif len(some) == 1:
            broken.append((some[0], reason))
        else:
            pending += [some[len(some) // 2 :], some[: len(some) // 2]]
    return good, broken


def _read_by_fixed(structure: Structure) -> set[str]:
    """Groups that a weight reads whose own outputs cannot change: often tied to them by the network's code.

    Such as the embedding of a transformer, whose code divides it by the number of heads.
    """
    stiff = {
        name
        for (name, dim), layout in structure.layouts.items()
        if dim == 0 and len(structure.shapes[name]) > 1 and (layout.groups < 0).all()
    }
    last = {fixed.parameter for fixed in structure.fixed if fixed.reason == OUTPUT}
    return {
        group.name
        for group in structure.groups
        if any(m.role == "in" and m.parameter in stiff - last for m in group.members)
    }


def _breaks(structure: Structure, groups: Sequence[Group], blocks: Sequence[Block]) -> str | None:
    """Why the network fails with these groups narrower, each by another amount, and these branches taken out.

    None if it does not.
    """
    widths = structure.widths
    for index, group in enumerate(groups):
        widths[group.name] = max(1, min(group.width - 1, round(group.width * (0.5 + 0.4 * (index * 0.618 % 1)))))
    removed = [block.name for block in blocks]
    try:
        with torch.random.fork_rng(devices=[]), uninitialised():
            network = build_widths(structure, widths, removed, seed=0)
            found = structure_of(network, structure.network, structure.inputs)
    except PruneasError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if removed:
        same = _flops(structure, widths, removed) == _flops(found, found.widths)
        return None if same else "without its branch the network runs other operators than were left"
    asked = {group.name: (widths[group.name], group.members) for group in structure.groups}
    got = {group.name: (group.width, group.members) for group in found.groups}
    differing = [name for name in asked if asked[name] != got.get(name)]
    if differing or len(got) != len(asked):
        return f"at other widths its groups come out differently ({', '.join(differing[:3])})"
    for (name, dim), stays in surviving(structure, leading(structure, widths)).items():
        layout, mine = structure.layouts[name, dim], found.layouts[name, dim]
        if not (
            np.array_equal(layout.groups[stays], mine.groups)
            and np.array_equal(layout.positions[stays], mine.positions)
        ):
            return f"at other widths its channels come out in another order (dimension {dim} of {name})"
    priced, ran = _flops(structure, widths), _flops(found, found.widths)
    if priced != ran:  # such as a layer that runs as often as there are channels
        return f"at other widths the network runs other operators: {ran:,} FLOPs where {priced:,} were expected"
    return None


def _flops(structure: Structure, widths: Mapping[str, int], removed: Sequence[str] = ()) -> int:
    """What the operators cost at these widths that stay without the branches of the removed blocks."""
    vector = np.array([widths[group.name] for group in structure.groups], dtype=np.int64)
    flops = 0
    for operation in structure.operations:
        if operation.blocks.isdisjoint(removed):
            sizes = [form.at(vector) for form in (operation.a, operation.b) if form]
            flops += operation.factor * int(np.prod(sizes))
    return flops
