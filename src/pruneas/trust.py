"""Whose code an architecture file may run, and what it may ask of it. No torch here.

A file from somebody else is data. Building it calls the factory that it names, so that must be one of the networks of
pruneas, torchvision or timm, made at a size that is no attack and without loading anything. Whoever trusts a package
says so (`--trust PACKAGE`), and with that allows its files all that its factories allow. Networks that the user named
for a search are trusted; the run keeps that consent in its `run.json`, for the architectures in its folder, in the
place where it was given: a run's folder that came from elsewhere brings none along.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pruneas.errors import ArchitectureError

REGISTRIES = ("pruneas", "torchvision", "timm")
MOST_ELEMENTS = 2**24
"""Elements of a stranger's input: 3x2048x2048 is below, and a trace takes some hundred times the memory."""
MOST = 1_000_000
"""The largest number that a stranger's argument may be."""
LOADING = re.compile(
    r"(^|_)(weights|pretrained|checkpoint|ckpt|state|load|file|filename|url|hub|hf|cache|dir|(?<!drop_)path)($|_)"
)
"""Names of arguments, and of keys in them, that would load something: `weights_backbone`, `pretrained_cfg`, ..."""


def package_of(name: str) -> str:
    """The package that a reference's factory comes from: 'mypkg' of 'mypkg.models:net'."""
    return name.partition(":")[0].partition(".")[0]


def check(
    name: str, arguments: Mapping[str, Any], inputs: Iterable[tuple[int, ...]], trusted: Collection[str], *, place: str
) -> None:
    """What a file asks for must be from a registry and harmless, or from a package that is trusted.

    Raises ArchitectureError with every complaint, each beginning with `place`.
    """
    package = package_of(name)
    if package in sys.stdlib_module_names:
        raise ArchitectureError(f"{place}: network: {package!r} is of Python's own library, which makes no networks")
    if package in trusted:
        return
    if name.partition(":")[0] not in REGISTRIES:  # 'timm.models:load_checkpoint' is of none of them
        raise ArchitectureError(
            f"{place}: network: {name!r} is not of {', '.join(REGISTRIES)}: building it would run code of the package "
            f"{package!r}. If you trust that, say so: --trust {package}, in Python build(trust={package!r})"
        )
    complaints = [*_complaints(arguments, "arguments")]
    complaints += [
        f"inputs: must have at most {MOST_ELEMENTS:,} elements each, found {'x'.join(map(str, shape))}"
        for shape in inputs
        if math.prod(shape) > MOST_ELEMENTS
    ]
    if complaints:
        told = "\n".join(f"{place}: {complaint}" for complaint in complaints[:8])
        raise ArchitectureError(f"{told}\n{place}: if you trust it, say so: --trust {package}")


def consent(name: str, folder: Path) -> dict[str, Any]:
    """What a run keeps of its user's consent to the network that they named."""
    return {"packages": [package_of(name)], "folder": str(folder.resolve())}


def consented(path: Path) -> frozenset[str]:
    """The packages that were trusted for the run in whose folder a file lies; none where it lies in no run's."""
    for folder in path.resolve().parents[:2]:
        try:
            given = json.loads((folder / "run.json").read_text(encoding="utf-8"))["trust"]
            if given["folder"] == str(folder):
                return frozenset(map(str, given["packages"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # no run, one of before consent was kept, or a damaged one: nothing is trusted
    return frozenset()


def _complaints(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if LOADING.search(key.lower()) and inner not in (None, False):
                yield f"{place}: {key}: would load weights or files; a network is made freshly initialised"
            yield from _complaints(inner, f"{place}: {key}")
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _complaints(inner, place)
    elif isinstance(value, str):
        if len(value) > 100 or re.search(r"[/\\:]", value):
            yield f"{place}: must be a plain word, no address or path, found {value[:60]!r}"
    elif isinstance(value, int | float) and not abs(value) <= MOST:
        yield f"{place}: must be at most {MOST:,}, found {str(value)[:60]}"
