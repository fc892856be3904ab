"""The small network of the width table: five convolutions on digits, each with a width of its own."""

from torch import Tensor, nn

STRIDES = (1, 2, 1, 2, 1)
"""Of the convolutions: 8 x 8 images, so 64, 16, 16, 4 and 4 positions."""
CLASSES = 10


class Plain(nn.Module):
    """Five 3x3 convolutions with batch norm and ReLU, the mean over positions, a classifier. (batch, 1, 8, 8)."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        channels = [1, *widths]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            for inputs, outputs, stride in zip(channels[:-1], widths, STRIDES, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.classifier = nn.Linear(channels[-1], CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        features = images
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            features = norm(convolution(features)).relu()
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


def plain(widths: list[int] | None = None) -> Plain:
    """The network of these five widths; by default the widest of the table."""
    return Plain(widths if widths is not None else [16] * len(STRIDES))
