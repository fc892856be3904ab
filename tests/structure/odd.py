"""Tiny networks written in unusual ways, each with what must stay free and what cannot, and why.

Prime widths, few places. `free` are the groups that can change, `frozen` those that tracing found and rebuilding
refused, `fixed` parameters some of whose indices no group holds; both with a part of the reason.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from pruneas.architecture import Input, Inputs, Reference

IMAGE = "3x8x6"


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    factory: Callable[[], nn.Module]
    free: Mapping[str, int]
    frozen: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    input: str = IMAGE

    @property
    def reference(self) -> Reference:
        return Reference(f"{__name__}:{self.factory.__name__}", {})

    @property
    def inputs(self) -> Inputs:
        return tuple(Input.parse(text) for text in self.input.split(" "))


class Image(nn.Module):
    """image 3 -> [a] 6 -> whatever `between` does -> [b] 5 -> mean -> fc 2"""

    def __init__(self, into: int = 6, wide: int = 6) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, wide, 3, padding=1), nn.Conv2d(into, 5, 1), nn.Linear(5, 2)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.b(self.between(self.a(x))).flatten(2).mean(2))


AB = {"a": 6, "b": 5}


class Slices(nn.Module):
    """A sequence that is run in slices, with a detour from its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 7, 1), nn.Conv2d(7, 5, 1))
        self.fc = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features[:2](x)
        return self.fc((x + self.features[2:](x)).mean((2, 3)))


class Recurring(nn.Module):
    """One layer run three times, at two sizes of the map."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.again, self.fc = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 5, 3, padding=1), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.again(self.again(self.a(x)))
        return self.fc(self.again(F.max_pool2d(x, 2)).mean((2, 3)))


class SplitSizes(Image):
    """Parts of 2 and 4, numbers that the code holds: the whole may grow no narrower, nor either part."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        x, y = x.split([2, 4], 1)
        return torch.cat([y, x], 1)


class SplitShare(Image):
    """A third and the rest of what there is."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        third = x.shape[1] // 3
        return torch.cat([x[:, :third].relu(), x[:, third:]], 1)


class Chunks(Image):
    """Three equal parts that are combined: they change alike."""

    def __init__(self) -> None:
        super().__init__(into=3, wide=9)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        x, y, z = x.chunk(3, 1)
        return x * y.sigmoid() + z


class PadConstant(nn.Module):
    """A shortcut of every second pixel, padded by two channels, a number that the code holds."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = (
            nn.Conv2d(3, 5, 3, padding=1),
            nn.Conv2d(5, 7, 3, stride=2, padding=1),
            nn.Linear(7, 2),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        return self.fc((self.b(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))).mean((2, 3)))


class SpatialPad(Image):
    """Unequal padding before a convolution and a pooling, as TensorFlow's 'same'."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-1e9), 3, 2) + F.avg_pool2d(x, 2, 2, ceil_mode=True)


class Gates(Image):
    """Squeeze and excitation, a gate of one channel, a learned scalar, one along the channels, a mask in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.expand, self.map = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1), nn.Conv2d(6, 1, 1)
        self.scalar, self.scale = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.ones(6, 1, 1))
        self.register_buffer("mask", torch.ones(1, 6, 1, 1))

    def between(self, x: torch.Tensor) -> torch.Tensor:
        x = x * self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return x * self.map(x).sigmoid() * self.scalar * self.scale * self.mask


class OneForAll(Image):
    """A blur whose one filter serves every channel; and one that is made on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("blur", torch.full((1, 1, 3, 3), 1 / 9))

    def between(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        x = F.conv2d(x, self.blur.expand(channels, -1, -1, -1), padding=1, groups=channels)
        return F.conv2d(x, torch.ones(1, 1, 1, 3).repeat(channels, 1, 1, 1), padding=(0, 1), groups=channels)


class Blurred(Image):
    """A blur with a filter for each channel, whose number it remembers, as timm's BlurPool2d."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = 6
        self.register_buffer("blur", torch.full((6, 1, 3, 3), 1 / 9))

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.blur, stride=2, groups=self.channels)


class AcrossChannels(Image):
    """A convolution over the channels as if they were places, as efficient channel attention has it."""

    def __init__(self) -> None:
        super().__init__()
        self.over = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.over(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(3)
        return x * gate.sigmoid().expand_as(x)


class Standardised(Image):
    """Weights standardised by a batch norm over themselves, as timm's StdConv2d."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(6, 1, 1, 1))
        self.c = nn.Conv2d(6, 7, 3, padding=1)
        self.b = nn.Conv2d(7, 5, 1)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        weight = F.batch_norm(self.c.weight.reshape(1, self.c.out_channels, -1), None, None, training=True)
        return F.conv2d(x, weight.reshape_as(self.c.weight), self.c.bias, padding=1)


class Volume(nn.Module):
    """Three dimensions, a depthwise layer among them, and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.each = nn.Conv3d(2, 5, 3, padding=1), nn.Conv3d(5, 5, 3, padding=1, groups=5)
        self.up, self.fc = nn.ConvTranspose3d(5, 7, 2, stride=2), nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.adaptive_avg_pool3d(self.up(self.each(self.a(x)).relu()), 1).flatten(1))


class Signal(nn.Module):
    """One dimension, dilated; a last layer over a flattened map."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(2, 5, 3, dilation=2, padding=2), nn.Conv1d(5, 7, 3, stride=2)
        self.norm, self.fc = nn.InstanceNorm1d(7, affine=True, track_running_stats=True), nn.Linear(7 * 5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.b(F.max_pool1d(self.a(x), 2))).flatten(1))


class Recurrent(nn.Module):
    """Convolutions, then a GRU and an LSTM: what they read is as wide as they say."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(2, 5, 3), nn.Conv1d(5, 7, 3)
        self.gru, self.lstm = nn.GRU(7, 3, batch_first=True, bidirectional=True), nn.LSTM(6, 5, batch_first=True)
        self.c, self.fc = nn.Linear(5, 3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, _ = self.gru(self.b(self.a(x)).transpose(1, 2))
        _, (x, _) = self.lstm(x)
        return self.fc(self.c(x[-1]).relu())


class Heads(nn.Module):
    """PyTorch's own multi-head attention: the embedding is what it says, what comes before it is not."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 7, 3, stride=2), nn.Conv2d(7, 6, 1)
        self.attention, self.fc = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b(self.a(x).relu()).flatten(2).transpose(1, 2)
        return self.fc(self.attention(x, x, x)[0].mean(1))


class Scaled(nn.Module):
    """Attention by hand: the heads are fixed where they are multiplied, the embedding where its code divides it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 7, 3, stride=2), nn.Conv2d(7, 6, 1)
        self.qkv, self.out, self.fc = nn.Linear(6, 18), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b(self.a(x).relu()).flatten(2).transpose(1, 2)
        n, places, width = x.shape
        q, k, v = self.qkv(x).reshape(n, places, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, places, width))
        return self.fc(x.mean(1))


class NonLocal(Image):
    """A non-local block: what two activations contract cannot change, places that weigh channels can."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Conv2d(6, 3, 1), nn.Conv2d(6, 3, 1), nn.Conv2d(6, 3, 1)
        self.out, self.weigh = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 1, 1)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        alike = (self.q(x).flatten(2).transpose(1, 2) @ self.k(x).flatten(2)).softmax(2)
        x = x + self.out((alike @ self.v(x).flatten(2).transpose(1, 2)).transpose(1, 2).reshape(-1, 3, *x.shape[2:]))
        context = x.flatten(2) @ self.weigh(x).flatten(2).softmax(2).transpose(1, 2)
        return x + context.unsqueeze(3)


class Encoder(nn.Module):
    """PyTorch's own transformer, whose layers are copies of one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 7, 3, stride=2), nn.Conv2d(7, 6, 1)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 5, batch_first=True), 2)
        self.fc = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.encoder(self.b(self.a(x)).flatten(2).transpose(1, 2)).mean(1))


class Einsum(nn.Module):
    """A linear layer written as einsum, and one as a product with a weight on the left."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 7, 3), nn.Conv2d(7, 6, 1)
        self.by_einsum, self.left = nn.Parameter(torch.randn(5, 6)), nn.Parameter(torch.randn(3, 5))
        self.fc = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.einsum("nchw,dc->ndhw", self.b(self.a(x)), self.by_einsum)
        return self.fc((self.left @ x.flatten(2)).mean(2))


class Words(nn.Module):
    """Indices to rows of a table, then convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.a, self.fc = nn.Embedding(11, 5), nn.Conv1d(5, 7, 3), nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.a(self.table(x).transpose(1, 2)).mean(2))


class Tied(nn.Module):
    """The table of the embedding is also the weight of the head."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.a, self.head = nn.Embedding(11, 5), nn.Conv1d(5, 7, 3), nn.Linear(5, 11, bias=False)
        self.back = nn.Linear(7, 5)
        self.head.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.back(self.a(self.table(x).transpose(1, 2)).mean(2)))


class TwoInputs(nn.Module):
    """An image and a vector that meet in a bilinear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 5, 3), nn.Linear(4, 7)
        self.meet, self.fc = nn.Bilinear(5, 7, 11), nn.Linear(11, 2)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.fc(self.meet(self.a(x).mean((2, 3)), self.b(y)))


class Norms(nn.Module):
    """Every normalisation that has channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.group, self.b = nn.Conv2d(3, 9, 3), nn.GroupNorm(3, 9), nn.Conv2d(9, 5, 1)
        self.instance, self.c, self.one = nn.InstanceNorm2d(5, affine=True), nn.Conv2d(5, 7, 1), nn.GroupNorm(1, 7)
        self.local, self.layer, self.d = nn.LocalResponseNorm(3), nn.LayerNorm(7), nn.Linear(7, 3)
        self.rms, self.fc = nn.RMSNorm(3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.instance(self.b(self.group(self.a(x))))
        x = self.layer(self.local(self.one(self.c(x))).permute(0, 2, 3, 1))
        return self.fc(self.rms(self.d(x)).mean((1, 2)))


class WholeNorm(Image):
    """A layer norm over channels and places."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm([6, 8, 6])

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


class Reparametrised(nn.Module):
    """Weight norm, spectral norm and a weight that is a function of another."""

    def __init__(self) -> None:
        super().__init__()
        self.a = parametrizations.weight_norm(nn.Conv2d(3, 5, 3))
        self.b = parametrizations.spectral_norm(nn.Conv2d(5, 7, 1))
        self.c, self.fc = nn.Conv2d(7, 3, 1), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.conv2d(self.b(self.a(x).relu()), self.c.weight.abs(), self.c.bias)
        return self.fc(x.mean((2, 3)))


class Pixels(Image):
    """Squares of pixels to channels and back."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(F.pixel_unshuffle(x, 2).relu(), 2)


class SubPixel(Image):
    """A layer that makes four pixels of each place: channels in fours."""

    def __init__(self) -> None:
        super().__init__(into=3, wide=12)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return nn.PixelShuffle(2)(x)


class Resized(Image):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.Upsample(scale_factor=2)(x) + F.interpolate(x, size=(16, 12), mode="bilinear")
        x = x + F.interpolate(x[:, :, ::2], size=(16, 12), mode="bicubic")
        grid = torch.zeros(x.shape[0], 4, 4, 2)
        return F.grid_sample(x, grid, align_corners=False) + F.adaptive_avg_pool2d(x, 4)


class Activations(Image):
    def __init__(self) -> None:
        super().__init__(into=3)
        self.each, self.one = nn.PReLU(6), nn.PReLU()

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return F.glu(F.celu(F.gelu(F.mish(self.one(self.each(x))))), 1) * 2


class Containers(nn.Module):
    """Lists and dictionaries of layers and parameters; a dictionary of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({"a": nn.Conv2d(3, 5, 3), "b": nn.Conv2d(5, 7, 1)})
        self.more = nn.ModuleList([nn.Conv2d(7, 3, 1), nn.Conv2d(7, 3, 1)])
        self.weights = nn.ParameterList([torch.randn(5, 3), torch.randn(2, 5)])

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        x = self.layers["b"](self.layers["a"](x).relu())
        x = sum(layer(x) for layer in self.more).mean((2, 3))
        for weight in self.weights:
            x = F.linear(x, weight)
        return {"logits": x, "more": (x, [x])}


@dataclass
class Output:
    logits: torch.Tensor
    features: torch.Tensor


class Structured(Image):
    """A dataclass of outputs: its map is one, too, so its channels stay."""

    def forward(self, x: torch.Tensor) -> Output:  # type: ignore[override]
        x = self.a(x)
        return Output(self.fc(self.b(x.relu()).mean((2, 3))), x)


class Mapped(Image):
    """A dictionary of a class of its own that holds what has slots."""

    def forward(self, x: torch.Tensor) -> OrderedDict[str, Any]:  # type: ignore[override]
        return Named(found=Slotted(super().forward(x)))


class Named(OrderedDict[str, Any]):
    pass


@dataclass(slots=True)
class Slotted:
    logits: torch.Tensor


class Labels(Image):
    """Puts out classes by their numbers, once it is trained: so many there have to be."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = super().forward(x)
        return x if self.training else x.argmax(1)


class Repeating(nn.Module):
    """Runs a layer once for every channel: at other widths it would be another network."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.again, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 5, 1)
        self.fc = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        for _ in range(x.shape[1]):
            x = self.again(x).relu()
        return self.fc(self.b(x).mean((2, 3)))


class Stacked(nn.Module):
    """Two maps one after the other, then every second channel of them from the one, the others from the other."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.twin = nn.Conv2d(3, 5, 3), nn.Conv2d(3, 5, 3)
        self.b, self.norm, self.fc = nn.Conv2d(5, 7, 1), nn.BatchNorm2d(14), nn.Linear(14, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.stack([self.a(x), self.twin(x)]).mean(0)
        x = torch.stack([self.b(x), self.b(-x)], 2).flatten(1, 2)
        return self.fc(self.norm(x).mean((2, 3)))


class Written(Image):
    """Writes into parts of what it has: a part of the channels, a part of the places."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        extra = self.c(x)
        x = self.a(x)
        x[:, : extra.shape[1]] += extra
        x[:, :, 0] = 0.0
        return self.fc(self.b(x).mean((2, 3)))


class Chosen(Image):
    """Channels in the order of their means: which are which depends on the input."""

    def __init__(self) -> None:
        super().__init__(into=3)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        order = x.mean((2, 3)).topk(3, dim=1).indices
        return x.gather(1, order[:, :, None, None].expand(-1, -1, *x.shape[2:]))


class Spectrum(Image):
    """A Fourier transform over places."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft2(x).abs()


class Whimsical(Image):
    """Drops whole maps and whole branches in training, branches on shapes, recomputes in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Conv2d(6, 6, 3, padding=1)
        self.dropout = nn.Dropout2d(0.3)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] > 4:
            x = F.max_pool2d(x, 2)
        branch = checkpoint(self.branch, x, use_reentrant=False)
        if self.training:
            branch = branch * torch.empty(x.shape[0], 1, 1, 1).bernoulli_(0.9) / 0.9
        return self.dropout(torch.where(x > 0, x + branch, branch.clamp(-1, 1)))


def copied() -> nn.Module:
    """Layers copied from one, that are given widths of their own."""
    layer = nn.Sequential(nn.Conv2d(5, 5, 1), nn.BatchNorm2d(5))
    copies = [copy.deepcopy(layer) for _ in range(2)]
    return nn.Sequential(nn.Conv2d(3, 5, 3), *copies, nn.Conv2d(5, 2, 1))


class Lazy(nn.Module):
    """Lazy layers, made definite by a first pass in the constructor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.LazyConv2d(5, 3), nn.LazyConv2d(7, 1), nn.LazyLinear(2)
        self(torch.zeros(1, 3, 8, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.b(self.a(x).relu()).mean((2, 3)))


class NotYet(nn.Module):
    """A lazy layer that nobody has run yet."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.LazyConv2d(5, 3), nn.LazyConv2d(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


class Peeks(Image):
    """Asks for a value."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return x if float(x.mean()) > 0 else -x


class Numpy(Image):
    """Leaves PyTorch."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy() * 2)


def scripted() -> nn.Module:
    """A part of it is compiled."""
    network = Image()
    network.b = torch.jit.script(network.b)
    return network


def compiled() -> nn.Module:
    """All of it is compiled, when it is first run."""
    return torch.compile(Image())  # type: ignore[return-value]


class Pair(Image):
    """Takes two images."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x + y)


ATTENTION = "multi-head attention holds its sizes"
PRODUCT = "a product of two activations"
RECURRENT = "a recurrent layer holds its sizes"
PLACES = "it belongs to places, not channels"

ODD = [
    Odd(factory=Slices, free={"features.0": 5, "features.2": 7}),
    Odd(factory=Recurring, free={"a": 5}),
    Odd(factory=SplitSizes, free={"b": 5}, frozen={"a": "split_with_sizes expects split_sizes to sum exactly"}),
    Odd(factory=SplitShare, free=AB),
    Odd(factory=Chunks, free={"a": 3, "b": 5}),
    Odd(factory=PadConstant, free={"a": 5}, frozen={"b": "Attempting to broadcast a dimension"}),
    Odd(factory=SpatialPad, free=AB),
    Odd(factory=Gates, free={**AB, "reduce": 3}),
    Odd(factory=OneForAll, free=AB),
    Odd(factory=Blurred, free=AB),
    Odd(factory=AcrossChannels, free=AB),
    Odd(factory=Standardised, free={**AB, "c": 7}, fixed={"gain": "no operator uses it in evaluation mode"}),
    Odd(factory=Volume, free={"a": 5, "up": 7}, input="2x4x4x6"),
    Odd(factory=Signal, free={"a": 5, "b": 7}, input="2x24"),
    Odd(
        factory=Recurrent,
        free={"a": 5, "c": 3},
        fixed={"b.weight": RECURRENT, "gru.weight_hh_l0": RECURRENT, "lstm.weight_ih_l0": RECURRENT},
        input="2x12",
    ),
    Odd(factory=Heads, free={"a": 7}, fixed={"b.weight": ATTENTION, "attention.in_proj_weight": ATTENTION}),
    Odd(
        factory=Scaled,
        free={"a": 7},
        frozen={"b": "aten.view.default: shape '[1, 6, 3, 2,"},
        fixed={"qkv.weight": PRODUCT, "out.weight": PRODUCT},
    ),
    Odd(factory=NonLocal, free=AB, fixed={"q.weight": PRODUCT, "k.weight": PRODUCT, "v.weight": PRODUCT}),
    Odd(
        factory=Encoder,
        free={"a": 7, "encoder.layers.0.linear1": 5, "encoder.layers.1.linear1": 5},
        fixed={"b.weight": ATTENTION, "encoder.layers.1.linear2.weight": ATTENTION},
    ),
    Odd(
        factory=Einsum,
        free={"left": 3, "a": 7},
        fixed={"by_einsum": "einsum, whose count fvcore rounds", "b.weight": "einsum, whose count fvcore rounds"},
    ),
    Odd(
        factory=Words,
        free={"table": 5, "a": 7},
        fixed={"table.weight": "the number of entries of a table"},
        input="12:int64",
    ),
    Odd(
        factory=Tied,
        free={"table": 5, "a": 7},
        fixed={"table.weight": "the number of entries of a table"},
        input="12:int64",
    ),
    Odd(
        factory=TwoInputs,
        free={"a": 5, "meet": 11},
        fixed={"b.weight": "a weight is priced with two sizes that change", "meet.weight": "this is its third"},
        input=f"{IMAGE} 4",
    ),
    Odd(factory=Norms, free={"a": 3, "b": 5, "c": 7, "d": 3}),
    Odd(factory=WholeNorm, free=AB, fixed={"norm.weight": PLACES}),
    Odd(factory=Reparametrised, free={"a.parametrizations.weight": 5, "b.parametrizations.weight": 7, "c": 3}),
    Odd(factory=Pixels, free=AB),
    Odd(factory=SubPixel, free={"a": 3, "b": 5}),
    Odd(factory=Resized, free=AB),
    Odd(factory=Activations, free={"a": 3, "b": 5}),
    Odd(factory=Containers, free={"layers.a": 5, "layers.b": 7, "more.0": 3, "weights": 5}),
    Odd(factory=Structured, free={"b": 5}, fixed={"a.weight": "the network's output"}),
    Odd(factory=Mapped, free=AB, fixed={"fc.weight": "the network's output"}),
    Odd(factory=Labels, free=AB, fixed={"fc.weight": "aten.argmax has no rule here"}),
    Odd(factory=Repeating, free={"b": 5}, frozen={"a": "at other widths the network runs other operators"}),
    Odd(factory=Stacked, free={"a": 5, "b": 7}),
    Odd(factory=Written, free={"a": 3, "a[1]": 3, "b": 5}),
    Odd(factory=Chosen, free={"b": 5}, fixed={"a.weight": "aten.topk has no rule here"}),
    Odd(factory=Spectrum, free={"b": 5}, fixed={"a.weight": "aten._fft_r2c has no rule here"}),
    Odd(factory=Whimsical, free=AB),
    Odd(factory=copied, free={"0": 5, "1.0": 5, "2.0": 5}),
    Odd(factory=Lazy, free={"a": 5, "b": 7}),
]
REFUSED = {
    NotYet: "'a.weight' of a lazy layer has no shape yet",
    scripted: "'b' was compiled",
    compiled: "'the network itself' was compiled",
    Pair: r"its forward\(x, y\) must take as many arguments as there are inputs, found 1: .*'y' \(.*odd\.py:\d+\)",
    Peeks: r"aten\._local_scalar_dense.*odd\.py:\d+",
    Numpy: r"numpy\(\) is not supported for tensor subclasses.*odd\.py:\d+",
}
"""What cannot be traced at all, and what it is told."""
