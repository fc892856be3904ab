"""Channel selections: what can change with them, and which channels an architecture takes."""

import pytest
import torch
from torch import nn

from pruneas.architecture import Architecture, Reference
from pruneas.cost.count import count
from pruneas.cost.model import CostModel
from pruneas.errors import ArchitectureError
from pruneas.networks import make
from pruneas.networks.selection import ChannelSelection
from pruneas.structure.build import analyse, build_widths, describe, inherit, structure_of
from pruneas.structure.confirm import confirmed
from tests.nets import image, random_keep, random_widths
from tests.nets import structure_of as known

KEEP = {"a.0": [0, 2, 6], "select": [1, 4]}
WIDTHS = {"a.0": 3, "select": 2}


class Gathered(nn.Module):
    """Reads the stem by an index of its own, which is none of ours, and then through two selections that are added."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(7)
        self.register_buffer("order", torch.tensor([4, 3, 2, 1, 0]))
        self.mix, self.one, self.two = nn.Conv2d(5, 7, 1), ChannelSelection(7), ChannelSelection(7)
        self.fc = nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.mix(self.stem(x).index_select(1, self.order)))
        return self.fc((self.one(x) + self.two(x.relu())).mean((2, 3)))


class Sized(nn.Module):
    """Its selection is made as wide as the layer that reads it, which is rebuilt narrower."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.read = nn.Conv2d(3, 5, 3), nn.Linear(5, 2)
        self.select = ChannelSelection(self.read.in_features)
        self.select.index = torch.arange(4, -1, -1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.read(self.select(self.stem(x)).mean((2, 3)))


def test_the_stream_is_fixed_and_what_is_selected_is_free() -> None:
    structure = known("Selecting")
    assert structure.widths == {"a.0": 7, "select": 5}
    (selecting,) = [group for group in structure.groups if group.name == "select"]
    assert [(m.parameter, m.dim, m.role) for m in selecting.members] == [
        ("a.0.weight", 1, "in"),
        ("select.index", 0, "out"),
    ]
    assert structure.selecting == {"select"}
    assert structure.selections == {"select.index": "norm"}
    fixed = {(each.parameter, each.dim): each.reason for each in structure.fixed}
    for trunk in (("stem.0.weight", 0), ("norm.weight", 0), ("b.0.weight", 0), ("fc.weight", 1)):
        assert fixed[trunk] == "a channel selection reads it by index"


def test_only_selections_have_new_channels_other_indices_move_those_there_are() -> None:
    structure = structure_of(Gathered(), Reference("tests.structure.test_selection:Gathered", {}), image(3, 4, 4))
    assert structure.widths == {"stem": 5, "one": 7}
    assert structure.selections == {"one.index": "norm", "two.index": ""}
    layout = structure.layouts["mix.weight", 1]
    assert layout.positions.tolist() == [4, 3, 2, 1, 0]


def test_an_architecture_says_which_channels_are_selected() -> None:
    structure = known("Selecting")
    architecture = describe(structure, WIDTHS, keep=KEEP)
    assert architecture.selections == {"select": (1, 4)}  # of other groups it does not matter which channels they are
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture
    network = again.build(seed=0, trust="tests")
    assert network.select.index.tolist() == [1, 4]
    assert network.a[0].weight.shape == (3, 2, 3, 3)
    assert (
        describe(structure, WIDTHS).selections
        == describe(structure, WIDTHS, keep={**KEEP, "select": [0, 1]}).selections
    )
    assert describe(structure, WIDTHS).build().select.index.tolist() == [0, 1]


def test_selections_that_arrive_at_the_right_size_still_take_the_asked_channels_of_the_base() -> None:
    structure = analyse(Reference("tests.structure.test_selection:Sized", {}), image(3, 4, 4))
    assert build_widths(structure, {"select": 2}, keep={"select": [1, 3]}).select.index.tolist() == [3, 1]
    assert build_widths(structure, {"select": 5}).select.index.tolist() == [4, 3, 2, 1, 0]
    assert structure.selections == {"select.index": "stem"}


def test_what_is_built_and_what_is_inherited_select_the_same() -> None:
    structure = known("Selecting")
    state = build_widths(structure, structure.widths, seed=0).state_dict()
    kept = inherit(structure, state, KEEP)
    assert torch.equal(kept["select.index"], build_widths(structure, WIDTHS, keep=KEEP).select.index)
    assert torch.equal(kept["a.0.weight"], state["a.0.weight"][[0, 2, 6]][:, [1, 4]])
    assert kept["norm.weight"].shape == (5,)


@pytest.mark.parametrize("kept", [[1], [4, 1], [1, 1], [1, 5], [-1, 2], [0, 1, 2]])
def test_selections_that_do_not_fit_are_refused(kept: list[int]) -> None:
    with pytest.raises(
        ArchitectureError, match=r"group 'select': its selection must hold 2 of 0\.\.4, ascending, found"
    ):
        build_widths(known("Selecting"), WIDTHS, keep={"select": kept})


def test_groups_that_nothing_selects_have_no_selection() -> None:
    architecture = describe(known("Selecting"), WIDTHS)
    text = architecture.to_json()[:-2] + ', "selections": {"a.0": [0, 1, 2], "b": []}}'
    with pytest.raises(ArchitectureError, match=r"selections: no channel selection puts out a\.0, b$"):
        Architecture.from_json(text).build(trust="tests")


def test_removed_blocks_take_their_selections_along() -> None:
    structure = analyse(Reference("pruneas:preresnet110", {"width": 0.125, "selection": True}), image(3, 8, 8))
    widths = random_widths(structure, 1)
    keep = random_keep(structure, widths, 2)
    architecture = describe(structure, widths, ["layer3.1"], keep)
    assert "layer3.1.select" not in {**architecture.widths, **architecture.selections}
    network = architecture.build()
    assert len(network.layer3[1]) == 0
    assert network.layer3[4].select.index.tolist() == keep["layer3.4.select"]


@pytest.mark.parametrize(
    "network",
    ["pruneas:preresnet110(width=0.25, selection=True)", "pruneas:densenet_bc100(width=0.25, selection=True)"],
)
def test_all_that_the_zoo_selects_can_change_at_fvcores_price(network: str) -> None:
    reference = Reference.parse(network)
    structure = analyse(reference, image(3, 8, 8))
    base = make(reference)
    selections = {name for name, module in base.named_modules() if isinstance(module, ChannelSelection)}
    assert structure.selecting == selections
    assert all(source.endswith(("bn", "bn1")) for source in structure.selections.values())
    assert not confirmed(structure).frozen
    model, widths = CostModel.of(structure, base), random_widths(structure, 3)
    found = count(build_widths(structure, widths, keep=random_keep(structure, widths, 4)), structure.inputs)
    vector = model.vector(widths)
    assert (int(model.flops(vector)), int(model.params(vector))) == (found.flops, found.params)
