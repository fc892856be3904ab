"""Ctrl-C where it would do harm: it waits, or does not reach a process that is being started."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_back() -> Iterator[None]:
    """An interrupt comes at the end of the block: inside of a large import it leaves half-made modules behind, and
    numpy answers it with errors of another kind. Elsewhere than in the main thread there are no interrupts."""
    if not _can_be_changed():
        yield
        return
    came = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


@contextmanager
def not_inherited() -> Iterator[None]:
    """A process that is started inside the block never sees an interrupt, not even while it starts; its parent decides
    what Ctrl-C means, which a terminal sends to the whole group."""
    if not _can_be_changed():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _can_be_changed() -> bool:
    """Not where interrupts are ignored (`nohup`, a shell's background job), nor a handler that Python did not set
    (None), which could not be put back."""
    before = signal.getsignal(signal.SIGINT)
    return threading.current_thread() is threading.main_thread() and before not in (None, signal.SIG_IGN)
