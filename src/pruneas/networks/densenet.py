"""DenseNet for small images [Huang2017]: three dense blocks, in which every layer adds `growth` channels to all before.

The compression theta is the share of its channels that a transition between blocks keeps. With `selection=True` a
channel selection follows every batch norm that reads the concatenation, before its ReLU, as in network slimming
[Liu2017]: what layers add is fixed, and each reads as much of it as it needs. Batch-norm scales begin at `gamma`: 0.5
in the code of network slimming, 1 elsewhere.

[Huang2017] Densely Connected Convolutional Networks, arXiv 1608.06993
[Liu2017] Learning Efficient Convolutional Networks through Network Slimming, arXiv 1708.06519
"""

import torch
from torch import nn
from torch.nn import functional as F

from pruneas.networks.initial import initialise, scaled
from pruneas.networks.selection import ChannelSelection


class DenseLayer(nn.Module):
    """Normalise, activate, convolve, and put the result behind the input."""

    def __init__(self, in_channels: int, growth: int, *, selection: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.select = _selection(in_channels, selection)
        self.conv1 = nn.Conv2d(in_channels, growth, 3, padding=1, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat((inputs, self.conv1(F.relu(self.select(self.bn1(inputs))))), 1)


class DenseBottleneck(nn.Module):
    """The same with a 1x1 convolution to four times `growth` channels before."""

    def __init__(self, in_channels: int, growth: int, *, selection: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.select = _selection(in_channels, selection)
        self.conv1 = nn.Conv2d(in_channels, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        inner = self.conv1(F.relu(self.select(self.bn1(inputs))))
        return torch.cat((inputs, self.conv2(F.relu(self.bn2(inner)))), 1)


class Transition(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, *, selection: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.select = _selection(in_channels, selection)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(self.conv1(F.relu(self.select(self.bn1(inputs)))), 2)


class DenseNet(nn.Module):
    dense1: nn.Sequential
    dense2: nn.Sequential
    dense3: nn.Sequential
    trans1: Transition
    trans2: Transition

    def __init__(
        self,
        layers: int,
        layer: type[DenseLayer] | type[DenseBottleneck],
        *,
        growth: int,
        theta: float,
        channels: int,
        classes: int,
        selection: bool,
        gamma: float,
    ) -> None:
        """`layers` are those of one dense block."""
        super().__init__()
        width = 2 * growth
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        for block in (1, 2, 3):
            stack = [layer(width + k * growth, growth, selection=selection) for k in range(layers)]
            self.add_module(f"dense{block}", nn.Sequential(*stack))
            width += layers * growth
            if block < 3:
                self.add_module(f"trans{block}", Transition(width, int(theta * width), selection=selection))
                width = int(theta * width)
        self.bn = nn.BatchNorm2d(width)
        self.select = _selection(width, selection)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, classes)
        initialise(self, gamma=gamma)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, channels, h, w) -> logits (n, classes)."""
        features = self.trans2(self.dense2(self.trans1(self.dense1(self.conv1(images)))))
        features = F.relu(self.select(self.bn(self.dense3(features))))
        return self.fc(self.pool(features).flatten(1))  # type: ignore[no-any-return]


def densenet40(
    *, width: float = 1.0, channels: int = 3, classes: int = 10, selection: bool = False, gamma: float = 0.5
) -> DenseNet:
    """DenseNet-40 (growth 12, theta 1) for 32x32 images, as network slimming uses it; `width` scales the growth."""
    return DenseNet(
        12,
        DenseLayer,
        growth=scaled(12, width),
        theta=1.0,
        channels=channels,
        classes=classes,
        selection=selection,
        gamma=gamma,
    )


def densenet_bc100(
    *, width: float = 1.0, channels: int = 3, classes: int = 10, selection: bool = False, gamma: float = 1.0
) -> DenseNet:
    """DenseNet-BC-100 (growth 12, theta 0.5, bottlenecks) for 32x32 images; `width` scales the growth."""
    return DenseNet(
        16,
        DenseBottleneck,
        growth=scaled(12, width),
        theta=0.5,
        channels=channels,
        classes=classes,
        selection=selection,
        gamma=gamma,
    )


def _selection(channels: int, wanted: bool) -> nn.Module:
    return ChannelSelection(channels) if wanted else nn.Identity()
