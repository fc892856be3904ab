"""What the operators of ATen do to dyes. At this level all ways of writing a layer look alike.

Operators that move data need no rule of their own: they run on the planes. Pointwise ones unite the dyes of both
sides. The few that combine dimensions bind them (`combine.py`). An operator without a rule freezes what it touches,
with its name and the user's line as the reason: nothing is skipped in silence.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_iter, tree_map

from pruneas.errors import StructureError
from pruneas.structure.combine import (
    BATCH_NORMS,
    COMBINATIONS,
    Arguments,
    Keywords,
    count,
    extents,
    freeze_places,
    frozen,
    is_activation,
    join,
)
from pruneas.structure.dye import DyeTensor, Trace, dyed, to_meta, user_line
from pruneas.structure.planes import Ids, Plane, Planes

aten = torch.ops.aten


def apply(func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """Run one operator on dyes. In-place operators change the planes of their first argument."""
    packet = func.overloadpacket
    name = packet.__name__
    reads = dyed((args, kwargs))
    trace = reads[0].tracing
    if name.endswith("_") and not name.endswith("__"):
        target = args[0]
        result = apply_functional(trace, func, getattr(aten, name[:-1], packet), args, kwargs, reads)
        if isinstance(target, DyeTensor):
            if target.shape != result.shape:
                raise StructureError(f"{name} changes a tensor's shape in place ({user_line()})")
            if target.base is not None and not _fits(target, args[1:], result):
                reason = f"{name} writes into a part of a tensor ({user_line()})"
                target.base.planes = frozen(trace, [target, target.base, result], reason, target.base.shape)
            target.planes, target.step = result.planes, result.step
        else:
            frozen(trace, reads, f"{name} writes into a constant ({user_line()})", ())
        return target
    return apply_functional(trace, func, packet, args, kwargs, reads)


def _fits(target: DyeTensor, written: Arguments, result: DyeTensor) -> bool:
    """Whether what is written into a view leaves the dyes of what it is a view of as they are.

    So it is where the view has all its channels, or what is written has channels of its own for the view's.
    """
    assert target.base is not None
    planes = [plane.raised(result.ndim) for leaf in dyed(written) for plane in leaf.planes]
    everything = set(target.dyes()) == set(target.base.dyes())
    met = all(any(_covers(plane, own) for plane in planes) for own in target.planes)
    return (everything or met) and all(any(_covers(own, plane) for own in target.planes) for plane in result.planes)


def _covers(plane: Plane, other: Plane) -> bool:
    alike = plane.varies == other.varies and plane.table.shape == other.table.shape
    return alike and bool(((plane.table != 0) | (other.table == 0)).all())


def apply_functional(
    trace: Trace, func: Any, packet: Any, args: Arguments, kwargs: Keywords, reads: Sequence[DyeTensor]
) -> Any:
    shapes = _shapes(trace, func, packet, args, kwargs)
    if packet in RULES:
        planes = RULES[packet](trace, shapes, args, kwargs)
    elif (packet in MOVES or func.is_view) and not _has_complex((shapes, args)):
        planes = _moved(trace, func, packet, shapes, args, kwargs, reads)
    elif packet in SAME_SHAPE or torch.Tag.pointwise in func.tags:
        planes = _pointwise(trace, shapes, reads)
    elif packet in SPATIAL:
        planes = _spatial(trace, packet, shapes, args, kwargs)
    elif packet in REDUCTIONS:
        planes = _reduced(trace, func, shapes, args, kwargs)
    elif packet in FILLS:
        planes = ()
    else:
        planes = NotImplemented
    first = shapes if isinstance(shapes, torch.Tensor) else shapes[0] if shapes else None
    step = trace.record.step(packet.__name__, [tensor.step for tensor in reads], getattr(first, "shape", ()))
    if planes is NotImplemented:
        reason = f"{packet} has no rule here ({user_line()})"
        return tree_map(
            lambda leaf: (
                DyeTensor(leaf.shape, frozen(trace, reads, reason, leaf.shape), trace, dtype=leaf.dtype, step=step)
                if isinstance(leaf, torch.Tensor)
                else leaf
            ),
            shapes,
        )
    source = args[0] if func.is_view and args and isinstance(args[0], DyeTensor) else None
    base = source if source is None or source.base is None else source.base
    if isinstance(shapes, torch.Tensor):
        return DyeTensor(shapes.shape, planes, trace, base, shapes.dtype, step)
    # Of several outputs the rules describe the first, but for splits, which describe each.
    each = planes if packet in SPLITS else [planes] + [()] * (len(shapes) - 1)
    made = [DyeTensor(leaf.shape, mine, trace, base, leaf.dtype, step) for leaf, mine in zip(shapes, each, strict=True)]
    return type(shapes)(made) if isinstance(shapes, list) else tuple(made)


def _shapes(trace: Trace, func: Any, packet: Any, args: Arguments, kwargs: Keywords) -> Any:
    """What an operator puts out, without values. Networks repeat themselves: each case is worked out once a trace."""
    known = _known_shape(packet, args, kwargs)
    key = (packet, known, args[0].dtype) if known is not None else (func, _case(args), _case(tuple(kwargs.items())))
    if key not in trace.shapes:
        if known is not None:
            first = torch.empty(known, dtype=args[0].dtype, device="meta")
            rest = len(func._schema.returns) - 1
            trace.shapes[key] = (first, *[torch.empty(0, device="meta") for _ in range(rest)]) if rest else first
            return trace.shapes[key]
        if packet is aten._local_scalar_dense:
            raise StructureError(
                f"{func}: the network's code asks for a value, of which a trace has none ({user_line()})"
            )
        try:
            trace.shapes[key] = func(*to_meta(args), **to_meta(kwargs))
        except Exception as error:
            raise StructureError(f"{func}: {error} ({user_line()})") from error
    return trace.shapes[key]


def _known_shape(packet: Any, args: Arguments, kwargs: Keywords) -> Any:
    """The output's shape where it is plain: PyTorch takes its time to find that out. It has the first one's dtype."""
    if packet in ACTIVATIONS:
        return args[0].shape
    if packet in BATCH_NORMS and args[0].ndim > 1:
        of_channels = (args[0].shape[1],)
        return args[0].shape if all(each is None or each.shape == of_channels for each in args[1:5]) else None
    if packet in SUMS and isinstance(args[1], torch.Tensor) and args[0].dtype == args[1].dtype:
        return _broadcast(args[0].shape, args[1].shape)
    if packet is aten.mean and len(args) > 1 and args[1] and not kwargs:
        return _averaged(args[0].shape, *args[1:])
    if packet in (aten.addmm, aten.mm):
        return (args[-2].shape[0], args[-1].shape[1])
    return _convolved(args) if packet is aten.convolution else None


def _broadcast(a: Sequence[int], b: Sequence[int]) -> Sequence[int] | None:
    if len(a) != len(b) or any(m != n and 1 not in (m, n) for m, n in zip(a, b, strict=True)):
        return None
    return a if a == b else tuple(n if m == 1 else m for m, n in zip(a, b, strict=True))


def _averaged(shape: Sequence[int], dims: Sequence[int], keep: bool = False) -> Sequence[int]:
    gone = {dim % len(shape) for dim in dims}
    return tuple(1 if dim in gone else size for dim, size in enumerate(shape) if keep or dim not in gone)


def _convolved(args: Arguments) -> tuple[int, ...] | None:
    inputs, weight, _, stride, padding, dilation, transposed, _, groups = args[:9]
    if transposed or weight.ndim != inputs.ndim or inputs.shape[1] != weight.shape[1] * groups:
        return None
    spatial = zip(inputs.shape[2:], weight.shape[2:], stride, padding, dilation, strict=False)
    sizes = tuple((size + 2 * p - d * (kernel - 1) - 1) // s + 1 for size, kernel, s, p, d in spatial)
    full = len(stride) == len(padding) == len(dilation) == weight.ndim - 2 and min(sizes, default=1) > 0
    return (inputs.shape[0], weight.shape[0], *sizes) if full else None


def _case(argument: Any) -> Any:
    if isinstance(argument, torch.Tensor):
        return (argument.shape, argument.dtype)
    return tuple(map(_case, argument)) if isinstance(argument, tuple | list) else (type(argument), argument)


def _has_complex(tree: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) and leaf.is_complex() for leaf in tree_iter(tree))


# Operators that move data --------------------------------------------------------------------------------------------


def _moved(
    trace: Trace,
    func: Any,
    packet: Any,
    shapes: Any,
    args: Arguments,
    kwargs: Keywords,
    sources: Sequence[DyeTensor],
) -> Any:
    if packet in COPIES:
        return sources[0].planes
    if packet in RESHAPES:
        return _reshaped(trace, sources[0], shapes.shape)
    if packet is aten.constant_pad_nd:
        return _padded(sources[0], args[1])
    if packet is aten.cat:
        return _concatenated(trace, shapes, args[0], args[1] if len(args) > 1 else kwargs.get("dim", 0))
    if packet is aten.stack:
        return _stacked(trace, shapes, args[0], args[1] if len(args) > 1 else kwargs.get("dim", 0))
    if packet is aten.unbind:
        apart = sources[0].along(args[1] if len(args) > 1 else kwargs.get("dim", 0))
        if apart is not None and apart.any():
            trace.freeze(apart, f"a dimension is taken apart ({user_line()})")
    elif packet in SPLITS:
        dim = (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % sources[0].ndim
        sizes = {leaf.shape[dim] for leaf in shapes}
        dyes = sources[0].along(dim)
        if len(shapes) > 1 and len(sizes) == 1 and dyes is not None:
            trace.tie(dyes, len(shapes))
    results = []
    for level in range(max(len(source.planes) for source in sources) if sources else 0):

        def stand_in(leaf: Any, level: int = level) -> Any:
            if isinstance(leaf, DyeTensor) and level < len(leaf.planes):
                return leaf.planes[level].full(leaf.shape)
            if isinstance(leaf, DyeTensor) or (isinstance(leaf, torch.Tensor) and packet in JOINS):
                return torch.zeros((1,) * leaf.ndim, dtype=torch.int64).expand(leaf.shape)
            return leaf

        moved_args, moved_kwargs = tree_map(stand_in, (args, kwargs))
        moved_kwargs.pop("dtype", None)
        results.append(func(*moved_args, **moved_kwargs))
    if packet in SPLITS:
        return [tuple(Plane.of(result[part].numpy()) for result in results) for part in range(len(shapes))]
    return tuple(Plane.of(result.numpy()) for result in results)


def _reshaped(trace: Trace, source: DyeTensor, shape: Sequence[int]) -> Planes:
    """A view that splits a dimension ties its parts: the network's code holds the number of parts.

    From there on new dyes stand for the positions in each part, so that the number of parts has none.
    """
    planes = []
    for plane in source.planes:
        moved = Plane.of(plane.full(source.shape).reshape(tuple(shape)).numpy())
        after = sorted(moved.varies)
        if len(plane.varies) == 1 and len(after) > 1:
            last = after[-1]
            table = np.moveaxis(moved.table, last, -1).reshape(-1, shape[last])
            positions = np.where(table.any(axis=0), np.arange(trace.count, trace.count + shape[last]), 0)
            trace.count += shape[last]
            trace.unite(np.tile(positions, len(table)), table.ravel())
            moved = Plane.along(positions, last, len(shape))
        planes.append(moved)
    return tuple(planes)


def _padded(source: DyeTensor, pad: Sequence[int]) -> Planes:
    """What is padded along the channels has no dye, whatever its value; places that are padded are places."""
    planes = []
    for plane in source.planes:
        kept = list(pad)
        for index in range(len(pad) // 2):
            if source.ndim - 1 - index not in plane.varies:
                kept[2 * index : 2 * index + 2] = [0, 0]
        planes.append(Plane.of(aten.constant_pad_nd(torch.from_numpy(plane.table), kept).numpy()))
    return tuple(planes)


def _concatenated(trace: Trace, out: torch.Tensor, parts: Sequence[torch.Tensor], dim: int) -> Planes:
    """Side by side along one dimension; along the others, where the parts must be of one size, their dyes meet."""
    dim %= out.ndim
    parts = [part for part in parts if part.ndim == out.ndim]  # torch lets an empty vector stand among them
    across: list[Plane] = []
    beside: list[list[Plane | None]] = []
    for index, part in enumerate(parts):
        single: list[Plane] = []
        for plane in part.planes if isinstance(part, DyeTensor) else ():
            if plane.varies and dim not in plane.varies:
                join(trace, across, plane)
            else:
                single.append(plane)
        for level, plane in enumerate(single):
            if level == len(beside):
                beside.append([None] * len(parts))
            beside[level][index] = plane
    planes = list(across)
    for row in beside:
        filled = [Plane.single(0, out.ndim) if plane is None else plane for plane in row]
        mixed = {dim}.union(*(plane.varies for plane in filled))
        planes.append(
            Plane.of(np.concatenate([plane.at(p.shape, mixed) for p, plane in zip(parts, filled, strict=True)], dim))
        )
        # One dye for a whole part (whatever is frozen) meets what runs along the other dimensions.
        for single_dye in {plane.table.item() for plane in filled if not plane.varies} - {0}:
            for plane in across:
                met = plane.unique()
                trace.unite(met, np.full_like(met, single_dye))
    return tuple(planes)


def _stacked(trace: Trace, out: torch.Tensor, parts: Sequence[torch.Tensor], dim: int) -> Planes:
    """Side by side along a dimension that is new: they are of one size in all others, where their dyes meet."""
    dim %= out.ndim

    def raised(plane: Plane) -> Plane:
        varies = frozenset(other + (other >= dim) for other in plane.varies)
        return Plane(np.expand_dims(plane.table, dim), varies)

    wide = [
        DyeTensor((*part.shape[:dim], 1, *part.shape[dim:]), tuple(map(raised, part.planes)), trace)
        if isinstance(part, DyeTensor)
        else part.unsqueeze(dim)
        for part in parts
    ]
    return _concatenated(trace, out, wide, dim)


def _copy(trace: Trace, out: torch.Tensor, args: Arguments, kwargs: Keywords) -> Any:
    source = args[1]
    return tuple(plane.raised(out.ndim) for plane in source.planes) if isinstance(source, DyeTensor) else ()


def _selected(trace: Trace, out: torch.Tensor, args: Arguments, kwargs: Keywords) -> Any:
    """An index that has dyes (a channel selection's) says which channels there are: new ones, of its own."""
    source, dim, index = args
    if not isinstance(index, DyeTensor):
        return tuple(Plane.of(plane.full(source.shape).index_select(dim, index).numpy()) for plane in source.planes)
    chosen, read = index.along(0), source.along(dim) if isinstance(source, DyeTensor) else None
    if chosen is None or read is None:
        return NotImplemented
    trace.freeze(read, "a channel selection reads it by index")
    trace.weights.append((chosen, np.zeros(0, dtype=np.int64)))
    return (Plane.along(chosen, dim, out.ndim),)


# Operators that keep dyes where they are -----------------------------------------------------------------------------


def _pointwise(trace: Trace, out: Any, sources: Sequence[DyeTensor]) -> Any:
    if not isinstance(out, torch.Tensor):
        out = out[0]
    if len(sources) == 1 and sources[0].shape == out.shape:
        return sources[0].planes
    planes: list[Plane] = []
    constant: list[Plane] = []
    for source in sources:
        if source.ndim > out.ndim:
            return NotImplemented
        for plane in source.planes:
            if plane.varies:
                join(trace, planes, plane.raised(out.ndim))
            else:
                constant.append(plane.raised(out.ndim))
    # One dye for a whole tensor that is frozen (such as the network's input) meets the dyes of every dimension.
    for single in constant:
        dye = single.table.item()
        for index, plane in enumerate(planes if dye in trace.frozen else ()):
            met = plane.unique()
            trace.unite(met, np.full_like(met, dye))
            planes[index] = Plane.of(np.where(plane.table != 0, plane.table, dye))
        if not planes:
            planes.append(single)
    fixed = _places(out, sources)
    for plane in planes:
        if plane.varies and plane.varies <= fixed:
            freeze_places(trace, plane)
    return tuple(plane for plane in planes if not plane.varies or not plane.varies <= fixed)


def _weight_norm(trace: Trace, out: Any, args: Arguments, kwargs: Keywords) -> Any:
    return _pointwise(trace, out[0], dyed(args[:2]))


def _places(out: torch.Tensor, sources: Sequence[DyeTensor]) -> set[int]:
    """The dimensions along which some activation with channels elsewhere has none: what meets it is of places."""
    places: set[int] = set()
    for source in sources:
        runs = [plane.varies for plane in source.planes]
        if is_activation(source) and runs and all(runs):
            shift = out.ndim - source.ndim
            bare = {dim for dim, size in enumerate(source.shape) if size > 1} - set().union(*runs)
            places |= {dim + shift for dim in bare}
    return places


def _spatial(trace: Trace, packet: Any, out: Any, args: Arguments, kwargs: Keywords) -> Any:
    """Pooling and resizing: channels stay, the places behind them change."""
    source = args[0]
    out = out if isinstance(out, torch.Tensor) else out[0]
    if any(plane.varies - {0, 1} for plane in source.planes):
        return NotImplemented
    if packet in COUNTED:
        kind, factor = COUNTED[packet]
        count(trace, kind, factor, extents(trace, source.planes, out.shape).values())
    return source.planes


def _reduced(trace: Trace, func: Any, out: Any, args: Arguments, kwargs: Keywords) -> Any:
    """Means, sums and norms: any number of the dimensions that go will do, so their dyes are forgotten.

    Where they are mixed with those that stay, what goes into one number belongs together.
    """
    source = args[0]
    out = out if isinstance(out, torch.Tensor) else out[0]
    names = [argument.name for argument in func._schema.arguments]
    dims = {**dict(zip(names, args, strict=False)), **kwargs}.get("dim")
    dims = list(range(source.ndim)) if dims in (None, []) else [dims] if isinstance(dims, int) else dims
    gone = {dim % source.ndim for dim in dims}
    first = tuple(slice(0, 1) if dim in gone else slice(None) for dim in range(source.ndim))
    kept = []
    for plane in source.planes:
        if plane.varies and plane.varies <= gone:
            continue
        table = plane.table[first]
        if plane.varies & gone:
            trace.unite(plane.table.ravel(), np.broadcast_to(table, plane.table.shape).ravel())
        if out.ndim < source.ndim:
            table = table.squeeze(tuple(gone))
        kept.append(Plane.of(table))
    return tuple(kept)


def _spread(trace: Trace, out: torch.Tensor, args: Arguments, kwargs: Keywords) -> Any:
    """Each channel becomes several in a row: a square's pixels, a window's places."""
    return _rechannelled(args[0], out, lambda dyes: np.repeat(dyes, out.shape[1] // len(dyes)))


def _gathered(trace: Trace, out: torch.Tensor, args: Arguments, kwargs: Keywords) -> Any:
    """Several channels in a row become one: what `_spread` undoes."""

    def first(dyes: Ids) -> Ids:
        table = dyes.reshape(out.shape[1], -1)
        trace.unite(np.repeat(table[:, :1], table.shape[1], axis=1).ravel(), table.ravel())
        return table[:, 0]

    return _rechannelled(args[0], out, first)


def _halved(trace: Trace, out: torch.Tensor, args: Arguments, kwargs: Keywords) -> Any:
    """A half times the sigmoid of the other."""
    source, dim = args[0], (args[1] if len(args) > 1 else kwargs.get("dim", -1)) % args[0].ndim
    dyes = source.along(dim)
    if dyes is None:
        return NotImplemented
    trace.tie(dyes, 2)
    return tuple(Plane.of(plane.full(source.shape).narrow(dim, 0, out.shape[dim]).numpy()) for plane in source.planes)


def _rechannelled(source: DyeTensor, out: torch.Tensor, change: Callable[[Ids], Ids]) -> Any:
    dyes = source.along(1) if source.ndim + out.ndim > 6 else None  # without a batch: no rule
    if dyes is None or any(plane.varies - {1} for plane in source.planes):
        return NotImplemented
    return (Plane.along(change(dyes), 1, out.ndim),) if dyes.any() else ()


SUMS = {aten.add, aten.mul, aten.sub}
ACTIVATIONS = {
    aten.relu,
    aten.silu,
    aten.gelu,
    aten.sigmoid,
    aten.tanh,
    aten.hardtanh,
    aten.hardswish,
    aten.hardsigmoid,
    aten.leaky_relu,
    aten.elu,
}
RULES: Mapping[Any, Callable[[Trace, Any, Arguments, Keywords], Any]] = {
    **COMBINATIONS,
    aten.copy: _copy,
    aten.pixel_unshuffle: _spread,
    aten.im2col: _spread,
    aten.pixel_shuffle: _gathered,
    aten.col2im: _gathered,
    aten.glu: _halved,
    aten._weight_norm_interface: _weight_norm,
    aten.index_select: _selected,
}
RESHAPES = {aten.view, aten._unsafe_view, aten.reshape}
SPLITS = {aten.split, aten.split_with_sizes, aten.chunk, aten.unbind, aten.unsafe_split}
JOINS = {aten.cat, aten.stack}
COPIES = {aten.clone, aten._to_copy, aten.detach, aten.alias, aten.contiguous, aten.lift_fresh}
MOVES = (
    RESHAPES
    | SPLITS
    | COPIES
    | JOINS
    | {aten.constant_pad_nd, aten.index, aten.roll, aten.flip, aten.repeat}
    | {aten.reflection_pad1d, aten.reflection_pad2d, aten.reflection_pad3d}
    | {aten.replication_pad1d, aten.replication_pad2d, aten.replication_pad3d}
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
    aten.rrelu_with_noise,
    aten.nan_to_num,
    aten.zero,
    aten.fill,
}
SPATIAL = {
    aten.adaptive_max_pool1d,
    aten.adaptive_max_pool3d,
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
    aten.upsample_linear1d,
    aten.upsample_nearest3d,
    aten.upsample_trilinear3d,
    aten._upsample_nearest_exact1d,
    aten._upsample_nearest_exact2d,
    aten._upsample_nearest_exact3d,
    aten._upsample_bilinear2d_aa,
    aten._upsample_bicubic2d_aa,
    aten.grid_sampler_2d,
    aten.grid_sampler_3d,
}
COUNTED = {
    aten.upsample_nearest2d: ("upsample_nearest2d", 1),
    aten.upsample_bilinear2d: ("upsample_bilinear2d", 4),
    aten.grid_sampler_2d: ("grid_sampler", 4),
    aten.grid_sampler_3d: ("grid_sampler", 4),
}
"""What fvcore counts of them, for each element put out."""
REDUCTIONS = {
    aten.mean,
    aten.sum,
    aten.amax,
    aten.amin,
    aten.var,
    aten.std,
    aten.max,
    aten.min,
    aten.prod,
    aten.logsumexp,
    aten.var_mean,
    aten.std_mean,
    aten.linalg_vector_norm,
}
FILLS = {
    aten.zeros_like,
    aten.ones_like,
    aten.full_like,
    aten.empty_like,
    aten.new_zeros,
    aten.new_ones,
    aten.new_full,
    aten.new_empty,
    aten.rand_like,
    aten.randn_like,
    aten.bernoulli,
    aten.uniform,
    aten.normal,
}
