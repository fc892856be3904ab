"""The server that processes for trainings are forked from, with torch loaded. Nothing heavy is imported here, so that a
command can have it begin to load while it loads torch itself.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pruneas import interrupts

PRELOADED = ["torch", "torchvision", "fvcore.nn", "sklearn.datasets"]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def context() -> Any:
    """What makes processes: forked from the server where the platform can, else spawned."""
    methods = multiprocessing.get_all_start_methods()
    found: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        found.set_forkserver_preload(PRELOADED)
    return found


def start(threads: int) -> None:
    """Have the server begin to load, with so many threads for each process, while the caller goes on.

    It ends with this process. Does nothing where it runs already, or where the platform has none.
    """
    if context().get_start_method() == "forkserver":
        from multiprocessing import forkserver

        with bare_main(), environment(threads), interrupts.not_inherited():
            forkserver.ensure_running()


@contextmanager
def bare_main() -> Iterator[None]:
    """Stands an empty module in for `__main__` while a process starts.

    multiprocessing tells children to import the parent's main script again, found through `__main__`. A script without
    the `if __name__ == "__main__"` guard would then start its search anew in every child. A bare module has neither a
    spec nor a file, so children are told nothing; jobs are pickled before, by the name of their module.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def environment(threads: int) -> Iterator[None]:
    """The environment a fork server or a spawned child starts with; it is read when libraries load.

    BLAS and OpenMP take their number of threads from it, and Python one warning to keep to itself: fvcore's use of
    torch.jit, which would appear on the user's screen at every start.
    """
    changes = dict.fromkeys(THREAD_VARIABLES, str(threads))
    warnings = [os.environ.get("PYTHONWARNINGS", ""), "ignore::FutureWarning:torch.jit._script"]
    changes["PYTHONWARNINGS"] = ",".join(filter(None, warnings))
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
