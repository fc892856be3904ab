import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruneas.cost.projection import project
from pruneas.search.parameters import LEAST_RANGE, MARGIN, Parametrisation
from tests.tiny import Givens

GIVENS = Givens.of()


def around(*anchors, **more):
    named = {f"anchor {index}": np.array(widths) for index, widths in enumerate(anchors)}
    return Parametrisation.around(named, GIVENS.model, GIVENS.legal, **more)


STAGES = {"features.0": 0, "features.3": 1, "features.7": 1}


def test_the_base_network_is_all_ones():
    assert around((5, 7, 11)).encode(np.array([5, 7, 11])) == pytest.approx(dict.fromkeys(GIVENS.model.groups, 1.0))


def test_a_common_scale_changes_nothing():
    # By hand: shares 1/5, 2/7... of the base; the geometric mean is divided out.
    found = around((5, 7, 11)).encode(np.array([3, 7, 11]))
    mean = (3 / 5) ** (1 / 3)
    assert list(found.values()) == pytest.approx([3 / 5 / mean, 1 / mean, 1 / mean])


def test_ranges_are_the_anchors_hull_with_a_margin_and_at_least_half_to_double():
    found = around((5, 7, 11), (1, 7, 11))
    multiplier = (1 / 5) / (1 / 5) ** (1 / 3)
    assert found.low[0] == pytest.approx(multiplier / MARGIN)
    assert found.high[0] == pytest.approx(LEAST_RANGE)
    assert (found.low <= 0.5).all()
    assert (found.high >= 2.0).all()


def test_frozen_groups_have_no_parameter_and_keep_their_width():
    frozen = Givens.of(freeze=("features.3",))
    found = Parametrisation.around({"base": np.array([5, 7, 11])}, frozen.model, frozen.legal)
    assert list(found.ranges) == ["features.0", "features.7"]
    shape = found.decode({"features.0": 0.5, "features.7": 1.0})
    assert shape.tolist() == [2.5, 7.0, 11.0]


@settings(deadline=None, max_examples=50)
@given(st.tuples(st.floats(0.5, 2), st.floats(0.5, 2), st.floats(0.5, 2)))
def test_whatever_is_proposed_ends_as_legal_widths_inside_the_budget(multipliers):
    found = around((5, 7, 11))
    shape = found.decode(dict(zip(found.ranges, multipliers, strict=True)))
    widths = project(shape, GIVENS.model, GIVENS.legal, GIVENS.limits)
    assert GIVENS.legal.holds(widths)
    assert GIVENS.model.cost(widths, "flops") <= GIVENS.most


def test_an_anchor_outside_of_the_range_is_brought_into_it():
    found = around((5, 7, 11))
    values = np.array(list(found.encode(np.array([1, 7, 11])).values()))
    assert ((values >= found.low) & (values <= found.high)).all()


def test_tied_by_stage_there_is_one_multiplier_for_all_groups_of_a_stage():
    found = around((5, 7, 11), tie="stage", stages=STAGES)
    assert list(found.ranges) == ["stage 0", "stage 1"]
    assert found.decode({"stage 0": 0.5, "stage 1": 2.0}).tolist() == [2.5, 14.0, 22.0]
    # By hand: multipliers of geometric mean 1, and the geometric mean of those that are tied.
    shares = np.array([5 / 5, 6 / 7, 8 / 11])
    logs = np.log(shares) - np.log(shares).mean()
    found = found.encode(np.array([5, 6, 8]))
    assert list(found.values()) == pytest.approx([np.exp(logs[0]), np.exp((logs[1] + logs[2]) / 2)])


def test_a_mixture_says_every_anchor_exactly_and_what_lies_between_them():
    anchors = (5, 7, 11), (1, 6, 11), (5, 2, 4)
    found = around(*anchors, tie="mixture", stages=STAGES)
    assert list(found.ranges) == [f"weight of anchor {n}" for n in range(3)] + ["stage 0", "stage 1"]
    for widths in anchors:
        shape = found.decode(found.encode(np.array(widths)))
        assert (shape / widths) == pytest.approx(np.full(3, shape[0] / widths[0]))  # up to a scale
    half = found.decode(
        {"weight of anchor 0": 0.3, "weight of anchor 1": 0.3, "weight of anchor 2": 0, "stage 0": 1, "stage 1": 1}
    )
    middle = np.sqrt(np.array(anchors[0]) * anchors[1])
    assert half / middle == pytest.approx(np.full(3, half[0] / middle[0]))


def test_a_mixture_of_nothing_is_the_mean_of_all():
    found = around((5, 7, 11), (1, 6, 11), tie="mixture", stages=STAGES)
    parameters = dict.fromkeys(found.ranges, 1.0)
    nothing = {**parameters, "weight of anchor 0": 0.0, "weight of anchor 1": 0.0}
    assert found.decode(nothing).tolist() == pytest.approx(found.decode(parameters).tolist())


def test_a_mixture_of_one_anchor_is_a_tie_by_stage():
    assert list(around((5, 7, 11), tie="mixture", stages=STAGES).ranges) == ["stage 0", "stage 1"]


def test_blocks_have_a_parameter_each_and_are_encoded_as_what_they_are():
    found = around((5, 7, 11), blocks=["layer1.0", "layer1.1"])
    assert list(found.ranges)[-2:] == ["without layer1.0", "without layer1.1"]
    parameters = found.encode(np.array([5, 7, 11]), removed=["layer1.1"])
    assert found.removed(parameters) == ("layer1.1",)
    assert found.removed({**parameters, "without layer1.1": 0.74, "without layer1.0": 0.76}) == ("layer1.0",)
