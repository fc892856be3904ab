"""The groups of nets whose groups are known, and what each size is made of."""

import dataclasses

import numpy as np
import pytest

from pruneas.architecture import Reference
from pruneas.structure.build import analyse
from tests.nets import INPUT, NETS, Known, image


@pytest.fixture(params=NETS.values(), ids=NETS.keys())
def known(request: pytest.FixtureRequest) -> Known:
    return request.param


def test_groups_are_the_ones_worked_out_by_hand(known: Known) -> None:
    assert analyse(known.reference, INPUT).widths == known.groups


def test_what_is_fixed_says_why(known: Known) -> None:
    reasons = {fixed.parameter: fixed.reason for fixed in analyse(known.reference, INPUT).fixed}
    for parameter, reason in known.fixed.items():
        assert reason in reasons[parameter]


def test_every_reason_is_readable() -> None:
    structure = analyse(NETS["UnknownOperator"].reference, INPUT)
    reasons = {fixed.parameter: (fixed.dim, fixed.size, fixed.reason) for fixed in structure.fixed}
    assert reasons["a.0.weight"] == (1, 3, "the network's input")
    assert reasons["fc.bias"] == (0, 2, "the network's output")
    dim, size, reason = reasons["b.0.weight"]
    assert (dim, size) == (0, 7)
    assert "nets.py:" in reason  # the line of the network's own code


def test_sizes_are_sums_of_multiplicity_times_width(known: Known) -> None:
    structure = analyse(known.reference, INPUT)
    widths = np.array(list(structure.widths.values()))
    for name, shape in structure.shapes.items():
        forms = [structure.form((name, dim)) for dim in range(len(shape))]
        assert tuple(form.constant + form.coefficients @ widths for form in forms) == shape


def test_members_and_layouts_agree(known: Known) -> None:
    structure = analyse(known.reference, INPUT)
    for index, group in enumerate(structure.groups):
        for member in group.members:
            layout = structure.layouts[member.parameter, member.dim]
            positions, counts = np.unique(layout.positions[layout.groups == index], return_counts=True)
            assert positions.tolist() == list(range(group.width))
            assert set(counts) == {member.multiplicity}


def test_flattened_maps_take_a_column_for_every_place() -> None:
    structure = analyse(NETS["Flat"].reference, INPUT)
    members = {(m.parameter, m.dim): (m.role, m.multiplicity) for m in structure.groups[0].members}
    assert members["a.0.weight", 0] == ("out", 1)
    assert members["a.1.running_var", 0] == ("along", 1)
    assert members["hidden.weight", 1] == ("in", 5 * 6)


def test_concatenations_come_out_as_segments() -> None:
    layout = analyse(NETS["Dense"].reference, INPUT).layouts["fc.weight", 1]
    assert layout.groups.tolist() == [0] * 5 + [1] * 3 + [2] * 7
    assert layout.positions.tolist() == [*range(5), *range(3), *range(7)]


@pytest.mark.parametrize(
    ("network", "num_groups"),
    [
        ("pruneas:vgg16(width=0.25)", 13),
        ("pruneas:resnet20", 3 + 9),  # one stream a stage (the longer ones hold the shorter), one width inside a block
        ("torchvision:resnet18", 12),
        ("torchvision:mobilenet_v2", 25),
        ("torchvision:densenet121", 120),
        ("torchvision:squeezenet1_0", 25),
        ("torchvision:googlenet(init_weights=False)", 57),
        ("torchvision:mobilenet_v3_small", 27),
    ],
)
def test_group_counts_of_known_families(network: str, num_groups: int) -> None:
    assert len(analyse(Reference.parse(network), image(3, 64, 64)).groups) == num_groups


def test_groups_do_not_depend_on_the_size_of_the_input() -> None:
    network = Reference.parse("torchvision:resnet18")
    assert analyse(network, image(3, 64, 64)).groups == analyse(network, image(3, 96, 32)).groups


def test_fingerprints_tell_structures_apart_and_nothing_else() -> None:
    structure = analyse(NETS["Residual"].reference, INPUT)
    assert structure.fingerprint == analyse(NETS["Residual"].reference, INPUT).fingerprint
    assert structure.fingerprint == dataclasses.replace(structure, frozen={"a.0": "a reason"}).fingerprint
    others = [analyse(NETS[name].reference, INPUT) for name in ("Chain", "OptionA", "Dense")]
    assert len({structure.fingerprint, *(other.fingerprint for other in others)}) == 4
