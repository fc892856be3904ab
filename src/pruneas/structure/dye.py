"""Dye tracing: which indices of which parameters have to be kept or removed together.

Every index of every parameter dimension gets a dye, an integer. One forward pass runs with tensors that carry dyes in
place of values; PyTorch itself moves them through views, concatenations and slices, and the few operators that combine
dimensions (`rules.py`) say which dyes meet. Dyes that meet belong together (`groups.py`).

A traced tensor has *planes* (`planes.py`). An activation has one plane, the dye of each element; a parameter has one
for each dimension, so that transposing or slicing a weight moves each dimension's dyes to where they belong. No plane
means no dye at all: a constant, zeros of a padding. Dye 0 means the same for an element.
"""

from __future__ import annotations

import inspect
import os
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils._pytree import tree_map

from pruneas.errors import StructureError
from pruneas.networks import tensors_of
from pruneas.networks.selection import ChannelSelection
from pruneas.structure.held import SIZES, Derivation, Held, holding
from pruneas.structure.planes import Ids, Plane, Planes

OUTPUT = "the network's output"
KERNEL = "the kernel's size"
"""Why the places of a convolution's kernel cannot change: too plain a reason to be reported."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One counted operator: FLOPs = factor * sum over a of 1 * sum over b of 1, a and b being dyes of dimensions.

    `kind` is the name fvcore's handler counts under; matrix products of all spellings are 'linear'. `step` is the
    position of the operator in the record, `weight` the parameter that a convolution reads as it is, if it does.
    """

    step: int
    kind: str
    factor: int
    a: Ids
    b: Ids | None = None
    weight: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One operator that ran on activations: `reads` are the steps whose outputs it took, `call` where it ran."""

    operator: str
    reads: tuple[int, ...]
    call: int
    shape: tuple[int, ...]


@dataclass(slots=True)
class Call:
    """One call of a module: the steps whose outputs it took and gave, and those that ran inside, [first, last)."""

    module: str
    parent: int
    reads: tuple[int, ...]
    first: int
    last: int = 0
    made: tuple[int, ...] = ()


@dataclass(slots=True)
class Record:
    """The operators of one pass, in the order in which they ran, and the modules they ran in. Call 0 is the network's.

    Step 0 stands for parameters and constants.
    """

    operations: list[Operation] = field(default_factory=list)
    steps: list[Step] = field(default_factory=lambda: [Step("constant", (), 0, ())])
    calls: list[Call] = field(default_factory=list)
    running: list[int] = field(default_factory=list)

    def step(self, operator: str, reads: Sequence[int], shape: Sequence[int]) -> int:
        """Note an operator. Returns the step its output goes by: 0 where it read nothing but constants."""
        reads = tuple(read for read in reads if read)
        self.steps.append(Step(operator, reads, self.running[-1] if self.running else 0, tuple(shape)))
        return len(self.steps) - 1 if reads else 0

    def input(self, shape: Sequence[int]) -> int:
        self.steps.append(Step("input", (), 0, tuple(shape)))
        return len(self.steps) - 1

    def place(self, step: int) -> str:
        """The innermost module that ran a step; the network itself has no name."""
        return self.calls[self.steps[step].call].module

    def source(self, module: str) -> str:
        """The innermost module that puts out what another one reads; '' where none does, or it never runs."""
        reads = next((call.reads for call in self.calls if call.module == module), ())
        made = [call.module for call in self.calls if call.made == reads != call.reads]
        return made[-1] if made else ""

    def enter(self, module: str, reads: Sequence[int]) -> None:
        parent = self.running[-1] if self.running else -1
        self.running.append(len(self.calls))
        self.calls.append(Call(module, parent, tuple(reads), len(self.steps)))

    def leave(self, made: Sequence[int]) -> None:
        call = self.calls[self.running.pop()]
        call.last, call.made = len(self.steps), tuple(made)


@dataclass(slots=True)
class Trace:
    """What one forward pass told. Dye `first[name, dim] + i` is index i of that dimension; 0 is no dye.

    `held` holds sizes that modules hold as integers, with the dyes of the dimensions.
    `weights` holds, for each use of a weight that combines channels, the dyes of its output and its input dimension.
    `evaluated` says of each dye whether evaluation mode used it. Shape (dyes then given out,).
    """

    first: dict[tuple[str, int], int] = field(default_factory=dict)
    sizes: dict[tuple[str, int], int] = field(default_factory=dict)
    count: int = 1
    edges: list[tuple[Ids, Ids]] = field(default_factory=list)
    frozen: dict[int, str] = field(default_factory=dict)
    weights: list[tuple[Ids, Ids]] = field(default_factory=list)
    record: Record = field(default_factory=Record)
    shapes: dict[Any, Any] = field(default_factory=dict)
    held: list[tuple[Derivation, Ids]] = field(default_factory=list)
    evaluated: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    def dimension(self, name: str, dim: int, size: int) -> Ids:
        """New dyes for a parameter dimension; none for a size of 1, which cannot shrink."""
        self.sizes[name, dim] = size
        self.first[name, dim] = self.count if size > 1 else 0
        if size == 1:
            return np.zeros(1, dtype=np.int64)
        self.count += size
        return np.arange(self.count - size, self.count)

    def unite(self, a: Ids, b: Ids) -> None:
        """The dyes a[i] and b[i] belong together, for every i; 0 belongs to nothing."""
        self.edges.append((a, b))

    def united(self) -> tuple[Ids, Ids]:
        """Pairs of different dyes that belong together. Shapes (pairs,)."""
        none = np.zeros(0, dtype=np.int64)
        a = np.concatenate([none, *(a for a, _ in self.edges)])
        b = np.concatenate([none, *(b for _, b in self.edges)])
        both = (a != 0) & (b != 0) & (a != b)
        self.edges = [(a[both], b[both])]
        return self.edges[0]

    def tie(self, dyes: Ids, parts: int) -> None:
        """Equal parts of a dimension change alike: position i of each part belongs together."""
        if parts > 1 and len(dyes) % parts == 0:
            table = dyes.reshape(parts, -1)
            self.unite(np.repeat(table[:1], parts - 1, axis=0).ravel(), table[1:].ravel())

    def freeze(self, dyes: Ids, reason: str) -> int:
        """These dyes cannot change. Returns a dye that stands for the reason."""
        mark = self.count
        self.count += 1
        self.frozen[mark] = reason
        self.unite(dyes, np.full_like(dyes, mark))
        return mark

    def met(self) -> npt.NDArray[np.bool_]:
        """Which dyes some operator has used so far. Shape (count,)."""
        met = np.zeros(self.count, dtype=np.bool_)
        for a, b in [self.united(), *self.weights]:
            met[a] = met[b] = True
        met[0] = True
        return met

    def counted(self, kind: str, factor: int, a: Ids, b: Ids | None = None, weight: str | None = None) -> None:
        """Note the FLOPs of the operator that runs now, which will be the next step of the record."""
        self.record.operations.append(Operation(len(self.record.steps), kind, factor, a, b, weight))


class DyeTensor(torch.Tensor):
    """A tensor of dyes that passes for one of values; `base` is what it is a view of, `step` what put it out.

    `parameter` names the parameter or buffer that it is; what is made of one is none.
    """

    planes: Planes
    tracing: Trace
    base: DyeTensor | None
    step: int
    parameter: str | None

    @staticmethod
    def __new__(
        cls,
        shape: Sequence[int],
        planes: Planes,
        tracing: Trace,
        base: DyeTensor | None = None,
        dtype: torch.dtype = torch.float32,
        step: int = 0,
        parameter: str | None = None,
    ) -> DyeTensor:
        tensor = torch.Tensor._make_wrapper_subclass(cls, torch.Size(shape), dtype=dtype)
        tensor.planes, tensor.tracing, tensor.base = planes, tracing, base
        tensor.step, tensor.parameter = step, parameter
        return tensor

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __repr__(self) -> str:  # type: ignore[override]
        return f"DyeTensor(shape={tuple(self.shape)}, planes={len(self.planes)})"

    def along(self, dim: int) -> Ids | None:
        """The dyes of a dimension (size,), zeros where it has none; None if some plane mixes it with another one."""
        dim %= self.ndim
        for plane in self.planes:
            if dim in plane.varies:
                return plane.vector() if len(plane.varies) == 1 else None
        alone = len(self.planes) == 1 and not self.planes[0].varies
        return np.full(self.shape[dim], self.planes[0].table.item() if alone else 0, dtype=np.int64)

    def dyes(self) -> Ids:
        """Every dye in this tensor."""
        return np.concatenate([*(plane.unique() for plane in self.planes), np.zeros(0, dtype=np.int64)])

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        from pruneas.structure.combine import SEEN

        kwargs = kwargs or {}
        # As `super().__torch_function__` does, which wraps what is put out once more.
        with torch._C.DisableTorchFunctionSubclass():
            seen = SEEN.get(func)
            out = seen(partial(func, *args, **kwargs), *args, **kwargs) if seen else func(*args, **kwargs)
            if func in SIZES:
                for size, tensor, dim in SIZES[func](out, *args, **kwargs):
                    if isinstance(size, Held) and isinstance(tensor, DyeTensor):
                        dyes = tensor.along(dim)
                        if dyes is not None:
                            tensor.tracing.held.append((size.derivation, dyes))
        return out

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        from pruneas.structure.rules import apply

        return apply(func, tuple(args), dict(kwargs or {}))


def dyed(tree: Any) -> list[DyeTensor]:
    """The traced tensors among an operator's or a module's arguments, or what it puts out."""
    if isinstance(tree, DyeTensor):
        return [tree]
    found: list[DyeTensor] = []
    if isinstance(tree, tuple | list | dict):
        for leaf in tree.values() if isinstance(tree, dict) else tree:
            if isinstance(leaf, DyeTensor):
                found.append(leaf)
            elif isinstance(leaf, tuple | list | dict):
                found += dyed(leaf)
    return found


def trace_network(network: nn.Module, inputs: Sequence[torch.Tensor]) -> Trace:
    """Run the network once, in evaluation mode, on dyes.

    Where that leaves parameters out (auxiliary heads), once more in training mode, with a batch of two, so that what
    they read shrinks with the rest; its operators are not counted. `inputs` give the shapes of the arguments, batch of
    1 included. Parameters and buffers have dyes where their dimensions could change: those of numbers, and what channel
    selections go by. Counters have none, nor have other indices, whose values the network's code relies on. Raises
    StructureError where a pass fails.
    """
    _check_number(network, inputs)
    trace = Trace()
    modules = dict(network.named_modules())
    tensors: dict[int, torch.Tensor] = {}
    indices = {id(module.index) for module in modules.values() if isinstance(module, ChannelSelection)}
    for kind in ("_parameters", "_buffers"):
        for prefix, module in modules.items():
            for leaf, tensor in getattr(module, kind).items():
                if tensor is not None and id(tensor) not in tensors:
                    name = f"{prefix}.{leaf}" if prefix else leaf
                    is_dyed = tensor.ndim > 0 and (tensor.is_floating_point() or id(tensor) in indices)
                    tensors[id(tensor)] = _dyed(trace, name, tensor) if is_dyed else tensor.detach().clone()
    dyed = trace.count
    _run(trace, modules, tensors, inputs, training=False)
    trace.evaluated = trace.met()
    if not trace.evaluated[:dyed].all():
        evaluation, trace.record = trace.record, Record()
        _run(trace, modules, tensors, [torch.cat([tensor, tensor]) for tensor in inputs], training=True)
        trace.record = evaluation
    return trace


def _check_number(network: nn.Module, inputs: Sequence[torch.Tensor]) -> None:
    """Whether the network's forward takes as many arguments as there are inputs."""
    forward = network.forward
    code = getattr(getattr(forward, "__func__", forward), "__code__", None)
    if code is None:
        return
    plain = [each.replace(annotation=each.empty) for each in inspect.signature(forward).parameters.values()]
    signature = inspect.Signature(plain)
    try:
        signature.bind(*inputs)
    except TypeError as error:
        raise StructureError(
            f"its forward{signature} must take as many arguments as there are inputs, found {len(inputs)}: {error} "
            f"({code.co_filename}:{code.co_firstlineno})"
        ) from error


def _dyed(trace: Trace, name: str, tensor: torch.Tensor) -> DyeTensor:
    planes = []
    for dim, size in enumerate(tensor.shape):
        dyes = trace.dimension(name, dim, size)
        if size > 1:
            shape = [1] * tensor.ndim
            shape[dim] = size
            planes.append(Plane(dyes.reshape(shape), frozenset((dim,))))
    return DyeTensor(tensor.shape, tuple(planes), trace, dtype=tensor.dtype, parameter=name)


def _run(
    trace: Trace,
    modules: Mapping[str, nn.Module],
    tensors: Mapping[int, torch.Tensor],
    inputs: Sequence[torch.Tensor],
    *,
    training: bool,
) -> None:
    arguments = []
    for position, tensor in enumerate(inputs):
        mark = trace.freeze(
            np.zeros(0, dtype=np.int64), f"the network's input {position}" if position else "the network's input"
        )
        plane = Plane.single(mark, tensor.ndim)
        step = trace.record.input(tensor.shape)
        arguments.append(DyeTensor(tensor.shape, (plane,), trace, dtype=tensor.dtype, step=step))
    network = modules[""]
    modes = [(module, module.training) for module in modules.values()]
    try:
        if any(mode != training for _, mode in modes):
            network.train(training)
        with torch.no_grad(), holding(modules), _replaced(modules.values(), tensors), _recorded(trace.record, modules):
            output = network(*arguments)
    except Exception as error:
        mode = " in training mode, which parts of it need" if training else ""
        # Rules say what failed and where by themselves.
        what = error if isinstance(error, StructureError) else f"{type(error).__name__}: {error} ({user_line(error)})"
        raise StructureError(f"the network cannot be traced{mode}: {what}") from error
    finally:
        for module, mode_before in modes:
            if module.training != mode_before:
                module.training = mode_before
    for tensor in tensors_of(output):
        if isinstance(tensor, DyeTensor):
            trace.freeze(tensor.dyes(), OUTPUT)


@contextmanager
def _replaced(modules: Iterable[nn.Module], tensors: Mapping[int, torch.Tensor]) -> Iterator[None]:
    """While this holds, the modules' parameters and buffers are others; `tensors` by the identity of the modules' own.

    So does `torch.func.functional_call`, which puts back wrongly what modules of several names hold.
    """
    stores: list[dict[str, Any]] = [store for module in modules for store in (module._parameters, module._buffers)]
    before = [(store, dict(store)) for store in stores]
    try:
        for store, own in before:
            store.update({leaf: tensors[id(tensor)] for leaf, tensor in own.items() if tensor is not None})
        yield
    finally:
        for store, own in before:
            store.clear()
            store.update(own)


@contextmanager
def _recorded(record: Record, modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """While this holds, every call of the modules is recorded, hooks included.

    It goes where `nn.Module.compile` puts its own: hooks of ours would take their time, and not see what others' do.
    """

    def recording(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            record.enter(name, [tensor.step for tensor in dyed((args, kwargs))])
            output = call(*args, **kwargs)
            record.leave([tensor.step for tensor in dyed(output)])
            return output

        return recorded

    compiled = [(module, module._compiled_call_impl) for module in modules.values()]
    try:
        for name, module in modules.items():
            vars(module)["_compiled_call_impl"] = recording(name, module._call_impl)
        yield
    finally:
        for module, before in compiled:
            del vars(module)["_compiled_call_impl"]
            if before is not None:
                vars(module)["_compiled_call_impl"] = before


def to_meta(tree: Any) -> Any:
    """The same arguments without values: what an operator needs to tell its output's shape."""

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return torch.empty(leaf.shape, dtype=leaf.dtype, device="meta")
        return torch.device("meta") if isinstance(leaf, torch.device) else leaf

    return tree_map(convert, tree)


_OURS = f"{Path(__file__).parent}{os.sep}"
_TORCH = f"{torch.__path__[0]}{os.sep}"
_STDLIB = f"{sysconfig.get_path('stdlib')}{os.sep}"


def user_line(error: BaseException | None = None) -> str:
    """The innermost line of the network's own code: where an operator was called, or where `error` came from."""
    frames = traceback.extract_tb(error.__traceback__) if error else traceback.extract_stack()
    for frame in reversed(frames):
        file = frame.filename
        if frame.name == _run.__name__ and file == __file__:
            break  # everything further out only called us
        stdlib = file.startswith(_STDLIB) and "site-packages" not in file
        if not (file.startswith((_OURS, _TORCH, "<")) or stdlib):
            return f"{file}:{frame.lineno}"
    return "no line known"
