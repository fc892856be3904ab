"""What a module's forward does, as lines of Python: its code is run once, on values that note what is done to them.

The values are torch.fx proxies that carry along what they stand for, on the meta device, so that code which asks for
sizes (`if missing > 0`, `b, c, h, w = x.shape`) is followed as it runs for these inputs, while the sizes themselves
stay in the lines as expressions. Modules inside are not entered: each has lines of its own.
"""

from __future__ import annotations

import inspect
import itertools
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.fx.node import map_arg

from pruneas.errors import NetworkError
from pruneas.export.names import ELSE, Names, literal

CONCRETE = ("ndim", "dtype", "layout", "is_cuda", "is_quantized", "is_nested", "is_sparse", "is_mkldnn")
INFIX = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.floordiv: "//",
    operator.mod: "%", operator.matmul: "@", operator.pow: "**", operator.and_: "&", operator.or_: "|",
    operator.eq: "==", operator.ne: "!=", operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=",
}  # fmt: skip
IN_PLACE = {
    operator.iadd: "+=", operator.isub: "-=", operator.imul: "*=", operator.itruediv: "/=",
}  # fmt: skip
LETTERS = "yzuvwabcdefghijklm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The lines of a forward, its parameters, and the calls of the modules inside, with what they were given."""

    parameters: tuple[str, ...]
    lines: tuple[str, ...]
    calls: tuple[tuple[str, tuple[Any, ...], dict[str, Any]], ...]


class Unfollowed(NetworkError):
    """`inner` is the call of a module inside that failed: its path, and what it was given."""

    def __init__(self, text: str, inner: tuple[str, tuple[Any, ...], dict[str, Any]] | None = None) -> None:
        super().__init__(text)
        self.inner = inner


def flow(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], names: Names, place: str) -> Flow:
    """Follow a module's forward for these arguments, in evaluation and, where that differs, in training.

    Raises NetworkError, beginning with `place`, for what cannot be followed; Unfollowed while the forward ran.
    """
    evaluation = _followed(module, args, kwargs, False, place)
    written = _Writer(evaluation, names, place).flow()
    if not evaluation.asked_training:
        return written
    other = _Writer(_followed(module, args, kwargs, True, place), names, place).flow()
    if other.lines == written.lines:
        return written
    lines = ["if self.training:", *(f"    {line}" for line in other.lines), *written.lines]
    return Flow(parameters=written.parameters, lines=tuple(lines), calls=(*written.calls, *other.calls))


class _Value(fx.Proxy):
    """A proxy that knows what it stands for."""

    @property
    def value(self) -> Any:
        return self.node.meta.get("value")

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # code that asks whether it was given a tensor, was
        return torch.Tensor if isinstance(self.value, torch.Tensor) else _Value

    def __getattr__(self, name: str) -> Any:
        if name in CONCRETE and isinstance(self.value, torch.Tensor):
            return getattr(self.value, name)
        if name == "_is_param":  # what isinstance(x, nn.Parameter) asks of a tensor
            return False
        if name == "shape":
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return super().__getattr__(name)

    def __len__(self) -> int:
        return len(self.value)

    def __index__(self) -> int:
        return int(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __float__(self) -> float:
        return float(self.value)


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], training: bool, place: str) -> None:
        super().__init__()
        self.given, self.keywords, self.in_training, self.place = args, kwargs, training, place
        self.asked_training = False
        self.signature: list[str] = []
        self.inside: tuple[str, tuple[Any, ...], dict[str, Any]] | None = None
        self._running = False

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        bound = inspect.signature(root_fn).bind(self.root, *self.given, **self.keywords)
        arguments: dict[str, Any] = {}
        for name, value in list(bound.arguments.items())[1:]:
            several = inspect.signature(root_fn).parameters[name].kind
            if several is inspect.Parameter.VAR_POSITIONAL:
                arguments[name] = tuple(self._placeholder(f"{name}{i}", each) for i, each in enumerate(value))
            elif several is inspect.Parameter.VAR_KEYWORD:
                arguments[name] = {key: self._placeholder(key, each) for key, each in value.items()}
            else:
                arguments[name] = self._placeholder(name, value)
        bound.arguments.update(arguments)
        self.root.__dict__["training"] = self.create_proxy("get_attr", "training", (), {})
        return root_fn, bound.args

    def _placeholder(self, name: str, value: Any) -> Any:
        """What holds tensors is a parameter; anything else is as it is in this network."""
        if not any(isinstance(leaf, torch.Tensor) for leaf in torch.utils._pytree.tree_leaves(value)):
            return value
        self.signature.append(name)
        proxy = self.create_proxy("placeholder", name, (), {})
        proxy.node.meta["value"] = value
        return proxy

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def create_node(self, kind: str, target: Any, *rest: Any, **more: Any) -> fx.Node:
        node = super().create_node(kind, target, *rest, **more)
        if kind not in ("placeholder", "output"):
            self._running = True
            try:
                node.meta["value"] = self._evaluated(node)
            finally:
                self._running = False
        return node

    def _evaluated(self, node: fx.Node) -> Any:
        args, kwargs = map_arg((node.args, node.kwargs), lambda each: each.meta["value"])
        target: Any = node.target
        if node.op == "get_attr":
            return False if target == "training" else operator.attrgetter(target)(self.root)
        if node.op == "call_module":
            node.meta["given"] = (args, kwargs)
            self.inside = (target, args, kwargs)
            value = self.root.get_submodule(target)(*args, **kwargs)
            self.inside = None
            return value
        if node.op == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return target(*args, **kwargs)

    def create_arg(self, a: Any) -> Any:
        if issubclass(type(a), fx.Proxy):  # before anybody asks whether it is a tensor
            return a.node
        if type(a) is torch.Tensor and not any(a is buffer for buffer in self.root.buffers()):
            raise NetworkError(
                f"{self.place}: its forward uses a tensor that is no parameter, buffer or input of it. {ELSE}"
            )
        return super().create_arg(a)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        return (
            forward(*args, **kwargs)
            if self._running
            else self.create_proxy("call_module", self.path_of_module(m), args, kwargs)
        )

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        return attr_val if self._running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        if obj.node.op == "get_attr" and obj.node.target == "training":
            self.asked_training = True
            return self.in_training
        return bool(obj.node.meta["value"])

    def iter(self, obj: Any) -> Iterator[Any]:
        return iter([obj[index] for index in range(len(obj.node.meta["value"]))])


def _followed(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], training: bool, place: str
) -> _Tracer:
    tracer = _Tracer(args, kwargs, training, place)
    was = module.training
    try:
        tracer.trace(module)
    except NetworkError:
        raise
    except Exception as error:
        raise Unfollowed(
            f"{place}: its forward cannot be written down as source: {type(error).__name__}: "
            f"{(str(error).splitlines() or [''])[0].rstrip(' .,:')}. {ELSE}",
            tracer.inside,
        ) from error
    finally:
        module.__dict__["training"] = was
    return tracer


class _Writer:
    """From a graph to lines. A name is used again as soon as what it stood for is no more needed."""

    def __init__(self, tracer: _Tracer, names: Names, place: str) -> None:
        self.tracer, self.graph, self.names, self.place = tracer, tracer.graph, names, place
        self._drop_dead()
        self.order = {node: position for position, node in enumerate(self.graph.nodes)}
        self.inlined = {node for node in self.graph.nodes if self._is_inlined(node)}
        self.text: dict[fx.Node, str] = {}
        self.live: dict[str, int] = {}

    def flow(self) -> Flow:
        lines: list[str] = []
        calls = []
        for node in self.graph.nodes:
            if node.op == "placeholder":
                self._name(node, node.target)
            elif node.op == "output":
                returned = self._written(node.args[0])
                head = f"{returned} = "
                is_new = bool(lines) and lines[-1].startswith(head) and returned.isidentifier()
                lines.append(f"return {lines.pop().removeprefix(head) if is_new else returned}")
            elif node in self.inlined:
                self.text[node] = self._expression(node)
            else:
                lines += self._statement(node)
            if node.op == "call_module":
                calls.append((str(node.target), *node.meta["given"]))
        return Flow(parameters=tuple(self.tracer.signature), lines=tuple(lines), calls=tuple(calls))

    def _drop_dead(self) -> None:
        for node in reversed(list(self.graph.nodes)):
            in_place = node.target in IN_PLACE or (node.op == "call_method" and str(node.target).endswith("_"))
            is_check = node.target is torch._assert
            if (
                not node.users
                and node.op in ("call_function", "call_method", "get_attr")
                and (is_check or not in_place)
            ):
                self.graph.erase_node(node)

    def _is_inlined(self, node: fx.Node) -> bool:
        """Parameters by their name; sizes and what is reckoned from them, where it is used once."""
        if node.op == "get_attr":
            return True
        if node.op in ("placeholder", "output", "call_module") or node.target in IN_PLACE:
            return False
        leaves = torch.utils._pytree.tree_leaves(node.meta["value"])
        if any(isinstance(leaf, torch.Tensor) for leaf in leaves):
            return False
        return len(node.users) < 2 or node.target in (getattr, operator.getitem)

    def _last_use(self, node: fx.Node) -> int:
        return max((self._last_use(u) if u in self.inlined else self.order[u] for u in node.users), default=-1)

    def _name(self, node: fx.Node, name: str) -> None:
        self.text[node] = name
        self.live[name] = max(
            self.live.get(name, -1) if name in self.live else -1, self._last_use(node), self.order[node]
        )

    def _statement(self, node: fx.Node) -> list[str]:
        here = self.order[node]
        is_tensor = isinstance(node.meta["value"], torch.Tensor)  # += on a number makes another one
        changed: Any = node.args[0] if node.args else None
        if is_tensor and node.target in IN_PLACE and changed not in self.inlined:
            name = self.text[changed]
            line = f"{name} {IN_PLACE[node.target]} {self._written(node.args[1])}"
            self._name(node, name)
            return [line]
        expression = self._expression(node)
        if not node.users:
            return [expression]
        if (parts := self._parts(node)) is not None:
            targets = []
            for part in parts:
                targets.append("_" if part is None else self._fresh(here))
                if part is not None:
                    self._name(part, targets[-1])
            return [f"{', '.join(targets)} = {expression}"]
        dying = [self.text[arg] for arg in node.all_input_nodes if self.live.get(self.text[arg], here + 1) <= here]
        name = dying[0] if dying and is_tensor else self._fresh(here)
        self.live.pop(name, None)
        self._name(node, name)
        return [f"{name} = {expression}"]

    def _parts(self, node: fx.Node) -> list[fx.Node | None] | None:
        """The entries that are read, where a sequence is only taken apart."""
        value = node.meta["value"]
        if not isinstance(value, tuple | list) or isinstance(value, torch.Size):
            return None
        taken: dict[int, fx.Node] = {}
        for user in node.users:
            if user.target is not operator.getitem or not isinstance(user.args[1], int) or user.args[1] in taken:
                return None
            taken[user.args[1]] = user
        if not all(0 <= index < len(value) for index in taken) or len(value) > 8:
            return None
        for user in taken.values():
            self.inlined.add(user)  # named here; nothing is written where it stands
        return [taken.get(index) for index in range(len(value))]

    def _fresh(self, here: int) -> str:
        names = itertools.chain(LETTERS, (f"t{index}" for index in itertools.count()))
        name = next(name for name in names if self.live.get(name, -1) < here)
        self.live.pop(name, None)
        return name

    def _expression(self, node: fx.Node) -> str:
        if node in self.text:
            return self.text[node]
        target: Any = node.target
        if node.op == "get_attr":
            return f"self.{target}" if target == "training" else self.names.attribute(self.tracer.root, target)
        if node.op == "call_module":
            return f"{self.names.attribute(self.tracer.root, target)}({self._arguments(node.args, node.kwargs)})"
        if node.op == "call_method":
            return f"{self._operand(node.args[0])}.{target}({self._arguments(node.args[1:], node.kwargs)})"
        if target is getattr:
            return f"{self._operand(node.args[0])}.{node.args[1]}"
        if target is operator.getitem:
            return f"{self._operand(node.args[0])}[{self._index(node.args[1])}]"
        if target in INFIX:
            return f"{self._operand(node.args[0])} {INFIX[target]} {self._operand(node.args[1])}"
        if target in IN_PLACE and not isinstance(node.meta["value"], torch.Tensor):
            return f"{self._operand(node.args[0])} {IN_PLACE[target][:-1]} {self._operand(node.args[1])}"
        if target is operator.neg:
            return f"-{self._operand(node.args[0])}"
        return f"{self.names.function(target, self.place)}({self._arguments(node.args, _given(target, node.kwargs))})"

    def _arguments(self, args: Any, kwargs: Mapping[str, Any]) -> str:
        return ", ".join([*map(self._written, args), *(f"{key}={self._written(v)}" for key, v in kwargs.items())])

    def _operand(self, value: Any) -> str:
        text = self._written(value)
        is_infix = isinstance(value, fx.Node) and value in self.inlined and (value.target in INFIX or text[0] == "-")
        return f"({text})" if is_infix or (not isinstance(value, fx.Node) and text[0] == "-") else text

    def _index(self, value: Any) -> str:
        if isinstance(value, tuple) and value:
            return ", ".join(map(self._index, value)) + ("," if len(value) == 1 else "")
        if isinstance(value, slice):
            start, stop, step = (
                "" if each is None else self._written(each) for each in (value.start, value.stop, value.step)
            )
            return f"{start}:{stop}" + (f":{step}" if step else "")
        return self._written(value)

    def _written(self, value: Any) -> str:
        if isinstance(value, fx.Node):
            return self.text[value]
        if isinstance(value, tuple | list) and not isinstance(value, torch.Size):
            inner = ", ".join(map(self._written, value))
            return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{literal(key, self.place)}: {self._written(v)}" for key, v in value.items()) + "}"
        if isinstance(value, slice):
            return f"slice({self._written(value.start)}, {self._written(value.stop)}, {self._written(value.step)})"
        return literal(value, self.place)


def _given(function: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are not what they would be anyway."""
    try:
        defaults = {name: each.default for name, each in inspect.signature(function).parameters.items()}
    except (TypeError, ValueError):
        return dict(kwargs)
    return {
        key: value for key, value in kwargs.items() if isinstance(value, fx.Node) or value is not defaults.get(key, ...)
    }
