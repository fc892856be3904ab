"""The cost of a network some of whose weights are masked: fvcore's count, as if zeros cost nothing.

Such *masked* FLOPs are what sparse hardware could reach at best; networks of other widths really cost theirs. So the
two are labelled apart and never ranked together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import prod

import numpy as np

from pruneas.architecture import Quantity
from pruneas.cost.model import CostModel
from pruneas.structure.groups import Structure
from pruneas.structure.masks import Masks


def uses(structure: Structure) -> Mapping[str, int]:
    """How often one pass uses each element of a convolution's weight, by the weights' names."""
    widths = np.array(list(structure.widths.values()), dtype=np.int64)
    flops: Counter[str] = Counter()
    for operation in structure.operations:
        if operation.weight is not None:
            sizes = [f.at(widths) for f in (operation.a, operation.b) if f is not None]
            flops[operation.weight] += operation.factor * prod(sizes)
    return {name: total // prod(structure.shapes[name]) for name, total in flops.items()}


def masked_cost(structure: Structure, model: CostModel, masks: Masks, quantity: Quantity) -> int:
    """What the base network costs without the weights that are masked (False). FLOPs: uses times weights left.

    Raises ValueError for masks of anything but convolutions' weights.
    """
    each = uses(structure)
    if strange := sorted(set(masks) - set(each)):
        raise ValueError(f"masks must be of weights of convolutions, got one of {strange[0]!r}")
    gone = {name: int((~mask).sum()) for name, mask in masks.items()}
    return model.base_cost(quantity) - sum(
        zeros * (each[name] if quantity == "flops" else 1) for name, zeros in gone.items()
    )
