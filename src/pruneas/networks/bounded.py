"""A limit to what a stranger's network may take, held while its factory runs."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

MOST_BYTES, MOST_TENSORS = 2**32, 50_000


class TooLarge(MemoryError):
    pass


class bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While this holds, tensors of more than `MOST_BYTES` at a time, or too many of them, are not made.

    Every operation is asked for without memory first, so the one whose result is too much takes none. Raises TooLarge.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._made: list[tuple[StorageWeakRef, int]] = []  # some of which may be gone since
        self._bytes = self._tensors = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func._schema.is_mutable:  # what is filled or scaled in place was counted when it was made
            return func(*args, **kwargs)
        self._check(_asked(func, args, kwargs))
        found = func(*args, **kwargs)
        for storage in _new(found, (args, *kwargs.values())):
            self._made.append((StorageWeakRef(storage), storage.nbytes()))  # type: ignore[no-untyped-call]
            self._bytes += storage.nbytes()
            self._tensors += 1
        self._check(0)
        return found

    def _check(self, more: int) -> None:
        if self._bytes + more > MOST_BYTES:
            self._made = [each for each in self._made if not each[0].expired()]  # type: ignore[no-untyped-call]
            self._bytes = sum(size for _, size in self._made)
        if self._bytes + more > MOST_BYTES or self._tensors > MOST_TENSORS:
            raise TooLarge(
                f"more than {MOST_BYTES:,} bytes at a time or {MOST_TENSORS:,} tensors; if you trust what asks for so "
                "much, say so: --trust PACKAGE"
            )


def _asked(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """The bytes of what an operation will make, 0 where only doing it can tell."""
    given = _without_memory(args)
    named = {name: _without_memory(value) for name, value in kwargs.items() if name not in ("generator", "pin_memory")}
    if _takes_device(func):
        named["device"] = torch.device("meta")
    try:
        return sum(storage.nbytes() for storage in _new(func(*given, **named), (given, *named.values())))
    except Exception:  # it depends on numbers, or was never written for tensors without any
        return 0


@functools.cache
def _takes_device(func: Any) -> bool:
    return any(argument.name == "device" for argument in func._schema.arguments)


def _without_memory(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device="meta")
    return [_without_memory(each) for each in value] if isinstance(value, list | tuple) else value


def _new(found: Any, given: Any) -> list[torch.UntypedStorage]:
    """The storages of results that are not those of arguments, as a view's are."""
    known = {storage._cdata for storage in _storages(given)}
    return list({storage._cdata: storage for storage in _storages(found) if storage._cdata not in known}.values())


def _storages(value: Any) -> Iterator[torch.UntypedStorage]:
    if isinstance(value, torch.Tensor):
        yield value.untyped_storage()
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _storages(each)
