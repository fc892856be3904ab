"""Names that differ in one number, folded: `layer1.0.conv1` and `layer1.1.conv1` are `layer1.{0-1}.conv1`."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

Place = tuple[int, Hashable, tuple[str, ...]]


def fold(names: Sequence[str], like: Sequence[Hashable] | None = None) -> list[tuple[str, list[int]]]:
    """Folded names, each with the positions in `names` that it stands for, in the order of their first.

    Only names whose entries in `like` are equal come together. A name that could go with several others goes with the
    most, and of equally many with those that differ further left.
    """
    parts = [re.split(r"(\d+)", name) for name in names]
    classes: dict[Place, list[int]] = {}
    for index, split in enumerate(parts):
        for place in range(1, len(split), 2):
            if split[place] != str(int(split[place])):
                continue  # leading zeros, which a range would drop
            rest = (*split[:place], *split[place + 1 :])
            classes.setdefault((place, None if like is None else like[index], rest), []).append(index)
    free = set(range(len(names)))
    folded: list[tuple[str, list[int]]] = []
    while classes:
        # The largest of what is left of each class; removing members may leave another one the largest.
        classes = {key: left for key, all_ in classes.items() if len(left := [i for i in all_ if i in free]) > 1}
        if not classes:
            break
        key = max(classes, key=lambda key: (len(classes[key]), -key[0]))
        members = classes.pop(key)
        free -= set(members)
        place = key[0]
        numbers = "{" + _ranges(sorted({int(parts[index][place]) for index in members})) + "}"
        folded.append(("".join([*parts[members[0]][:place], numbers, *parts[members[0]][place + 1 :]]), members))
    folded += [(names[index], [index]) for index in free]
    return sorted(folded, key=lambda each: each[1][0])


def listed(names: Sequence[str]) -> str:
    """Names in one line, folded: `fc, layer1.{0-2}.conv1`."""
    return ", ".join(name for name, _ in fold(names))


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers: 0-3,5,7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
