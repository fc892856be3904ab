"""Which widths a group may take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt

from pruneas.cost.model import Widths
from pruneas.errors import SpaceError
from pruneas.structure.groups import Group, Structure

TOLERANCE = 1e-9
"""Widths that a product of a scale and a shape misses by no more than this are reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WidthRules:
    """What the user asks of widths. `minimum` is a share of the base width, the floor that keeps any method from
    collapsing a layer; globs name groups, and limits beside them are widths of groups.

    `multiple_of` is about layers: the channels that a layer writes of a group are a multiple of it. A group's width may
    count less than channels: each of ResNeXt's 32 parallel paths writes one for every position of the group, so at
    multiples of 8 such a group takes any width. What a layer reads follows from what is written.
    """

    multiple_of: int = 1
    minimum: float = 0.0625
    freeze: Sequence[str] = ()
    at_least: Mapping[str, int] = field(default_factory=dict)
    at_most: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LegalWidths:
    """For every group the widths it may take: lowest, highest, and all multiples of its `step` in between.

    Shapes (groups,). Where highest is not a multiple itself (the base width), it is legal all the same.
    """

    lowest: Widths
    highest: Widths
    step: Widths

    @classmethod
    def of(cls, structure: Structure, rules: WidthRules) -> LegalWidths:
        """Raises SpaceError for globs that match no group and limits that contradict each other."""
        names = list(structure.widths)
        listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        complaints = [
            f"widths.{key}: {glob!r} matches no group; there are {listed}"
            for key, globs in (("freeze", rules.freeze), ("at_least", rules.at_least), ("at_most", rules.at_most))
            for glob in globs
            if not any(fnmatchcase(name, glob) for name in names)
        ]
        lowest, highest, steps = [], [], []
        for group in structure.groups:
            least = max([1, int(np.ceil(rules.minimum * group.width)), *_matching(rules.at_least, group.name)])
            most = min([group.width, *_matching(rules.at_most, group.name)])
            if group.name in structure.frozen or any(fnmatchcase(group.name, glob) for glob in rules.freeze):
                least = most = group.width
            elif least > most:
                complaints.append(f"widths: group {group.name!r} of {group.width} must be {least} to {most} wide")
            step = _step(group, rules.multiple_of)
            low = min(most, -(-least // step) * step)
            high = most if most == group.width else max(low, most // step * step)
            lowest.append(low)
            highest.append(high)
            steps.append(step)
        if complaints:
            raise SpaceError(complaints)
        return cls(lowest=np.array(lowest), highest=np.array(highest), step=np.array(steps))

    def floor(self, widths: npt.NDArray[np.floating[Any]]) -> Widths:
        """The largest legal widths that are not above these (or the lowest). Shape (groups,)."""
        stepped = (np.floor(widths + TOLERANCE) // self.step * self.step).astype(np.int64)
        return np.where(widths + TOLERANCE >= self.highest, self.highest, np.clip(stepped, self.lowest, self.highest))

    def ceil(self, widths: npt.NDArray[np.floating[Any]]) -> Widths:
        """The smallest legal widths that are not below these (or the highest). Shape (groups,)."""
        below = self.floor(widths)
        return np.where(below + TOLERANCE < widths, self.next(below), below)

    def next(self, widths: Widths) -> Widths:
        """One step wider in each group; groups at their highest stay. Shape (groups,)."""
        wider: Widths = np.minimum((widths // self.step + 1) * self.step, self.highest)
        return wider

    def previous(self, widths: Widths) -> Widths:
        """One step narrower in each group; groups at their lowest stay. Shape (groups,)."""
        narrower: Widths = np.maximum((widths - 1) // self.step * self.step, self.lowest)
        return narrower

    def holds(self, widths: Widths) -> bool:
        on_grid = (widths % self.step == 0) | (widths == self.highest) | (widths == self.lowest)
        return bool(((widths >= self.lowest) & (widths <= self.highest) & on_grid).all())


def _matching(limits: Mapping[str, int], name: str) -> list[int]:
    return [limit for glob, limit in limits.items() if fnmatchcase(name, glob)]


def _step(group: Group, multiple_of: int) -> int:
    """The least width at which all that layers write of a group is a multiple of this."""
    # Not what they read: a grouped convolution's weight has one index for what all its parts read.
    written = [member.multiplicity for member in group.members if member.role != "in"]
    return multiple_of // math.gcd(multiple_of, *written)
