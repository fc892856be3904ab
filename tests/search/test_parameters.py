import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruneas.cost.projection import project
from pruneas.search.parameters import LEAST_RANGE, MARGIN, Parametrisation
from tests.tiny import Givens

GIVENS = Givens.of()


def around(*anchors):
    return Parametrisation.around([np.array(widths) for widths in anchors], GIVENS.model, GIVENS.legal)


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
    found = Parametrisation.around([np.array([5, 7, 11])], frozen.model, frozen.legal)
    assert found.names == ["features.0", "features.7"]
    shape = found.decode({"features.0": 0.5, "features.7": 1.0})
    assert shape.tolist() == [2.5, 7.0, 11.0]


@settings(deadline=None, max_examples=50)
@given(st.tuples(st.floats(0.5, 2), st.floats(0.5, 2), st.floats(0.5, 2)))
def test_whatever_is_proposed_ends_as_legal_widths_inside_the_budget(multipliers):
    found = around((5, 7, 11))
    shape = found.decode(dict(zip(found.names, multipliers, strict=True)))
    widths = project(shape, GIVENS.model, GIVENS.legal, GIVENS.most, "flops")
    assert GIVENS.legal.holds(widths)
    assert GIVENS.model.cost(widths, "flops") <= GIVENS.most


def test_an_anchor_outside_of_the_range_is_brought_into_it():
    found = around((5, 7, 11))
    values = np.array(list(found.encode(np.array([1, 7, 11])).values()))
    assert ((values >= found.low) & (values <= found.high)).all()
