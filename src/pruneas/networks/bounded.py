"""A limit to what a stranger's network may take, held while its factory runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

MAKERS = (
    torch.empty, torch.empty_strided, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.randint,
    torch.randperm, torch.arange, torch.linspace, torch.logspace, torch.eye,
)  # fmt: skip
MOST_NUMBERS, MOST_TENSORS = 2**30, 50_000


class TooLarge(MemoryError):
    pass


class bounded(TorchFunctionMode):
    """While this holds, tensors of more than `MOST_NUMBERS` numbers in all, or too many of them, are not made.

    Each is asked for without memory first, so the one that is too much takes none. Raises TooLarge.
    """

    def __init__(self) -> None:
        super().__init__()
        self._numbers = self._tensors = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in MAKERS:
            asked = {key: value for key, value in kwargs.items() if key not in ("generator", "out", "pin_memory")}
            self._numbers += func(*args, **{**asked, "device": "meta"}).numel()
            self._tensors += 1
            if self._numbers > MOST_NUMBERS or self._tensors > MOST_TENSORS:
                raise TooLarge(
                    f"more than {MOST_NUMBERS:,} numbers or {MOST_TENSORS:,} tensors; if you trust what asks for so "
                    "much, say so: --trust PACKAGE"
                )
        return func(*args, **kwargs)
