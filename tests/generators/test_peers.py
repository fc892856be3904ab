"""The other tools as generators, found by their entry points: run after `pip install ./tests/benchmarks/peers`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pruneas.errors import StructureError
from pruneas.generators import Task, find_methods

pytest.importorskip("pruneas_peers")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", ["torch-pruning", "fastnas"])
@pytest.mark.parametrize("network", ["Chain", "Residual"])
def test_a_peer_gives_legal_widths_inside_the_budget_and_the_same_again(
    name: str, network: str, task: Callable[..., Task]
) -> None:
    method = find_methods([name], {})[-1]
    given = task(network, "0.5")
    assert given.state is not None
    before = {key: value.clone() for key, value in given.state.items()}
    found = method(given)  # which checks that they are legal, and what they cost
    assert (found.widths < given.model.base_widths).any()
    assert given.model.flops(found.widths) > 0.8 * given.limits.most["flops"]
    assert all(torch.equal(before[key], value) for key, value in given.state.items())
    assert np.array_equal(method(given).widths, found.widths)


def test_a_network_that_a_peer_takes_apart_differently_is_told(task: Callable[..., Task]) -> None:
    """Torch-Pruning cuts a padded shortcut's sides on their own: no widths of the network give that."""
    with pytest.raises(StructureError, match="sizes that are no widths of this network's groups"):
        find_methods(["torch-pruning"], {})[-1](task("resnet20", "0.5"))


def test_a_network_that_a_peer_cannot_work_on_is_told(task: Callable[..., Task]) -> None:
    with pytest.raises(StructureError, match="fastnas cannot work on this network: ApplyModeError"):
        find_methods(["fastnas"], {})[-1](task("Flat", "0.5"))
