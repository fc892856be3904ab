"""Pre-activation ResNets: sizes of the papers, and what their shortcuts and blocks compute."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruneas.cost.count import count
from pruneas.networks.preresnet import PreResNet, preresnet50, preresnet110, preresnet164
from pruneas.structure.replay import uninitialised
from tests.nets import image


@pytest.mark.parametrize(
    ("factory", "params", "conv_weights"), [(preresnet110, 1_146_842, 1_128_112), (preresnet164, 1_703_258, None)]
)
def test_sizes_are_those_of_the_papers(factory, params: int, conv_weights: int | None) -> None:
    network = factory()
    assert sum(parameter.numel() for parameter in network.parameters()) == params
    convolutions = [module.weight.numel() for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert conv_weights in (None, sum(convolutions))


def test_depth_counts_the_convolutions_of_the_main_path_and_the_linear_layer() -> None:
    network = preresnet110(width=0.25)
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len([name for name in layers if "downsample" not in name]) == 110
    assert [name for name in layers if "downsample" in name] == [f"layer{stage}.0.downsample" for stage in (1, 2, 3)]


def test_preresnet164_has_the_12112_batch_norm_channels_of_network_slimming() -> None:
    norms = [module for module in preresnet164().modules() if isinstance(module, nn.BatchNorm2d)]
    assert sum(norm.num_features for norm in norms) == 12_112
    assert {norm.weight.mean().item() for norm in norms} == {0.5}


def test_preresnet50_costs_what_resnet50_costs() -> None:
    """4.089 G multiply-adds (Huang 2018), with the stride in the 3x3 convolution."""
    with uninitialised():
        network = preresnet50()
    found = count(network, image(3, 224, 224))
    assert found.by_kind["conv"] + found.by_kind["linear"] == 4_089_184_256
    assert found.params == 25_549_480


def test_projections_read_the_raw_input_in_small_networks_and_the_activated_one_in_large() -> None:
    for network, raw in ((PreResNet(11, width=0.25, channels=3, classes=2, selection=False, gamma=1.0), True),
                         (preresnet50(width=0.05, classes=2), False)):  # fmt: skip
        block = network.eval().layer2[0]
        nn.init.zeros_(block.conv3.weight)
        images = torch.randn(2, block.bn1.num_features, 6, 6, generator=torch.Generator().manual_seed(0))
        read = images if raw else F.relu(block.bn1(images))
        torch.testing.assert_close(block(images), block.downsample(read))


def test_initialisation_is_kaiming_by_fan_out() -> None:
    torch.manual_seed(0)
    layer = preresnet110().layer3[3].conv2
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)


@pytest.mark.parametrize("depth", [2, 57, 163])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"depth must be 9n \+ 2 .* got {depth}"):
        PreResNet(depth, width=1.0, channels=3, classes=10, selection=False, gamma=1.0)
