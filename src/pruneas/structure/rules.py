"""What the operators of ATen do to dyes. At this level all ways of writing a layer look alike.

Operators that move data need no rule of their own: they run on the planes. Pointwise ones unite the dyes of both
sides. The few that combine dimensions bind them. An operator without a rule freezes what it touches, with its name and
the user's line as the reason: nothing is skipped in silence.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils._pytree import tree_iter, tree_map

from pruneas.errors import StructureError
from pruneas.structure.dye import DyeTensor, Ids, Planes, Trace, compact, settle, to_meta, user_line, varying

aten = torch.ops.aten
Arguments = tuple[Any, ...]
Keywords = dict[str, Any]


def apply(trace: Trace, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """Run one operator on dyes. In-place operators change the planes of their first argument."""
    packet = func.overloadpacket
    name = packet.__name__
    if name.endswith("_") and not name.endswith("__"):
        target = args[0]
        result = apply_functional(trace, func, getattr(aten, name[:-1], packet), args, kwargs)
        if isinstance(target, DyeTensor):
            if target.base is not None:
                dyes = np.concatenate([target.dyes(), target.base.dyes(), result.dyes()])
                target.base.planes = _frozen(trace, dyes, f"{name} into a view", target.base.shape)
            target.planes = result.planes if isinstance(result, DyeTensor) else ()
        return target
    return apply_functional(trace, func, packet, args, kwargs)


def apply_functional(trace: Trace, func: Any, packet: Any, args: Arguments, kwargs: Keywords) -> Any:
    try:
        shapes = func(*to_meta(args), **to_meta(kwargs))
    except Exception as error:
        raise StructureError(
            f"{func}: its output's shape cannot be told without values: {error} ({user_line()})"
        ) from error
    if packet in RULES:
        planes = RULES[packet](trace, shapes, args, kwargs)
    elif packet in MOVES or func.is_view:
        planes = _moved(trace, func, packet, shapes, args, kwargs)
    elif packet in SAME_SHAPE or torch.Tag.pointwise in func.tags:
        planes = _pointwise(trace, shapes, args, kwargs)
    elif packet in SPATIAL:
        planes = _spatial(trace, shapes, args, kwargs)
    elif packet in REDUCTIONS:
        planes = _reduced(trace, shapes, args, kwargs)
    elif packet in FILLS:
        planes = ()
    else:
        planes = NotImplemented
    if planes is NotImplemented:
        dyes = _all_dyes(args, kwargs)
        reason = f"{packet} has no rule here ({user_line()})"
        return tree_map(
            lambda leaf: (
                DyeTensor(leaf.shape, _frozen(trace, dyes, reason, leaf.shape), trace)
                if isinstance(leaf, torch.Tensor)
                else leaf
            ),
            shapes,
        )
    base = args[0] if func.is_view and args and isinstance(args[0], DyeTensor) else None
    if isinstance(shapes, torch.Tensor):
        return DyeTensor(shapes.shape, planes, trace, base)
    # Of several outputs the rules describe the first, but for splits, which describe each.
    each = planes if packet in SPLITS else [planes] + [()] * (len(shapes) - 1)
    made = [DyeTensor(leaf.shape, mine, trace, base) for leaf, mine in zip(shapes, each, strict=True)]
    return type(shapes)(made) if isinstance(shapes, list) else tuple(made)


def _frozen(trace: Trace, dyes: Ids, reason: str, shape: Sequence[int]) -> Planes:
    mark = trace.freeze(dyes, reason)
    return (torch.full((1,) * len(shape), mark, dtype=torch.int64).expand(tuple(shape)),)


def _all_dyes(args: Arguments, kwargs: Keywords) -> Ids:
    found = [leaf.dyes() for leaf in tree_iter((args, kwargs)) if isinstance(leaf, DyeTensor)]
    return np.concatenate([*found, np.zeros(0, dtype=np.int64)])


def _plane(dyes: Ids, dim: int, shape: Sequence[int]) -> torch.Tensor:
    """A plane that holds these dyes along one dimension."""
    view = [len(dyes) if d == dim % len(shape) else 1 for d in range(len(shape))]
    return torch.from_numpy(np.ascontiguousarray(dyes)).view(view).expand(tuple(shape))


# Operators that combine dimensions -----------------------------------------------------------------------------------


def _convolution(trace: Trace, out: torch.Tensor, args: Arguments, kwargs: Keywords) -> Any:
    inputs, weight, bias, _, _, _, transposed, _, groups = args[:9]
    if not isinstance(weight, DyeTensor) or not isinstance(inputs, DyeTensor):
        return NotImplemented
    channels = inputs.along(1)
    rows, columns = weight.along(0), weight.along(1)
    if channels is None or rows is None or columns is None or varying_beyond(inputs, {1}):
        return NotImplemented
    for dim in range(2, weight.ndim):
        kernel = weight.along(dim)
        if kernel is not None and kernel.any():
            trace.freeze(kernel, "the kernel's size")
    # The weight is (out, in / groups, ...), or (in, out / groups, ...) where transposed.
    if groups == 1:
        into, out_of = (rows, columns) if transposed else (columns, rows)
        _bind(trace, channels, into)
        trace.weights.append((out_of, into))
    else:
        trace.tie(channels, groups if weight.shape[1] > 1 or transposed else 1)
        if weight.shape[1] == 1 and not transposed:  # depthwise: filter o sees channel o // multiplier alone
            multiplier = len(rows) // len(channels)
            trace.unite(np.repeat(channels, multiplier), rows)
            if multiplier > 1:
                for j in range(1, multiplier):
                    trace.unite(rows[0::multiplier], rows[j::multiplier])
            out_of = rows
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
    places = int(np.prod((inputs if transposed else out).shape[2:])) * int(np.prod(weight.shape[2:]))
    trace.counted("conv", places, rows, columns)
    return (_plane(out_of, 1, out.shape),)


def _matmul(trace: Trace, out: torch.Tensor, args: Arguments, kwargs: Keywords) -> Any:
    a, b = args[-2:]
    if not isinstance(a, DyeTensor) or not isinstance(b, DyeTensor):
        return NotImplemented
    left, right, columns = a.along(-1), b.along(0), b.along(1)
    if left is None or right is None or columns is None or varying_beyond(a, {a.ndim - 1}):
        return NotImplemented
    _bind(trace, left, right)
    trace.weights.append((columns, right))
    if len(args) == 3 and isinstance(args[0], DyeTensor):
        trace.unite(columns, _or_zeros(args[0].along(-1), columns))
    trace.counted("linear", int(np.prod(a.shape[:-1])), right, columns)
    return (_plane(columns, -1, out.shape),)


def _batch_norm(trace: Trace, out: Any, args: Arguments, kwargs: Keywords) -> Any:
    inputs, *tensors = args[:5]
    channels = inputs.along(1)
    if channels is None or varying_beyond(inputs, {1}):
        return NotImplemented
    for tensor in tensors:
        if isinstance(tensor, DyeTensor):
            _bind(trace, channels, _or_zeros(tensor.along(0), channels))
    affine = 2 if isinstance(tensors[0], DyeTensor) else 1
    trace.counted("batch_norm", affine * (inputs.numel() // max(1, inputs.shape[1])), _named(channels, tensors))
    return inputs.planes if any(channels) else (_plane(_named(channels, tensors), 1, inputs.shape),)


def _layer_norm(trace: Trace, out: Any, args: Arguments, kwargs: Keywords) -> Any:
    inputs, shape, *tensors = args[:4]
    if len(shape) != 1:
        return NotImplemented
    channels = inputs.along(-1)
    if channels is None or varying_beyond(inputs, {inputs.ndim - 1}):
        return NotImplemented
    for tensor in tensors:
        if isinstance(tensor, DyeTensor):
            _bind(trace, channels, _or_zeros(tensor.along(0), channels))
    affine = 5 if isinstance(tensors[0], DyeTensor) else 4
    trace.counted("layer_norm", affine * (inputs.numel() // max(1, inputs.shape[-1])), channels)
    return inputs.planes


def _group_norm(trace: Trace, out: Any, args: Arguments, kwargs: Keywords) -> Any:
    inputs, weight, bias, *_, groups, _ = args
    channels = inputs.along(1)
    if channels is None or varying_beyond(inputs, {1}):
        return NotImplemented
    trace.tie(channels, groups)
    for tensor in (weight, bias):
        if isinstance(tensor, DyeTensor):
            _bind(trace, channels, _or_zeros(tensor.along(0), channels))
    affine = 5 if isinstance(weight, DyeTensor) else 4
    trace.counted("group_norm", affine * (inputs.numel() // max(1, inputs.shape[1])), channels)
    return inputs.planes


def _bind(trace: Trace, inputs: Ids, parameter: Ids) -> None:
    """A parameter reads a tensor's dimension: same dyes; what has none (zeros of a padding) cannot change its size."""
    trace.unite(inputs, parameter)
    bare = (inputs == 0) & (parameter != 0)
    if bare.any():
        trace.freeze(parameter[bare], f"it reads values that come from no layer ({user_line()})")


def _or_zeros(dyes: Ids | None, like: Ids) -> Ids:
    return np.zeros_like(like) if dyes is None or len(dyes) != len(like) else dyes


def _named(channels: Ids, tensors: Sequence[Any]) -> Ids:
    for tensor in tensors:
        if not channels.any() and isinstance(tensor, DyeTensor):
            return _or_zeros(tensor.along(0), channels)
    return channels


def varying_beyond(tensor: DyeTensor, dims: set[int]) -> bool:
    return any(varying(plane) - dims for plane in tensor.planes)


# Operators that move data --------------------------------------------------------------------------------------------


def _moved(trace: Trace, func: Any, packet: Any, shapes: Any, args: Arguments, kwargs: Keywords) -> Any:
    sources = [leaf for leaf in tree_iter((args, kwargs)) if isinstance(leaf, DyeTensor)]
    if packet in RESHAPES:
        _tie_split_dimensions(trace, sources[0], shapes.shape)
    if packet in SPLITS and packet is not aten.unbind:
        dim = (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % sources[0].ndim
        sizes = {leaf.shape[dim] for leaf in shapes}
        dyes = sources[0].along(dim)
        if len(shapes) > 1 and len(sizes) == 1 and dyes is not None:
            trace.tie(dyes, len(shapes))
    results = []
    for level in range(max(len(source.planes) for source in sources) if sources else 0):

        def stand_in(leaf: Any, level: int = level) -> Any:
            if isinstance(leaf, DyeTensor):
                zeros = torch.zeros((1,) * leaf.ndim, dtype=torch.int64).expand(leaf.shape)
                return leaf.planes[level] if level < len(leaf.planes) else zeros
            return leaf

        moved_args, moved_kwargs = tree_map(stand_in, (args, kwargs))
        moved_kwargs.pop("dtype", None)
        if packet in RESHAPES:
            results.append(moved_args[0].reshape(shapes.shape))
        elif packet in COPIES:
            results.append(moved_args[0])
        else:
            results.append(func(*moved_args, **moved_kwargs))
    if packet in SPLITS:
        return [tuple(settle(result[part]) for result in results) for part in range(len(shapes))]
    return tuple(settle(result) for result in results)


def _tie_split_dimensions(trace: Trace, source: DyeTensor, shape: Sequence[int]) -> None:
    """A view that splits a dimension ties its parts: the network's code holds the number of parts."""
    before = [(dim, size) for dim, size in enumerate(source.shape) if size != 1]
    after = [size for size in shape if size != 1]
    while before and after:
        have, want = before[0][1], after[0]
        taken, given = 1, 1
        while have != want and taken < len(before) + 1 and given < len(after) + 1:
            if have < want and taken < len(before):
                have *= before[taken][1]
                taken += 1
            elif given < len(after):
                want *= after[given]
                given += 1
            else:
                break
        if taken == 1 and given > 1:
            dyes = source.along(before[0][0])
            if dyes is not None:
                trace.tie(dyes, after[0])
        before, after = before[taken:], after[given:]


# Operators that keep dyes where they are -----------------------------------------------------------------------------


def _pointwise(trace: Trace, out: Any, args: Arguments, kwargs: Keywords) -> Any:
    if not isinstance(out, torch.Tensor):
        out = out[0]
    planes: list[torch.Tensor] = []
    for source in (leaf for leaf in tree_iter((args, kwargs)) if isinstance(leaf, DyeTensor)):
        if source.ndim > out.ndim:
            return NotImplemented
        for plane in source.planes:
            _join(trace, planes, plane.expand(out.shape))
    return tuple(settle(plane) for plane in planes)


def _join(trace: Trace, planes: list[torch.Tensor], plane: torch.Tensor) -> None:
    """Unite a plane with the one that runs along the same dimensions, or add it to them."""
    runs = varying(plane)
    for index, other in enumerate(planes):
        theirs = varying(other)
        if runs == theirs or not runs or not theirs:
            # Compare on the part of the shape where either differs; the rest repeats.
            cut = tuple(slice(None) if d in runs | theirs else slice(0, 1) for d in range(plane.ndim))
            a, b = plane[cut].contiguous(), other[cut].contiguous()
            trace.unite(a.numpy().ravel().astype(np.int64), b.numpy().ravel().astype(np.int64))
            planes[index] = torch.where(b != 0, b, a).expand(plane.shape)
            return
        if runs & theirs:
            # One mixes dimensions that the other keeps apart: unite element by element.
            trace.unite(plane.reshape(-1).numpy(), other.reshape(-1).numpy())
            planes[index] = torch.where(other != 0, other, plane)
            return
    planes.append(plane)


def _spatial(trace: Trace, out: Any, args: Arguments, kwargs: Keywords) -> Any:
    """Pooling and resizing: channels stay, the places behind them change."""
    source = args[0]
    out = out if isinstance(out, torch.Tensor) else out[0]
    if varying_beyond(source, {0, 1}):
        return NotImplemented
    index = tuple(slice(None) if dim < 2 else slice(0, 1) for dim in range(source.ndim))
    return tuple(plane[index].expand(out.shape) for plane in source.planes)


def _reduced(trace: Trace, out: Any, args: Arguments, kwargs: Keywords) -> Any:
    source = args[0]
    out = out if isinstance(out, torch.Tensor) else out[0]
    dims = args[1] if len(args) > 1 and not isinstance(args[1], bool) else kwargs.get("dim")
    dims = list(range(source.ndim)) if dims in (None, []) else [dims] if isinstance(dims, int) else dims
    gone = {dim % source.ndim for dim in dims}
    index = tuple(slice(0, 1) if dim in gone else slice(None) for dim in range(source.ndim))
    kept = [plane[index] for plane in source.planes if not varying(plane) & gone]
    return tuple(plane.reshape(out.shape) for plane in kept)


def _pooled_to_one(inputs: Any, output_size: Any, *_: Any, **__: Any) -> None:
    """fvcore counts adaptive pooling one per input element; ATen shows a pooling to one place as a plain mean."""
    if isinstance(inputs, DyeTensor):
        channels = inputs.along(1)
        dyes = compact(inputs.planes[0]).numpy().ravel().astype(np.int64) if channels is None else channels
        inputs.trace.counted("adaptive_avg_pool2d", inputs.numel() // max(1, len(dyes)), dyes)


SEEN: Mapping[Any, Callable[..., None]] = {F.adaptive_avg_pool2d: _pooled_to_one}

RULES: Mapping[Any, Callable[[Trace, Any, Arguments, Keywords], Any]] = {
    aten.convolution: _convolution,
    aten.addmm: _matmul,
    aten.mm: _matmul,
    aten.native_batch_norm: _batch_norm,
    aten._native_batch_norm_legit_no_training: _batch_norm,
    aten._batch_norm_no_update: _batch_norm,
    aten.cudnn_batch_norm: _batch_norm,
    aten.native_layer_norm: _layer_norm,
    aten.native_group_norm: _group_norm,
}
RESHAPES = {aten.view, aten._unsafe_view, aten.reshape}
SPLITS = {aten.split, aten.split_with_sizes, aten.chunk, aten.unbind, aten.unsafe_split}
COPIES = {aten.clone, aten._to_copy, aten.detach, aten.alias, aten.contiguous, aten.lift_fresh}
MOVES = (
    RESHAPES
    | SPLITS
    | COPIES
    | {aten.cat, aten.stack, aten.constant_pad_nd, aten.index, aten.index_select, aten.roll, aten.flip, aten.repeat}
    | {aten.reflection_pad2d, aten.replication_pad2d}
)
# Same shape in and out, without PyTorch's own tag for it.
SAME_SHAPE = {
    aten._softmax,
    aten._log_softmax,
    aten.native_dropout,
    aten.cumsum,
    aten.prelu,
    aten._prelu_kernel,
    aten.hardswish,
    aten.hardsigmoid,
    aten.hardtanh,
    aten.celu,
    aten.threshold,
}
SPATIAL = {
    aten.max_pool2d_with_indices,
    aten.avg_pool2d,
    aten._adaptive_avg_pool2d,
    aten.adaptive_max_pool2d,
    aten.avg_pool1d,
    aten.max_pool1d_with_indices,
    aten.avg_pool3d,
    aten._adaptive_avg_pool3d,
    aten.max_pool3d_with_indices,
    aten.upsample_nearest2d,
    aten.upsample_bilinear2d,
    aten.upsample_nearest1d,
    aten.upsample_bicubic2d,
}
REDUCTIONS = {
    aten.mean,
    aten.sum,
    aten.amax,
    aten.amin,
    aten.var,
    aten.std,
    aten.max,
    aten.min,
    aten.linalg_vector_norm,
}
FILLS = {aten.zeros_like, aten.ones_like, aten.full_like, aten.new_zeros, aten.new_ones, aten.new_full, aten.empty_like}
