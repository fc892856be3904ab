"""Projection: legal, never above the budget, nearly all of it used, monotone, within a step of the shape."""

from functools import cache
from itertools import product

import numpy as np
import pytest
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models import list_models

from pruneas.architecture import Budget, Reference
from pruneas.cost.limits import Limits
from pruneas.cost.model import CostModel
from pruneas.cost.projection import ENOUGH, NEAR, project, uniform
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.errors import BudgetError
from pruneas.networks import make
from pruneas.structure.build import structure_of as trace
from pruneas.structure.confirm import confirmed
from tests.nets import ZOO, image, model_of, structure_of

QUANTITIES = st.sampled_from(["flops", "params"])
FULL = st.sampled_from(["vgg16", "resnet20", "resnet18", "mobilenet_v2", "squeezenet1_0"])
TINY = st.sampled_from(["Chain", "Residual", "OptionA", "ConstantPad", "Dense", "Depthwise", "Grouped"])
TORCHVISION = (
    "alexnet", "densenet121", "efficientnet_b0", "mobilenet_v2", "regnet_x_400mf", "resnet50", "resnext50_32x4d",
    "shufflenet_v2_x0_5", "squeezenet1_1", "vgg11",
)  # fmt: skip
CIFAR = ("pruneas:resnet20", "pruneas:resnet56", "pruneas:resnet110", "pruneas:vgg11", "pruneas:vgg16")


def setting(name: str, multiple_of: int = 1, **rules: float) -> tuple:
    return model_of(name), LegalWidths.of(structure_of(name), WidthRules(multiple_of=multiple_of, **rules))


def amount(model, legal, share: float, quantity: str) -> int:
    """Between the narrowest legal network and the base."""
    least, base = int(model.cost(legal.lowest, quantity)), model.base_cost(quantity)
    return least + int(share * (base - least))


def random_shape(model, spread: float, seed: int) -> np.ndarray:
    return model.base_widths * np.exp(spread * np.random.default_rng(seed).normal(size=len(model.groups)))


def is_within_a_step(widths, shape, legal) -> bool:
    """Whether there is one scale whose share, clipped to what is legal, is within a step of every group's width."""
    low = np.where(widths - legal.step <= legal.lowest, 0.0, (widths - legal.step) / shape)
    high = np.where(widths + legal.step >= legal.highest, np.inf, (widths + legal.step) / shape)
    return bool(low.max() <= high.min() * (1 + 1e-9))


@settings(max_examples=150, deadline=None)
@given(
    name=st.one_of(TINY, FULL),
    quantity=QUANTITIES,
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    multiple_of=st.sampled_from([1, 3, 4, 8]),
    spread=st.sampled_from([0.0, 0.3, 0.7, 2.0]),
    seed=st.integers(0, 99),
)
def test_projections_are_legal_inside_the_budget_true_to_their_shape_and_monotone(
    name: str, quantity: str, shares: list[float], multiple_of: int, spread: float, seed: int
) -> None:
    model, legal = setting(name, multiple_of)
    shape = random_shape(model, spread, seed)
    costs = []
    for share in shares:
        most = amount(model, legal, share, quantity)
        widths = project(shape, model, legal, Limits({quantity: most}))
        assert legal.holds(widths)
        assert is_within_a_step(widths, shape, legal)
        costs.append(int(model.cost(widths, quantity)))
        assert costs[-1] <= most
    assert costs[0] <= costs[1]


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["resnet20", "mobilenet_v2"]),
    quantity=QUANTITIES,
    share=st.floats(0, 0.99),
    spread=st.sampled_from([0.0, 0.7]),
    more=st.integers(1, 1000),
)
def test_a_slightly_larger_budget_never_buys_less(
    name: str, quantity: str, share: float, spread: float, more: int
) -> None:
    """Where searches begin alike and part on their way."""
    model, legal = setting(name)
    shape, most = random_shape(model, spread, more), amount(model, legal, share, quantity)
    widths = [project(shape, model, legal, Limits({quantity: each})) for each in (most, most + more)]
    assert model.cost(widths[0], quantity) <= model.cost(widths[1], quantity)


@settings(max_examples=120, derandomize=True, deadline=None)
@given(
    name=FULL,
    quantity=QUANTITIES,
    share=st.floats(0.05, 1),
    spread=st.sampled_from([0.0, 0.5, 0.7]),
    seed=st.integers(0, 999),
)
def test_nearly_all_of_the_budget_is_used(name: str, quantity: str, share: float, spread: float, seed: int) -> None:
    model, legal = setting(name)
    most = amount(model, legal, share, quantity)
    assert (
        model.cost(project(random_shape(model, spread, seed), model, legal, Limits({quantity: most})), quantity)
        >= 0.99 * most
    )


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(["Chain", "Residual", "Dense", "OptionA"]),
    quantity=QUANTITIES,
    share=st.floats(0, 1),
    spread=st.sampled_from([0.0, 0.7]),
    seed=st.integers(0, 99),
)
def test_what_is_left_can_buy_no_step_and_no_exchange(
    name: str, quantity: str, share: float, spread: float, seed: int
) -> None:
    """By brute force over all widths of tiny networks, where a step is a large part of the budget."""
    model, legal = setting(name, minimum=0.0)
    shape, most = random_shape(model, spread, seed), amount(model, legal, share, quantity)
    found = project(shape, model, legal, Limits({quantity: most}))
    every = np.array(list(product(*(range(1, width + 1) for width in model.base_widths))))
    costs = model.cost(every, quantity)
    used = int(model.cost(found, quantity))
    if most - used <= ENOUGH * most:
        return
    change = every - found
    one_step = (np.abs(change).max(axis=1) == 1) & ((change == 1).sum(axis=1) == 1) & ((change == -1).sum(axis=1) <= 1)
    better = every[one_step & (costs > used) & (costs <= most)]
    scales = np.unique((every / shape).ravel())
    end = scales[[model.cost(legal.floor(scale * shape), quantity) > most for scale in scales]].min()
    reaches = []
    for scale in scales[(scales >= NEAR * end) & (scales <= end)]:
        share_of_each = np.clip(scale * shape, legal.lowest, legal.highest)
        if (np.abs(found - share_of_each) <= 1 + 1e-9).all():
            reaches.append((np.abs(better - share_of_each) <= 1 + 1e-9).all(axis=1).any())
    assert reaches and not all(reaches)


@cache
def priced(network: str, side: int) -> tuple:
    small = "(init_weights=False)" if network.endswith((":googlenet", ":inception_v3")) else ""
    reference = Reference.parse(network + small)
    built = make(reference)
    structure = trace(built, reference, image(3, side, side))
    return structure, CostModel.of(structure, built)


def check_projections_of(structure, model, num: int) -> None:
    """Budgets from a fiftieth of the way from the narrowest network to the base's, uniform and random shapes."""
    legal = LegalWidths.of(structure, WidthRules())
    rng = np.random.default_rng(0)
    for quantity in ("flops", "params"):
        for spread in (0.0, 0.7):
            shape = random_shape(model, spread, int(rng.integers(1000)))
            last = 0
            for share in np.sort(rng.uniform(0.02, 1, size=num)):
                most = amount(model, legal, share, quantity)
                widths = project(shape, model, legal, Limits({quantity: most}))
                used = int(model.cost(widths, quantity))
                assert legal.holds(widths)
                assert last <= used <= most
                assert used >= 0.99 * most, (quantity, spread, share)
                assert is_within_a_step(widths, shape, legal)
                last = used


@pytest.mark.parametrize("name", TORCHVISION)
def test_networks_of_torchvision_use_nearly_all_of_their_budget(name: str) -> None:
    check_projections_of(*priced(f"torchvision:{name}", 64), num=6)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CIFAR, *(f"torchvision:{name}" for name in list_models(module=torchvision.models))])
def test_every_network_uses_nearly_all_of_its_budget(name: str) -> None:
    structure, model = priced.__wrapped__(name, 32 if name in CIFAR else 299 if "inception" in name else 224)
    check_projections_of(confirmed(structure), model, num=25)


def test_the_whole_budget_is_the_base_itself() -> None:
    for name in ("vgg16", "resnet18"):
        model, legal = setting(name)
        assert uniform(model, legal, Limits({"flops": model.base.flops})).tolist() == model.base_widths.tolist()


def test_uniform_vgg_at_half_of_its_flops_is_the_measured_baseline() -> None:
    """The widths of design.md, section 7, to within a channel."""
    model, legal = setting("vgg16")
    widths = uniform(model, legal, Limits({"flops": model.base.flops // 2}))
    table = np.array([11, 11, 22, 22, 45, 45, 45, 91, 91, 91, 91, 91, 91])
    assert (np.abs(widths - table) <= 1).all()


def test_a_shape_keeps_its_proportions() -> None:
    model, legal = setting("vgg16")
    shape = np.linspace(1.0, 0.25, len(model.groups)) * model.base_widths
    widths = project(shape, model, legal, Limits({"flops": model.base.flops // 4}))
    scale = np.median(widths / shape)
    assert (np.abs(widths - scale * shape) <= 2).all()


def test_zoo_widths_at_multiples_of_eight_are_multiples_of_eight() -> None:
    for name in ZOO:
        model, legal = setting(name, 8)
        widths = uniform(model, legal, Limits.of(Budget.parse("0.5"), model, legal))
        assert ((widths % legal.step == 0) | (widths == model.base_widths)).all()


def test_budgets_that_no_legal_widths_meet_say_what_the_least_is() -> None:
    model, legal = setting("vgg16")
    with pytest.raises(BudgetError) as caught:
        Limits.of(Budget.parse("params=1K"), model, legal)
    least = int(model.cost(legal.lowest, "params"))
    assert f"allows 1,000 parameters, the narrowest legal network has {least:,}" in str(caught.value)
    assert Limits.of(Budget.parse("0.25"), model, legal) == Limits({"flops": model.base.flops // 4})
    with pytest.raises(ValueError, match="the narrowest legal network costs more than 1,000 parameters"):
        uniform(model, legal, Limits({"params": 1000}))
