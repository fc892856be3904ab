"""Networks written down as source: what the text says, that it computes the same, and what cannot be written."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruneas.architecture import Input, Reference
from pruneas.errors import NetworkError
from pruneas.export.source import source
from pruneas.networks import make
from pruneas.networks.selection import ChannelSelection

IMAGE = (Input((3, 8, 8)),)


def written(network: nn.Module, inputs=IMAGE) -> tuple[str, nn.Module]:
    """The classes' text, and the network that they make with the same state."""
    found = source(network, inputs)
    text = "\n".join(["import torch", "from torch import nn", *found.imports, "", found.classes])
    namespace: dict = {"__name__": "written"}
    exec(text, namespace)
    again = namespace[found.root]()
    state = {**dict(network.named_buffers()), **network.state_dict()}
    again.load_state_dict(state)
    return found.classes, again


def same(network: nn.Module, again: nn.Module, *shape: int) -> None:
    for mode in (False, True):
        for batch in (2, 5):
            x = torch.randn(batch, *shape)
            outputs = []
            for each in (network, again):
                torch.manual_seed(0)
                outputs.append(each.train(mode)(x.clone()))
            torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-6, atol=1e-6)


def noisy(network: nn.Module) -> nn.Module:
    """Batch norms that do something in evaluation mode, and no parameter that is zero."""
    torch.manual_seed(0)
    for tensor in [*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())]:
        with torch.no_grad():
            tensor.copy_(torch.rand_like(tensor) * 0.5 + 0.1)
    return network


def test_blocks_that_differ_in_sizes_share_a_class_and_say_the_rest_once():
    network = make(Reference.parse("pruneas:resnet20(width=0.25)"))
    text, again = written(network)
    assert text.count("class ") == 3  # blocks with and without a change of width, and the network
    assert "self.conv1 = nn.Conv2d(conv1_in, conv1_out, 3, stride=2, padding=1, bias=False)" in text
    assert "            BasicBlock2(4, 8),\n            BasicBlock(8),\n" in text
    assert "return F.relu(y)" in text
    again.load_state_dict(noisy(network).state_dict())
    same(network, again, 3, 8, 8)


class Branching(nn.Module):
    """Dropout by function, a branch of training alone, sizes asked for, a split, a hand-made parameter and buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.heads = nn.ModuleDict({"main": nn.Linear(6, 4), "other": nn.Linear(6, 4)})
        self.scale = nn.Parameter(torch.ones(6, 1, 1))
        self.register_buffer("shift", torch.full((6, 1, 1), 0.25), persistent=False)
        self.select = ChannelSelection(6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        n, c, h, w = self.conv(images).shape
        assert c == 6
        a, b = self.select(self.conv(images)).chunk(2, dim=1)
        a = a + 1
        a += b
        x = torch.cat([a, b], 1) * self.scale + self.shift
        x = F.dropout(x, 0.5, self.training).reshape(n, -1, h * w).mean(-1)
        if self.training:
            return self.heads["other"](x)
        return self.heads["main"](x)


def test_what_a_forward_does_by_itself_is_written_down_in_both_modes():
    network = Branching()
    text, again = written(network)
    assert 'self.register_buffer("shift"' in text
    assert "if self.training:" in text and "training=self.training" in text
    same(network, again, 3, 8, 8)


def test_containers_get_a_name_of_their_own():
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(180, 2))
    text, again = written(network)
    assert text.startswith("def Network() -> nn.Module:")
    assert "nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(180, 2)" in " ".join(text.split())
    same(network, again, 3, 8, 8)


class ByValue(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images if images.sum() > 0 else -images


class OfOthers(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return elsewhere(images)


@torch.fx.wrap
def elsewhere(images: torch.Tensor) -> torch.Tensor:
    return images + 1


class TakesLists(nn.Module):
    """As the blocks of timm's selecsls42b: what it is given is a list, from the second one on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 3, 1))

    def forward(self, images: torch.Tensor | list[torch.Tensor]) -> list[torch.Tensor]:
        given = images if isinstance(images, list) else [images]
        return [self.conv(given[0])]


class Numbered(nn.ModuleDict):
    """As timm's mixed convolutions: modules by number, and a forward of its own."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([module(images) for module in self.values()], 1)


@pytest.mark.parametrize(
    ("inner", "complaint"),
    [
        (
            nn.Sequential(TakesLists(), TakesLists()),
            r"inner\.1 \(TakesLists\): its forward cannot be written down as source: TypeError: .*\. Export it as onnx",
        ),
        (Numbered({"0": nn.Conv2d(3, 3, 1)}), r"inner: '0' is no name that Python allows\. Export it as onnx or torch"),
        (
            ByValue(),
            r"--format python: inner \(ByValue\): its forward cannot be written down as source: .*torch-export",
        ),
        (OfOthers(), r"inner \(OfOthers\): its forward calls .*elsewhere, which is not of torch, torchvision, timm"),
    ],
)
def test_what_cannot_be_written_is_told_with_its_place(inner, complaint):
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.inner(images)

    with pytest.raises(NetworkError, match=complaint):
        source(Outer(), IMAGE)


def test_parameters_in_two_places_are_refused():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    with pytest.raises(NetworkError, match="parameters that stand in several places"):
        source(network, (Input((4,)),))


def test_the_network_is_left_as_it_was():
    network = Branching().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    source(network, IMAGE)
    assert network.training and all(module.training is True for module in network.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
