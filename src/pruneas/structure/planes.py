"""What a traced tensor holds in place of values: the dye of each element, without repetition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """The dyes of a tensor's elements; 0 is none.

    `table` broadcasts to the tensor: it has all of its dimensions, with size 1 those along which the dyes repeat.
    `varies` are the others. Nothing writes into a table.
    """

    table: Ids
    varies: frozenset[int]

    @classmethod
    def of(cls, dyes: Ids) -> Plane:
        """A plane of the dyes of every element."""
        if not dyes.size:
            return cls.single(0, dyes.ndim)
        varies = []
        dyes = dyes[tuple(slice(None) if stride else slice(0, 1) for stride in dyes.strides)]
        for dim, size in enumerate(dyes.shape):
            if size > 1:
                first = dyes[(slice(None),) * dim + (slice(0, 1),)]
                if np.count_nonzero(dyes != first):
                    varies.append(dim)
                else:
                    dyes = first
        return cls(np.ascontiguousarray(dyes).reshape(dyes.shape), frozenset(varies))

    @classmethod
    def along(cls, dyes: Ids, dim: int, ndim: int) -> Plane:
        """These dyes (size,) along one dimension."""
        shape = [1] * ndim
        shape[dim] = -1
        table = dyes.reshape(shape)
        return cls(table, frozenset((dim % ndim,))) if len(dyes) > 1 and dyes[0] != dyes[1] else cls.of(table)

    @classmethod
    def single(cls, dye: int, ndim: int) -> Plane:
        """One dye for all elements."""
        return cls(np.full((1,) * ndim, dye, dtype=np.int64), frozenset())

    def vector(self) -> Ids:
        """The dyes of the only dimension along which they vary; the only dye where there is none. Shape (size,)."""
        return self.table.reshape(-1)

    def unique(self) -> Ids:
        """Each dye once, ascending."""
        return np.unique(self.table)

    def raised(self, ndim: int) -> Plane:
        """The plane of what the tensor is broadcast to: dimensions are put in front, others repeat."""
        front = ndim - self.table.ndim
        if front <= 0:
            return self
        return Plane(self.table[(None,) * front], frozenset(dim + front for dim in self.varies))

    def full(self, shape: Sequence[int]) -> torch.Tensor:
        """The dyes of every element of a tensor of this shape; what repeats takes no memory."""
        return torch.from_numpy(self.table).expand(tuple(shape))

    def at(self, shape: Sequence[int], dims: Iterable[int]) -> Ids:
        """The dyes written out along these dimensions, and no other, of a tensor of this shape."""
        return np.broadcast_to(self.table, [size if dim in dims else 1 for dim, size in enumerate(shape)])


Planes = tuple[Plane, ...]
