"""What each layer costs at any widths: the closed form of `model.py`, kept apart by the module that runs or owns it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np

from pruneas.cost.model import Widths
from pruneas.structure.groups import Structure


def layer_flops(structure: Structure, widths: Widths, removed: Collection[str] = ()) -> dict[str, int]:
    """FLOPs by the innermost module that runs them, '' for the network's own forward. Widths: (groups,).

    They sum to the network's. Modules of blocks in `removed` that run nothing any more are left out.
    """
    flops: Counter[str] = Counter()
    for operation in structure.operations:
        if operation.blocks.isdisjoint(removed):
            sizes = [form.at(widths) for form in (operation.a, operation.b) if form is not None]
            flops[operation.place] += operation.factor * int(np.prod(sizes))
    return dict(flops)


def layer_params(structure: Structure, widths: Widths, removed: Collection[str] = ()) -> dict[str, int]:
    """Parameters by the module that owns them, shared ones at their first owner. They sum to the network's."""
    params: Counter[str] = Counter()
    left = structure.learned - structure.parameters_of(removed)
    for name in [*(name for name in structure.shapes if name in left), *sorted(left - structure.shapes.keys())]:
        forms = [structure.form((name, dim)) for dim in range(len(structure.shapes.get(name, ())))]
        params[name.rpartition(".")[0]] += int(np.prod([form.at(widths) for form in forms]))
    return dict(params)
