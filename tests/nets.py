"""Tiny networks with prime widths, each with what is known of it beside it: its groups and, worked by hand, its cost.

Prime widths and unequal sides, so that swapped axes cannot cancel. All take images of 3 x 11 x 13 and give 2 logits.
`ps` below are the 143 places of a map. As fvcore counts: a convolution costs places * kernel * in * out, a batch norm
in evaluation mode 2 per element, adaptive pooling 1 per input element, a linear layer in * out; nothing else counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pruneas.architecture import Input, Inputs, Reference
from pruneas.cost.model import CostModel
from pruneas.networks.selection import ChannelSelection
from pruneas.structure.build import analyse, build_widths
from pruneas.structure.confirm import confirmed
from pruneas.structure.groups import Structure


def image(*shape: int) -> Inputs:
    """The inputs of a network that takes one image of this shape."""
    return (Input(shape),)


INPUT = image(3, 11, 13)
PLACES = 11 * 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A factory, the groups tracing must find, what rebuilding must freeze, and the cost of the base network."""

    factory: Callable[[], nn.Module]
    groups: Mapping[str, int]
    flops: int
    params: int
    frozen: frozenset[str] = frozenset()
    fixed: Mapping[str, str] = field(default_factory=dict)
    has_batch_norm: bool = True

    @property
    def reference(self) -> Reference:
        return Reference(f"tests.nets:{self.factory.__name__}", {})


def conv(into: int, out: int, kernel: int = 3, **options: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(into, out, kernel, padding=kernel // 2, bias=False, **options), nn.BatchNorm2d(out), nn.ReLU()
    )


def pooled(features: torch.Tensor) -> torch.Tensor:
    return F.adaptive_avg_pool2d(features, 1).flatten(1)


class Single(nn.Module):
    """image 3 -> [a] 5 -> mean -> fc 2"""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = conv(3, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(pooled(self.a(x)))


SINGLE = Known(
    factory=Single,
    groups={"a.0": 5},
    flops=PLACES * 9 * 3 * 5 + PLACES * 2 * 5 + PLACES * 5 + 5 * 2,
    params=9 * 3 * 5 + 2 * 5 + 5 * 2 + 2,
)


class Chain(nn.Module):
    """image 3 -> [a] 5 -> [b] 7 -> mean -> fc 2"""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = conv(3, 5), conv(5, 7), nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(pooled(self.b(self.a(x))))


CHAIN = Known(
    factory=Chain,
    groups={"a.0": 5, "b.0": 7},
    flops=PLACES * 9 * (3 * 5 + 5 * 7) + PLACES * 2 * (5 + 7) + PLACES * 7 + 7 * 2,
    params=9 * (3 * 5 + 5 * 7) + 2 * (5 + 7) + 7 * 2 + 2,
)


class Residual(nn.Module):
    """
    image 3 -> [stem] 5 --+--> [a] 7 -> [b] 5 -> + -> mean -> fc 2
                          |                      |
                          +----------------------+
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.fc = conv(3, 5), conv(5, 7), conv(7, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.b(self.a(x))
        return self.fc(pooled(x))


RESIDUAL = Known(
    factory=Residual,
    groups={"stem.0": 5, "a.0": 7},
    flops=PLACES * 9 * (3 * 5 + 5 * 7 + 7 * 5) + PLACES * 2 * (5 + 7 + 5) + PLACES * 5 + 5 * 2,
    params=9 * (3 * 5 + 5 * 7 + 7 * 5) + 2 * (5 + 7 + 5) + 5 * 2 + 2,
)


class OptionA(nn.Module):
    """
    image 3 -> [stem] 5 --+--> [a] 7 -> [b] 11 -> + -> mean -> fc 2        the pad is what is missing, whatever
                          |                       |                        that is: 5 channels of the stream, then
                          +------ pad 6 zeros ----+                        6 that only the branch writes
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.fc = conv(3, 5), conv(5, 7), conv(7, 11), nn.Linear(11, 2)

    def missing(self, branch: torch.Tensor, x: torch.Tensor) -> int:
        return branch.shape[1] - x.shape[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        branch = self.b(self.a(x))
        x = branch + F.pad(x, (0, 0, 0, 0, 0, self.missing(branch, x)))
        return self.fc(pooled(x))


OPTION_A = Known(
    factory=OptionA,
    groups={"stem.0": 5, "a.0": 7, "b.0": 6},
    flops=PLACES * 9 * (3 * 5 + 5 * 7 + 7 * 11) + PLACES * 2 * (5 + 7 + 11) + PLACES * 11 + 11 * 2,
    params=9 * (3 * 5 + 5 * 7 + 7 * 11) + 2 * (5 + 7 + 11) + 11 * 2 + 2,
)


class ConstantPad(OptionA):
    """Option A again, but its code says six: the six channels that meet the padding cannot change."""

    def missing(self, branch: torch.Tensor, x: torch.Tensor) -> int:
        return 6


CONSTANT_PAD = Known(
    factory=ConstantPad,
    groups=OPTION_A.groups,
    flops=OPTION_A.flops,
    params=OPTION_A.params,
    frozen=frozenset({"b.0"}),
)


class Dense(nn.Module):
    """
    image 3 -> [stem] 5 --+-------------> cat 8 --> norm -> [b] 7 -> cat 15 -> mean -> fc 2
                          |               |   |                      |
                          +--> [a] 3 -----+   +----------------------+
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.norm, self.b = conv(3, 5), conv(5, 3), nn.BatchNorm2d(8), conv(8, 7)
        self.fc = nn.Linear(15, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.a(x)], dim=1)
        x = torch.cat([x, self.b(F.relu(self.norm(x)))], dim=1)
        return self.fc(pooled(x))


DENSE = Known(
    factory=Dense,
    groups={"stem.0": 5, "a.0": 3, "b.0": 7},
    flops=PLACES * 9 * (3 * 5 + 5 * 3 + 8 * 7) + PLACES * 2 * (5 + 3 + 8 + 7) + PLACES * 15 + 15 * 2,
    params=9 * (3 * 5 + 5 * 3 + 8 * 7) + 2 * (5 + 3 + 8 + 7) + 15 * 2 + 2,
)


class Selecting(nn.Module):
    """
    image 3 -> stem 5 --+--> norm -> [select] 5 -> [a] 7 -> b 5 --> + -> mean -> fc 2        the stream is fixed
                        |                                           |
                        +-------------------------------------------+
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.select = conv(3, 5), nn.BatchNorm2d(5), ChannelSelection(5)
        self.a, self.b, self.fc = conv(5, 7), conv(7, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.fc(pooled(x + self.b(self.a(F.relu(self.select(self.norm(x)))))))


SELECTING = Known(
    factory=Selecting,
    groups={"a.0": 7, "select": 5},
    flops=PLACES * 9 * (3 * 5 + 5 * 7 + 7 * 5) + PLACES * 2 * (5 + 5 + 7 + 5) + PLACES * 5 + 5 * 2,
    params=9 * (3 * 5 + 5 * 7 + 7 * 5) + 2 * (5 + 5 + 7 + 5) + 5 * 2 + 2,
    fixed={name: "a channel selection reads it by index" for name in ("norm.weight", "b.0.weight")},
)


class Depthwise(nn.Module):
    """image 3 -> [stem] 5 -> depthwise 5 -> [point] 7 -> depthwise, two filters a channel: 14 -> mean -> fc 2"""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.each, self.point = conv(3, 5), conv(5, 5, groups=5), conv(5, 7, 1)
        self.twice, self.fc = conv(7, 14, groups=7), nn.Linear(14, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(pooled(self.twice(self.point(self.each(self.stem(x))))))


DEPTHWISE = Known(
    factory=Depthwise,
    groups={"stem.0": 5, "point.0": 7},
    flops=PLACES * (9 * 3 * 5 + 9 * 5 + 5 * 7 + 9 * 14) + PLACES * 2 * (5 + 5 + 7 + 14) + PLACES * 14 + 14 * 2,
    params=9 * 3 * 5 + 9 * 5 + 5 * 7 + 9 * 14 + 2 * (5 + 5 + 7 + 14) + 14 * 2 + 2,
)


class Grouped(nn.Module):
    """image 3 -> [stem] 2 parts of 3 -> [halves] 2 parts of 5, each from its own -> mean -> fc 2"""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.halves, self.fc = conv(3, 6), conv(6, 10, groups=2), nn.Linear(10, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(pooled(self.halves(self.stem(x))))


GROUPED = Known(
    factory=Grouped,
    groups={"stem.0": 3, "halves.0": 5},  # a channel of a group is one of each part
    flops=PLACES * 9 * (3 * 6 + 3 * 10) + PLACES * 2 * (6 + 10) + PLACES * 10 + 10 * 2,
    params=9 * (3 * 6 + 3 * 10) + 2 * (6 + 10) + 10 * 2 + 2,
)


class Flat(nn.Module):
    """image 3 -> [a] 5 -> max pooling, 5 x 6 -> flatten 150 -> [hidden] 7 -> fc 2"""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.hidden, self.norm, self.fc = conv(3, 5), nn.Linear(150, 7), nn.BatchNorm1d(7), nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.a(x), 2).flatten(1)
        return self.fc(F.relu(self.norm(self.hidden(x))))


FLAT = Known(
    factory=Flat,
    groups={"a.0": 5, "hidden": 7},
    flops=PLACES * 9 * 3 * 5 + PLACES * 2 * 5 + 150 * 7 + 2 * 7 + 7 * 2,
    params=9 * 3 * 5 + 2 * 5 + 150 * 7 + 7 + 2 * 7 + 7 * 2 + 2,
)


class SqueezeExcite(nn.Module):
    """
    image 3 -> [stem] 5 --+-----------------------------------> * -> mean -> fc 2
                          |                                     |
                          +--> mean -> [reduce] 3 -> expand 5 --+
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.reduce, self.expand = conv(3, 5), nn.Conv2d(5, 3, 1), nn.Conv2d(3, 5, 1)
        self.fc = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        gate = self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1))))
        return self.fc(pooled(x * gate.sigmoid()))


SQUEEZE_EXCITE = Known(
    factory=SqueezeExcite,
    groups={"stem.0": 5, "reduce": 3},
    flops=PLACES * 9 * 3 * 5 + PLACES * 2 * 5 + 2 * PLACES * 5 + 5 * 3 + 3 * 5 + 5 * 2,
    params=9 * 3 * 5 + 2 * 5 + (5 * 3 + 3) + (3 * 5 + 5) + 5 * 2 + 2,
)


class Shared(nn.Module):
    """
    image 3 -> [stem] 5 -> again 5 -> again 5 --+--> [a] 7 --> + -> mean -> fc 2     `again` is one module, run twice;
                                                |              |                     a and b share one weight,
                                                +---> b 7 -----+                     not the bias
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again, self.fc = conv(3, 5), conv(5, 5), nn.Linear(7, 2)
        self.a, self.b = nn.Conv2d(5, 7, 3, padding=1), nn.Conv2d(5, 7, 3, padding=1)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.again(self.again(self.stem(x)))
        return self.fc(pooled(F.relu(self.a(x) + self.b(x))))


SHARED = Known(
    factory=Shared,
    groups={"stem.0": 5, "a": 7},
    flops=PLACES * 9 * (3 * 5 + 2 * 5 * 5 + 2 * 5 * 7) + PLACES * 2 * (3 * 5) + PLACES * 7 + 7 * 2,
    params=9 * (3 * 5 + 5 * 5 + 5 * 7) + 2 * (5 + 5) + 2 * 7 + 7 * 2 + 2,
)


class Functional(nn.Module):
    """image 3 -> [kernel] 5 -> * scale -> [second] 7 -> mean -> matrix 2. No layer modules: parameters by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(5, 3, 3, 3) / 5)
        self.second = nn.Parameter(torch.randn(7, 5, 3, 3) / 7)
        self.scale, self.shift = nn.Parameter(torch.ones(5)), nn.Parameter(torch.zeros(5))
        self.register_buffer("mean", torch.zeros(5))
        self.register_buffer("var", torch.ones(5))
        self.layer_scale = nn.Parameter(torch.rand(5, 1, 1))
        self.matrix = nn.Parameter(torch.randn(2, 7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.conv2d(x, self.kernel, padding=1)
        x = F.batch_norm(x, self.mean, self.var, self.scale, self.shift, training=self.training)
        x = F.conv2d(F.relu(x) * self.layer_scale, self.second, padding=1)
        return F.linear(pooled(x), self.matrix)


FUNCTIONAL = Known(
    factory=Functional,
    groups={"kernel": 5, "second": 7},
    flops=PLACES * 9 * (3 * 5 + 5 * 7) + PLACES * 2 * 5 + PLACES * 7 + 7 * 2,
    params=9 * (3 * 5 + 5 * 7) + 3 * 5 + 7 * 2,
    has_batch_norm=False,  # no module of that kind, so nothing that slimming could read
)


class ConstantView(nn.Module):
    """image 3 -> [a] 5 -> [b] 7 -> mean -> view(-1, 7), a size that the code holds -> fc 2"""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = conv(3, 5), conv(5, 7), nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.b(self.a(x)), 1).view(-1, 7))


CONSTANT_VIEW = Known(
    factory=ConstantView, groups=CHAIN.groups, flops=CHAIN.flops, params=CHAIN.params, frozen=frozenset({"b.0"})
)


class UnknownOperator(nn.Module):
    """image 3 -> [a] 5 -> b 7 -> sorted over channels, for which there is no rule -> mean -> fc 2"""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = conv(3, 5), conv(5, 7), nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(pooled(self.b(self.a(x)).sort(dim=1).values))


UNKNOWN_OPERATOR = Known(
    factory=UnknownOperator,
    groups={"a.0": 5},
    flops=CHAIN.flops,
    params=CHAIN.params,
    fixed={"b.0.weight": "aten.sort has no rule here", "fc.weight": "aten.sort has no rule here"},
)


class Gated(nn.Module):
    """image 3 -> [both] 2 halves of 5: the first times the sigmoid of the second -> [b] 7 -> mean -> fc 2"""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.b, self.fc = conv(3, 10), conv(5, 7), nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.both(x).chunk(2, dim=1)
        return self.fc(pooled(self.b(value * gate.sigmoid())))


GATED = Known(
    factory=Gated,
    groups={"both.0": 5, "b.0": 7},
    flops=PLACES * 9 * (3 * 10 + 5 * 7) + PLACES * 2 * (10 + 7) + PLACES * 7 + 7 * 2,
    params=9 * (3 * 10 + 5 * 7) + 2 * (10 + 7) + 7 * 2 + 2,
)


class Shuffled(nn.Module):
    """image 3 -> [stem] 10 -> shuffle: 2 halves of 5 interleaved -> [b] 7 -> mean -> fc 2"""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.b, self.fc = conv(3, 10), conv(10, 7), nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.fc(pooled(self.b(x)))


SHUFFLED = Known(
    factory=Shuffled,
    groups={"stem.0": 5, "b.0": 7},
    flops=PLACES * 9 * (3 * 10 + 10 * 7) + PLACES * 2 * (10 + 7) + PLACES * 7 + 7 * 2,
    params=9 * (3 * 10 + 10 * 7) + 2 * (10 + 7) + 7 * 2 + 2,
)


class Upsampled(nn.Module):
    """image 3 -> [a] 5 -> [up] transposed, stride 2: 7 at 22 x 26 -> mean -> fc 2"""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.up, self.fc = conv(3, 5), nn.ConvTranspose2d(5, 7, 2, stride=2), nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(pooled(F.relu(self.up(self.a(x)))))


UPSAMPLED = Known(
    factory=Upsampled,
    groups={"a.0": 5, "up": 7},
    flops=PLACES * 9 * 3 * 5 + PLACES * 2 * 5 + PLACES * 4 * 5 * 7 + 4 * PLACES * 7 + 7 * 2,
    params=9 * 3 * 5 + 2 * 5 + 4 * 5 * 7 + 7 + 7 * 2 + 2,
)


class GroupNormed(nn.Module):
    """image 3 -> [a] 2 parts of 5, group norm -> [b] 7 -> mean -> layer norm -> fc 2. No batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 10, 3, padding=1), nn.GroupNorm(2, 10), nn.Conv2d(10, 7, 1)
        self.last, self.fc = nn.LayerNorm(7), nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.last(pooled(self.b(F.relu(self.norm(self.a(x)))))))


GROUP_NORMED = Known(
    factory=GroupNormed,
    groups={"a": 5, "b": 7},
    flops=PLACES * (9 * 3 * 10 + 10 * 7) + PLACES * 5 * 10 + PLACES * 7 + 5 * 7 + 7 * 2,
    params=9 * 3 * 10 + 10 + 2 * 10 + 10 * 7 + 7 + 2 * 7 + 7 * 2 + 2,
    has_batch_norm=False,
)


class Auxiliary(nn.Module):
    """
    image 3 -> [a] 5 -> [b] 7 -> mean -> fc 2
                         |
                         +--> aux 3 -> mean -> aux_fc 2, in training alone: it follows b, and is no group of its own
    """

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = conv(3, 5), conv(5, 7), nn.Linear(7, 2)
        self.aux, self.aux_fc = conv(7, 3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        x = self.b(self.a(x))
        logits = self.fc(pooled(x))
        return (logits, self.aux_fc(F.dropout(pooled(self.aux(x)), 0.3))) if self.training else logits


AUXILIARY = Known(
    factory=Auxiliary,
    groups=CHAIN.groups,
    flops=CHAIN.flops,
    params=CHAIN.params + 9 * 7 * 3 + 2 * 3 + 3 * 2 + 2,
    fixed={"aux.0.weight": "no operator uses it in evaluation mode"},
)


class Handwritten(nn.Module):
    """
    image 3 -> [a] 5, leaky by torch.where -> cat with 2 constant maps, padded with ones -> [b] 7 -> max -> fc 2
    """

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = conv(3, 5), conv(7, 7), nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        x = torch.where(x > 0.5, x, 0.1 * x)
        places = torch.linspace(0, 1, x.shape[-1]).expand(x.shape[0], 1, *x.shape[-2:])
        x = F.pad(torch.cat([x, places], dim=1), (0, 0, 0, 0, 0, 1), value=1.0)
        return self.fc(self.b(x).amax(dim=(2, 3)))


HANDWRITTEN = Known(
    factory=Handwritten,
    groups={"a.0": 5, "b.0": 7},
    flops=PLACES * 9 * (3 * 5 + 7 * 7) + PLACES * 2 * (5 + 7) + 7 * 2,
    params=9 * (3 * 5 + 7 * 7) + 2 * (5 + 7) + 7 * 2 + 2,
    fixed={"b.0.weight": "it reads a constant"},
)


def pretrained() -> nn.Module:
    """A factory that loads weights, as torchvision's do with `weights=`: all ones."""
    network = Chain()
    network.load_state_dict({name: torch.ones_like(tensor) for name, tensor in network.state_dict().items()})
    return network


PRETRAINED = Known(factory=pretrained, groups=CHAIN.groups, flops=CHAIN.flops, params=CHAIN.params)

NETS = {
    known.factory.__name__: known
    for known in (
        SINGLE, CHAIN, RESIDUAL, OPTION_A, CONSTANT_PAD, DENSE, SELECTING, DEPTHWISE, GROUPED, FLAT, SQUEEZE_EXCITE,
        SHARED,
        FUNCTIONAL, CONSTANT_VIEW, UNKNOWN_OPERATOR, GATED, SHUFFLED, UPSAMPLED, GROUP_NORMED, AUXILIARY, HANDWRITTEN,
        PRETRAINED,
    )
}  # fmt: skip

ZOO = {
    "vgg16": ("pruneas:vgg16(width=0.25)", 32),
    "resnet20": ("pruneas:resnet20", 16),
    "densenet40": ("pruneas:densenet40(width=0.25, selection=True)", 16),
    "resnet18": ("torchvision:resnet18", 32),
    "mobilenet_v2": ("torchvision:mobilenet_v2", 32),
    "densenet121": ("torchvision:densenet121", 32),
    "squeezenet1_0": ("torchvision:squeezenet1_0", 48),
    "googlenet": ("torchvision:googlenet(init_weights=False)", 32),
}
"""Full networks, each with the side of the images to try it with."""


@cache
def structure_of(name: str) -> Structure:
    """The confirmed structure of one of NETS, or the traced one of one of ZOO (confirming those takes longer)."""
    if name in NETS:
        return confirmed(analyse(NETS[name].reference, INPUT))
    network, side = ZOO[name]
    return analyse(Reference.parse(network), image(3, side, side))


@cache
def model_of(name: str) -> CostModel:
    structure = structure_of(name)
    return CostModel.of(structure, build_widths(structure, structure.widths, seed=0))


def random_widths(structure: Structure, seed: int) -> dict[str, int]:
    """For every group that is not frozen any width from 1 to the base's."""
    rng = np.random.default_rng(seed)
    return {
        name: width if name in structure.frozen else int(rng.integers(1, width + 1))
        for name, width in structure.widths.items()
    }


def random_keep(structure: Structure, widths: Mapping[str, int], seed: int) -> dict[str, list[int]]:
    """Any channels of every group, as many as its width says."""
    rng = np.random.default_rng(seed)
    return {
        name: sorted(rng.choice(width, widths[name], replace=False).tolist())
        for name, width in structure.widths.items()
    }
