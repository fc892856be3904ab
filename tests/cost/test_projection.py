"""Projection: legal, never above the budget, little of it unused, and uniform shapes stay uniform."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruneas.architecture import Budget
from pruneas.cost.projection import limit, project, uniform
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.errors import BudgetError
from tests.nets import ZOO, model_of, structure_of

QUANTITIES = st.sampled_from(["flops", "params"])
FULL = st.sampled_from(["vgg16", "resnet20", "resnet18", "mobilenet_v2", "squeezenet1_0"])


def setting(name: str, multiple_of: int = 1) -> tuple:
    return model_of(name), LegalWidths.of(structure_of(name), WidthRules(multiple_of=multiple_of))


def amount(model, legal, share: float, quantity: str) -> int:
    """Between the narrowest legal network and the base."""
    least, base = int(model.cost(legal.lowest, quantity)), model.base_cost(quantity)
    return least + int(share * (base - least))


@settings(max_examples=60, deadline=None)
@given(
    name=FULL,
    quantity=QUANTITIES,
    share=st.floats(0, 1),
    multiple_of=st.sampled_from([1, 4, 8]),
    spread=st.floats(0, 2),
    seed=st.integers(0, 99),
)
def test_projections_are_legal_and_never_above_the_budget(
    name: str, quantity: str, share: float, multiple_of: int, spread: float, seed: int
) -> None:
    model, legal = setting(name, multiple_of)
    shape = model.base_widths * np.exp(spread * np.random.default_rng(seed).normal(size=len(model.groups)))
    most = amount(model, legal, share, quantity)
    widths = project(shape, model, legal, most, quantity)
    assert legal.holds(widths)
    assert model.cost(widths, quantity) <= most


USED = {"resnet18": 0.99, "mobilenet_v2": 0.99, "squeezenet1_0": 0.99, "vgg16": 0.98, "resnet20": 0.95}
"""The least of the budget that is used at multiples of one. In narrow networks a channel is a large step."""


@settings(max_examples=80, derandomize=True, deadline=None)
@given(name=FULL, quantity=QUANTITIES, share=st.floats(0.1, 1), seed=st.integers(0, 99))
def test_nearly_all_of_the_budget_is_used(name: str, quantity: str, share: float, seed: int) -> None:
    model, legal = setting(name)
    most = amount(model, legal, share, quantity)
    shape = model.base_widths * np.exp(0.5 * np.random.default_rng(seed).normal(size=len(model.groups)))
    assert model.cost(project(shape, model, legal, most, quantity), quantity) >= USED[name] * most


@settings(max_examples=40, derandomize=True, deadline=None)
@given(name=FULL, quantity=QUANTITIES, share=st.floats(0, 1), more=st.floats(0.02, 1))
def test_a_larger_budget_never_buys_less(name: str, quantity: str, share: float, more: float) -> None:
    model, legal = setting(name)
    costs = [
        int(model.cost(uniform(model, legal, amount(model, legal, at, quantity), quantity), quantity))
        for at in (share, min(1.0, share + more))
    ]
    assert costs[0] <= costs[1]


@settings(max_examples=40, derandomize=True, deadline=None)
@given(name=FULL, quantity=QUANTITIES, share=st.floats(0.05, 1), multiple_of=st.sampled_from([1, 8]))
def test_uniform_scaling_is_within_a_step_of_one_share(
    name: str, quantity: str, share: float, multiple_of: int
) -> None:
    model, legal = setting(name, multiple_of)
    widths = uniform(model, legal, amount(model, legal, share, quantity), quantity)
    free = (widths > legal.lowest) & (widths < legal.highest)
    # One share for all: the one of each free group's width, a step up or down, must overlap.
    low = ((widths - multiple_of) / model.base_widths)[free]
    high = ((widths + multiple_of) / model.base_widths)[free]
    assert not free.any() or low.max() <= high.min()


def test_the_whole_budget_is_the_base_itself() -> None:
    for name in ("vgg16", "resnet18"):
        model, legal = setting(name)
        assert uniform(model, legal, model.base.flops, "flops").tolist() == model.base_widths.tolist()


def test_uniform_vgg_at_half_of_its_flops_is_the_measured_baseline() -> None:
    """The widths of design.md, section 7, to within a channel."""
    model, legal = setting("vgg16")
    widths = uniform(model, legal, model.base.flops // 2, "flops")
    table = np.array([11, 11, 22, 22, 45, 45, 45, 91, 91, 91, 91, 91, 91])
    assert (np.abs(widths - table) <= 1).all()


def test_a_shape_keeps_its_proportions() -> None:
    model, legal = setting("vgg16")
    shape = np.linspace(1.0, 0.25, len(model.groups)) * model.base_widths
    widths = project(shape, model, legal, model.base.flops // 4, "flops")
    scale = np.median(widths / shape)
    assert (np.abs(widths - scale * shape) <= 2).all()


def test_zoo_widths_at_multiples_of_eight_are_multiples_of_eight() -> None:
    for name in ZOO:
        model, legal = setting(name, 8)
        widths = uniform(model, legal, limit(model, legal, Budget.parse("0.5")), "flops")
        assert ((widths % 8 == 0) | (widths == model.base_widths)).all()


def test_budgets_that_no_legal_widths_meet_say_what_the_least_is() -> None:
    model, legal = setting("vgg16")
    with pytest.raises(BudgetError) as caught:
        limit(model, legal, Budget.parse("params=1K"))
    least = int(model.cost(legal.lowest, "params"))
    assert f"allows 1,000 params, the narrowest legal network has {least:,}" in str(caught.value)
    assert limit(model, legal, Budget.parse("0.25")) == model.base.flops // 4
