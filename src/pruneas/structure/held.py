"""Sizes that a network's own modules hold as integers, and what they are to be at other widths.

A pass that says `x.split(self.parts)` or `scale.view(self.shape)` takes sizes from attributes that a constructor set
for the base's widths. While a network is traced, such attributes are integers that remember where they come from and
what was done to them. Where a function takes one as a size, the dyes along that dimension say what it is made of;
whoever rebuilds the network sets the attribute to match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from pruneas.errors import StructureError
from pruneas.structure.replay import SIZED


@dataclass(frozen=True, slots=True)
class Place:
    """An attribute of a module; `index` where it is one entry of a list or tuple."""

    module: str
    attribute: str
    index: int | None

    def __str__(self) -> str:
        return f"{self.module}.{self.attribute}" + ("" if self.index is None else f"[{self.index}]")


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a size follows from the value that a place holds in the base network, one operation after another."""

    place: Place
    base: int
    operations: tuple[tuple[str, int], ...] = ()

    def inverse(self, size: int) -> int:
        """The value that gives this size. Raises StructureError where none does."""
        for operation, number in reversed(self.operations):
            if operation == "*" and size % number:
                raise StructureError(f"{self.place} cannot be set: {size} is no multiple of {number}")
            size = size - number if operation == "+" else size * number if operation == "//" else size // number
        return size


class Held(int):
    """An integer that remembers where it comes from. Arithmetic that cannot be undone gives a plain one."""

    derivation: Derivation

    def __new__(cls, value: int, derivation: Derivation) -> Held:
        held = super().__new__(cls, value)
        held.derivation = derivation
        return held

    def _then(self, operation: str, number: Any, value: Any) -> Any:
        if not isinstance(number, int) or value is NotImplemented:
            return value
        derivation = self.derivation
        done = (*derivation.operations, (operation, int(number)))
        return Held(value, Derivation(derivation.place, derivation.base, done))

    def __floordiv__(self, other: Any) -> Any:
        return self._then("//", other, super().__floordiv__(other))

    def __mul__(self, other: Any) -> Any:
        return self._then("*", other, super().__mul__(other)) if other else 0

    def __add__(self, other: Any) -> Any:
        return self._then("+", other, super().__add__(other))

    def __sub__(self, other: Any) -> Any:
        return self._then("+", -other if isinstance(other, int) else other, super().__sub__(other))

    __rmul__ = __mul__
    __radd__ = __add__

    def __deepcopy__(self, memo: Any) -> int:
        return int(self)

    def __reduce__(self) -> Any:
        return int, (int(self),)


@contextmanager
def holding(modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """While this holds, integers of at least 2 among the modules' attributes are `Held`; `modules` by name.

    PyTorch's own modules are left out: what their constructors take is replayed.
    """
    before: list[tuple[nn.Module, str, Any]] = []
    sized = tuple(SIZED)
    for name, module in modules.items():
        if type(module).__module__.startswith("torch.nn.") or isinstance(module, sized):
            continue
        for attribute, value in list(vars(module).items()):
            if _is_size(value):
                before.append((module, attribute, value))
                vars(module)[attribute] = _held(value, Place(name, attribute, None))
            elif type(value) in (list, tuple) and any(map(_is_size, value)):
                before.append((module, attribute, value))
                entries = [_held(entry, Place(name, attribute, index)) for index, entry in enumerate(value)]
                vars(module)[attribute] = type(value)(entries)
    try:
        yield
    finally:
        for module, attribute, value in before:
            vars(module)[attribute] = value


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 1


def _held(value: Any, place: Place) -> Any:
    return Held(value, Derivation(place, value)) if _is_size(value) else value


def set_values(network: nn.Module, sizes: Sequence[tuple[Derivation, int, int]]) -> None:
    """Set what modules hold to what gives the sizes; each comes with its derivation and the base's size.

    Raises StructureError where one place is to give sizes that do not go together.
    """
    values: dict[Place, int] = {}
    for derivation, base, size in sizes:
        value = derivation.base + derivation.inverse(size) - derivation.inverse(base)
        if values.setdefault(derivation.place, value) != value:
            raise StructureError(
                f"{derivation.place} stands for sizes that change each in its own way: "
                f"it would have to be {values[derivation.place]} and {value}"
            )
    for place, value in values.items():
        module = network.get_submodule(place.module)
        if place.index is None:
            setattr(module, place.attribute, value)
        else:
            entries = getattr(module, place.attribute)
            changed = [value if index == place.index else entry for index, entry in enumerate(entries)]
            setattr(module, place.attribute, type(entries)(changed))


Taken = Iterator[tuple[Any, torch.Tensor, int]]
"""Integers that a function takes as sizes, each with a tensor and which of its dimensions that is the size of."""


def _split(out: Any, x: torch.Tensor, sizes: Any, dim: int = 0) -> Taken:
    if isinstance(sizes, int):
        yield sizes, out[0], dim
    else:
        yield from ((size, part, dim) for size, part in zip(sizes, out, strict=True))


def _view(out: torch.Tensor, x: torch.Tensor, *sizes: Any, shape: Any = None) -> Taken:
    given = sizes or (shape,)
    for dim, size in enumerate(given[0] if isinstance(given[0], list | tuple) else given):
        yield size, out, dim


def _unflatten(out: torch.Tensor, x: torch.Tensor, dim: int, sizes: Sequence[Any]) -> Taken:
    for offset, size in enumerate(sizes):
        yield size, out, dim % x.ndim + offset


def _item(out: torch.Tensor, x: torch.Tensor, index: Any) -> Taken:
    entries = index if isinstance(index, tuple) else (index,)
    if any(entry is Ellipsis or not isinstance(entry, slice) for entry in entries):
        return
    for dim, entry in enumerate(entries):
        if isinstance(entry.stop, Held):
            yield entry.stop, x[(*[slice(None)] * dim, slice(None, int(entry.stop)))], dim
        if isinstance(entry.start, Held):
            yield entry.start, x[(*[slice(None)] * dim, slice(None, int(entry.start)))], dim


def _narrow(out: torch.Tensor, x: torch.Tensor, dim: int, start: Any, length: Any) -> Taken:
    yield length, out, dim


def _convolved(out: torch.Tensor, x: torch.Tensor, *args: Any, groups: Any = 1, **_: Any) -> Taken:
    number = args[5] if len(args) > 5 else groups
    if number == x.shape[1]:  # depthwise: as many groups as there are channels
        yield number, x, 1


def _normalised(out: torch.Tensor, x: torch.Tensor, shape: Sequence[Any], *_: Any, **__: Any) -> Taken:
    for dim, size in enumerate(shape):
        yield size, x, dim - len(shape)


SIZES: Mapping[Any, Callable[..., Taken]] = {
    torch.split: _split,
    torch.Tensor.split: _split,
    torch.split_with_sizes: _split,
    torch.Tensor.split_with_sizes: _split,
    torch.Tensor.view: _view,
    torch.Tensor.reshape: _view,
    torch.reshape: _view,
    torch.unflatten: _unflatten,
    torch.Tensor.unflatten: _unflatten,
    torch.Tensor.__getitem__: _item,
    torch.narrow: _narrow,
    torch.Tensor.narrow: _narrow,
    torch.conv1d: _convolved,
    torch.conv2d: _convolved,
    torch.conv3d: _convolved,
    F.layer_norm: _normalised,
}
"""The functions that take sizes, and which."""
