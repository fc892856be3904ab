"""One limit or several: what they allow, what candidates use of them, and projection that keeps them all."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruneas.architecture import Budget
from pruneas.cost.latency_table import LatencyTable
from pruneas.cost.limits import Limits
from pruneas.cost.memory import price_memory
from pruneas.cost.model import CostModel
from pruneas.cost.projection import project, uniform
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.errors import BudgetError
from pruneas.networks import make
from tests.nets import model_of, structure_of


def everything(name: str) -> tuple[CostModel, LegalWidths]:
    """A network with all four prices; a layer takes 10 µs and 1 µs for each channel it puts out."""
    structure = structure_of(name)
    legal = LegalWidths.of(structure, WidthRules())
    model = model_of(name)
    layers = {
        operation.weight.removesuffix(".weight"): (0.01, 0.001, 0.0, 0.0)
        for operation in structure.operations
        if operation.weight is not None
    }
    table = LatencyTable(device="cpu", threads=1, layers=layers, rest=(0.0, 0.0), error=0.0)
    model = replace(model, memory=price_memory(structure, make(structure.network), model, legal))
    return model.timed(structure, table), legal


@pytest.fixture(scope="module", params=["Chain", "Residual", "vgg16"])
def priced(request: pytest.FixtureRequest) -> tuple[CostModel, LegalWidths]:
    return everything(request.param)


@settings(max_examples=25, deadline=None)
@given(
    shares=st.dictionaries(
        st.sampled_from(["flops", "params", "memory", "latency"]), st.floats(0.05, 1), min_size=1, max_size=4
    ),
    seed=st.integers(0, 99),
)
def test_projection_keeps_every_limit_and_uses_one_up(priced, shares: dict[str, float], seed: int) -> None:
    model, legal = priced
    least = {quantity: int(model.cost(legal.lowest, quantity)) for quantity in shares}
    limits = Limits({q: least[q] + int(share * (model.base_cost(q) - least[q])) for q, share in shares.items()})
    shape = model.base_widths * np.exp(0.5 * np.random.default_rng(seed).normal(size=len(model.groups)))
    widths = project(shape, model, legal, limits)
    assert legal.holds(widths)
    for quantity, most in limits.most.items():
        assert model.cost(widths, quantity) <= most
    used = limits.use(model, widths)
    assert used == max(int(model.cost(widths, quantity)) / most for quantity, most in limits.most.items())
    scales = [scale for scale in np.linspace(0, 20, 400) if limits.fit(model, legal.floor(scale * shape))]
    rounded_down = legal.floor(max(scales) * shape)
    assert model.cost(widths, limits.filled) >= model.cost(rounded_down, limits.filled)


def test_a_limit_that_binds_nothing_changes_nothing(priced) -> None:
    model, legal = priced
    half = Limits.of(Budget.parse("0.5"), model, legal)
    both = Limits.of(Budget.parse("0.5+params=1+latency=1+memory=1"), model, legal)
    assert uniform(model, legal, half).tolist() == uniform(model, legal, both).tolist()


def test_what_cannot_be_reached_is_said_for_each_limit(priced) -> None:
    model, legal = priced
    with pytest.raises(BudgetError) as caught:
        Limits.of(Budget.parse("0.9+latency=1us+params=1e-3K"), model, legal)
    text = str(caught.value)
    assert "budget 0.9+params=1+latency=0.001ms cannot be met: it allows 1 parameters, the narrowest" in text
    assert "; it allows 0.001 ms, the narrowest legal network has" in text
    assert f"of the base network's {model.base.params:,} parameters (a share of 0." in text
    assert "FLOPs" not in text


def test_what_was_not_read_off_the_network_has_no_price() -> None:
    with pytest.raises(ValueError, match="memory has no price here"):
        Limits.of(Budget.parse("memory=0.5"), model_of("Chain"), LegalWidths.of(structure_of("Chain"), WidthRules()))


def test_limits_are_read_as_they_are_written() -> None:
    limits = Limits({"flops": 7, "latency": 10**9})
    assert Limits.from_json(limits.to_json()) == limits
    assert str(limits) == "7 FLOPs and 1 ms"
    assert limits.counted == {"flops": 7}
    assert Limits({"latency": 1}).filled == "latency"
    assert Limits({"memory": 1}).filled == "flops"
