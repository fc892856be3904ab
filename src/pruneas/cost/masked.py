"""The cost of a network some of whose weights are masked: fvcore's count, as if zeros cost nothing.

Such *masked* FLOPs are what sparse hardware could reach at best; networks of other widths really cost theirs. So the
two are labelled apart and never ranked together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from pruneas.architecture import Quantity
from pruneas.cost.model import CostModel
from pruneas.structure.groups import Structure
from pruneas.structure.masks import Masks


def uses(structure: Structure) -> Mapping[str, int]:
    """How often one pass uses each element of a weight, for those of convolutions and matrix products by name."""
    widths = np.array(list(structure.widths.values()), dtype=np.int64)
    found: Counter[str] = Counter()
    for operation in structure.operations:
        if operation.weight is not None and operation.b is not None:
            sizes = [form.constant + int(form.coefficients @ widths) for form in (operation.a, operation.b)]
            numel = int(np.prod(structure.shapes[operation.weight]))
            found[operation.weight] += operation.factor * sizes[0] * sizes[1] // numel
    return found


def masked_cost(structure: Structure, model: CostModel, masks: Masks, quantity: Quantity) -> int:
    """What the base network costs without the weights that are masked (False). FLOPs: uses times weights left."""
    each = uses(structure)
    gone = {name: int((~mask).sum()) for name, mask in masks.items()}
    return model.base_cost(quantity) - sum(
        zeros * (each[name] if quantity == "flops" else 1) for name, zeros in gone.items()
    )
