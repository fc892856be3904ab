"""ResNet for small images: 6n+2 layers, three stages, parameter-free shortcuts [He2016].

Where the width grows the shortcut takes every second pixel and pads the missing channels with zeros at the end
(option A). The pad is what the branch has more than the shortcut, so the network holds no width as a constant.

[He2016] Deep Residual Learning for Image Recognition, arXiv 1512.03385, section 4.2
"""

import torch
from torch import nn
from torch.nn import functional as F

from pruneas.networks.initial import initialise, scaled


class BasicBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(inputs)))))
        shortcut = inputs[:, :, :: self.stride, :: self.stride] if self.stride > 1 else inputs
        missing = branch.shape[1] - shortcut.shape[1]
        if missing > 0:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, missing))
        return F.relu(branch + shortcut)


class ResNet(nn.Module):
    def __init__(self, depth: int, *, width: float, channels: int, classes: int) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 with n of at least 1 (20, 32, 56, 110), got {depth}")
        widths = [scaled(base, width) for base in (16, 32, 64)]
        self.conv = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        blocks: list[nn.Module] = []
        before = widths[0]
        for stage, out in enumerate(widths):
            for index in range((depth - 2) // 6):
                blocks.append(BasicBlock(before, out, stride=2 if stage and not index else 1))
                before = out
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(before, classes)
        initialise(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, channels, h, w) -> logits (n, classes)."""
        features = self.blocks(F.relu(self.bn(self.conv(images))))
        return self.classifier(self.pool(features).flatten(1))  # type: ignore[no-any-return]


def resnet20(*, width: float = 1.0, channels: int = 3, classes: int = 10) -> ResNet:
    """ResNet-20 for 32x32 images; `width` scales every layer."""
    return ResNet(20, width=width, channels=channels, classes=classes)


def resnet32(*, width: float = 1.0, channels: int = 3, classes: int = 10) -> ResNet:
    """ResNet-32 for 32x32 images; `width` scales every layer."""
    return ResNet(32, width=width, channels=channels, classes=classes)


def resnet56(*, width: float = 1.0, channels: int = 3, classes: int = 10) -> ResNet:
    """ResNet-56 for 32x32 images; `width` scales every layer."""
    return ResNet(56, width=width, channels=channels, classes=classes)


def resnet110(*, width: float = 1.0, channels: int = 3, classes: int = 10) -> ResNet:
    """ResNet-110 for 32x32 images; `width` scales every layer."""
    return ResNet(110, width=width, channels=channels, classes=classes)
