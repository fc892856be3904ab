"""VGG's layouts and sizes, as the pruning papers state them."""

import math

import pytest
import torch
from torch import nn

from pruneas.architecture import Reference
from pruneas.cost.count import count
from pruneas.networks import NETWORKS, make
from pruneas.networks.vgg import vgg, vgg11, vgg16, vgg16_gap, vgg19
from pruneas.structure.replay import uninitialised
from tests.nets import image


def widths(network: nn.Module) -> list[int]:
    return [module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)]


def is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d)


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (vgg11, [64, 128, 256, 256, 512, 512, 512, 512]),
        (vgg16, [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]),
        (vgg19, [64, 64, 128, 128, *[256] * 4, *[512] * 8]),
    ],
)
def test_convolutions_have_the_papers_widths(factory, expected) -> None:
    assert widths(factory()) == expected


def test_vgg19_has_the_20_million_parameters_of_the_slimming_paper() -> None:
    """20.04 M (Liu 2017, table 1), and 5,504 batch-norm channels; 16 convolutions without bias and one linear layer."""
    network = vgg19()
    assert sum(parameter.numel() for parameter in network.parameters()) == 20_035_018
    assert sum(widths(network)) == 5504


def test_vgg16_has_the_313_million_multiply_adds_of_the_filter_pruning_paper() -> None:
    """313.2 M in the convolutions (Li 2017 says 313 M with its larger head); 4,224 batch-norm channels."""
    network = vgg16()
    found = count(network, image(3, 32, 32))
    assert found.by_kind["conv"] == 313_196_544
    assert found.by_kind["linear"] == 5120
    assert sum(widths(network)) == 4224


def test_with_a_hidden_layer_it_is_the_network_of_the_filter_pruning_paper() -> None:
    """14,987,722 parameters and 313.46 M multiply-adds (Li 2017: 313 M): a layer of 512 x 512 more."""
    network = vgg16(hidden=512, gamma=0.5)
    found = count(network, image(3, 32, 32))
    assert found.params == 14_987_722
    assert found.by_kind["conv"] + found.by_kind["linear"] == 313_463_808
    assert [type(layer).__name__ for layer in network.classifier] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]


def test_without_batch_norm_convolutions_have_a_bias_and_maps_of_any_size_are_averaged() -> None:
    """14,714,688 parameters of VGG-16's convolutions with their biases, and 512 x 1000 + 1000."""
    with uninitialised():
        network = vgg16_gap()
    assert sum(parameter.numel() for parameter in network.parameters()) == 14_714_688 + 513_000
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert vgg16_gap(width=0.05, classes=7)(torch.zeros(2, 3, 48, 64)).shape == (2, 7)


def test_width_scales_every_layer() -> None:
    assert widths(vgg16(width=0.25)) == [16, 16, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 128]
    assert widths(vgg11(width=0.001)) == [1] * 8


def test_any_layout_can_be_asked_for() -> None:
    network = make(Reference("pruneas:vgg", {"layout": [5, "M", 7], "channels": 1, "classes": 3}))
    assert widths(network) == [5, 7]
    assert network(torch.zeros(2, 1, 11, 13)).shape == (2, 3)
    assert vgg([5]).features[0].in_channels == 3


def test_initialisation_is_kaiming_by_fan_out() -> None:
    torch.manual_seed(0)
    network = vgg16(width=0.5)
    layer = network.features[-3]
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 256)), rel=0.02)
    assert not network.classifier.bias.any()
    assert {layer.weight.mean().item() for layer in vgg11(gamma=0.5).modules() if is_norm(layer)} == {0.5}
    assert {layer.weight.mean().item() for layer in vgg11().modules() if is_norm(layer)} == {1.0}


def test_the_table_names_them() -> None:
    assert NETWORKS["vgg16"] is vgg16
