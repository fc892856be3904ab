"""VGG for small images, with batch normalisation [Simonyan2015], as the pruning literature uses it on CIFAR.

A stack of 3x3 convolutions without bias in stages of equal feature-map size, 2x2 max pooling between stages, what is
left of the map averaged, and one linear layer. Plain modules without per-layer width arguments: other widths come from
`pruneas.Architecture`.

[Simonyan2015] Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv 1409.1556
[Liu2017] Learning Efficient Convolutional Networks through Network Slimming, arXiv 1708.06519: gammas begin at 0.5
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

Layout = Sequence[int | Literal["M"]]

_LAYOUTS: dict[int, Layout] = {
    11: (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512),
    16: (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512),
    19: (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512),
}


class VGG(nn.Module):
    def __init__(self, layout: Layout, *, channels: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = channels
        for entry in layout:
            if entry == "M":
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(width, entry, 3, padding=1, bias=False), nn.BatchNorm2d(entry), nn.ReLU()]
                width = entry
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, channels, h, w) -> logits (n, classes)."""
        return self.classifier(self.pool(self.features(images)).flatten(1))  # type: ignore[no-any-return]


def vgg(layout: Layout, *, channels: int = 3, classes: int = 10) -> VGG:
    """VGG of any layout: widths of the convolutions, with 'M' where a 2x2 max pooling stands."""
    return VGG(layout, channels=channels, classes=classes)


def vgg11(*, width: float = 1.0, channels: int = 3, classes: int = 10) -> VGG:
    """VGG-11 with batch norm for 32x32 images; `width` scales every layer."""
    return VGG(_scaled(11, width), channels=channels, classes=classes)


def vgg16(*, width: float = 1.0, channels: int = 3, classes: int = 10) -> VGG:
    """VGG-16 with batch norm for 32x32 images; `width` scales every layer."""
    return VGG(_scaled(16, width), channels=channels, classes=classes)


def vgg19(*, width: float = 1.0, channels: int = 3, classes: int = 10) -> VGG:
    """VGG-19 with batch norm for 32x32 images; `width` scales every layer."""
    return VGG(_scaled(19, width), channels=channels, classes=classes)


def _scaled(depth: int, width: float) -> Layout:
    return ["M" if entry == "M" else max(1, round(entry * width)) for entry in _LAYOUTS[depth]]
