"""Which branches can be taken out, what is left of their blocks, and what networks without them are and cost."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruneas.architecture import Architecture, Reference
from pruneas.cost.count import count
from pruneas.cost.model import CostModel
from pruneas.errors import ArchitectureError
from pruneas.networks import make
from pruneas.structure.build import analyse, build_widths, describe, inherit, leading, structure_of
from pruneas.structure.confirm import confirmed
from pruneas.structure.groups import Structure
from tests.nets import image


class Basic(nn.Module):
    """x -> shortcut(x) + branch(x) -> ReLU"""

    def __init__(self, into: int, out: int, inner: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(into, inner, 3, padding=1)
        self.bn = nn.BatchNorm2d(inner)
        self.b = nn.Conv2d(inner, out, 3, padding=1)
        self.down = nn.Conv2d(into, out, 1) if into != out else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.down is None else self.down(x)
        return F.relu(self.b(F.relu(self.bn(self.a(x)))) + shortcut)


class PreActivated(nn.Module):
    """y = act(norm(x)); y -> down(y) + branch(y)"""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(into)
        self.act = nn.ReLU()
        self.branch = nn.Sequential(nn.Conv2d(into, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, out, 1))
        self.down = nn.Conv2d(into, out, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.norm(x))
        shortcut = self.down(y)
        shortcut += self.branch(y)
        return shortcut


class Alike(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x) + self.b(x)


class Scaled(Alike):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x + self.b(self.a(x))


class Net(nn.Module):
    """image 3 -> 5 -> identity block -> block to 7 -> pre-activated to 11 -> alike -> scaled -> fc 2"""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3)
        self.plain, self.wider, self.pre = Basic(5, 5, 2), Basic(5, 7, 4), PreActivated(7, 11)
        self.alike, self.scaled = Alike(11), Scaled(11)
        self.fc = nn.Linear(11, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.scaled(self.alike(self.pre(self.wider(self.plain(self.stem(x))))))
        return self.fc(y.mean((2, 3)))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.fc = nn.Conv2d(3, 5, 3), Basic(5, 5, 2), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.block(self.block(self.stem(x))).mean((2, 3)))


class Leaking(nn.Module):
    """The branch's inner value is read once more, outside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.fc = nn.Conv2d(3, 5, 3), Basic(5, 5, 2), nn.Linear(5, 2)
        self.seen: list[torch.Tensor] = []
        self.block.b.register_forward_hook(lambda _, __, output: self.seen.append(output))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.clear()
        y = self.block(self.stem(x))
        return self.fc((y * self.seen[0].mean()).mean((2, 3)))


def net(name: str = "Net") -> Structure:
    return confirmed(analyse(Reference(f"tests.structure.test_blocks:{name}", {}), image(3, 9, 8)))


def test_blocks_are_found_and_what_is_none_is_told() -> None:
    structure = net()
    assert {block.name: block.shortcut for block in structure.blocks} == {
        "plain": ("aten.relu",),
        "wider": ("down", "aten.relu"),
        "pre": ("norm", "act", "down"),
    }
    assert structure.unremovable == {
        "alike": "the sides of its sum are alike: neither is the shortcut",
        "scaled": "its shortcut is more than activations and modules of its own",
    }
    assert structure.blocks[2].parameters == {
        f"pre.branch.{index}.{kind}" for index in (0, 2) for kind in ("weight", "bias")
    }


def test_branches_that_others_need_stay() -> None:
    assert net("Twice").unremovable == {"block": "it is called more than once"}
    assert net("Leaking").unremovable == {"block": "its branch is read outside of it"}


@pytest.mark.parametrize("removed", [("plain",), ("wider",), ("pre",), ("plain", "wider", "pre")])
def test_what_is_left_computes_the_shortcut(removed: tuple[str, ...]) -> None:
    structure = net()
    base = make(structure.network).eval()
    small = build_widths(structure, structure.widths, removed).eval()
    small.load_state_dict(inherit(structure, base.state_dict(), leading(structure, structure.widths), removed))
    x = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    # The branch's last convolution gives zeros: what is left is the shortcut.
    for name, last in (("plain", base.plain.b), ("wider", base.wider.b), ("pre", base.pre.branch[2])):
        if name in removed:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    torch.testing.assert_close(small(x), base(x))


def test_without_branches_the_price_is_fvcores() -> None:
    structure = net()
    model = CostModel.of(structure, make(structure.network))
    widths = {name: max(1, width - 1) for name, width in structure.widths.items()}
    for removed in ((), ("plain",), ("wider", "pre"), ("plain", "wider", "pre")):
        left = model.without(structure, removed)
        found = count(build_widths(structure, widths, removed), structure.inputs)
        vector = model.vector(widths)
        assert (int(left.flops(vector)), int(left.params(vector))) == (found.flops, found.params)


def test_groups_that_only_a_removed_branch_holds_have_no_width() -> None:
    structure = net()
    architecture = describe(structure, structure.widths, ["wider", "plain"])
    assert architecture.removed == ("plain", "wider")
    assert structure.without(architecture.removed) == {"plain.a", "wider.a"}
    assert not {"plain.a", "wider.a"} & architecture.widths.keys()
    network = Architecture.from_json(architecture.to_json()).build(seed=0, trust="tests")
    assert [name for name, _ in network.wider.named_children()] == ["down", "activation1"]
    assert network.train()(torch.randn(2, 3, 9, 8)).shape == (2, 2)


@pytest.mark.parametrize("network", ["resnet18", "resnet50", "regnet_y_400mf"])
def test_what_is_left_does_not_write_into_what_others_read(network: str) -> None:
    """torchvision's blocks end in a ReLU in place: on the previous block's output it broke the backward pass."""
    structure = analyse(Reference(f"torchvision:{network}", {}), image(3, 32, 32))
    small = build_widths(structure, structure.widths, [block.name for block in structure.blocks], seed=0)
    small.train()(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in small.parameters())


def test_blocks_that_are_none_cannot_be_removed() -> None:
    structure = net()
    with pytest.raises(ArchitectureError, match="block 'alike' cannot be removed: the sides of its sum"):
        build_widths(structure, structure.widths, ["alike"])
    with pytest.raises(ArchitectureError, match="block 'other' cannot be removed: there is no such"):
        build_widths(structure, structure.widths, ["other"])


@pytest.mark.parametrize(
    ("network", "num_blocks"), [("torchvision:resnet18", 8), ("torchvision:mobilenet_v2", 10), ("pruneas:resnet20", 7)]
)
def test_known_networks_lose_their_blocks(network: str, num_blocks: int) -> None:
    reference = Reference.parse(network)
    module = make(reference)
    structure = structure_of(module, reference, image(3, 32, 32))
    assert len(structure.blocks) == num_blocks
    removed = [block.name for block in structure.blocks][1::2]
    widths = {name: max(1, width * 2 // 3) for name, width in structure.widths.items()}
    small = build_widths(structure, widths, removed)
    found, model = count(small, structure.inputs), CostModel.of(structure, module).without(structure, removed)
    assert (int(model.flops(model.vector(widths))), int(model.params(model.vector(widths)))) == (
        found.flops,
        found.params,
    )
    assert np.isfinite(small.train()(torch.randn(2, 3, 32, 32)).detach().numpy()).all()
