"""Whether a network really can be built at the widths its groups allow; groups that break it are frozen.

A trace cannot see which sizes a network's code holds as Python constants (a pad of 8 channels, a view of 16 heads), but
rebuilding can: at other widths the pass fails, or the groups come out different.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from pruneas.errors import PruneasError, StructureError
from pruneas.structure.build import build_widths, leading, structure_of, surviving
from pruneas.structure.groups import Group, Structure


def confirmed(structure: Structure) -> Structure:
    """The structure with every group frozen whose change breaks the network, each with the reason.

    Raises StructureError where nothing is left that can change.
    """
    frozen: dict[str, str] = dict(structure.frozen)
    free = [group for group in structure.groups if group.width > 1 and group.name not in frozen]
    frozen |= {group.name: "it has one channel" for group in structure.groups if group.width == 1}
    good: list[Group] = []
    pending = [free] if free else []
    while pending:
        # Together with those known to be good: groups that only break in company are found out as well.
        some = pending.pop()
        reason = _breaks(structure, [*good, *some])
        if reason is None:
            good += some
        elif len(some) == 1:
            frozen[some[0].name] = reason
        else:
            pending += [some[len(some) // 2 :], some[: len(some) // 2]]
    if not good:
        found = "; ".join(f"{name}: {reason}" for name, reason in frozen.items()) or "no width groups were found"
        raise StructureError(f"network {structure.network}: nothing in it can be made narrower: {found}")
    return replace(structure, frozen=frozen)


def _breaks(structure: Structure, groups: Sequence[Group]) -> str | None:
    """Why the network fails when these groups are narrower, each by another amount; None if it does not."""
    widths = structure.widths
    for index, group in enumerate(groups):
        widths[group.name] = max(1, min(group.width - 1, round(group.width * (0.5 + 0.4 * (index * 0.618 % 1)))))
    try:
        with torch.random.fork_rng(devices=[]):
            network = build_widths(structure, widths, seed=0)
            found = structure_of(network, structure.network, structure.inputs)
    except PruneasError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
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
    return None
