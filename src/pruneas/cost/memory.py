"""Peak activation memory: the most bytes of tensors that are alive at once in a pass over one input.

Counted on a pass of the network itself, in evaluation mode, without gradients: its input and whatever its operators
put out, each as long as the network's code holds it; not parameters and buffers, nor what an operator needs inside.
That is what the device has to keep beside the weights, in the network's own precision.

Of other widths it follows in closed form: after every operator the bytes alive are linear in the widths, and the slopes
are read off networks that have one group narrower. Whoever trains or writes a network can count it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from pruneas.architecture import Inputs
from pruneas.cost.model import CostModel, Peak
from pruneas.cost.widths import LegalWidths
from pruneas.errors import StructureError
from pruneas.networks import examples
from pruneas.structure.build import build_widths
from pruneas.structure.groups import Structure


def peak_memory(network: nn.Module, inputs: Inputs) -> int:
    """The most bytes of activations alive at once in an evaluation pass over one input."""
    return max(bytes_alive(network, inputs))


def bytes_alive(network: nn.Module, inputs: Inputs) -> list[int]:
    """The bytes of activations alive after each operator of an evaluation pass over one input, in their order."""
    given = examples(inputs)
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad(), _Watch(network, given) as watch:
            network(*given)
    finally:
        network.train(was_training)
    alive: list[int] = watch.alive
    return alive


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that are alive after each operator, but for a network's own."""

    def __init__(self, network: nn.Module, given: list[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive: list[int] = []
        own = (*network.parameters(), *network.buffers())
        self._own = {tensor.untyped_storage()._cdata for tensor in own}
        self._held: dict[int, tuple[Any, int]] = {}
        self._note(given)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self._held = {key: (ref, size) for key, (ref, size) in self._held.items() if not ref.expired()}
        self._note(tree_iter(out))
        self.alive.append(sum(size for _, size in self._held.values()))
        return out

    def _note(self, tensors: Any) -> None:
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._own:
                    self._held[storage._cdata] = StorageWeakRef(storage), storage.nbytes()  # type: ignore[no-untyped-call]


def price_memory(structure: Structure, network: nn.Module, model: CostModel, legal: LegalWidths) -> Peak:
    """Peak activation memory as a function of the widths. `network` is the base network.

    Where branches of blocks are taken out, `CostModel.without` bounds it. Raises StructureError where the bytes alive
    are not linear in the widths, as where an operator's output has two dimensions that change.
    """
    at_base = _alive(structure, network)
    slopes = np.zeros((len(at_base), len(model.groups)), dtype=np.int64)
    for index in np.flatnonzero(legal.lowest < legal.highest):
        widths = model.base_widths.copy()
        widths[index] = legal.previous(widths)[index]
        step = int(model.base_widths[index] - widths[index])
        narrower = _alive(structure, build_widths(structure, model.mapping(widths), seed=0))
        if len(narrower) != len(at_base) or ((at_base - narrower) % step).any():
            raise _not_linear(structure, model.groups[index])
        slopes[:, index] = (at_base - narrower) // step
    peak = Peak(constants=at_base - slopes @ model.base_widths, coefficients=slopes, lowest=legal.lowest)
    generator = np.random.default_rng(0)
    for share in (0.0, *generator.random(3)):
        widths = legal.floor(np.maximum(legal.lowest, share * generator.uniform(0.5, 1.5) * model.base_widths))
        alive = _alive(structure, build_widths(structure, model.mapping(widths), seed=0))
        if alive.max() != peak(widths):
            raise _not_linear(structure, "several groups at once")
    return _essential(peak, legal)


def _alive(structure: Structure, network: nn.Module) -> npt.NDArray[np.int64]:
    return np.array(bytes_alive(network, structure.inputs), dtype=np.int64)


def _not_linear(structure: Structure, where: str) -> StructureError:
    return StructureError(
        f"network {structure.network}: its peak memory cannot be given in closed form: the bytes alive are not linear "
        f"in the width of {where}; limit its FLOPs, parameters or latency instead"
    )


def _essential(peak: Peak, legal: LegalWidths) -> Peak:
    """The sums that are the largest of all for some widths, as far as is plain: none that another one never is below.

    Slopes of what cannot change are part of the constant.
    """
    still = legal.lowest == legal.highest
    constants = peak.constants + peak.coefficients[:, still] @ legal.highest[still]
    coefficients = np.where(still, 0, peak.coefficients)
    table = np.unique(np.column_stack([constants, coefficients]), axis=0)
    # At the narrowest widths and with every slope as large, a sum is nowhere below the other.
    least = table[:, 0] + table[:, 1:] @ legal.lowest
    kept = [
        row
        for row in range(len(table))
        if not any(
            other != row and least[other] >= least[row] and (table[other, 1:] >= table[row, 1:]).all()
            for other in range(len(table))
        )
    ]
    return Peak(constants=table[kept, 0], coefficients=table[kept, 1:], lowest=legal.lowest)
