"""VGG for small images [Simonyan2015], as the pruning literature uses it on CIFAR, and its variant without batch norm.

A stack of 3x3 convolutions in stages of equal feature-map size, 2x2 max pooling between stages, what is left of the map
averaged, and one linear layer. Convolutions have a bias where no batch norm follows. Plain modules without per-layer
width arguments: other widths come from `pruneas.Architecture`.

Batch-norm scales begin at `gamma`: the code of [Liu2017] and [Li2017] has 0.5, here 1 is the default. With `hidden` a
linear layer of that size, batch norm and ReLU stand before the last layer: `vgg16(hidden=512)` is the network of
filter pruning [Li2017].

[Simonyan2015] Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv 1409.1556
[Liu2017] Learning Efficient Convolutional Networks through Network Slimming, arXiv 1708.06519
[Li2017] Pruning Filters for Efficient ConvNets, arXiv 1608.08710
[Luo2017] ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression, arXiv 1707.06342
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from pruneas.networks.initial import initialise, scaled

Layout = Sequence[int | Literal["M"]]

_LAYOUTS: dict[int, Layout] = {
    11: (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512),
    16: (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512),
    19: (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512),
}


class VGG(nn.Module):
    def __init__(
        self,
        layout: Layout,
        *,
        channels: int,
        classes: int,
        hidden: int | None = None,
        gamma: float = 1.0,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = channels
        for entry in layout:
            if entry == "M":
                layers.append(nn.MaxPool2d(2))
            else:
                layers.append(nn.Conv2d(width, entry, 3, padding=1, bias=not batch_norm))
                layers += [nn.BatchNorm2d(entry), nn.ReLU()] if batch_norm else [nn.ReLU()]
                width = entry
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier: nn.Module = nn.Linear(hidden or width, classes)
        if hidden:
            self.classifier = nn.Sequential(
                nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), self.classifier
            )
        initialise(self, gamma=gamma)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, channels, h, w) -> logits (n, classes)."""
        return self.classifier(self.pool(self.features(images)).flatten(1))  # type: ignore[no-any-return]


def vgg(layout: Layout, *, channels: int = 3, classes: int = 10) -> VGG:
    """VGG of any layout: widths of the convolutions, with 'M' where a 2x2 max pooling stands."""
    return VGG(layout, channels=channels, classes=classes)


def vgg11(
    *, width: float = 1.0, channels: int = 3, classes: int = 10, hidden: int | None = None, gamma: float = 1.0
) -> VGG:
    """VGG-11 with batch norm for 32x32 images; `width` scales every convolution."""
    return VGG(_scaled(11, width), channels=channels, classes=classes, hidden=hidden, gamma=gamma)


def vgg16(
    *, width: float = 1.0, channels: int = 3, classes: int = 10, hidden: int | None = None, gamma: float = 1.0
) -> VGG:
    """VGG-16 with batch norm for 32x32 images; `width` scales every convolution."""
    return VGG(_scaled(16, width), channels=channels, classes=classes, hidden=hidden, gamma=gamma)


def vgg19(
    *, width: float = 1.0, channels: int = 3, classes: int = 10, hidden: int | None = None, gamma: float = 1.0
) -> VGG:
    """VGG-19 with batch norm for 32x32 images; `width` scales every convolution."""
    return VGG(_scaled(19, width), channels=channels, classes=classes, hidden=hidden, gamma=gamma)


def vgg16_gap(*, width: float = 1.0, channels: int = 3, classes: int = 1000) -> VGG:
    """VGG-16 without batch norm for 224x224 images, whose last maps are averaged in place of the large linear layers.

    ThiNet's VGG-GAP and VGG-Tiny are narrower ones [Luo2017].
    """
    return VGG(_scaled(16, width), channels=channels, classes=classes, batch_norm=False)


def _scaled(depth: int, width: float) -> Layout:
    return ["M" if entry == "M" else scaled(entry, width) for entry in _LAYOUTS[depth]]
