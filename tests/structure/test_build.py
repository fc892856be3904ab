"""Networks built at other widths: the asked shapes, a pass both ways, the same groups, the factory's initialisation."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from pruneas.architecture import Architecture, Reference
from pruneas.errors import ArchitectureError, NetworkError, StructureError
from pruneas.structure import build as module
from pruneas.structure.build import analyse, build, build_widths, describe, shapes_at
from tests.nets import INPUT, NETS, ZOO, image, random_widths, structure_of

ALL = [*NETS, *ZOO]


@pytest.mark.parametrize("name", ALL)
def test_random_widths_build_run_both_ways_and_trace_to_themselves(name: str) -> None:
    structure = structure_of(name)
    widths = random_widths(structure, seed=1)
    network = build_widths(structure, widths, seed=1)
    shapes = shapes_at(structure, widths)
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    assert {key: tuple(named[key].shape) for key in shapes} == shapes

    outputs = network.train()(torch.randn(2, *structure.inputs[0].shape))
    torch.stack([leaf.square().sum() for leaf in tree_leaves(outputs)]).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert torch.isfinite(network.eval()(torch.randn(1, *structure.inputs[0].shape))).all()

    found = module.structure_of(network, structure.network, structure.inputs)
    wanted = [(group.name, widths[group.name], group.members) for group in structure.groups if widths[group.name] > 1]
    got = [(group.name, group.width, group.members) for group in found.groups]
    if len(wanted) == len(structure.groups):
        assert got == wanted
    else:  # a group of one channel has no dyes: its neighbours' members are fewer, their widths the same
        assert [entry[1] for entry in got if entry[1] > 1] == [entry[1] for entry in wanted]


@pytest.mark.parametrize("name", ["Dense", "Shared", "Functional", "resnet20", "googlenet"])
def test_the_same_seed_builds_the_same_network_and_another_another(name: str) -> None:
    structure = structure_of(name)
    widths = random_widths(structure, seed=2)
    states = [build_widths(structure, widths, seed=seed).state_dict() for seed in (3, 3, 4)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    structure = analyse(NETS["Auxiliary"].reference, INPUT)
    build_widths(structure, structure.widths, seed=5)
    build(describe(structure, structure.widths), seed=6)
    assert torch.equal(torch.rand(3), expected)


def test_constructors_are_their_own_again_afterwards() -> None:
    before = nn.Conv2d.__init__, nn.Linear.__init__, nn.Module.load_state_dict
    structure = structure_of("Chain")
    build_widths(structure, {"a.0": 2, "b.0": 3})
    assert (nn.Conv2d.__init__, nn.Linear.__init__, nn.Module.load_state_dict) == before
    assert nn.Conv2d(3, 5, 1).out_channels == 5


def test_convolutions_are_initialised_for_their_new_fan_out() -> None:
    structure = structure_of("vgg16")
    widths = {name: max(2, width // 4) for name, width in structure.widths.items()}
    network = build_widths(structure, widths, seed=0)
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 4000:
            expected = np.sqrt(2 / (9 * layer.out_channels))  # Kaiming, fan-out: at the base's width half of it
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.05), name


def test_the_initialisation_is_the_factorys_own_at_these_widths() -> None:
    """VGG at half its widths, built by replay, has the distribution of the factory called for half the width."""
    structure = structure_of("vgg16")
    half = build_widths(structure, {name: width // 2 for name, width in structure.widths.items()}, seed=0)
    torch.manual_seed(0)
    direct = module.make(Reference("pruneas:vgg16", {"width": 0.125}))
    replayed, made = half.state_dict(), direct.state_dict()
    assert {key: tensor.shape for key, tensor in replayed.items()} == {key: t.shape for key, t in made.items()}
    assert all(torch.equal(replayed[key], made[key]) for key in made)  # the same draws, even


def test_zero_initialised_gammas_stay_zero() -> None:
    structure = analyse(Reference("torchvision:resnet18", {"zero_init_residual": True}), image(3, 32, 32))
    network = build_widths(structure, random_widths(structure, seed=3), seed=0)
    for name, parameter in network.named_parameters():
        if name.endswith("bn2.weight"):
            assert not parameter.any()
        elif name.endswith("bn1.weight"):
            assert (parameter == 1).all()


def test_weights_that_a_factory_loads_are_left_out() -> None:
    network = build_widths(structure_of("pretrained"), {"a.0": 2, "b.0": 3}, seed=0)
    assert network.a[0].weight.shape == (2, 3, 3, 3)
    assert not (network.a[0].weight == 1).any()


def test_shared_weights_stay_shared() -> None:
    network = build_widths(structure_of("Shared"), {"stem.0": 3, "a": 2}, seed=0)
    assert network.a.weight is network.b.weight
    assert network.a.weight.shape == (2, 3, 3, 3)
    assert (network.b.in_channels, network.b.out_channels, network.b.bias.shape) == (3, 2, (2,))


def test_an_architecture_builds_from_its_json() -> None:
    structure = structure_of("Residual")
    architecture = describe(structure, {"stem.0": 3, "a.0": 2})
    assert architecture.provider == "tests (no version)"
    network = Architecture.from_json(architecture.to_json()).build(seed=1, trust="tests")
    assert network.a[0].weight.shape == (2, 3, 3, 3)
    assert network.fc.in_features == 3


def test_a_network_that_has_changed_since_is_an_error() -> None:
    architecture = describe(structure_of("Chain"), {"a.0": 3, "b.0": 2})
    other = Architecture(
        network=NETS["Residual"].reference,
        provider="tests 0.9",
        inputs=INPUT,
        structure=architecture.structure,
        widths=architecture.widths,
    )
    with pytest.raises(ArchitectureError, match=r"made with tests 0\.9, whose network had structure [0-9a-f]{16}"):
        other.build(trust="tests")


def test_wrong_widths_are_complained_about_together() -> None:
    with pytest.raises(ArchitectureError) as caught:
        build_widths(structure_of("Chain"), {"a.0": 6, "c": 3})
    text = str(caught.value)
    assert "unknown group 'c'" in text
    assert "group 'a.0': width must be in 1..5, found 6" in text
    assert "group 'b.0': width must be in 1..7, found None" in text


def test_what_the_networks_own_code_does_not_allow_is_a_structure_error() -> None:
    structure = analyse(Reference("tests.structure.test_build:Picky", {}), image(3, 4, 4))
    with pytest.raises(
        StructureError, match=r"cannot be rebuilt at these widths: .*ValueError: as it is or not at all"
    ):
        build_widths(structure, {"a": 3})


def test_factories_must_make_the_same_layers_each_time() -> None:
    structure = analyse(Reference("tests.structure.test_build:fickle", {}), image(3, 4, 4))
    with pytest.raises(StructureError, match="it must make the same layers each time"):
        for _ in range(2):
            build_widths(structure, structure.widths)


def test_hand_made_parameters_are_cut_and_the_rest_is_held_to_its_shape() -> None:
    structure = structure_of("Functional")
    network = build_widths(structure, {"kernel": 2, "second": 3})
    assert network.kernel.shape == (2, 3, 3, 3)
    assert network.layer_scale.shape == (2, 1, 1)
    assert network.var.shape == (2,)
    deep = analyse(Reference("tests.structure.test_build:copied", {}), image(3, 4, 4))
    network = build_widths(deep, dict(zip(deep.widths, (2, 3, 4), strict=True)))
    assert [tuple(layer.weight.shape[:2]) for layer in network] == [(2, 3), (3, 2), (4, 3), (2, 4)]
    stiff = analyse(Reference("tests.structure.test_build:Stiff", {}), image(3, 4, 4))
    with pytest.raises(StructureError, match=r"its parameter 'scale' must have shape \(3, 1, 1\), found \(4, 1, 1\)"):
        build_widths(stiff, {"a": 3})


def test_missing_factories_are_network_errors() -> None:
    with pytest.raises(NetworkError, match="has nothing called 'Nothing'"):
        analyse(Reference("tests.nets:Nothing", {}), INPUT)


class Picky(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 2, 1)
        if self.a.weight.shape[0] != 5:
            raise ValueError("as it is or not at all")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


_calls: list[int] = []


def fickle() -> nn.Module:
    """A layer more with every call."""
    _calls.append(0)
    return nn.Sequential(nn.Conv2d(3, 5, 1), *[nn.Conv2d(5, 5, 1) for _ in _calls])


def copied() -> nn.Module:
    """Layers copied from one constructor call, as nn.TransformerEncoder does, that are given widths of their own."""
    layer = nn.Conv2d(5, 5, 1)
    return nn.Sequential(nn.Conv2d(3, 5, 1), copy.deepcopy(layer), copy.deepcopy(layer), nn.Conv2d(5, 2, 1))


class Stiff(nn.Module):
    """A parameter that follows its layer's width only so far."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 2, 1)
        self.scale = nn.Parameter(torch.ones(max(4, self.a.out_channels), 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x) * self.scale)
