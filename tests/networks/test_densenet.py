"""DenseNets for small images: sizes of the papers."""

import pytest
import torch
from torch import nn

from pruneas.networks.densenet import densenet40, densenet_bc100


@pytest.mark.parametrize(("factory", "depth", "params"), [(densenet40, 40, 1_059_298), (densenet_bc100, 100, 769_162)])
def test_sizes_are_those_of_the_papers(factory, depth: int, params: int) -> None:
    network = factory()
    assert sum(parameter.numel() for parameter in network.parameters()) == params
    assert len([module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]) == depth


def test_densenet40_has_the_9360_batch_norm_channels_of_network_slimming() -> None:
    norms = [module for module in densenet40().modules() if isinstance(module, nn.BatchNorm2d)]
    assert sum(norm.num_features for norm in norms) == 9360
    assert {norm.weight.mean().item() for norm in norms} == {0.5}


def test_layers_put_their_channels_behind_those_before() -> None:
    layer = densenet40(width=0.25).eval().dense1[2]
    images = torch.randn(2, 12, 4, 4)
    out = layer(images)
    assert out.shape == (2, 15, 4, 4)
    assert torch.equal(out[:, :12], images)


def test_any_classes_and_widths_will_do() -> None:
    assert densenet_bc100(width=0.25, channels=1, classes=7)(torch.zeros(2, 1, 12, 20)).shape == (2, 7)
