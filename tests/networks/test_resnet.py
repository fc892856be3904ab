"""CIFAR ResNets: layers, sizes and the shortcut without parameters."""

import pytest
import torch
from torch import nn

from pruneas.architecture import Reference
from pruneas.cost.count import count
from pruneas.errors import NetworkError
from pruneas.networks import make
from pruneas.networks.resnet import ResNet, resnet20, resnet32, resnet56, resnet110
from tests.nets import image


@pytest.mark.parametrize(("factory", "depth"), [(resnet20, 20), (resnet32, 32), (resnet56, 56), (resnet110, 110)])
def test_depth_counts_convolutions_and_the_linear_layer(factory, depth: int) -> None:
    layers = [module for module in factory().modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


@pytest.mark.parametrize(
    ("factory", "params", "conv"), [(resnet56, 853_018, 125_485_056), (resnet110, 1_727_962, 252_887_040)]
)
def test_sizes_are_those_of_the_papers(factory, params: int, conv: int) -> None:
    """853,018 parameters and 125.49 M multiply-adds, 1,727,962 and 252.89 M (Li 2017): convolutions and classifier."""
    found = count(factory(), image(3, 32, 32))
    assert found.params == params
    assert found.by_kind["conv"] == conv
    assert found.by_kind["linear"] == 640


def test_shortcuts_pad_the_missing_channels_with_zeros_at_the_end() -> None:
    block = resnet20().blocks[3]
    block.bn2.weight.data.zero_()  # silences the branch
    images = torch.rand(2, 16, 8, 8)
    out = block.eval()(images)
    assert torch.equal(out[:, :16], images[:, :, ::2, ::2])
    assert not out[:, 16:].any()


def test_any_even_size_of_input_will_do() -> None:
    network = resnet20(width=0.5, channels=1, classes=7)
    assert network(torch.zeros(2, 1, 12, 20)).shape == (2, 7)
    assert [block.conv1.out_channels for block in network.blocks][::3] == [8, 16, 32]


@pytest.mark.parametrize("depth", [2, 21, 34])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"depth must be 6n \+ 2 .* got {depth}"):
        ResNet(depth, width=1.0, channels=3, classes=10)


def test_wrong_arguments_are_network_errors_with_the_line() -> None:
    with pytest.raises(NetworkError, match=r"pruneas:resnet20\(depth=3\): its factory raised TypeError: .*depth"):
        make(Reference("pruneas:resnet20", {"depth": 3}))
