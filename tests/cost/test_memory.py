"""Peak activation memory: by hand, against networks that are built, and where it has no closed form."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pruneas.cost.memory import bytes_alive, peak_memory, price_memory
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.errors import StructureError
from pruneas.networks import make
from pruneas.structure.build import build_widths, describe
from tests.nets import image, model_of, structure_of

FLOAT = 4


def test_a_chain_by_hand() -> None:
    """The input lives through the first layer alone, whose caller still holds it."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(8, 5, 1))
    alive = bytes_alive(network, image(3, 16, 16))
    given, first, pooled, last = 3 * 256 * FLOAT, 8 * 256 * FLOAT, 8 * 64 * FLOAT, 5 * 64 * FLOAT
    assert alive[0] == given + first
    assert alive[1] == given + first  # in place
    assert max(alive) == peak_memory(network, image(3, 16, 16)) == alive[2]
    assert alive[2] >= given + first + pooled
    assert alive[-1] == given + pooled + last


def test_what_the_code_holds_on_to_is_alive() -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            return self.second(x) + x

    alive = bytes_alive(Shortcut(), image(3, 10, 10))
    given, each = 3 * 100 * FLOAT, 4 * 100 * FLOAT
    assert alive == [given + each, given + 2 * each, given + 3 * each]


def test_parameters_and_views_are_not_counted() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    assert peak_memory(network, image(3, 2, 2)) == (12 + 5) * FLOAT


@pytest.mark.parametrize("name", ["Chain", "Residual", "Dense", "Depthwise", "Grouped", "vgg16", "resnet20"])
def test_other_widths_follow(name: str) -> None:
    structure, model = structure_of(name), model_of(name)
    legal = LegalWidths.of(structure, WidthRules())
    price = price_memory(structure, make(structure.network), model, legal)
    assert price(model.base_widths) == peak_memory(make(structure.network), structure.inputs)
    generator = np.random.default_rng(7)
    batch = legal.floor(legal.lowest + generator.random((4, len(model.groups))) * (legal.highest - legal.lowest))
    counted = [
        peak_memory(build_widths(structure, model.mapping(widths), seed=0), structure.inputs) for widths in batch
    ]
    assert price(batch).tolist() == counted


def test_without_branches_it_is_at_most_that_of_the_narrowest() -> None:
    structure, model = structure_of("resnet20"), model_of("resnet20")
    legal = LegalWidths.of(structure, WidthRules())
    whole = replace(model, memory=price_memory(structure, make(structure.network), model, legal))
    names = [block.name for block in structure.blocks]
    assert len(names) > 4
    for removed in (names[:1], names[::2], names):
        left = whole.without(structure, removed)
        gone = np.isin(model.groups, [*structure.without(removed)])
        widths = np.where(gone, legal.highest, legal.lowest)  # such that the branches would decide
        built = describe(structure, model.mapping(widths), tuple(removed)).build()
        most = int(left.cost(widths, "memory"))
        assert peak_memory(built, structure.inputs) <= most < int(whole.cost(widths, "memory"))
        assert most == int(left.cost(legal.lowest, "memory")) == int(whole.cost(legal.lowest, "memory"))


def test_what_depends_on_more_than_sums_of_widths_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    structure, model = structure_of("Chain"), model_of("Chain")
    legal = LegalWidths.of(structure, WidthRules())

    def products(built: nn.Module, inputs: object) -> list[int]:
        return [built.get_parameter("a.0.weight").shape[0] * built.get_parameter("b.0.weight").shape[0]]

    monkeypatch.setattr("pruneas.cost.memory.bytes_alive", products)
    with pytest.raises(StructureError, match="its peak memory cannot be given in closed form"):
        price_memory(structure, make(structure.network), model, legal)
