"""A network as one file of Python source that needs nothing of pruneas.

Every module that has a forward of its own becomes a class: its `__init__` lists its layers, its `forward` is what
`flow.py` reads off. Modules of one class that differ in sizes alone share it; the sizes that differ are the parameters
of its `__init__`, those that are always equal a single one. Layers keep their names, so a state fits both networks.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pruneas.architecture import Inputs
from pruneas.errors import NetworkError
from pruneas.export.flow import Flow, Unfollowed, flow
from pruneas.export.names import ELSE, Names, literal
from pruneas.networks import examples

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
SHORT = {
    "in_channels": "in",
    "out_channels": "out",
    "in_features": "in",
    "out_features": "out",
    "num_features": "width",
}
WIDTH = 116


@dataclass(frozen=True, slots=True)
class Slot:
    """A size in an expression; `hint` says what it is the size of. Its text is the value, or a parameter's name."""

    hint: str
    value: Any


@dataclass(frozen=True, slots=True)
class Call:
    """A call; arguments by keyword, or '' for positional ones. `name` may be a bracket: a list or tuple."""

    name: str
    arguments: tuple[tuple[str, Expression], ...]


Expression = str | Slot | Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """`classes` is the text of the classes, `root` the name of the network's, `imports` the lines that they need."""

    classes: str
    root: str
    imports: tuple[str, ...]


def source(network: nn.Module, inputs: Inputs) -> Source:
    """The classes of a network. Raises NetworkError naming the module that cannot be written down."""
    names = Names()
    shadow = copy.deepcopy(network).to("meta").eval()
    layers: dict[str, Call] = {}
    for path, module in shadow.named_modules():
        inside = any(path.startswith(f"{whole}.") for whole in layers)
        if not inside and (found := layer(module, names)) is not None:
            layers[path] = found
    shared = len(list(network.parameters())) < len(list(network.named_parameters(remove_duplicate=False)))
    if shared:
        raise NetworkError(
            f"--format python: parameters that stand in several places cannot be written down as source. {ELSE}"
        )
    forwards: dict[str, Flow] = {}
    with torch.no_grad():
        given = tuple(tensor.to("meta") for tensor in examples(inputs, batch=2))
        _follow(shadow, "", given, {}, names, layers, forwards)
    expression, classes = _Classes(shadow, names, layers, forwards).written()
    root = expression.name if isinstance(expression, Call) else ""
    if not root or root.startswith("nn."):  # the network is a container: give it a class, so that it has a name
        classes.append(f"def Network() -> nn.Module:\n    return {_layout(expression, {}, 4, 0)}")
        root = "Network"
    return Source(classes="\n\n\n".join(classes), root=root, imports=tuple(sorted(names.imports)))


def layer(module: nn.Module, names: Names) -> Call | None:
    """The constructor call of a ready-made layer of torch, torchvision or timm, read off its attributes.

    None where it is no such layer, or its attributes do not tell.
    """
    kind, package = type(module), type(module).__module__
    if not package.startswith(("torch.nn.modules.", "torchvision.ops.", "timm.layers.")):
        return None
    if isinstance(module, CONTAINERS) or (next(module.children(), None) and not package.startswith("torch.nn.")):
        return None
    arguments: list[tuple[str, str, Any]] = []  # its name, how it is given, its value
    positional = True
    for name, parameter in list(inspect.signature(kind.__init__).parameters.items())[1:]:
        if name in ("device", "dtype") or name.startswith("_") or parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            continue
        is_required = parameter.default is parameter.empty
        if not hasattr(module, name) and not (name == "bias" and isinstance(module, nn.MultiheadAttention)):
            if is_required:
                return None
            continue
        value = getattr(module, name) if hasattr(module, name) else getattr(module, "in_proj_bias", None) is not None
        if isinstance(value, torch.Tensor) or (name == "bias" and value is None):
            value = value is not None
        positional &= is_required
        if is_required or _simple(value) != _simple(parameter.default):
            arguments.append((name, "" if positional else name, _simple(value)))
    try:
        with torch.device("meta"):
            again = kind(*(v for _, k, v in arguments if not k), **{k: v for _, k, v in arguments if k})
        called = Call(_name_of(kind, names), tuple((key, _slotted(value, name)) for name, key, value in arguments))
    except Exception:
        return None  # it wants something that it does not keep: its forward is written down instead
    shapes = [{key: tensor.shape for key, tensor in each.state_dict().items()} for each in (module, again)]
    return called if shapes[0] == shapes[1] and module.extra_repr() == again.extra_repr() else None


def _follow(
    module: nn.Module,
    path: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    names: Names,
    layers: Mapping[str, Call],
    forwards: dict[str, Flow],
) -> Any:
    """Follow a call into modules with a forward of their own, those inside too. Returns what it puts out."""
    if type(module).forward is nn.Sequential.forward:
        (value,) = args
        for name, child in module.named_children():
            value = _follow(child, f"{path}.{name}".strip("."), (value,), {}, names, layers, forwards)
        return value
    if path not in layers:
        place = f"--format python: {path or 'the network'} ({type(module).__name__})"
        try:
            found = flow(module, args, kwargs, names, place)
        except Unfollowed as error:
            if error.inner is not None:  # that is where it is: this tells it with its place
                name, inner, keywords = error.inner
                where = f"{path}.{name}".strip(".")
                try:
                    _follow(module.get_submodule(name), where, inner, keywords, names, layers, forwards)
                except NetworkError:
                    raise
                except Exception as failure:  # it was given what it cannot take: the fault is out here
                    raise error from failure
            raise
        if path in forwards and forwards[path].lines != found.lines:
            raise NetworkError(
                f"{place}: it is called in several ways, which cannot be written down as one class. {ELSE}"
            )
        forwards[path] = found
        for name, inner, keywords in found.calls:
            _follow(module.get_submodule(name), f"{path}.{name}".strip("."), inner, keywords, names, layers, forwards)
    return module(*args, **kwargs)


@dataclass(slots=True)
class _Custom:
    """A module that becomes an instance of a class: its lines of `__init__`, each with what it is assigned to."""

    path: str
    kind: str
    lines: list[tuple[str, Expression]] = field(default_factory=list)
    flow: Flow | None = None


class _Classes:
    """Groups modules into classes, those inside first."""

    def __init__(
        self, network: nn.Module, names: Names, layers: Mapping[str, Call], forwards: Mapping[str, Flow]
    ) -> None:
        self.network, self.names, self.layers, self.forwards = network, names, layers, forwards
        self.made: dict[str, Expression] = {}
        imported = {line.split()[-1] for line in names.imports}
        self.taken: set[str] = {"nn", "torch", "load", "Path", "OrderedDict", "MEAN", "STD", "CLASSES", *imported}
        self.texts: list[str] = []

    def written(self) -> tuple[Expression, list[str]]:
        levels: dict[int, list[str]] = {}
        for path, module in self.network.named_modules():
            if self._is_custom(module, path):
                levels.setdefault(self._height(module, path), []).append(path)
        for _, paths in sorted(levels.items()):
            groups: dict[Any, list[_Custom]] = {}
            for path in paths:
                custom = self._custom(path)
                key = (
                    custom.kind,
                    custom.flow and (custom.flow.parameters, custom.flow.lines),
                    tuple((target, _skeleton(expression)) for target, expression in custom.lines),
                )
                groups.setdefault(key, []).append(custom)
            for members in groups.values():
                self._write(members)
        return self._expression(self.network, ""), self.texts

    def _is_custom(self, module: nn.Module, path: str) -> bool:
        if isinstance(module, CONTAINERS) and type(module).forward in (nn.Sequential.forward, nn.Module.forward):
            return False
        return not any(path == whole or path.startswith(f"{whole}.") for whole in self.layers)

    def _height(self, module: nn.Module, path: str) -> int:
        return 1 + max(
            (self._height(inner, f"{path}.{name}".strip(".")) for name, inner in module.named_children()), default=0
        )

    def _custom(self, path: str) -> _Custom:
        module = self.network.get_submodule(path)
        custom = _Custom(path=path, kind=type(module).__name__.lstrip("_"), flow=self.forwards.get(path))
        for name, parameter in module.named_parameters(recurse=False):
            made = Call("nn.Parameter", (("", _zeros(parameter, name)),))
            custom.lines.append((_target(name), made))
        for name, buffer in module.named_buffers(recurse=False):
            custom.lines.append(
                ("", Call("self.register_buffer", (("", literal(name, name)), ("", _zeros(buffer, name)))))
            )
        for name, child in module.named_children():
            custom.lines.append((_target(name), self._expression(child, f"{path}.{name}".strip("."), name)))
        for target, _ in custom.lines:
            if target.startswith("!"):
                raise NetworkError(f"--format python: {path}: {target[1:]!r} is no name that Python allows. {ELSE}")
        return custom

    def _expression(self, module: nn.Module, path: str, hint: str = "") -> Expression:
        if path in self.made:
            return _renamed(self.made[path], hint)
        if path in self.layers:
            return _renamed(self.layers[path], hint)
        inner = [
            (name, self._expression(child, f"{path}.{name}".strip("."), f"{hint}_{name}".strip("_")))
            for name, child in module.named_children()
        ]
        if isinstance(module, nn.ModuleDict):
            return Call("nn.ModuleDict", (("", Call("dict", tuple(inner))),))
        are_numbered = [name for name, _ in inner] == [str(index) for index in range(len(inner))]
        if isinstance(module, nn.ModuleList):
            return Call("nn.ModuleList", (("", Call("[", tuple(("", each) for _, each in inner))),))
        if are_numbered:
            return Call("nn.Sequential", tuple(("", each) for _, each in inner))
        self.names.imports.add("from collections import OrderedDict")
        if all(name.isidentifier() for name, _ in inner):
            return Call("nn.Sequential", (("", Call("OrderedDict", tuple(inner))),))
        pairs = tuple(("", Call("(", (("", literal(name, name)), ("", each)))) for name, each in inner)
        return Call("nn.Sequential", (("", Call("OrderedDict", (("", Call("[", pairs)),))),))

    def _write(self, members: Sequence[_Custom]) -> None:
        """The class of modules that differ in sizes alone."""
        first = members[0]
        name = next(n for n in (first.kind, *(f"{first.kind}{i}" for i in range(2, 10**6))) if n not in self.taken)
        self.taken.add(name)
        columns = list(zip(*([slot for _, e in each.lines for slot in _slots(e)] for each in members), strict=True))
        parameters: dict[tuple[Any, ...], str] = {}
        spelled: list[str] = []
        for column in columns:
            values = tuple(slot.value for slot in column)
            if all(value == values[0] for value in values):
                spelled.append(literal(values[0], first.path))
                continue
            if values not in parameters:
                hint = re.sub(r"\W", "_", column[0].hint)
                taken = set(parameters.values())
                parameters[values] = next(n for n in (hint, *(f"{hint}{i}" for i in range(2, 10**6))) if n not in taken)
            spelled.append(parameters[values])
        texts = iter(spelled)
        signature = "".join(f", {each}: {type(values[0]).__name__}" for values, each in parameters.items())
        lines = [f"class {name}(nn.Module):"]
        lines += [f"    def __init__(self{signature}) -> None:", "        super().__init__()"]
        if len(lines[1]) > WIDTH:
            each_on_its_own = signature.replace(", ", ",\n        ")
            lines[1] = f"    def __init__(\n        self{each_on_its_own},\n    ) -> None:"
        for target, expression in first.lines:
            spelling = {id(slot): next(texts) for slot in _slots(expression)}
            head = f"{target} = " if target else ""
            lines.append(f"        {head}{_layout(expression, spelling, 8, len(head))}")
        if first.flow is not None:
            arguments = "".join(f", {each}" for each in first.flow.parameters)
            lines += ["", f"    def forward(self{arguments}):"]
            lines += [f"        {line}" for line in first.flow.lines]
        self.texts.append("\n".join(lines))
        for index, each in enumerate(members):
            given = tuple(("", Slot(spelled_as, values[index])) for values, spelled_as in parameters.items())
            self.made[each.path] = Call(name, given)


def _target(name: str) -> str:
    return f"self.{name}" if name.isidentifier() else f"!{name}"


def _zeros(tensor: torch.Tensor, name: str) -> Expression:
    sizes = tuple(
        ("", Slot(f"{name}_{dim}" if tensor.ndim > 1 else name, size)) for dim, size in enumerate(tensor.shape)
    )
    kind = () if tensor.dtype == torch.float32 else (("dtype", str(tensor.dtype)),)
    return Call("torch.zeros", (*(sizes or (("", "()"),)), *kind))


def _simple(value: Any) -> Any:
    """(3, 3) is 3: layers take one number for all dimensions."""
    if (
        isinstance(value, tuple | list | torch.Size)
        and len(value) > 1
        and len({*map(repr, value)}) == 1
        and isinstance(value[0], int)
    ):
        return value[0] if not isinstance(value, torch.Size) else tuple(value)
    return tuple(value) if isinstance(value, list | torch.Size) else value


def _slotted(value: Any, argument: str) -> Expression:
    is_size = isinstance(value, int | float) and not isinstance(value, bool)
    if is_size or (isinstance(value, tuple) and value and all(isinstance(each, int) for each in value)):
        return Slot(SHORT.get(argument, argument), value)
    return literal(value, argument)


def _name_of(kind: type, names: Names) -> str:
    if getattr(nn, kind.__name__, None) is kind:
        return f"nn.{kind.__name__}"
    for package in ("torchvision.ops", "timm.layers"):
        if kind.__module__.startswith(package) and _has(package, kind):
            names.imports.add(f"from {package} import {kind.__name__}")
            return kind.__name__
    return names.function(kind, kind.__name__)


def _has(package: str, kind: type) -> bool:
    return getattr(importlib.import_module(package), kind.__name__, None) is kind


def _slots(expression: Expression) -> Iterator[Slot]:
    if isinstance(expression, Slot):
        yield expression
    elif isinstance(expression, Call):
        for _, inner in expression.arguments:
            yield from _slots(inner)


def _skeleton(expression: Expression) -> Any:
    if isinstance(expression, Slot):
        return type(expression.value).__name__
    if isinstance(expression, Call):
        return expression.name, tuple((key, _skeleton(inner)) for key, inner in expression.arguments)
    return expression


def _renamed(expression: Expression, hint: str) -> Expression:
    """The same with its sizes' hints under a child's name."""
    if not isinstance(expression, Call) or not hint:
        return expression
    return Call(
        expression.name,
        tuple(
            (key, Slot(f"{hint}_{e.hint}", e.value) if isinstance(e, Slot) else e) for key, e in expression.arguments
        ),
    )


def _layout(expression: Expression, spelling: Mapping[int, str], indent: int, used: int) -> str:
    """The text, on several lines where it is too long for one."""
    flat = _flat(expression, spelling)
    is_list = isinstance(expression, Call) and expression.name in ("nn.Sequential", "OrderedDict", "[")
    few = not is_list or not isinstance(expression, Call) or len(expression.arguments) < 4
    if not isinstance(expression, Call) or (few and indent + used + len(flat) <= WIDTH):
        return flat
    inner = indent + 4
    opening, closing = _brackets(expression.name)
    if (
        len(expression.arguments) == 1
        and isinstance(expression.arguments[0][1], Call)
        and not expression.arguments[0][0]
    ):
        only = expression.arguments[0][1]
        return f"{opening}{_layout(only, spelling, indent, used + len(opening))}{closing}"
    lines = []
    for key, each in expression.arguments:
        head = f"{key}=" if key else ""
        lines.append(f"{' ' * inner}{head}{_layout(each, spelling, inner, len(head))},")
    return "\n".join([opening, *lines, f"{' ' * indent}{closing}"])


def _flat(expression: Expression, spelling: Mapping[int, str]) -> str:
    if isinstance(expression, Slot):
        return spelling.get(id(expression), repr(expression.value))
    if isinstance(expression, str):
        return expression
    opening, closing = _brackets(expression.name)
    inner = ", ".join(f"{key}={_flat(e, spelling)}" if key else _flat(e, spelling) for key, e in expression.arguments)
    return f"{opening}{inner}{closing}"


def _brackets(name: str) -> tuple[str, str]:
    return {"[": ("[", "]"), "(": ("(", ")")}.get(name, (f"{name}(", ")"))
