"""A network with inherited weights computes what the base network does whose dropped channels nobody reads."""

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruneas.structure.build import build_widths, inherit, leading
from pruneas.structure.groups import Structure
from tests.nets import NETS, ZOO, random_keep, random_widths, structure_of

# Group and layer norm average over channels, so silencing one is not dropping it.
EXACT = [name for name in [*NETS, *ZOO] if name != "GroupNormed"]


def lively(network: nn.Module, seed: int) -> nn.Module:
    """In double precision and evaluation mode, with batch norms that shift and scale every channel differently."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return network.double().eval()


def silenced(network: nn.Module, structure: Structure, keep: Mapping[str, Sequence[int]]) -> nn.Module:
    """The same network where no weight reads a dropped channel."""
    parameters = dict(network.named_parameters())
    for index, group in enumerate(structure.groups):
        dropped = torch.ones(group.width, dtype=torch.bool)
        dropped[list(keep[group.name])] = False
        for member in group.members:
            if member.role == "in":
                layout = structure.layouts[member.parameter, member.dim]
                mine = torch.from_numpy(layout.groups == index)
                gone = mine.clone()
                gone[mine] = dropped[torch.from_numpy(layout.positions)[mine]]
                parameters[member.parameter].data.transpose(0, member.dim)[gone] = 0.0
    return network


@pytest.mark.parametrize("name", EXACT)
def test_inherited_weights_compute_what_the_silenced_base_does(name: str) -> None:
    structure = structure_of(name)
    widths = random_widths(structure, seed=4)
    keep = random_keep(structure, widths, seed=5)
    base = lively(build_widths(structure, structure.widths, seed=0), seed=6)
    small = build_widths(structure, widths, seed=1).double().eval()
    small.load_state_dict(inherit(structure, base.state_dict(), keep))
    images = torch.randn(2, *structure.inputs[0].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected = silenced(base, structure, keep)(images)
        found = small(images)
    assert expected.std() > 0
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_keeping_everything_is_the_base_itself() -> None:
    structure = structure_of("Dense")
    state = build_widths(structure, structure.widths, seed=0).state_dict()
    kept = inherit(structure, state, leading(structure, structure.widths))
    assert all(torch.equal(state[name], kept[name]) for name in state)
    assert not any(kept[name].data_ptr() == state[name].data_ptr() for name in state)


def test_further_names_of_a_shared_tensor_are_cut_alike() -> None:
    structure = structure_of("Shared")
    assert structure.aliases == {"b.weight": "a.weight"}
    state = build_widths(structure, structure.widths, seed=0).state_dict()
    kept = inherit(structure, state, {"stem.0": [1, 2], "a": [3]})
    assert kept["b.weight"].shape == (1, 2, 3, 3)
    assert torch.equal(kept["a.weight"], kept["b.weight"])


def test_kept_channels_are_the_named_ones() -> None:
    structure = structure_of("Chain")
    state = build_widths(structure, structure.widths, seed=0).state_dict()
    kept = inherit(structure, state, {"a.0": [1, 4], "b.0": [0, 2, 6]})
    assert torch.equal(kept["b.0.weight"], state["b.0.weight"][[0, 2, 6]][:, [1, 4]])
    assert torch.equal(kept["fc.weight"], state["fc.weight"][:, [0, 2, 6]])
    assert torch.equal(kept["a.1.num_batches_tracked"], state["a.1.num_batches_tracked"])
