"""Constructor replay: run a network's own factory again while its layers are made at other sizes.

Nothing is cut out of a live network. The k-th layer that the factory constructs gets the sizes that layer k of the base
network is to have, so the factory's own initialisation runs on the new sizes: fan-in and fan-out, zero-initialised
gammas and the like come out right, which accuracy from scratch depends on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.module import _IncompatibleKeys
from torch.overrides import TorchFunctionMode

Sizes = Mapping[str, Any]
"""Constructor arguments to put in place of the factory's."""


@contextmanager
def constructors(sizes: Callable[[int], Sizes] = lambda _: {}) -> Iterator[list[nn.Module]]:
    """While this holds, layer k is constructed with `sizes(k)` in place of the arguments of these names.

    Gives the layers constructed so far, in order. Weights are not loaded meanwhile: what a factory fetches fits its own
    widths alone, and what is built is to be fresh.
    """
    layers: list[nn.Module] = []
    load = nn.Module.load_state_dict
    originals = {layer: layer.__init__ for layer in SIZED}
    depth = 0

    def patched(original: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(original)

        def construct(self: nn.Module, *args: Any, **kwargs: Any) -> None:
            nonlocal depth
            if depth:  # a constructor that calls its parent's: the outermost one counts
                original(self, *args, **kwargs)
                return
            bound = signature.bind(self, *args, **kwargs)
            bound.arguments.update(sizes(len(layers)))
            layers.append(self)
            depth += 1
            try:
                original(*bound.args, **bound.kwargs)
            finally:
                depth -= 1

        return construct

    try:
        for layer, original in originals.items():
            layer.__init__ = patched(original)  # type: ignore[method-assign]
        nn.Module.load_state_dict = lambda *_, **__: _IncompatibleKeys([], [])  # type: ignore[method-assign]
        yield layers
    finally:
        nn.Module.load_state_dict = load  # type: ignore[method-assign]
        for layer, original in originals.items():
            layer.__init__ = original  # type: ignore[method-assign]


class uninitialised(TorchFunctionMode):
    """While this holds, parameters are not initialised: for networks whose values nobody reads."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if args and isinstance(args[0], nn.Parameter) and name.endswith("_") and not name.endswith("__"):
            return args[0]
        return func(*args, **(kwargs or {}))


def sizes_of(layer: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
    """The constructor arguments that give `layer` parameters of these shapes; `shapes` by parameter name.

    None of them where the layer's size does not show. Raises ValueError where no arguments do.
    """
    rule = next(rule for kind, rule in SIZED.items() if isinstance(layer, kind))
    return rule(layer, shapes) if "weight" in shapes or "running_mean" in shapes else {}


def _convolution(layer: Any, shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
    rows, columns = shapes["weight"][:2]
    into, out = (rows, columns) if isinstance(layer, _ConvTransposeNd) else (columns, rows)
    groups = layer.groups
    if groups > 1 and layer.weight.shape[1] == 1 and not isinstance(layer, _ConvTransposeNd):
        multiplier = layer.out_channels // groups  # depthwise: one group a channel, however many there are
        if out % multiplier:
            raise ValueError(f"{out} output channels, must be a multiple of {multiplier}")
        return {"in_channels": out // multiplier, "out_channels": out, "groups": out // multiplier}
    if isinstance(layer, _ConvTransposeNd):
        return {"in_channels": into, "out_channels": out * groups}
    return {"in_channels": into * groups, "out_channels": out}


def _linear(layer: Any, shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
    out, into = shapes["weight"]
    return {"in_features": into, "out_features": out}


def _bilinear(layer: Any, shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
    out, first, second = shapes["weight"]
    return {"in1_features": first, "in2_features": second, "out_features": out}


def _embedding(layer: Any, shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
    entries, features = shapes["weight"]
    return {"num_embeddings": entries, "embedding_dim": features}


def _channelwise(argument: str) -> Callable[[Any, Mapping[str, tuple[int, ...]]], Sizes]:
    def rule(layer: Any, shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
        return {argument: (shapes.get("weight") or shapes["running_mean"])[0]}

    return rule


def _normalised(layer: Any, shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
    return {"normalized_shape": shapes["weight"]}


SIZED: Mapping[type[nn.Module], Callable[[Any, Mapping[str, tuple[int, ...]]], Sizes]] = {
    _ConvNd: _convolution,
    nn.Linear: _linear,
    _NormBase: _channelwise("num_features"),
    nn.GroupNorm: _channelwise("num_channels"),
    nn.LayerNorm: _normalised,
    nn.RMSNorm: _normalised,
    nn.Bilinear: _bilinear,
    nn.Embedding: _embedding,
    nn.PReLU: _channelwise("num_parameters"),
}
