"""Random widths: spread wide, proportional to what was drawn, another set for another seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pruneas.cost.projection import project
from pruneas.cost.widths import WidthRules
from pruneas.generators import Task, random

Tasks = Callable[..., Task]


def drawn(given: Task, seed: int) -> np.ndarray:
    return random.generate(replace(given, seed=seed)).widths


def test_widths_are_the_projection_of_the_shares_that_were_drawn(task: Tasks) -> None:
    """The walk and the projection meet to within the steps that filling gives."""
    given = task("vgg16", "0.4", WidthRules(minimum=0.0))
    for seed in range(10):
        shares = np.random.default_rng(seed).uniform(size=len(given.model.groups))
        expected = project(shares * given.model.base_widths, given.model, given.legal, given.limits)
        assert np.abs(drawn(given, seed) - expected).max() <= 2


def test_seeds_differ_and_spread_over_the_widths(task: Tasks) -> None:
    given = task("vgg16", "0.4", WidthRules(minimum=0.0))
    shares = np.array([drawn(given, seed) for seed in range(40)]) / given.model.base_widths
    assert len(np.unique(shares, axis=0)) == 40
    assert (shares.min(0) < 0.2).all() and (shares.max(0) > 0.8).all()


def test_kept_channels_are_a_random_choice(task: Tasks) -> None:
    given = task("Chain", "0.5")
    kept = [random.generate(replace(given, seed=seed)).keep or {} for seed in range(30)]
    assert {position for each in kept for position in each["a.0"]} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("budget", ["0.2", "0.9"])
def test_the_budget_is_used(task: Tasks, budget: str) -> None:
    given = task("vgg16", budget)
    for seed in range(10):
        assert given.model.flops(drawn(given, seed)) > 0.97 * given.limits.most["flops"]
