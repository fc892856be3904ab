"""fvcore's count of a built network: the referee. A multiply-add is one FLOP; one input, evaluation mode."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from pruneas.architecture import Inputs
from pruneas.errors import StructureError
from pruneas.networks import examples, tensors_of

MATRIX_PRODUCTS = ("linear", "addmm", "mm", "matmul", "bmm", "einsum", "baddbmm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """`by_kind` sums to `flops`; `uncounted` are the operators fvcore has no formula for, with how often they ran."""

    flops: int
    params: int
    by_kind: Mapping[str, int]
    uncounted: Mapping[str, int]


class _Tensors(nn.Module):
    """A network that puts out its tensors alone: torch.jit takes no objects."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(tensors_of(self.network(*inputs)))


def count(network: nn.Module, inputs: Inputs) -> Count:
    """Count one pass of a network over one of its inputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore traces with torch.jit, which torch deprecates; there is no other way
        from fvcore.nn import FlopCountAnalysis

        logging.getLogger("fvcore").setLevel(logging.ERROR)
        training = [(module, module.training) for module in network.modules()]
        try:
            network.eval()
            first = next(network.parameters(), torch.empty(0))
            analysis = FlopCountAnalysis(_Tensors(network), tuple(examples(inputs, device=first.device)))
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
            by_operator = {str(name): int(flops) for name, flops in analysis.by_operator().items()}
            uncounted = {str(name): int(times) for name, times in analysis.unsupported_ops().items()}
        except Exception as error:
            raise StructureError(f"fvcore cannot count the network: {type(error).__name__}: {error}") from error
        finally:
            for module, was in training:
                module.training = was
    by_kind: dict[str, int] = {}
    for name, flops in by_operator.items():
        kind = "linear" if name in MATRIX_PRODUCTS else name
        by_kind[kind] = by_kind.get(kind, 0) + flops
    return Count(
        flops=sum(by_kind.values()),
        params=sum(parameter.numel() for parameter in network.parameters()),
        by_kind=by_kind,
        uncounted=uncounted,
    )
