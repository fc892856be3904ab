"""Channel selection: a layer that passes on some of the channels it sees [Liu2017].

It stands where a tensor that many layers share is read by one of them: what that layer reads becomes narrower, the
shared tensor does not. Which channels is data, the buffer `index`, so a state carries it along.

[Liu2017] Learning Efficient Convolutional Networks through Network Slimming, arXiv 1708.06519, section 3
"""

import torch
from torch import nn


class ChannelSelection(nn.Module):
    """The channels of a map whose numbers `index` (channels,) holds, ascending. All of them to begin with."""

    index: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("index", torch.arange(channels))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, trunk, ...) -> (n, channels, ...)."""
        return inputs.index_select(1, self.index)
