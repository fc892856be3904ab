"""ResNets whose blocks normalise before they convolve [He2016]: bottlenecks for small images, and ResNet-50 for large.

For small images there are 9n+2 layers in three stages, as in network slimming [Liu2017], whose projections read what
enters the block; for large ones the 3, 4, 6 and 3 units of sparse structure selection [Huang2018], whose projections
read it normalised and activated. With `selection=True` a channel selection follows every batch norm that reads the
stream, before its ReLU: the stream is fixed, and each block reads as much of it as it needs. Batch-norm scales begin at
`gamma`: 0.5 in the code of network slimming, 1 elsewhere.

[He2016] Identity Mappings in Deep Residual Networks, arXiv 1603.05027
[Liu2017] Learning Efficient Convolutional Networks through Network Slimming, arXiv 1708.06519
[Huang2018] Data-Driven Sparse Structure Selection for Deep Neural Networks, arXiv 1707.01213
"""

import torch
from torch import nn
from torch.nn import functional as F

from pruneas.networks.initial import initialise, scaled
from pruneas.networks.selection import ChannelSelection

EXPANSION = 4
"""A bottleneck puts out four times the channels of its inner convolutions."""


class PreBottleneck(nn.Module):
    def __init__(
        self, in_channels: int, inner: int, stride: int, *, projected: bool, raw: bool, selection: bool
    ) -> None:
        """`projected`: the shortcut is a 1x1 convolution; `raw`: of the input as it comes, not activated."""
        super().__init__()
        out = EXPANSION * inner
        self.raw = raw
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.select = ChannelSelection(in_channels) if selection else nn.Identity()
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.downsample = nn.Conv2d(in_channels, out, 1, stride=stride, bias=False) if projected else None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        activated = F.relu(self.select(self.bn1(inputs)))
        branch = self.conv3(F.relu(self.bn3(self.conv2(F.relu(self.bn2(self.conv1(activated)))))))
        if self.downsample is None:
            return inputs + branch  # type: ignore[no-any-return]
        return self.downsample(inputs if self.raw else activated) + branch  # type: ignore[no-any-return]


class PreResNet(nn.Module):
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential

    def __init__(self, depth: int, *, width: float, channels: int, classes: int, selection: bool, gamma: float) -> None:
        super().__init__()
        if depth < 11 or (depth - 2) % 9:
            raise ValueError(f"depth must be 9n + 2 with n of at least 1 (56, 110, 164), got {depth}")
        before = scaled(16, width)
        self.conv1 = nn.Conv2d(channels, before, 3, padding=1, bias=False)
        for stage, inner in enumerate((scaled(16, width), scaled(32, width), scaled(64, width)), start=1):
            blocks = _stage(before, inner, (depth - 2) // 9, 1 if stage == 1 else 2, raw=True, selection=selection)
            self.add_module(f"layer{stage}", blocks)
            before = EXPANSION * inner
        self.bn = nn.BatchNorm2d(before)
        self.select = ChannelSelection(before) if selection else nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, classes)
        initialise(self, gamma=gamma)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, channels, h, w) -> logits (n, classes)."""
        features = self.layer3(self.layer2(self.layer1(self.conv1(images))))
        return self.fc(self.pool(F.relu(self.select(self.bn(features)))).flatten(1))  # type: ignore[no-any-return]


class PreResNet50(nn.Module):
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, *, width: float, channels: int, classes: int) -> None:
        super().__init__()
        before = scaled(64, width)
        self.conv1 = nn.Conv2d(channels, before, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        for stage, (units, inner) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), start=1):
            inner = scaled(inner, width)
            blocks = _stage(before, inner, units, 1 if stage == 1 else 2, raw=False, selection=False)
            self.add_module(f"layer{stage}", blocks)
            before = EXPANSION * inner
        self.bn = nn.BatchNorm2d(before)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, classes)
        initialise(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, channels, h, w) -> logits (n, classes)."""
        features = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, stride=2, padding=1)
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        return self.fc(self.pool(F.relu(self.bn(features))).flatten(1))  # type: ignore[no-any-return]


def preresnet110(
    *, width: float = 1.0, channels: int = 3, classes: int = 10, selection: bool = False, gamma: float = 1.0
) -> PreResNet:
    """PreResNet-110 for 32x32 images, as weight-level pruning uses it; `width` scales every layer."""
    return PreResNet(110, width=width, channels=channels, classes=classes, selection=selection, gamma=gamma)


def preresnet164(
    *, width: float = 1.0, channels: int = 3, classes: int = 10, selection: bool = False, gamma: float = 0.5
) -> PreResNet:
    """PreResNet-164 for 32x32 images, as network slimming uses it; `width` scales every layer."""
    return PreResNet(164, width=width, channels=channels, classes=classes, selection=selection, gamma=gamma)


def preresnet50(*, width: float = 1.0, channels: int = 3, classes: int = 1000) -> PreResNet50:
    """ResNet-50 with pre-activation for 224x224 images [Huang2018]; `width` scales every layer."""
    return PreResNet50(width=width, channels=channels, classes=classes)


def _stage(before: int, inner: int, units: int, stride: int, *, raw: bool, selection: bool) -> nn.Sequential:
    """Bottlenecks of one map size; the first of them projects its shortcut."""
    after = EXPANSION * inner
    first = PreBottleneck(before, inner, stride, projected=True, raw=raw, selection=selection)
    rest = [PreBottleneck(after, inner, 1, projected=False, raw=raw, selection=selection) for _ in range(units - 1)]
    return nn.Sequential(first, *rest)
