"""What only rebuilding can tell: sizes and orders that the network's code holds as constants."""

import pytest
import torch
from torch import nn

from pruneas.architecture import Reference
from pruneas.errors import StructureError
from pruneas.structure.build import analyse
from pruneas.structure.confirm import confirmed
from tests.nets import NETS, image, structure_of


@pytest.mark.parametrize("name", NETS)
def test_groups_whose_change_breaks_the_network_are_frozen_and_no_others(name: str) -> None:
    structure = structure_of(name)
    assert set(structure.frozen) == NETS[name].frozen
    assert structure.widths == NETS[name].groups


def test_the_reason_is_what_went_wrong() -> None:
    assert "the network cannot be traced" in structure_of("ConstantPad").frozen["b.0"]
    assert "nets.py:" in structure_of("ConstantView").frozen["b.0"]


def test_nothing_that_can_change_is_an_error_that_lists_why() -> None:
    structure = analyse(Reference("tests.structure.test_confirm:Stiff", {}), image(3, 4, 4))
    with pytest.raises(StructureError, match=r"nothing in it can be made narrower: a: .*shape '\[-1, 5\]'"):
        confirmed(structure)


def test_halves_that_the_code_swaps_do_not_line_up_and_are_frozen() -> None:
    """Slices at half of what is there rebuild at any width, but put other channels in the halves."""
    structure = confirmed(analyse(Reference("tests.structure.test_confirm:Swapped", {}), image(3, 4, 4)))
    assert structure.widths == {"a": 6, "b": 5}
    assert set(structure.frozen) == {"a"}
    assert structure.frozen["a"].startswith("at other widths its channels come out in another order")


def test_groups_of_one_channel_are_frozen() -> None:
    structure = confirmed(analyse(Reference("tests.structure.test_confirm:Sliced", {}), image(3, 4, 4)))
    assert structure.frozen["a"] == "it has one channel"
    assert structure.widths["a[1]"] == 5  # the slice takes one channel, then the rest, however many
    assert set(structure.frozen) == {"a"}


class Stiff(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = nn.Conv2d(3, 5, 4), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.a(x).view(-1, 5))


class Swapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 5, 1), nn.Conv2d(5, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        half = x.shape[1] // 2
        return self.c(self.b(torch.cat([x[:, half:], x[:, :half]], dim=1)))


class Sliced(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 1), nn.Conv2d(1, 5, 1), nn.Conv2d(5, 2, 1)
        self.rest = nn.Conv2d(5, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        return self.c(self.b(x[:, :1])) + self.rest(x[:, 1:6])
