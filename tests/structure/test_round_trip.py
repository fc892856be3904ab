"""Any legal widths and any removed blocks: described, written, read and built, a network is what was asked for."""

from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._pytree import tree_leaves

from pruneas.architecture import Architecture, Reference
from pruneas.cost.count import count
from pruneas.cost.model import CostModel
from pruneas.networks import examples, make
from pruneas.structure.build import analyse, describe, leading, shapes_at, structure_of, surviving
from pruneas.structure.confirm import confirmed
from pruneas.structure.groups import Structure
from tests.nets import INPUT, NETS, image

REFERENCES = {
    **{name: (known.reference, INPUT) for name, known in NETS.items()},
    "Blocks": (Reference("tests.structure.test_blocks:Net", {}), image(3, 9, 8)),
    "resnet8": (Reference("tests.structure.test_round_trip:resnet8", {}), image(3, 16, 16)),
}
"""Small networks; the last two have blocks that can be removed."""


def resnet8() -> nn.Module:
    from torchvision.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [1, 2, 1, 1], num_classes=5)


@cache
def structure(name: str) -> Structure:
    return confirmed(analyse(*REFERENCES[name]))


@cache
def model(name: str) -> CostModel:
    return CostModel.of(structure(name), make(REFERENCES[name][0]))


@cache
def learning(name: str) -> frozenset[str]:
    """The parameters of the base network that get gradients."""
    return frozenset(gradients(make(REFERENCES[name][0]), structure(name)))


def gradients(network: nn.Module, structure: Structure) -> dict[str, torch.Tensor]:
    inputs = [torch.randn_like(each) for each in examples(structure.inputs, batch=3)]
    outputs = tree_leaves(network.train()(*inputs))
    torch.stack([leaf.square().sum() for leaf in outputs]).sum().backward()
    return {name: tensor.grad for name, tensor in network.named_parameters() if tensor.grad is not None}


@st.composite
def architectures(draw: st.DrawFn, least: int = 1) -> tuple[str, dict[str, int], tuple[str, ...]]:
    """A network, widths of at least `least` for groups that are not frozen, and blocks to remove."""
    name = draw(st.sampled_from(sorted(REFERENCES)))
    found = structure(name)
    widths = {
        group.name: group.width
        if group.name in found.frozen
        else draw(st.integers(min(least, group.width), group.width), label=group.name)
        for group in found.groups
    }
    blocks = [block.name for block in found.blocks]
    return name, widths, tuple(draw(st.sets(st.sampled_from(blocks)) if blocks else st.just(set())))


@settings(max_examples=100, deadline=None)
@given(architectures(), st.integers(0, 2**32 - 1))
def test_what_is_described_is_built(asked: tuple[str, dict[str, int], tuple[str, ...]], seed: int) -> None:
    name, widths, removed = asked
    found = structure(name)
    architecture = describe(found, widths, removed)
    read = Architecture.from_json(architecture.to_json())
    assert read == architecture
    network = read.build(seed=seed, trust="tests")

    gone = found.parameters_of(removed)
    shapes = {key: shape for key, shape in shapes_at(found, widths).items() if key not in gone}
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    assert {key: tuple(tensor.shape) for key, tensor in named.items() if key in found.shapes} == shapes

    grads = gradients(network, found)
    assert frozenset(grads) == learning(name) - gone
    assert all(torch.isfinite(tensor).all() for tensor in grads.values())

    priced = model(name).without(found, removed)
    counted = count(network, found.inputs)
    vector = priced.vector(widths)
    assert (int(priced.flops(vector)), int(priced.params(vector))) == (counted.flops, counted.params)


@settings(max_examples=60, deadline=None)
@given(architectures(least=2))
def test_what_is_built_traces_to_the_groups_that_were_asked_for(
    asked: tuple[str, dict[str, int], tuple[str, ...]],
) -> None:
    """At widths of one a channel has no dye: see test_build. Without a branch, groups that only it told apart are
    one."""
    name, widths, removed = asked
    found = structure(name)
    network = describe(found, widths, removed).build(seed=0)
    again = structure_of(network, found.network, found.inputs)
    if not removed:
        assert [(g.name, g.width, g.members) for g in again.groups] == [
            (g.name, widths[g.name], g.members) for g in found.groups
        ]
        for (parameter, dim), stays in surviving(found, leading(found, widths)).items():
            before, after = found.layouts[parameter, dim], again.layouts[parameter, dim]
            assert np.array_equal(before.groups[stays], after.groups)
            assert np.array_equal(before.positions[stays], after.positions)
        return
    gone = found.parameters_of(removed)
    expected: Counter[frozenset] = Counter()
    for group in found.groups:
        members = frozenset((m.parameter, m.dim, m.multiplicity) for m in group.members if m.parameter not in gone)
        if members:
            expected[members] += widths[group.name]
    got = {frozenset((m.parameter, m.dim, m.multiplicity) for m in g.members): g.width for g in again.groups}
    assert got == dict(expected)


@pytest.mark.parametrize("name", ["Blocks", "resnet8"])
def test_networks_with_blocks_are_among_them(name: str) -> None:
    assert len(structure(name).blocks) >= 3
