"""The operators that combine dimensions, and what they cost: convolutions, matrix products, normalisations.

They bind a parameter to the dimension of the tensor that it reads, and put out the dyes of what they produce. Each is
counted under the name and with the formula of fvcore's handler, so that the closed form can be held against it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from pruneas.structure.dye import KERNEL, DyeTensor, Ids, Trace, compact, user_line, varying

aten = torch.ops.aten
Arguments = tuple[Any, ...]
Keywords = dict[str, Any]


def _convolution(trace: Trace, out: torch.Tensor, args: Arguments, kwargs: Keywords) -> Any:
    inputs, weight, bias, _, _, _, transposed, _, groups = args[:9]
    if not isinstance(weight, DyeTensor) or not isinstance(inputs, DyeTensor):
        return NotImplemented
    channels = _channels(trace, inputs, 1)
    rows, columns = weight.along(0), weight.along(1)
    if channels is None or rows is None or columns is None:
        return NotImplemented
    for dim in range(2, weight.ndim):
        kernel = weight.along(dim)
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
            multiplier = len(rows) // len(channels)
            _bind(trace, np.repeat(channels, multiplier), rows)
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
    left, right, columns = _channels(trace, a, a.ndim - 1), b.along(0), b.along(1)
    if left is None or right is None or columns is None:
        return NotImplemented
    _bind(trace, left, right)
    trace.weights.append((columns, right))
    if len(args) == 3 and isinstance(args[0], DyeTensor):
        trace.unite(columns, _or_zeros(args[0].along(-1), columns))
    trace.counted("linear", int(np.prod(a.shape[:-1])), right, columns)
    return (_plane(columns, -1, out.shape),)


def _batch_norm(trace: Trace, out: Any, args: Arguments, kwargs: Keywords) -> Any:
    inputs, *tensors = args[:5]
    channels = _channels(trace, inputs, 1)
    if channels is None:
        return NotImplemented
    _bind_vectors(trace, channels, tensors)
    affine = 2 if isinstance(tensors[0], DyeTensor) else 1
    trace.counted("batch_norm", affine * (inputs.numel() // max(1, inputs.shape[1])), _named(channels, tensors))
    return inputs.planes if any(channels) else (_plane(_named(channels, tensors), 1, inputs.shape),)


def _layer_norm(trace: Trace, out: Any, args: Arguments, kwargs: Keywords) -> Any:
    inputs, shape, *tensors = args[:4]
    if len(shape) != 1:
        return NotImplemented
    channels = _channels(trace, inputs, inputs.ndim - 1)
    if channels is None:
        return NotImplemented
    _bind_vectors(trace, channels, tensors)
    affine = 5 if isinstance(tensors[0], DyeTensor) else 4
    trace.counted("layer_norm", affine * (inputs.numel() // max(1, inputs.shape[-1])), channels)
    return inputs.planes


def _group_norm(trace: Trace, out: Any, args: Arguments, kwargs: Keywords) -> Any:
    inputs, weight, bias, *_, groups, _ = args
    channels = _channels(trace, inputs, 1)
    if channels is None:
        return NotImplemented
    trace.tie(channels, groups)
    _bind_vectors(trace, channels, (weight, bias))
    affine = 5 if isinstance(weight, DyeTensor) else 4
    trace.counted("group_norm", affine * (inputs.numel() // max(1, inputs.shape[1])), channels)
    return inputs.planes


def _bind(trace: Trace, inputs: Ids, parameter: Ids) -> None:
    """A parameter reads a tensor's dimension: same dyes; what has none (zeros of a padding) cannot change its size."""
    trace.unite(inputs, parameter)
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


def _channels(trace: Trace, tensor: DyeTensor, dim: int) -> Ids | None:
    """The dyes of the dimension that an operator combines or scales; None where it is mixed with others.

    Dyes that run along other dimensions (position embeddings) are of places, whose number is the input's: frozen.
    """
    channels = tensor.along(dim)
    if channels is not None:
        for plane in tensor.planes:
            if varying(plane) - {dim}:
                trace.freeze(np.unique(compact(plane).numpy()), f"it belongs to places, not channels ({user_line()})")
    return channels


def _plane(dyes: Ids, dim: int, shape: Sequence[int]) -> torch.Tensor:
    """A plane that holds these dyes along one dimension."""
    view = [len(dyes) if d == dim % len(shape) else 1 for d in range(len(shape))]
    return torch.from_numpy(np.ascontiguousarray(dyes)).view(view).expand(tuple(shape))


def _pooled_to_one(inputs: Any, output_size: Any, *_: Any, **__: Any) -> None:
    """fvcore counts adaptive pooling one per input element; ATen shows a pooling to one place as a plain mean."""
    if isinstance(inputs, DyeTensor):
        channels = inputs.along(1)
        dyes = compact(inputs.planes[0]).numpy().ravel().astype(np.int64) if channels is None else channels
        inputs.tracing.counted("adaptive_avg_pool2d", inputs.numel() // max(1, len(dyes)), dyes)


SEEN: Mapping[Any, Callable[..., None]] = {F.adaptive_avg_pool2d: _pooled_to_one}

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
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
    aten.native_layer_norm: _layer_norm,
    aten.native_group_norm: _group_norm,
}
