"""Masks drawn with one probability everywhere: the baseline of masks."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from pruneas.cost.masked import masked_cost
from pruneas.generators import METHODS, Task


def test_every_layer_keeps_about_the_same_share_and_the_budget_is_met(task: Callable[..., Task]) -> None:
    given = task("resnet20")
    found = METHODS["uniform-sparsity"](given)
    assert found.masks is not None
    cost = masked_cost(given.structure, given.model, found.masks, "flops")
    assert given.limits.most["flops"] * 0.999 <= cost <= given.limits.most["flops"]
    shares = {name: mask.float().mean().item() for name, mask in found.masks.items() if mask.numel() > 2000}
    assert len(shares) > 10 and max(shares.values()) - min(shares.values()) < 0.08  # four deviations of 2,000 draws
    assert found.widths.tolist() == METHODS["uniform"](given).widths.tolist()


def test_it_is_drawn_by_the_seed(task: Callable[..., Task]) -> None:
    given = task("resnet20")
    drawn = [METHODS["uniform-sparsity"](replace(given, seed=seed)).masks for seed in (1, 1, 2)]
    same = [all((drawn[0][name] == other[name]).all() for name in drawn[0]) for other in drawn[1:]]
    assert same == [True, False]


def test_a_share_of_the_weights_goes_where_one_is_asked_for(task: Callable[..., Task]) -> None:
    given = task("resnet20")
    masks = METHODS["uniform-sparsity"](replace(given, share=0.6)).masks
    left = sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
    assert left == pytest.approx(0.4, abs=1e-3)
