"""The price of well-known networks at random widths, without random blocks, by three counts: the closed form, fvcore's
of the built network, and PyTorch's own of the operators that ran, which counts a multiply-add twice."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pruneas.architecture import Reference
from pruneas.cost.count import count
from pruneas.cost.model import CostModel
from pruneas.networks import examples, make
from pruneas.structure.build import build_widths, structure_of
from tests.nets import image, random_widths

aten = torch.ops.aten
KINDS = {aten.convolution: "conv", aten.mm: "linear", aten.addmm: "linear"}
FAMILIES = {
    "torchvision:mobilenet_v3_small": 64,
    "torchvision:resnet18": 64,
    "torchvision:densenet121": 64,
    "torchvision:regnet_y_400mf": 64,
    "torchvision:squeezenet1_1": 64,
    "torchvision:shufflenet_v2_x1_0": 64,
    "torchvision:googlenet(init_weights=False)": 64,
    "torchvision:inception_v3(init_weights=False)": 299,
    "torchvision:resnext50_32x4d": 64,
    "torchvision:efficientnet_b0": 64,
    "torchvision:mnasnet1_0": 64,
    "torchvision:convnext_tiny": 64,
    "torchvision:vgg11": 32,
    "torchvision:vit_b_16": 224,
    "pruneas:resnet56": 32,
}
QUICK = list(FAMILIES)[:5]


def ran(network: torch.nn.Module, inputs: list[torch.Tensor]) -> Counter[str]:
    """PyTorch's count of convolutions and of products with weights, halved."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operator for all of attention, which has no formula
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.eval()(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
    halves: Counter[str] = Counter()
    for operator, flops in counter.get_flop_counts()["Global"].items():
        if operator in KINDS:
            assert flops % 2 == 0
            halves[KINDS[operator]] += flops // 2
    return halves


def check(network: str, side: int, seed: int) -> None:
    reference = Reference.parse(network)
    base = make(reference)
    structure = structure_of(base, reference, image(3, side, side))
    model = CostModel.of(structure, base)
    rng = np.random.default_rng(seed)
    removed = {block.name for block in structure.blocks if rng.random() < 0.3}
    widths = random_widths(structure, seed)
    small = build_widths(structure, widths, removed)
    vector = model.vector(widths)
    priced = model.without(structure, removed)
    flops, params = priced.flops(vector), priced.params(vector)
    assert np.issubdtype(flops.dtype, np.integer) and np.issubdtype(params.dtype, np.integer)

    found = count(small, structure.inputs)
    assert (int(flops), int(params)) == (found.flops, found.params)

    by_kind: Counter[str] = Counter()
    for operation in structure.operations:
        if operation.blocks.isdisjoint(removed):
            sizes = [form.constant + form.coefficients @ vector for form in (operation.a, operation.b) if form]
            by_kind[operation.kind] += operation.factor * int(np.prod(sizes))
    assert sum(by_kind.values()) == int(flops)
    half = ran(small, examples(structure.inputs))
    assert {kind: by_kind[kind] for kind in set(KINDS.values())} == {kind: half[kind] for kind in set(KINDS.values())}


@pytest.mark.parametrize("network", QUICK)
def test_the_price_is_what_both_counters_find(network: str) -> None:
    check(network, FAMILIES[network], seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("network", FAMILIES)
def test_the_price_of_any_family_is_what_both_counters_find(network: str, seed: int) -> None:
    check(network, FAMILIES[network], seed)
