import math

import numpy as np
import pytest

from pruneas.compare.fidelity import rank_correlation


def test_a_rank_correlation_by_hand():
    # Ranks 1 2 3 4 5 against 2 1 4 3 5: squared differences 4 in all, 1 - 6 * 4 / (5 * 24) = 0.8.
    found = rank_correlation([0.1, 0.2, 0.3, 0.4, 0.9], [0.6, 0.5, 0.8, 0.7, 0.9])
    assert found.num == 5
    assert found.value == pytest.approx(0.8)
    half = 1.959964 * math.sqrt(1.06 / 2)
    assert found.low == pytest.approx(math.tanh(math.atanh(0.8) - half), abs=1e-6)
    assert found.high == pytest.approx(math.tanh(math.atanh(0.8) + half), abs=1e-6)


def test_the_interval_holds_the_true_correlation_as_often_as_it_says():
    rng = np.random.default_rng(0)
    true = 6 / math.pi * math.asin(0.6 / 2)  # of the ranks of a binormal pair of correlation 0.6
    inside = 0
    for _ in range(400):
        a, noise = rng.normal(size=(2, 12))
        found = rank_correlation(a.tolist(), (0.6 * a + 0.8 * noise).tolist())
        inside += found.low <= true <= found.high
    assert 0.91 <= inside / 400 <= 0.99


def test_equal_orders_are_one_and_nothing_is_said_of_too_few_or_of_ties_alone():
    found = rank_correlation([1, 2, 3, 4], [5, 6, 7, 8])
    assert found.value == pytest.approx(1.0)
    assert found.low < 1.0
    assert rank_correlation([1, 2, 3], [1, 2, 3]) is None
    assert rank_correlation([1, 1, 1, 1], [1, 2, 3, 4]) is None
