"""A network with inherited weights computes what the base network does whose dropped channels nobody reads."""

import pytest
import torch
from torch import nn

from pruneas.architecture import Reference
from pruneas.structure.build import analyse, build_widths, inherit, leading
from tests.nets import INPUT, NETS, ZOO, random_keep, random_widths, structure_of
from tests.structure.equivalence import lively, silenced

# Group and layer norm average over channels, so silencing one is not dropping it.
EXACT = [name for name in [*NETS, *ZOO] if name != "GroupNormed"]


@pytest.mark.parametrize("name", EXACT)
def test_inherited_weights_compute_what_the_silenced_base_does(name: str) -> None:
    structure = structure_of(name)
    widths = random_widths(structure, seed=4)
    keep = random_keep(structure, widths, seed=5)
    base = lively(build_widths(structure, structure.widths, seed=0).double(), seed=6)
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


class Versioned(nn.Module):
    """Refuses states that do not tell their version, as torchvision's MNASNet does."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest) -> None:
        if local_metadata.get("version") != 2:
            raise ValueError("no version")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def test_states_keep_their_modules_versions() -> None:
    structure = analyse(Reference("tests.structure.test_inherit:Versioned", {}), INPUT)
    state = build_widths(structure, structure.widths, seed=0).state_dict()
    build_widths(structure, {"a": 2}).load_state_dict(inherit(structure, state, {"a": [1, 4]}))


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
