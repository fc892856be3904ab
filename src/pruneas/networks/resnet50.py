"""ResNet-50 for large images, torchvision's, as two pruning papers change it.

ThiNet's has a bias in the convolutions of its projected shortcuts [Luo2017]; in channel pruning a selection in front of
every branch lets its first convolution read fewer channels than the stream has [He2017]. Both are in the code of
[Liu2019].

[Luo2017] ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression, arXiv 1707.06342
[He2017] Channel Pruning for Accelerating Very Deep Neural Networks, arXiv 1707.06168
[Liu2019] Rethinking the Value of Network Pruning, arXiv 1810.05270
"""

from typing import Any

import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from pruneas.networks.initial import initialise
from pruneas.networks.selection import ChannelSelection


class SelectingBottleneck(Bottleneck):  # type: ignore[misc]
    """A bottleneck whose branch reads a selection of the input. The shortcut reads all of it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.select = ChannelSelection(self.conv1.in_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.relu(self.bn1(self.conv1(self.select(x))))
        branch = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(branch)))))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(branch + shortcut)  # type: ignore[no-any-return]


def resnet50(*, classes: int = 1000, downsample_bias: bool = False, selection: bool = False) -> nn.Module:
    """ResNet-50 for 224x224 images, with a bias in the shortcuts' convolutions, and a selection before each branch."""
    network = ResNet(SelectingBottleneck if selection else Bottleneck, [3, 4, 6, 3], num_classes=classes)
    if downsample_bias:
        for block in network.modules():
            if isinstance(block, Bottleneck) and block.downsample is not None:
                plain = block.downsample[0]
                block.downsample[0] = nn.Conv2d(plain.in_channels, plain.out_channels, 1, stride=plain.stride)
        initialise(network)
    return network  # type: ignore[no-any-return]
