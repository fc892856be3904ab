"""Legal widths by what they are for: a network built at any of them has the parts that its own code counts on."""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torchvision.models import resnet18
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from pruneas.architecture import Inputs, Reference
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.networks import examples, make
from pruneas.structure.build import analyse, build_widths
from pruneas.structure.confirm import confirmed
from pruneas.structure.groups import Structure
from tests.nets import INPUT, NETS, image


def group_normed() -> nn.Module:
    """ResNet-18 whose every normalisation is over 8 parts."""
    return resnet18(norm_layer=partial(nn.GroupNorm, 8), num_classes=5)


def small_convnext() -> nn.Module:
    """Depthwise convolutions, layer norms and layer scales, none of which is a layer that sets a width."""
    return ConvNeXt([CNBlockConfig(24, 40, 2), CNBlockConfig(40, None, 1)], num_classes=5)


SIDE = image(3, 32, 32)
NETWORKS: dict[str, tuple[Reference, Inputs]] = {
    **{
        name: (NETS[name].reference, INPUT)
        for name in ("Grouped", "Depthwise", "Gated", "Shuffled", "GroupNormed", "OptionA", "SqueezeExcite")
    },
    "group_normed": (Reference(f"{__name__}:group_normed", {}), SIDE),
    "small_convnext": (Reference(f"{__name__}:small_convnext", {}), SIDE),
    **{
        name: (Reference(f"torchvision:{name}", {}), SIDE)
        for name in ("resnext50_32x4d", "regnet_y_400mf", "shufflenet_v2_x1_0", "mobilenet_v3_small")
    },
}


@cache
def structure(name: str) -> Structure:
    return confirmed(analyse(*NETWORKS[name]))


@cache
def base(name: str) -> nn.Module:
    return make(NETWORKS[name][0])


def at_legal_widths(name: str, multiple_of: int, minimum: float, seed: int) -> nn.Module:
    found = structure(name)
    legal = LegalWidths.of(found, WidthRules(multiple_of=multiple_of, minimum=minimum))
    shares = np.random.default_rng(seed).random(len(legal.lowest))
    widths = legal.floor(legal.lowest + shares * (legal.highest + 1 - legal.lowest))
    assert legal.holds(widths)
    return build_widths(found, dict(zip(found.widths, widths.tolist(), strict=True)), seed=0)


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(sorted(NETWORKS)),
    multiple_of=st.integers(1, 16),
    minimum=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_networks_at_any_legal_widths_have_whole_parts(name: str, multiple_of: int, minimum: float, seed: int) -> None:
    network = at_legal_widths(name, multiple_of, minimum, seed)
    was = dict(base(name).named_modules())
    for path, layer in network.named_modules():
        before = was[path]
        if isinstance(layer, _ConvNd) and layer.groups > 1:
            assert layer.in_channels % layer.groups == layer.out_channels % layer.groups == 0
            if before.groups == before.in_channels:
                assert layer.groups == layer.in_channels
                assert layer.out_channels * before.in_channels == before.out_channels * layer.in_channels
            else:
                assert layer.groups == before.groups
        elif isinstance(layer, nn.GroupNorm):
            assert layer.num_groups == before.num_groups
            assert layer.num_channels % layer.num_groups == 0
    with torch.no_grad():
        output = network.train()(*[each.expand(2, *each.shape[1:]) for each in examples(NETWORKS[name][1])])
    assert torch.isfinite(output).all()


def of_regnet(network: nn.Module) -> set[int]:
    block = network.get_submodule("trunk_output.block2.block2-0.f")
    return {block.b[0].out_channels, block.se.fc1.in_channels, block.se.fc2.out_channels, block.c[0].in_channels}


def of_resnext(network: nn.Module) -> set[int]:
    first, second, third, fourth = network.layer2
    written = {first.conv3.out_channels, first.downsample[0].out_channels, third.conv3.out_channels}
    return written | {second.conv1.in_channels, fourth.bn3.num_features, network.layer3[0].downsample[0].in_channels}


def of_convnext(network: nn.Module) -> set[int]:
    stem, (first, second), (norm, _), *_ = network.features
    written = {stem[0].out_channels, first.block[5].out_features, second.block[5].out_features}
    return written | {first.block[0].groups, second.layer_scale.shape[0], norm.normalized_shape[0]}


TIES: dict[str, Callable[[nn.Module], set[int]]] = {
    "Gated": lambda net: {net.both[0].out_channels, 2 * net.b[0].in_channels},
    "Shuffled": lambda net: {net.stem[0].out_channels, net.b[0].in_channels},
    "Depthwise": lambda net: {net.stem[0].out_channels, net.each[0].groups, net.point[0].in_channels},
    "SqueezeExcite": lambda net: {net.stem[0].out_channels, net.expand.out_channels, net.reduce.in_channels},
    "resnext50_32x4d": of_resnext,
    "regnet_y_400mf": of_regnet,
    "small_convnext": of_convnext,
}
"""Sizes of layers that the network's own code needs to be one and the same, by hand."""


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(sorted(TIES)), multiple_of=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))
def test_widths_that_the_networks_code_ties_stay_tied(name: str, multiple_of: int, seed: int) -> None:
    network = at_legal_widths(name, multiple_of, 0.0, seed)
    assert len(TIES[name](network)) == 1
