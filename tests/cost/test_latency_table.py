"""Latency as a function of the widths: read off a table, by hand; the table itself from times that are known."""

import numpy as np
import pytest

from pruneas.cost import latency_table
from pruneas.cost.latency import Latency
from pruneas.cost.latency_table import LatencyTable, time_layers
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.structure.build import build_widths
from tests.nets import model_of, structure_of


def test_the_price_by_hand() -> None:
    """Chain: a.0 has 3 inputs and 5 outputs, b.0 reads those and has 7."""
    structure, model = structure_of("Chain"), model_of("Chain")
    table = LatencyTable(
        device="cpu", threads=1, layers={"a.0": (1.0, 0.5, 0.0, 0.0), "b.0": (0.0, 0.0, 0.25, 0.125)},
        rest=(2.0, 0.0), error=0.0,
    )  # fmt: skip
    price = table.price(structure)
    for a, b in ((5, 7), (2, 3)):
        widths = model.vector({**structure.widths, "a.0": a, "b.0": b})
        assert price(widths) == round((1 + 0.5 * a + 0.25 * a + 0.125 * a * b + 2) * 10**9)
    assert LatencyTable.from_json(table.to_json()) == table


@pytest.mark.parametrize("name", ["Residual", "resnet20"])
def test_known_times_are_found_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where layers take what a table says, and the whole what their sum does and half as much again between them."""
    structure, model = structure_of(name), model_of(name)
    legal = LegalWidths.of(structure, WidthRules())

    def layer(module) -> float:
        shape = module.weight.shape
        return 0.01 + 0.003 * shape[0] + (0.0001 * shape[0] * shape[1] if len(shape) > 1 else 0)

    def layers(network) -> dict[str, float]:
        return {n: layer(m) for n, m in network.named_modules() if getattr(m, "weight", None) is not None}

    def whole(structure, networks, *, device):
        times = [1.5 * sum(layers(network).values()) for network in networks]
        return [Latency(median=time, low=time, high=time, rounds=1) for time in times]

    monkeypatch.setattr(latency_table, "_by_layer", lambda structure, networks, device: [*map(layers, networks)])
    monkeypatch.setattr(latency_table, "measured", whole)
    table = time_layers(structure, model, legal, device="cpu", seed=0)
    assert table.error < 1e-6
    widths = legal.floor(0.7 * model.base_widths)
    built = build_widths(structure, model.mapping(widths), seed=0)
    assert table.price(structure)(widths) / 10**9 == pytest.approx(1.5 * sum(layers(built).values()), rel=1e-6)


def test_a_table_of_real_times_grows_with_the_widths() -> None:
    structure, model = structure_of("Residual"), model_of("Residual")
    legal = LegalWidths.of(structure, WidthRules())
    table = time_layers(structure, model, legal, device="cpu", seed=0)
    price = table.price(structure)
    assert 0 < price(legal.lowest) <= price(model.base_widths)
    assert set(table.layers) >= {
        operation.weight.removesuffix(".weight") for operation in structure.operations if operation.weight
    }
    assert np.isfinite(table.error)
