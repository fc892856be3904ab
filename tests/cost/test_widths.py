"""Which widths a group may take."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruneas.architecture import Reference
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.errors import SpaceError
from pruneas.structure.build import analyse
from tests.nets import image, structure_of


def legal(name: str = "vgg16", **rules: object) -> LegalWidths:
    return LegalWidths.of(structure_of(name), WidthRules(**rules))


def test_the_floor_is_a_share_of_the_base_rounded_up_to_a_multiple() -> None:
    found = legal(minimum=0.3, multiple_of=8)
    assert found.lowest[:4].tolist() == [8, 8, 16, 16]  # 0.3 of 16 16 32 32
    assert found.highest[:4].tolist() == [16, 16, 32, 32]


def test_limits_by_glob_meet_the_base_and_each_other() -> None:
    found = legal("Dense", minimum=0.0, at_least={"*": 2, "b.*": 4}, at_most={"stem.0": 3, "b.0": 100})
    assert found.lowest.tolist() == [2, 2, 4]
    assert found.highest.tolist() == [3, 3, 7]


def test_frozen_groups_keep_their_width() -> None:
    by_glob = legal("Dense", minimum=0.0, freeze=["stem.*"], at_most={"stem.0": 3})
    assert (by_glob.lowest[0], by_glob.highest[0]) == (5, 5)
    by_rebuilding = legal("ConstantPad", minimum=0.0)
    index = list(structure_of("ConstantPad").widths).index("b.0")
    assert (by_rebuilding.lowest[index], by_rebuilding.highest[index]) == (6, 6)


def test_a_base_width_that_is_no_multiple_stays_legal() -> None:
    found = legal("Chain", minimum=0.0, multiple_of=4)
    assert found.lowest.tolist() == [4, 4]
    assert found.highest.tolist() == [5, 7]
    assert found.next(found.lowest).tolist() == [5, 7]
    assert found.floor(np.array([4.9, 6.9])).tolist() == [4, 4]
    assert found.floor(np.array([5.0, 99.0])).tolist() == [5, 7]
    assert found.holds(np.array([5, 4]))
    assert not found.holds(np.array([3, 4]))


def test_multiples_are_of_the_channels_that_layers_write() -> None:
    # Grouped: each position of the stem is one channel of either part, and `halves` reads one index for both.
    found = legal("Grouped", minimum=0.0, multiple_of=4)
    assert found.step.tolist() == [2, 2]
    assert found.lowest.tolist() == [2, 2]
    assert found.next(found.lowest).tolist() == [3, 4]  # the base's 3, no multiple, and 4 of 5
    # Gated: `both` writes two halves, `b` writes what it writes.
    assert legal("Gated", multiple_of=6).step.tolist() == [3, 6]
    # Odd multiples share nothing with pairs; a depthwise layer with two filters a channel writes what point wrote, too.
    assert legal("Grouped", multiple_of=3).step.tolist() == [3, 3]
    assert legal("Depthwise", multiple_of=4).step.tolist() == [4, 4]


def test_groups_of_parallel_paths_move_at_multiples_of_eight() -> None:
    """ResNeXt-50: 32 paths, so that a width of 4 is 128 channels. Steps of 8 could not have narrowed it at all."""
    structure = analyse(Reference.parse("torchvision:resnext50_32x4d"), image(3, 64, 64))
    found = LegalWidths.of(structure, WidthRules(multiple_of=8))
    paths = [index for index, name in enumerate(structure.widths) if name.endswith((".conv1", ".conv2"))]
    assert len(paths) == 32
    assert (found.step[paths] == 1).all()
    assert (found.lowest[paths] < found.highest[paths]).all()
    others = np.setdiff1d(np.arange(len(found.step)), paths)
    assert (found.step[others] == 8).all()
    for group, step in zip(structure.groups, found.step, strict=True):
        written = [member.multiplicity for member in group.members if member.role != "in"]
        assert all(times * step % 8 == 0 for times in written)


def test_every_complaint_comes_at_once() -> None:
    rules = WidthRules(freeze=["c*"], at_least={"d": 3, "a.0": 4}, at_most={"a.0": 2})
    with pytest.raises(SpaceError) as caught:
        LegalWidths.of(structure_of("Chain"), rules)
    assert caught.value.complaints == (
        "widths.freeze: 'c*' matches no group; there are a.0, b.0",
        "widths.at_least: 'd' matches no group; there are a.0, b.0",
        "widths: group 'a.0' of 5 must be 4 to 2 wide",
    )


@settings(deadline=None)  # the first example traces the network
@given(
    multiple_of=st.integers(1, 24),
    minimum=st.floats(0, 1),
    wanted=st.lists(st.floats(0, 200), min_size=13, max_size=13),
)
def test_what_floor_and_next_give_is_legal(multiple_of: int, minimum: float, wanted: list[float]) -> None:
    found = legal(multiple_of=multiple_of, minimum=minimum)
    assert (found.lowest <= found.highest).all()
    assert found.holds(found.lowest) and found.holds(found.highest)
    widths = found.floor(np.array(wanted))
    assert found.holds(widths)
    assert ((widths <= np.array(wanted) + 1e-9) | (widths == found.lowest)).all()
    assert found.holds(found.previous(widths))
    assert ((found.previous(widths) < widths) | (widths == found.lowest)).all()
    above = found.ceil(np.array(wanted))
    assert found.holds(above)
    assert ((above >= np.array(wanted) - 1e-9) | (above == found.highest)).all()
    assert ((above == widths) | (above == found.next(widths))).all()
    wider = found.next(widths)
    assert found.holds(wider)
    assert ((wider > widths) | (widths == found.highest)).all()
    assert (wider - widths <= found.step).all()
