"""The closed-form cost of any widths: polynomials read off the structure, equal to fvcore's count.

FLOPs are a sum over the counted operators of factor * (size of one dimension) * (size of another), and every size is a
sum of multiplicity * width. Parameters are products of such sizes. So a batch of candidates is priced with a few matrix
products, and fvcore, which needs a built network, stays the referee: the two agree on the base network or
`CostModel.of` fails, and everything that is trained is recounted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import nn

from pruneas.architecture import Quantity
from pruneas.cost.count import Count, count
from pruneas.errors import StructureError
from pruneas.structure.groups import LinearForm, Structure

if TYPE_CHECKING:
    from pruneas.cost.latency_table import LatencyTable

Widths = npt.NDArray[np.int64]
"""Widths of candidates, groups in the structure's order. Shape (groups,) or (candidates, groups)."""

Term = tuple[int, LinearForm, LinearForm | None]
"""factor * size * size; None stands for a size of 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Polynomial:
    """sum over terms of factor * size[a] * size[b], with sizes = widths @ coefficients.T + constants."""

    coefficients: npt.NDArray[np.int64]
    constants: npt.NDArray[np.int64]
    a: npt.NDArray[np.int64]
    b: npt.NDArray[np.int64]
    factors: npt.NDArray[np.int64]

    def __call__(self, widths: Widths) -> npt.NDArray[np.int64]:
        """Values of candidates (candidates, groups) -> (candidates,), exact integers."""
        sizes = widths @ self.coefficients.T + self.constants
        return (sizes[..., self.a] * sizes[..., self.b]) @ self.factors


@dataclass(frozen=True, slots=True, kw_only=True)
class Quadratic:
    """A cost as constant + linear @ widths + widths @ mixed @ widths / 2: what all pairs of changes cost follows at
    once from that. Shapes (groups,) and (groups, groups)."""

    constant: int
    linear: npt.NDArray[np.int64]
    mixed: npt.NDArray[np.int64]

    @classmethod
    def of(cls, polynomial: Polynomial) -> Quadratic:
        # In floating point, where products are fast; of integers below 2**53, so exact.
        a, b = (polynomial.coefficients[index].astype(np.float64) for index in (polynomial.a, polynomial.b))
        of_a, of_b = polynomial.constants[polynomial.a], polynomial.constants[polynomial.b]
        half = (a * polynomial.factors[:, None]).T @ b
        return cls(
            constant=int(polynomial.factors @ (of_a * of_b)),
            linear=((polynomial.factors * of_b) @ a + (polynomial.factors * of_a) @ b).astype(np.int64),
            mixed=(half + half.T).astype(np.int64),
        )

    def __call__(self, widths: Widths) -> int:
        return self.constant + int(self.linear @ widths) + int(widths @ self.mixed @ widths) // 2

    def gains(self, widths: Widths, narrower: Widths, wider: Widths) -> npt.NDArray[np.int64]:
        """How much more it costs where the first group is made narrower and the second wider; on the diagonal, where
        the group is made wider. Shape (groups, groups)."""
        less, more = widths - narrower, wider - widths
        slope, bend = self.linear + self.mixed @ widths, np.diagonal(self.mixed) // 2
        dearer, cheaper = more * (slope + more * bend), less * (slope - less * bend)
        gains: npt.NDArray[np.int64] = dearer - cheaper[:, None] - np.outer(less, more) * self.mixed
        np.fill_diagonal(gains, dearer)
        return gains


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The largest of several sums: constants + coefficients @ widths. Shapes (sums,) and (sums, groups).

    `lowest` (groups,): the narrowest widths for which these sums are all that matter.
    """

    constants: npt.NDArray[np.int64]
    coefficients: npt.NDArray[np.int64]
    lowest: Widths

    def __call__(self, widths: Widths) -> npt.NDArray[np.int64]:
        """Values of candidates (candidates, groups) -> (candidates,)."""
        highest: npt.NDArray[np.int64] = (widths @ self.coefficients.T + self.constants).max(axis=-1)
        return highest

    def without(self, gone: npt.NDArray[np.bool_]) -> Peak:
        """The same where groups (groups,) are gone, whatever their widths: as if they were as narrow as can be."""
        constants = self.constants + self.coefficients[:, gone] @ self.lowest[gone]
        return replace(self, constants=constants, coefficients=np.where(gone, 0, self.coefficients))


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """Prices widths of one structure. `base` is fvcore's count of the base network.

    Peak memory and latency have prices where a budget asks for them; latency's come from `table`.
    """

    groups: tuple[str, ...]
    base_widths: Widths
    base: Count
    flops: Polynomial
    params: Polynomial
    memory: Peak | None = None
    latency: Polynomial | None = None
    table: LatencyTable | None = None

    @classmethod
    def of(cls, structure: Structure, network: nn.Module) -> CostModel:
        """Read the polynomials off a structure and check them against fvcore on the base network.

        Raises StructureError naming the kind of operator whose count differs.
        """
        base = count(network, structure.inputs)
        model = cls(
            groups=tuple(structure.widths),
            base_widths=np.array(list(structure.widths.values()), dtype=np.int64),
            base=base,
            flops=_flops(structure, ()),
            params=_params(structure, ()),
        )
        model._check(structure)
        return model

    def without(self, structure: Structure, removed: Collection[str]) -> CostModel:
        """The same network's prices with the branches of these blocks taken out. `base` stays the whole network's;
        peak memory is an upper bound, that of branches as narrow as can be."""
        latency = None if self.table is None else self.table.price(structure, removed)
        gone = structure.without(removed)
        memory = None if self.memory is None else self.memory.without(np.isin(self.groups, [*gone]))
        return replace(
            self,
            flops=_flops(structure, removed),
            params=_params(structure, removed),
            memory=memory,
            latency=latency,
        )

    def timed(self, structure: Structure, table: LatencyTable) -> CostModel:
        """The same prices, with those of latency."""
        return replace(self, latency=table.price(structure), table=table)

    def cost(self, widths: Widths, quantity: Quantity) -> npt.NDArray[np.int64]:
        """What candidates cost of a quantity: (candidates, groups) -> (candidates,), or (groups,) -> ()."""
        return self.price(quantity)(widths)

    def price(self, quantity: Quantity) -> Polynomial | Peak:
        """How a quantity follows from widths. Raises ValueError for one that was not read off the network."""
        found = {"flops": self.flops, "params": self.params, "memory": self.memory, "latency": self.latency}[quantity]
        if found is None:
            raise ValueError(f"{quantity} has no price here; see cost/memory.py and cost/latency.py")
        return found

    def base_cost(self, quantity: Quantity) -> int:
        counted: dict[Quantity, int] = {"flops": self.base.flops, "params": self.base.params}
        return counted[quantity] if quantity in counted else int(self.cost(self.base_widths, quantity))

    def vector(self, widths: Mapping[str, int]) -> Widths:
        return np.array([widths[group] for group in self.groups], dtype=np.int64)

    def mapping(self, widths: Widths) -> dict[str, int]:
        return {group: int(width) for group, width in zip(self.groups, widths, strict=True)}

    def _check(self, structure: Structure) -> None:
        ours: Counter[str] = Counter()
        for operation in structure.operations:
            sizes = [f.at(self.base_widths) for f in (operation.a, operation.b) if f]
            ours[operation.kind] += operation.factor * int(np.prod(sizes))
        differing = [
            f"{kind}: ours {ours[kind]}, fvcore's {self.base.by_kind.get(kind, 0)}"
            for kind in sorted({*ours, *self.base.by_kind})
            if ours[kind] != self.base.by_kind.get(kind, 0)
        ]
        params = int(self.params(self.base_widths))
        if params != self.base.params:
            differing.append(f"parameters: ours {params}, the network's {self.base.params}")
        if differing:
            raise StructureError(
                f"network {structure.network}: its cost cannot be given in closed form; {'; '.join(differing)}"
            )


def _flops(structure: Structure, removed: Collection[str]) -> Polynomial:
    left = [operation for operation in structure.operations if operation.blocks.isdisjoint(removed)]
    return polynomial([(operation.factor, operation.a, operation.b) for operation in left], structure)


def _params(structure: Structure, removed: Collection[str]) -> Polynomial:
    terms: list[Term] = []
    for name in structure.learned - structure.parameters_of(removed):
        forms = [structure.form((name, dim)) for dim in range(len(structure.shapes.get(name, ())))]
        changing = [form for form in forms if form.coefficients.any()]
        if len(changing) > 2:
            raise StructureError(f"parameter {name!r} changes in {len(changing)} dimensions; two are priced")
        factor = int(np.prod([form.constant for form in forms if not form.coefficients.any()]))
        first = changing[0] if changing else constant_form(1, structure)
        terms.append((factor, first, changing[1] if len(changing) > 1 else None))
    return polynomial(terms, structure)


def constant_form(value: int, structure: Structure) -> LinearForm:
    """A size that no width changes."""
    return LinearForm(constant=value, coefficients=np.zeros(len(structure.groups), dtype=np.int64))


def polynomial(terms: list[Term], structure: Structure) -> Polynomial:
    """Collect equal sizes and equal products, so that candidates are priced with as few terms as there are."""
    index: dict[bytes, int] = {}
    forms: list[LinearForm] = []

    def place(form: LinearForm) -> int:
        key = np.append(form.coefficients, form.constant).tobytes()
        if key not in index:
            index[key] = len(forms)
            forms.append(form)
        return index[key]

    one = place(constant_form(1, structure))
    products: Counter[tuple[int, int]] = Counter()
    for factor, a, b in terms:
        first, second = sorted((place(a), one if b is None else place(b)))
        products[first, second] += factor
    pairs = np.array(list(products), dtype=np.int64).reshape(-1, 2)
    return Polynomial(
        coefficients=np.stack([form.coefficients for form in forms]),
        constants=np.array([form.constant for form in forms], dtype=np.int64),
        a=pairs[:, 0],
        b=pairs[:, 1],
        factors=np.array(list(products.values()), dtype=np.int64),
    )
