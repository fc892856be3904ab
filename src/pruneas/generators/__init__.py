"""Pruning methods as architecture generators, one a file.

`METHODS` lists those that come with pruneas. Other packages add theirs through the entry-point group
`pruneas.generators`, each entry naming a `Method`.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points

from pruneas.errors import SpaceError
from pruneas.generators import (
    fpgm,
    guided,
    guided_sparsity,
    l1,
    magnitude,
    random,
    regression,
    sfp,
    slimming,
    sss,
    taylor,
    thinet,
    uniform,
    uniform_sparsity,
)
from pruneas.generators.method import Generated, Method, Task
from pruneas.generators.ranking import Ranking, Scores, member_scores, walk

__all__ = ["METHODS", "Generated", "Method", "Ranking", "Scores", "Task", "find_methods", "member_scores", "walk"]

METHODS: Mapping[str, Method] = {
    module.METHOD.name: module.METHOD
    for module in (
        uniform,
        random,
        uniform_sparsity,
        l1,
        fpgm,
        taylor,
        thinet,
        regression,
        sfp,
        slimming,
        sss,
        magnitude,
        guided,
        guided_sparsity,
    )
}


def find_methods(names: list[str], options: Mapping[str, Mapping[str, object]]) -> list[Method]:
    """The methods of these names, uniform scaling first, which every comparison needs.

    Raises SpaceError with every name that is unknown and every option a method does not have.
    """
    others = {entry.name: entry for entry in entry_points(group="pruneas.generators")}
    complaints, found = [], [METHODS["uniform"]]
    for name in dict.fromkeys(names):
        if name in METHODS or name in others:
            method = METHODS.get(name) or others[name].load()
            found += [method] if method.name != "uniform" else []
            unknown = set(options.get(name, {})) - method.options
            complaints += [f"generators.options.{name}: there is no option {option!r}" for option in sorted(unknown)]
            continue
        near = get_close_matches(name, [*METHODS, *others], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join([*METHODS, *sorted(others)])}"
        complaints.append(f"generators.methods: there is no generator called {name!r}; {hint}")
    complaints += [
        f"generators.options.{name}: {name!r} is not among generators.methods" for name in options if name not in names
    ]
    if complaints:
        raise SpaceError(complaints)
    return found
