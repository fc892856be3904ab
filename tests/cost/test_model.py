"""The closed form against fvcore: two independent routes to the same integers."""

import numpy as np
import pytest
import torch
from torch import nn

from pruneas.architecture import Reference
from pruneas.cost.count import count
from pruneas.cost.model import CostModel
from pruneas.errors import StructureError
from pruneas.structure.build import build_widths
from pruneas.structure.build import structure_of as trace
from tests.nets import INPUT, NETS, PLACES, ZOO, model_of, random_widths, structure_of


@pytest.mark.parametrize("name", [*NETS, *ZOO])
def test_the_closed_form_is_fvcores_count_at_any_widths(name: str) -> None:
    structure, model = structure_of(name), model_of(name)
    widths = random_widths(structure, seed=8)
    found = count(build_widths(structure, widths), structure.inputs)
    vector = model.vector(widths)
    assert (int(model.flops(vector)), int(model.params(vector))) == (found.flops, found.params)
    base = model.base_widths
    assert (int(model.flops(base)), int(model.params(base))) == (model.base.flops, model.base.params)


def test_a_chain_costs_what_the_formula_says() -> None:
    model = model_of("Chain")
    for a, b in ((1, 1), (2, 7), (5, 3)):
        widths = model.vector({"b.0": b, "a.0": a})
        conv_norm_pool = PLACES * (9 * (3 * a + a * b) + 2 * (a + b) + b)
        assert int(model.cost(widths, "flops")) == conv_norm_pool + 2 * b
        assert int(model.cost(widths, "params")) == 9 * (3 * a + a * b) + 2 * (a + b) + 2 * b + 2


@pytest.mark.parametrize("quantity", ["flops", "params"])
def test_batches_cost_what_their_candidates_do(quantity: str) -> None:
    model = model_of("resnet20")
    rng = np.random.default_rng(0)
    batch = rng.integers(1, model.base_widths + 1, size=(17, len(model.groups)))
    costs = model.cost(batch, quantity)
    assert costs.shape == (17,)
    assert costs.dtype == np.int64
    assert costs.tolist() == [int(model.cost(widths, quantity)) for widths in batch]


def test_wider_never_costs_less() -> None:
    model = model_of("densenet121")
    narrow = np.maximum(model.base_widths // 2, 1)
    wider = np.repeat(narrow[None], len(narrow), axis=0) + np.eye(len(narrow), dtype=np.int64)
    for quantity in ("flops", "params"):
        assert (model.cost(wider, quantity) > model.cost(narrow, quantity)).all()


def test_mappings_and_vectors_are_each_others_inverse() -> None:
    model = model_of("Dense")
    widths = {"a.0": 1, "b.0": 2, "stem.0": 3}
    assert model.mapping(model.vector(widths)) == widths
    assert model.groups == ("stem.0", "a.0", "b.0")


def test_what_has_no_closed_form_is_refused_with_both_counts() -> None:
    class Chained(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.ones(3, 5)), nn.Parameter(torch.ones(5, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.multi_dot([x[:, :, 0, 0], self.a, self.b])

    network = Chained()
    structure = trace(network, Reference("tests:chained", {}), INPUT)
    with pytest.raises(StructureError, match=r"in closed form; linear: ours 25, fvcore's 0"):
        CostModel.of(structure, network)
