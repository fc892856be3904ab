"""fvcore's count against sums worked by hand."""

import pytest
import torch
from torch import nn

from pruneas.cost.count import count
from pruneas.errors import StructureError
from tests.nets import INPUT, NETS, PLACES, image


@pytest.mark.parametrize("name", NETS)
def test_counts_are_the_ones_worked_out_by_hand(name: str) -> None:
    found = count(NETS[name].factory(), INPUT)
    assert (found.flops, found.params) == (NETS[name].flops, NETS[name].params)


def test_kinds_sum_to_the_total_and_matrix_products_are_one_kind() -> None:
    found = count(NETS["SqueezeExcite"].factory(), INPUT)
    assert found.by_kind == {
        "conv": PLACES * 9 * 15 + 15 + 15,
        "batch_norm": 2 * PLACES * 5,
        "adaptive_avg_pool2d": 2 * PLACES * 5,
        "linear": 10,
    }
    assert sum(found.by_kind.values()) == found.flops


def test_operators_without_a_formula_are_listed() -> None:
    found = count(NETS["SqueezeExcite"].factory(), INPUT)
    assert found.uncounted["aten::sigmoid"] == 1


def test_modes_and_values_stay_as_they_were() -> None:
    network = NETS["Chain"].factory().train()
    network.a.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    count(network, INPUT)
    assert network.training and not network.a.training and network.b.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_modes_are_restored_after_an_error() -> None:
    network = nn.Linear(5, 2).train()
    with pytest.raises(StructureError, match="fvcore cannot count the network: RuntimeError"):
        count(network, image(7))
    assert network.training
