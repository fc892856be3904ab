"""The operators that combine dimensions, and what they cost: convolutions, matrix products, normalisations.

They bind a parameter to the dimension of the tensor that it reads, and put out the dyes of what they produce; dyes
along other dimensions pass. Each is counted under the name and with the formula of fvcore's handler, so that the closed
form can be held against it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils._pytree import tree_iter, tree_map

from pruneas.structure.dye import KERNEL, DyeTensor, Trace, dyed, to_meta, user_line
from pruneas.structure.planes import Ids, Plane, Planes

aten = torch.ops.aten
Arguments = tuple[Any, ...]
Keywords = dict[str, Any]


def _convolution(trace: Trace, out: torch.Tensor, args: Arguments, kwargs: Keywords) -> Any:
    inputs, weight, bias, _, _, _, transposed, _, groups = args[:9]
    channels, rows, columns = along(inputs, 1), along(weight, 0), along(weight, 1)
    if channels is None or rows is None or columns is None:
        return NotImplemented
    for dim in range(2, weight.ndim):
        kernel = along(weight, dim)
        if kernel is not None and kernel.any():
            trace.freeze(kernel, KERNEL)
    # The weight is (out, in / groups, ...), or (in, out / groups, ...) where transposed.
    if groups == 1:
        into, out_of = (rows, columns) if transposed else (columns, rows)
        _bind(trace, channels, into)
        trace.weights.append((out_of, into))
    else:
        trace.tie(channels, groups if weight.shape[1] > 1 or transposed else 1)
        if weight.shape[1] == 1 and not transposed:  # depthwise: filter o sees channel o // multiplier alone
            each = np.repeat(channels, len(rows) // len(channels))
            if rows.any():
                _bind(trace, each, rows)
            out_of = rows = np.where(rows == 0, each, rows)  # one filter for all of them has no dyes of its own
        elif transposed:
            _bind(trace, channels, rows)
            trace.tie(rows, groups)
            trace.weights.append((columns, rows))
            out_of = np.tile(columns, groups)
        else:
            _bind(trace, channels, np.tile(columns, groups))
            trace.tie(rows, groups)
            trace.weights.append((rows, columns))
            out_of = rows
    if isinstance(bias, DyeTensor):
        trace.unite(out_of, _or_zeros(bias.along(0), out_of))
    others = _passing(trace, inputs, out.shape, 1)
    seen = inputs.shape if transposed else out.shape
    places = [extent for dim, extent in extents(trace, others, seen).items() if dim >= 2]
    count(
        trace,
        "conv",
        seen[0] * int(np.prod(weight.shape[2:])),
        [*places, rows, columns],
        getattr(weight, "parameter", None),
    )
    return (Plane.along(out_of, 1, out.ndim), *others)


def _matmul(trace: Trace, out: torch.Tensor, args: Arguments, kwargs: Keywords, *, counted: bool = True) -> Any:
    """(..., m, k) @ (..., k, n), or with a vector on the right.

    With a weight on one side it binds that weight's k to the other side's. Two activations are an attention, whose code
    holds the number of heads: what they contract cannot change.
    """
    a, b = args[-2:]
    inner, columns = (0, None) if b.ndim == 1 else (b.ndim - 2, b.ndim - 1)
    left, right = along(a, -1), along(b, inner)
    if is_activation(a) and is_activation(b):
        if a.shape[-1] > 1 and (left is None or right is None or left.any() or right.any()):
            if counted:
                count(trace, "linear", a.numel() * b.shape[-1], [])
            return frozen(trace, [a, b], f"a product of two activations ({user_line()})", out.shape)
        left = right = np.zeros(a.shape[-1], dtype=np.int64)
    elif left is None or right is None:
        return NotImplemented
    else:
        _bind(trace, left, right)
        _bind(trace, right, left)
    planes: list[Plane] = []
    if isinstance(a, DyeTensor):
        first = _passing(trace, a, None, a.ndim - 1)
        planes += first if columns is not None else [Plane(p.table[..., 0], p.varies) for p in first]
    if isinstance(b, DyeTensor) and columns is not None:
        planes += _passing(trace, b, None, inner)
    joined: list[Plane] = []
    for plane in planes:
        join(trace, joined, plane.raised(out.ndim))
    weight, rows = (b, columns) if is_activation(a) or not is_activation(b) else (a, a.ndim - 2)
    if isinstance(weight, DyeTensor) and rows is not None:
        produced = weight.along(rows)
        if produced is not None:
            trace.weights.append((produced, right))
            if len(args) == 3 and isinstance(args[0], DyeTensor):
                trace.unite(produced, _or_zeros(args[0].along(-1), produced))
    if counted:
        inside = left if left.any() else right
        count(trace, "linear", 1, [*extents(trace, joined, out.shape).values(), inside])
    return tuple(joined)


def _batch_norm(trace: Trace, out: Any, args: Arguments, kwargs: Keywords) -> Any:
    inputs, *tensors = args[:5]
    channels = inputs.along(1) if isinstance(inputs, DyeTensor) else None
    if channels is None:
        return NotImplemented
    _bind_vectors(trace, channels, tensors)
    # Where it takes the statistics of what it sees (weights that are standardised), fvcore counts those, too.
    kept = isinstance(tensors[2], torch.Tensor) and args[5] is not True
    factor = (2 if kept else 5) if isinstance(tensors[0], torch.Tensor) else (1 if kept else 4)
    planes = (
        inputs.planes if any(channels) else (*inputs.planes, Plane.along(_named(channels, tensors), 1, inputs.ndim))
    )
    reason = None if is_activation(inputs) else KERNEL  # a weight's kernel goes along with its columns
    count(trace, "batch_norm", factor, extents(trace, planes, inputs.shape, reason).values())
    return planes


def _layer_norm(trace: Trace, out: Any, args: Arguments, kwargs: Keywords) -> Any:
    inputs, shape, *tensors = args[:4]
    if not isinstance(inputs, DyeTensor):
        return NotImplemented
    channels = inputs.along(-1) if len(shape) == 1 else None
    if channels is not None:
        _bind_vectors(trace, channels, tensors)
    else:  # over channels and places
        for plane in (plane for tensor in tensors if isinstance(tensor, DyeTensor) for plane in tensor.planes):
            mine = plane.raised(inputs.ndim)
            if any(other.varies == mine.varies for other in inputs.planes):
                join(trace, list(inputs.planes), mine)
            else:
                freeze_places(trace, mine)
    count(trace, "layer_norm", _normal(tensors), extents(trace, inputs.planes, inputs.shape).values())
    return inputs.planes


def _group_norm(trace: Trace, out: Any, args: Arguments, kwargs: Keywords) -> Any:
    inputs, weight, bias, *_, groups, _ = args
    channels = inputs.along(1) if isinstance(inputs, DyeTensor) else None
    if channels is None:
        return NotImplemented
    trace.tie(channels, groups)
    _bind_vectors(trace, channels, (weight, bias))
    count(trace, "group_norm", _normal([weight]), extents(trace, inputs.planes, inputs.shape).values())
    return inputs.planes


def _normal(tensors: Sequence[Any]) -> int:
    """What fvcore counts for each element of a normalisation: one less without a scale."""
    return 5 if isinstance(tensors[0], torch.Tensor) else 4


def _embedding(trace: Trace, out: torch.Tensor, args: Arguments, kwargs: Keywords) -> Any:
    weight = args[0]
    entries, features = along(weight, 0), along(weight, 1)
    if entries is None or features is None:
        return NotImplemented
    trace.freeze(entries, f"the number of entries of a table ({user_line()})")
    trace.weights.append((features, entries))
    return (Plane.along(features, -1, out.ndim),)


def _bilinear(trace: Trace, out: torch.Tensor, args: Arguments, kwargs: Keywords) -> Any:
    """sum over i and j of weight[o, i, j] * a[i] * b[j], as `torch.nn.functional.bilinear` writes it."""
    a, weight, b = args[:3]
    if (args[3:7]) != ([1, 3], [0], [1, 2], [2, 3]) or not isinstance(weight, DyeTensor):
        return NotImplemented
    rows, first, second = (weight.along(dim) for dim in range(3))
    left, right = along(a, -1), along(b, -1)
    if any(each is None for each in (rows, first, second, left, right)):
        return NotImplemented
    assert rows is not None and first is not None and second is not None and left is not None and right is not None
    _bind(trace, left, first)
    _bind(trace, right, second)
    trace.freeze(second, f"a weight is priced with two sizes that change, this is its third ({user_line()})")
    trace.weights.append((rows, np.concatenate([first, second])))
    return (Plane.along(rows, -1, out.ndim),)


def _attention(trace: Trace, out: Any, args: Arguments, kwargs: Keywords) -> Any:
    tensors = dyed((args, kwargs))
    return frozen(trace, tensors, f"a product of two activations ({user_line()})", out[0].shape)


# What they share -----------------------------------------------------------------------------------------------------


def frozen(trace: Trace, tensors: Iterable[DyeTensor], reason: str, shape: Sequence[int]) -> Planes:
    """What an operator puts out that freezes all it reads: one dye that stands for the reason."""
    dyes = np.concatenate([*(tensor.dyes() for tensor in tensors), np.zeros(0, dtype=np.int64)])
    mark = trace.freeze(dyes, reason)
    return (Plane.single(mark, len(shape)),)


def is_activation(tensor: Any) -> bool:
    """Whether a tensor depends on the network's input; not so weights and what is made of weights alone."""
    return isinstance(tensor, DyeTensor) and tensor.step != 0


def along(tensor: torch.Tensor, dim: int) -> Ids | None:
    """The dyes of a dimension (size,), as `DyeTensor.along`.

    A constant has none, nor has what was made of one channel alone: no size depends on it.
    """
    if isinstance(tensor, DyeTensor) and not (tensor.shape[dim] > 1 and is_single(tensor)):
        return tensor.along(dim)
    return np.zeros(tensor.shape[dim], dtype=np.int64)


def is_single(tensor: DyeTensor) -> bool:
    """Whether a tensor has one dye alone, of a channel, not of a reason why it is frozen."""
    if len(tensor.planes) != 1 or tensor.planes[0].varies:
        return False
    return tensor.planes[0].table.item() not in tensor.tracing.frozen


def join(trace: Trace, planes: list[Plane], plane: Plane) -> None:
    """Unite a plane with the one that runs along the same dimensions, or add it to them."""
    for index, other in enumerate(planes):
        # Where one mixes dimensions that the other keeps apart, they are united element by element.
        if plane.varies & other.varies:
            a, b = np.broadcast_arrays(plane.table, other.table)
            trace.unite(a.ravel(), b.ravel())
            planes[index] = Plane.of(np.where(b != 0, b, a))
            return
    planes.append(plane)


def _bind(trace: Trace, inputs: Ids, parameter: Ids) -> None:
    """A parameter reads a tensor's dimension: same dyes; what has none (zeros of a padding) cannot change its size."""
    trace.unite(inputs, parameter)
    if np.count_nonzero(inputs) == len(inputs):
        return
    bare = (inputs == 0) & (parameter != 0)
    if bare.any():
        reason = f"it reads a constant, or a single channel, which cannot change ({user_line()})"
        trace.freeze(parameter[bare], reason)


def _bind_vectors(trace: Trace, channels: Ids, tensors: Sequence[Any]) -> None:
    """A normalisation's scale, shift and statistics go with the channels it sees; those it does not have are None."""
    for tensor in tensors:
        if isinstance(tensor, DyeTensor):
            _bind(trace, channels, _or_zeros(tensor.along(0), channels))


def _or_zeros(dyes: Ids | None, like: Ids) -> Ids:
    return np.zeros_like(like) if dyes is None or len(dyes) != len(like) else dyes


def _named(channels: Ids, tensors: Sequence[Any]) -> Ids:
    for tensor in tensors:
        if not channels.any() and isinstance(tensor, DyeTensor):
            return _or_zeros(tensor.along(0), channels)
    return channels


def _passing(trace: Trace, tensor: Any, shape: Sequence[int] | None, dim: int) -> Planes:
    """The planes of a tensor that do not run along `dim`, for an output of this shape (None: the tensor's own).

    What changes its size on the way (the places of a convolution that strides) is of places, not channels: frozen.
    """
    passing: list[Plane] = []
    for plane in tensor.planes if isinstance(tensor, DyeTensor) else ():
        if not plane.varies or dim in plane.varies:
            continue
        if shape is None or all(shape[other] == tensor.shape[other] for other in plane.varies):
            passing.append(plane)
        else:
            freeze_places(trace, plane)
    return tuple(passing)


def freeze_places(trace: Trace, plane: Plane, reason: str | None = None) -> None:
    """The dyes of a plane cannot change: the number of places is the input's."""
    trace.freeze(plane.unique(), reason or f"it belongs to places, not channels ({user_line()})")


def extents(
    trace: Trace, planes: Iterable[Plane], shape: Sequence[int], reason: str | None = None
) -> dict[int, Ids | int]:
    """What the size of every dimension of a tensor is made of: its dyes (size,), or the size where it has none.

    A size that mixes dimensions, or several dyes, is no sum: all but one of them cannot change.
    """
    found: dict[int, Ids | int] = dict(enumerate(shape))
    for plane in planes:
        varies = sorted(plane.varies)
        if len(varies) == 1 and isinstance(found[varies[0]], int):
            found[varies[0]] = plane.vector()
        elif varies:
            freeze_places(trace, plane, reason)
    return found


def count(trace: Trace, kind: str, factor: int, extents: Iterable[Ids | int], weight: str | None = None) -> None:
    """Count factor * the product of some sizes. At most two of them can change: of more, the first cannot."""
    changing: list[Ids] = []
    for extent in extents:
        if isinstance(extent, int):
            factor *= extent
        elif np.count_nonzero(extent):
            changing.append(extent)
        else:
            factor *= len(extent)
    for extra in changing[:-2]:
        trace.freeze(extra, f"it belongs to places, not channels ({user_line()})")
        factor *= len(extra)
    a, b = [*changing[-2:], None, None][:2]
    trace.counted(kind, factor, np.zeros(1, dtype=np.int64) if a is None else a, b, weight)


# Functions that fvcore counts otherwise than the operators they are made of ------------------------------------------


def _whole(formula: Callable[..., None]) -> Callable[..., Any]:
    """Run a function without counting its parts, then count it by itself."""

    def seen(run: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:
        trace = dyed((args, kwargs))[0].tracing
        operations = trace.record.operations
        before = len(operations)
        out = run()
        del operations[before:]
        formula(trace, out, *args, **kwargs)
        last = len(trace.record.steps) - 1
        operations[before:] = [replace(operation, step=last) for operation in operations[before:]]
        return out

    return seen


def _nothing(trace: Trace, out: Any, *args: Any, **kwargs: Any) -> None:
    """What fvcore does not know."""


def _each_input(trace: Trace, out: Any, inputs: Any, *_: Any, **__: Any) -> None:
    if isinstance(inputs, DyeTensor):
        count(trace, "adaptive_avg_pool2d", 1, extents(trace, inputs.planes, inputs.shape).values())


def _instance_norm(
    trace: Trace, out: Any, inputs: Any, mean: Any = None, var: Any = None, *rest: Any, **kw: Any
) -> None:
    # fvcore looks for the scale where the function has it.
    weight = kw.get("weight", rest[0] if rest else None)
    count(trace, "instance_norm", _normal([weight]), extents(trace, inputs.planes, inputs.shape).values())


def _matmul_of(trace: Trace, out: Any, a: Any, b: Any, **_: Any) -> None:
    """The left side's size times the columns, whatever is broadcast."""
    sizes = [extents(trace, side.planes if isinstance(side, DyeTensor) else (), side.shape) for side in (a, b)]
    count(trace, "linear", 1, [*sizes[0].values(), sizes[1][b.ndim - 1]])


def _einsum(trace: Trace, out: Any, equation: Any, *operands: Any) -> None:
    """fvcore rounds what it counts to four digits, which no closed form does: none of the sizes can change."""
    tensors = [leaf for leaf in tree_iter(operands) if isinstance(leaf, torch.Tensor)]
    dyes = [tensor.dyes() for tensor in tensors if isinstance(tensor, DyeTensor)]
    trace.freeze(np.concatenate(dyes), f"einsum, whose count fvcore rounds ({user_line()})")
    report = np.einsum_path(equation, *[np.broadcast_to(0.0, t.shape) for t in tensors], optimize="optimal")[1]
    line = next(line for line in report.split("\n") if "optimized flop" in line.lower())
    count(trace, "linear", int(float(line.split(":")[-1]) // 2), [])


def _convolved(run: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:
    """fvcore does not know convolutions whose padding is a word."""
    padding = kwargs.get("padding", args[4] if len(args) > 4 else 0)
    return _whole(_nothing)(run, *args, **kwargs) if isinstance(padding, str) else run()


def _heads(run: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:
    """PyTorch's multi-head attention holds the size of what it reads."""
    tensors = dyed((args, kwargs))
    frozen(tensors[0].tracing, tensors, f"multi-head attention holds its sizes ({user_line()})", ())
    return run()


def _recurrent(function: Callable[..., Any]) -> Callable[..., Any]:
    """Recurrent layers hold the sizes of what they read and put out; fvcore does not count them."""

    def seen(run: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:
        tensors = dyed((args, kwargs))
        trace = tensors[0].tracing
        reason = f"a recurrent layer holds its sizes ({user_line()})"
        step = trace.record.step(function.__name__, [tensor.step for tensor in tensors], ())
        return tree_map(
            lambda leaf: DyeTensor(leaf.shape, frozen(trace, tensors, reason, leaf.shape), trace, step=step),
            function(*to_meta(args), **to_meta(kwargs)),
        )

    return seen


def _among_neighbours(run: Callable[[], Any], inputs: Any, *args: Any, **kwargs: Any) -> Any:
    """Each channel is divided by what is around it, however many there are."""
    step = inputs.tracing.record.step("local_response_norm", [inputs.step], inputs.shape)
    return DyeTensor(inputs.shape, inputs.planes, inputs.tracing, dtype=inputs.dtype, step=step)


RECURRENT = (
    torch.lstm,
    torch.gru,
    torch.rnn_tanh,
    torch.rnn_relu,
    torch.lstm_cell,
    torch.gru_cell,
    torch.rnn_tanh_cell,
    torch.rnn_relu_cell,
)
SEEN: Mapping[Any, Callable[..., Any]] = {
    F.adaptive_avg_pool2d: _whole(_each_input),
    F.instance_norm: _whole(_instance_norm),
    torch.conv1d: _convolved,
    torch.conv2d: _convolved,
    torch.conv3d: _convolved,
    torch.matmul: _whole(_matmul_of),
    torch.Tensor.matmul: _whole(_matmul_of),
    torch.Tensor.__matmul__: _whole(_matmul_of),
    torch.Tensor.__rmatmul__: _whole(lambda trace, out, a, b: _matmul_of(trace, out, b, a)),
    torch.einsum: _whole(_einsum),
    F.scaled_dot_product_attention: _whole(_nothing),
    F.multi_head_attention_forward: _heads,
    F.local_response_norm: _among_neighbours,
    **{function: _recurrent(function) for function in RECURRENT},
}
"""Functions that are looked at as wholes, for they reach ATen in parts; called with what runs them."""

BATCH_NORMS = {
    aten.native_batch_norm,
    aten._native_batch_norm_legit,
    aten._native_batch_norm_legit_no_training,
    aten._batch_norm_with_update,
    aten._batch_norm_no_update,
    aten.cudnn_batch_norm,
}

COMBINATIONS: Mapping[Any, Callable[[Trace, Any, Arguments, Keywords], Any]] = {
    aten.convolution: _convolution,
    aten.addmm: _matmul,
    aten.mm: _matmul,
    aten.bmm: _matmul,
    aten.baddbmm: partial(_matmul, counted=False),
    aten.mv: partial(_matmul, counted=False),
    aten.dot: partial(_matmul, counted=False),
    aten.vdot: partial(_matmul, counted=False),
    aten._trilinear: _bilinear,
    aten.embedding: _embedding,
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
    aten.native_layer_norm: _layer_norm,
    aten.native_group_norm: _group_norm,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention: _attention,
    aten._scaled_dot_product_efficient_attention: _attention,
    aten._scaled_dot_product_cudnn_attention: _attention,
    aten._scaled_dot_product_fused_attention_overrideable: _attention,
}
