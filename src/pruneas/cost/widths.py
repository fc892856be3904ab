"""Which widths a group may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np

from pruneas.cost.model import Widths
from pruneas.errors import SpaceError
from pruneas.structure.groups import Structure


@dataclass(frozen=True, slots=True, kw_only=True)
class WidthRules:
    """What the user asks of widths. `minimum` is a share of the base width, the floor that keeps any method from
    collapsing a layer; globs name groups."""

    multiple_of: int = 1
    minimum: float = 0.0625
    freeze: Sequence[str] = ()
    at_least: Mapping[str, int] = field(default_factory=dict)
    at_most: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LegalWidths:
    """For every group the widths it may take: lowest, highest, and all multiples of `step` in between.

    Shapes (groups,). Where highest is not a multiple itself (the base width), it is legal all the same.
    """

    lowest: Widths
    highest: Widths
    step: int

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
        lowest, highest = [], []
        for group in structure.groups:
            least = max([1, int(np.ceil(rules.minimum * group.width)), *_matching(rules.at_least, group.name)])
            most = min([group.width, *_matching(rules.at_most, group.name)])
            if group.name in structure.frozen or any(fnmatchcase(group.name, glob) for glob in rules.freeze):
                least = most = group.width
            elif least > most:
                complaints.append(f"widths: group {group.name!r} of {group.width} must be {least} to {most} wide")
            low = min(most, -(-least // rules.multiple_of) * rules.multiple_of)
            high = most if most == group.width else max(low, most // rules.multiple_of * rules.multiple_of)
            lowest.append(low)
            highest.append(high)
        if complaints:
            raise SpaceError(complaints)
        return cls(lowest=np.array(lowest), highest=np.array(highest), step=rules.multiple_of)

    def floor(self, widths: np.typing.NDArray[np.float64]) -> Widths:
        """The largest legal widths that are not above these (or the lowest). Shape (groups,)."""
        stepped = (np.floor(widths + 1e-9) // self.step * self.step).astype(np.int64)
        return np.where(widths >= self.highest, self.highest, np.clip(stepped, self.lowest, self.highest))

    def next(self, widths: Widths) -> Widths:
        """One step wider in each group; groups at their highest stay. Shape (groups,)."""
        return np.minimum((widths // self.step + 1) * self.step, self.highest)

    def holds(self, widths: Widths) -> bool:
        on_grid = (widths % self.step == 0) | (widths == self.highest) | (widths == self.lowest)
        return bool(((widths >= self.lowest) & (widths <= self.highest) & on_grid).all())


def _matching(limits: Mapping[str, int], name: str) -> list[int]:
    return [limit for glob, limit in limits.items() if fnmatchcase(name, glob)]
