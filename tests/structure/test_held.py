"""Sizes that modules hold as integers follow the widths."""

import copy

import pytest
import torch
from torch import nn

from pruneas.architecture import Reference
from pruneas.errors import StructureError
from pruneas.structure.build import analyse, build_widths
from pruneas.structure.confirm import confirmed
from pruneas.structure.held import Derivation, Held, Place, holding, set_values
from tests.nets import image

PLACE = Place("block", "parts", None)


def test_what_is_done_to_a_held_integer_can_be_undone() -> None:
    held = Held(12, Derivation(PLACE, 12))
    for derived, value in ((held // 4, 3), (held * 2, 24), (2 * held + 1, 25), (1 + held, 13), ((held - 4) // 2, 4)):
        assert derived == value
        assert derived.derivation.inverse(value) == 12
    with pytest.raises(StructureError, match=r"block\.parts cannot be set: 7 is no multiple of 2"):
        (held * 2).derivation.inverse(7)


@pytest.mark.parametrize(
    "value",
    [Held(12, Derivation(PLACE, 12)) / 2, -Held(12, Derivation(PLACE, 12)), 20 - Held(12, Derivation(PLACE, 12))],
)
def test_what_cannot_be_undone_gives_plain_numbers(value: object) -> None:
    assert not isinstance(value, Held)


def test_held_integers_are_copied_as_plain_ones() -> None:
    assert type(copy.deepcopy(Held(12, Derivation(PLACE, 12)))) is int


class Holds(nn.Module):
    """image 3 -> [a] 10 -> split into 4 and 6 -> [b] 7 of the 4, then half of it each to [c] 6 and [d] 3"""

    def __init__(self) -> None:
        super().__init__()
        self.parts, self.shape, self.width = [4, 6], (7, 1, 1), 7
        self.twice = 20
        self.a, self.b, self.c = nn.Conv2d(3, 10, 3), nn.Conv2d(4, 7, 1), nn.Conv2d(7, 6, 1)
        self.scale, self.norm, self.fc = nn.Parameter(torch.ones(7)), nn.LayerNorm(6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, y = self.a(x).split(self.parts, 1)
        x = self.b(x) * self.scale.view(self.shape)
        x = self.c(x.reshape(x.shape[0], self.width, -1)[:, : self.width].unsqueeze(3))
        x = x + y.flatten(2)[:, : self.twice // 2 - 4].unsqueeze(3)
        return self.fc(self.norm(x.mean((2, 3))))


def test_sizes_of_attributes_follow_the_widths() -> None:
    structure = confirmed(analyse(Reference("tests.structure.test_held:Holds", {}), image(3, 8, 6)))
    assert structure.widths == {"a": 4, "a[1]": 6, "b": 7}
    assert not structure.frozen
    network = build_widths(structure, {"a": 3, "a[1]": 5, "b": 2})
    assert (network.parts, network.shape, network.width, network.twice) == ([3, 5], (2, 1, 1), 2, 18)
    assert network(torch.zeros(1, 3, 8, 6)).shape == (1, 2)


class Double(nn.Module):
    """One number for two sizes that are not tied: image 3 -> [a] 6, viewed -> [b] 6, viewed -> [c] 5 -> fc 2"""

    def __init__(self) -> None:
        super().__init__()
        self.width = 6
        self.a, self.b, self.c, self.fc = nn.Conv2d(3, 6, 1), nn.Conv1d(6, 6, 1), nn.Conv1d(6, 5, 1), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b(self.a(x).view(x.shape[0], self.width, -1))
        return self.fc(self.c(x.view(x.shape[0], self.width, -1)).mean(2))


def test_one_number_for_two_sizes_freezes_both() -> None:
    structure = confirmed(analyse(Reference("tests.structure.test_held:Double", {}), image(3, 8, 6)))
    assert set(structure.frozen) == {"a", "b"}
    assert all("width stands for sizes that change each in its own way" in each for each in structure.frozen.values())


def test_attributes_are_their_own_again_afterwards() -> None:
    network = Holds()
    with holding(dict(network.named_modules())):
        assert isinstance(network.parts[0], Held) and isinstance(network.width, Held)
        assert not isinstance(network.a.out_channels, Held)
    assert (type(network.parts[0]), type(network.width)) == (int, int)


def test_a_value_moves_as_far_as_the_size_does() -> None:
    """An odd number of which half is taken stays odd."""
    network = nn.Module()
    network.parts = 9
    set_values(network, [(Derivation(Place("", "parts", None), 9, (("//", 2),)), 4, 3)])
    assert network.parts == 7
