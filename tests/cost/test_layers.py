import numpy as np
import pytest

from pruneas.architecture import Reference
from pruneas.cost.layers import layer_flops, layer_params
from pruneas.cost.model import CostModel
from pruneas.networks import make
from pruneas.structure.build import structure_of
from tests.nets import image
from tests.tiny import NETWORK


@pytest.fixture(scope="module")
def residual():
    reference = Reference.parse("pruneas:resnet20(width=0.5)")
    network = make(reference)
    structure = structure_of(network, reference, image(3, 8, 8))
    return structure, CostModel.of(structure, network)


def test_hand_worked_costs_of_the_tiny_network(givens):
    assert givens.structure.network == Reference.parse(NETWORK)
    flops = layer_flops(givens.structure, givens.model.vector({"features.0": 2, "features.3": 3, "features.7": 4}))
    assert flops["features.0"] == 2 * 1 * 9 * 64  # 3x3 on one channel, 8x8 positions
    assert flops["features.3"] == 3 * 2 * 9 * 64
    assert flops["features.7"] == 4 * 3 * 9 * 16  # after pooling
    params = layer_params(givens.structure, givens.model.vector({"features.0": 2, "features.3": 3, "features.7": 4}))
    assert params["features.3"] == 3 * 2 * 9
    assert next(iter(params)) == "features.0"  # in the network's order


@pytest.mark.parametrize("seed", range(3))
def test_layers_sum_to_the_network_at_any_widths_and_without_blocks(residual, seed):
    structure, model = residual
    random = np.random.default_rng(seed)
    widths = random.integers(1, model.base_widths + 1)
    removed = [block.name for block in structure.blocks if random.random() < 0.5]
    left = model.without(structure, removed)
    assert sum(layer_flops(structure, widths, removed).values()) == left.flops(widths)
    assert sum(layer_params(structure, widths, removed).values()) == left.params(widths)
    assert len(structure.blocks) > 0
