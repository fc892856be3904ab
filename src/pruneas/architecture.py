"""The values everything else passes around: a network reference, an architecture, a budget. No torch here.

An `Architecture` is data, not code: which factory with which arguments, the input it takes, and one width per group.
Its JSON form rebuilds the network anywhere that pruneas and the factory's package are installed.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pruneas.errors import ArchitectureError, BudgetError, NetworkError
from pruneas.preset import PREFIX, architecture_text
from pruneas.trust import check, consented

if TYPE_CHECKING:
    from torch import nn

SCHEMA = 1
MOST_BYTES = 8 * 2**20
MOST_DEPTH = 16
"""What an architecture's file may hold: those of the largest networks, with selections, are far below."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A factory and the keyword arguments it is called with.

    `name` is `pruneas:vgg16`, `torchvision:resnet50`, `timm:resnet50` or `package.module:factory`; arguments are JSON
    values. Written as text: `pruneas:vgg16(width=0.25, classes=10)`.
    """

    name: str
    arguments: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read the written form; the values in brackets are Python literals.

        Raises NetworkError where the text is not of that form.
        """
        match = re.fullmatch(r"\s*([\w.]+:[\w.]+)\s*(\(.*\))?\s*", text, re.DOTALL)
        if match is None:
            raise NetworkError(
                f"network {text!r}: must be like 'pruneas:vgg16', 'torchvision:resnet50' or 'package.module:factory', "
                "with keyword arguments in brackets after it if need be: 'pruneas:vgg16(width=0.25)'"
            )
        name, brackets = match.groups()
        try:
            call = ast.parse(f"f{brackets or '()'}", mode="eval").body
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
                raise ValueError("only keyword arguments can be given")
            if any(keyword.arg is None for keyword in call.keywords):
                raise ValueError("only keyword arguments can be given")
            arguments = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
            if len(arguments) < len(call.keywords):
                raise ValueError("an argument is given twice")
            arguments = json.loads(json.dumps(arguments))
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
            raise NetworkError(
                f"network {text!r}: the brackets must hold keyword arguments with numbers, strings, lists or "
                f"true/false values, as in '(width=0.25, classes=10)': {error}"
            ) from error
        return cls(name, arguments)

    def __str__(self) -> str:
        if not self.arguments:
            return self.name
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.arguments.items())})"


@dataclass(frozen=True, slots=True)
class Input:
    """One argument of a network's forward: its shape without the batch, and the type of its elements.

    Written as text: `3x224x224`, or `128:int64` for what a network takes as indices.
    """

    shape: tuple[int, ...]
    dtype: Literal["float32", "int64"] = "float32"

    @classmethod
    def parse(cls, text: str) -> Input:
        """Read the written form. Raises NetworkError where the text is not of that form."""
        match = re.fullmatch(r"\s*([0-9]+(?:\s*[x,]\s*[0-9]+)*)\s*(?::\s*(float32|int64)\s*)?", text, re.ASCII)
        sizes = () if match is None else tuple(int(size) for size in re.split("[x,]", match[1]))
        if match is None or not all(map(_is_count, sizes)):
            raise NetworkError(
                f"input {text!r}: must be the sizes of one input without the batch, each at least 1, as in 3x224x224; "
                "indices are written 128:int64"
            )
        return cls(sizes, "int64" if match[2] == "int64" else "float32")

    def __str__(self) -> str:
        return "x".join(map(str, self.shape)) + ("" if self.dtype == "float32" else f":{self.dtype}")


Inputs = tuple[Input, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A network with one width per group, perhaps without some of its residual branches.

    `provider` is the package the factory came from, with its version; `structure` the fingerprint of the groups that
    were traced: a network that has changed since is an error, not a misload. `removed` names the
    blocks whose branch is taken out, leaving their shortcut; groups that only such branches hold have no width.
    `selections` says which channels of the base network's a channel selection takes, ascending, by the group that it
    puts out; without an entry, it takes the first ones. `mask` is the SHA-256 of a file of
    masks of its weights (`structure/masks.py`) beside the architecture's; building gives the network without them.

    Reading one runs nothing. Building calls the factory it names: one of pruneas', torchvision's and timm's networks,
    or one of a package in `trust`. That is no part of the file: it holds the packages that whoever read the file, or
    made the architecture of a network that was running already, trusts.
    """

    network: Reference
    provider: str
    inputs: Inputs
    structure: str
    widths: Mapping[str, int]
    removed: tuple[str, ...] = ()
    selections: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    mask: str | None = None
    trust: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    def to_json(self) -> str:
        text = json.dumps(
            {
                "schema": SCHEMA,
                "network": self.network.name,
                "arguments": dict(self.network.arguments),
                "provider": self.provider,
                "inputs": [str(each) for each in self.inputs],
                "structure": self.structure,
                "widths": dict(self.widths),
                "removed": list(self.removed),
                **({"selections": dict(self.selections)} if self.selections else {}),
                **({} if self.mask is None else {"mask": self.mask}),
            },
            indent=2,
        )
        return short_lists(text)

    @classmethod
    def from_json(cls, text: str, *, place: str = "architecture") -> Architecture:
        """Read what `to_json` wrote; `place` begins every complaint.

        Raises ArchitectureError naming each field that is missing, unknown or of the wrong type.
        """
        try:
            data = json.loads(text, object_pairs_hook=_object, parse_constant=_number, parse_float=_number)
            _check_texts(data)
        except (ValueError, RecursionError) as error:
            raise ArchitectureError(f"{place}: is not JSON: {error}") from error
        if not isinstance(data, dict):
            raise ArchitectureError(f"{place}: must hold a JSON object, found {type(data).__name__}")
        schema = data.get("schema")
        if schema != SCHEMA or isinstance(schema, bool):
            raise ArchitectureError(
                f"{place}: schema: must be {SCHEMA}, the version this pruneas reads, found {schema!r}"
            )
        complaints = [f"{place}: unknown field {key!r}" for key in sorted(set(data) - set(_FIELDS) - {"schema"})]
        for key, (is_right, form) in _FIELDS.items():
            if key not in data and key in _OPTIONAL:
                continue
            if key not in data:
                complaints.append(f"{place}: field {key!r} is missing; it must be {form}")
            elif not is_right(data[key]):
                complaints.append(f"{place}: {key}: must be {form}, found {str(data[key])[:80]!r}")
        if complaints:
            raise ArchitectureError("\n".join(complaints))
        return cls(
            network=Reference(data["network"], data["arguments"]),
            provider=data["provider"],
            inputs=tuple(Input.parse(text) for text in data["inputs"]),
            structure=data["structure"],
            widths=data["widths"],
            removed=tuple(data["removed"]),
            selections={group: tuple(kept) for group, kept in data.get("selections", {}).items()},
            mask=data.get("mask"),
        )

    @classmethod
    def load(cls, path: str | Path, *, trust: str | Collection[str] = ()) -> Architecture:
        """Read an architecture file, or a preset by its name: 'preset:vgg16-a' (see `pruneas.presets`).

        `trust` names packages whose factories may run, beside those of a run in whose folder the file lies.
        """
        if str(path).startswith(PREFIX):
            return cls.from_json(architecture_text(str(path).removeprefix(PREFIX)), place=str(path))
        try:
            with open(path, "rb") as file:
                read = file.read(MOST_BYTES + 1)
            text = read.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ArchitectureError(f"{path}: cannot be read: {error}") from error
        if len(read) > MOST_BYTES:
            raise ArchitectureError(f"{path}: is no architecture file: must have at most {MOST_BYTES:,} bytes")
        return cls.from_json(text, place=str(path)).trusting(trust).trusting(consented(Path(path)))

    def trusting(self, trust: str | Collection[str]) -> Architecture:
        """The same, with these packages trusted too."""
        return replace(self, trust=self.trust | ({trust} if isinstance(trust, str) else set(trust)))

    def check_trust(self) -> None:
        """Raises ArchitectureError where building would run, load or allocate what nobody has consented to."""
        shapes = [each.shape for each in self.inputs]
        check(
            self.network.name, self.network.arguments, shapes, self.trust, place=f"architecture of {self.network.name}"
        )

    def build(self, *, seed: int | None = None, trust: str | Collection[str] = ()) -> nn.Module:
        """The network with these widths, freshly initialised by its own factory; `seed` makes that repeatable.

        `trust` names packages whose factories may run: 'mypkg' for a network that is neither of pruneas, torchvision
        nor timm. Raises NetworkError where the factory is missing, ArchitectureError where it is not trusted or no
        longer gives this structure.
        """
        from pruneas.structure.build import build

        return build(self.trusting(trust), seed=seed)


def short_lists(text: str) -> str:
    """Indented JSON with every list of numbers on one line. Texts in it hold no line breaks, so they stay."""
    return re.sub(r"\[\n([\d\s,]+)\]", lambda found: f"[{' '.join(found[1].split())}]", text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a name stands twice in one object, which begins with {pairs[0][0][:80]!r}")
    return found


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no number")
    return value


def _check_texts(data: Any) -> None:
    """Raises ValueError for texts that cannot be written again, RecursionError for what is nested too deep."""
    level = [data]
    for _ in range(MOST_DEPTH):
        for value in level:
            if isinstance(value, str):
                value.encode("utf-8")
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value if isinstance(value, list) else [*value, *value.values()])
        ]
    if level:
        raise RecursionError(f"nested more than {MOST_DEPTH} levels deep")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _is_selection(value: Any) -> bool:
    if not isinstance(value, list) or not all(each == 0 or _is_count(each) for each in value):
        return False
    return all(a < b for a, b in pairwise(value)) and not any(isinstance(each, bool | float) for each in value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_input(text: str) -> bool:
    try:
        return bool(Input.parse(text))
    except NetworkError:
        return False


_FIELDS: Mapping[str, tuple[Callable[[Any], object], str]] = {
    "network": (lambda v: isinstance(v, str) and re.fullmatch(r"[\w.]+:[\w.]+", v), "'package:factory'"),
    "arguments": (lambda v: isinstance(v, dict), "an object of keyword arguments"),
    "provider": (lambda v: isinstance(v, str), "the providing package and its version, as text"),
    "inputs": (lambda v: _are_texts(v) and v and all(map(_is_input, v)), "a list of inputs such as '3x32x32'"),
    "structure": (lambda v: isinstance(v, str), "the structure's fingerprint, as text"),
    "widths": (lambda v: isinstance(v, dict) and all(map(_is_count, v.values())), "an object: group -> width"),
    "removed": (_are_texts, "a list of names of blocks"),
    "selections": (
        lambda v: isinstance(v, dict) and all(map(_is_selection, v.values())),
        "an object: group -> list of channels, ascending from 0 on",
    ),
    "mask": (lambda v: isinstance(v, str) and re.fullmatch("[0-9a-f]{64}", v), "a SHA-256 in hexadecimal digits"),
}
_OPTIONAL = ("selections", "mask")

Quantity = Literal["flops", "params", "memory", "latency"]
"""FLOPs as fvcore counts them (a multiply-add is one, for one input); parameters; the most bytes of activations that
are alive at once (`cost/memory.py`); picoseconds of a pass over one input, by a table (`cost/latency_table.py`)."""

_UNITS: Mapping[Quantity, Mapping[str, int]] = {
    "flops": {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "FLOPs": 1, "KFLOPs": 10**3, "MFLOPs": 10**6, "GFLOPs": 10**9},
    "params": {"": 1, "K": 10**3, "M": 10**6, "G": 10**9},
    "memory": {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "latency": {"us": 10**6, "µs": 10**6, "ms": 10**9, "s": 10**12},
}
"""What amounts are written in; a number alone is of FLOPs only with `flops=` before it."""


def amount_text(amount: int, quantity: Quantity) -> str:
    """An amount of a quantity in words: counts to the last digit, latency in milliseconds."""
    if quantity == "latency":
        return f"{amount / 10**9:.4g} ms"
    unit = {"flops": "FLOPs", "params": "parameters", "memory": "bytes of activations"}[quantity]
    return f"{amount:,} {unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The most of one quantity that a candidate may cost: a share of the base network's, or an absolute amount."""

    quantity: Quantity
    share: float | None = None
    amount: int | None = None

    def __post_init__(self) -> None:
        if (self.share is None) == (self.amount is None):
            raise ValueError("a limit is a share or an amount, one of the two")
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"a limit's share must be in (0, 1], got {self.share}")
        if self.amount is not None and self.amount < 1:
            raise ValueError(f"a limit's amount must be at least 1, got {self.amount}")

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read `0.5` (share of the FLOPs), `120MFLOPs`, `params=0.5`, `params=2.5M`, `memory=1.5MB` or `latency=3ms`.

        Raises BudgetError for anything else.
        """
        written = text.strip()
        form = r"(?:([a-z]+)\s*=\s*)?([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-zµ]*)"
        match = re.fullmatch(form, written, re.IGNORECASE | re.ASCII)
        complaint = BudgetError(
            f"budget {written!r}: must be a share of the base network's FLOPs in (0, 1] such as 0.5, or an amount such "
            "as 120MFLOPs, params=2.5M, memory=1.5MB or latency=3ms, or several of them as in 0.5+params=2.5M"
        )
        if match is None:
            raise complaint
        named, number, unit = match.groups()
        quantity = next((each for each in _UNITS if each == (named or "flops").lower()), None)
        try:
            value = Decimal(number)
        except ArithmeticError:
            raise complaint from None
        if quantity is None:
            raise complaint
        if not unit and 0 < value <= 1:
            return cls(quantity=quantity, share=float(value))
        factor = {each.lower(): size for each, size in _UNITS[quantity].items()}.get(unit.lower())
        if factor is None or not (unit or named) or not 1 <= value * factor < 2**63 or (factor == 1 and value % 1):
            raise complaint
        return cls(quantity=quantity, amount=math.floor(value * factor))

    def most(self, base: int) -> int:
        """The largest cost allowed, where the base network has `base` of this quantity."""
        if self.amount is not None:
            return self.amount
        assert self.share is not None
        return math.floor(self.share * base)

    def __str__(self) -> str:
        prefix = "" if self.quantity == "flops" else f"{self.quantity}="
        if self.share is not None:
            return prefix + repr(self.share).removesuffix(".0")
        if self.quantity == "latency":
            assert self.amount is not None
            return f"{prefix}{Decimal(self.amount).scaleb(-9).normalize():f}ms"
        unit = {"flops": "FLOPs", "memory": "B"}.get(self.quantity, "")
        return f"{prefix}{self.amount}{unit}"


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that a candidate may cost: one limit, or several of different quantities, which must all hold."""

    limits: tuple[Limit, ...]

    def __post_init__(self) -> None:
        quantities = [limit.quantity for limit in self.limits]
        if not quantities or len(set(quantities)) < len(quantities):
            raise ValueError(f"a budget must limit at least one quantity, and each once; got {quantities}")

    @classmethod
    def parse(cls, text: str | float) -> Budget:
        """Read limits (`Limit.parse`) with plus signs between them, such as `0.5+latency=3ms`, in any order.

        Raises BudgetError for anything else.
        """
        written = str(text).strip()
        found = [Limit.parse(part) for part in re.split(r"(?<![0-9.][eE])\+", written)]
        limits = tuple(sorted(found, key=lambda limit: list(_UNITS).index(limit.quantity)))
        if len({limit.quantity for limit in limits}) < len(limits):
            raise BudgetError(f"budget {written!r}: must limit each quantity once")
        return cls(limits)

    def __str__(self) -> str:
        return "+".join(map(str, self.limits))
