"""ResNet-50 as pruning papers change it: the bias of its projections."""

import torch
from torchvision.models import resnet50 as plain

from pruneas.networks.resnet50 import resnet50
from pruneas.structure.replay import uninitialised


def test_biased_projections_have_3840_parameters_more() -> None:
    """One for each output of the four stages: 256 + 512 + 1024 + 2048."""
    with uninitialised():
        before, after = (
            sum(p.numel() for p in network.parameters()) for network in (plain(), resnet50(downsample_bias=True))
        )
    assert after - before == 3840


def test_biased_projections_keep_their_strides() -> None:
    with uninitialised():
        network = resnet50(downsample_bias=True, classes=2).eval()
    assert network.layer2[0].downsample[0].stride == (2, 2)
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 2)
