"""Distances to the other filters: by hand, against a double loop, and what the paper says of norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from pruneas.generators import Task, fpgm

Tasks = Callable[..., Task]


def scores(given: Task, **changed: torch.Tensor) -> dict[str, np.ndarray]:
    assert given.state is not None
    state = {**given.state, **{name.replace("__", "."): tensor for name, tensor in changed.items()}}
    ranking = fpgm.generate(replace(given, state=state)).ranking
    assert ranking is not None
    return dict(ranking.scores)


def test_scores_are_sums_of_distances_by_hand(task: Tasks) -> None:
    """Filters at 0, 3, 4, 0 and 7 on a line: distances sum to 14, 11, 12, 14, 21."""
    weight = torch.zeros(5, 3, 3, 3)
    weight[:, 1, 2, 0] = torch.tensor([0.0, 3, 4, 0, 7])
    expected = np.array([14, 11, 12, 14, 21])
    assert scores(task("Chain"), a__0__weight=weight)["a.0"] == pytest.approx(expected / expected.mean(), abs=1e-6)


@pytest.mark.parametrize("name", ["Chain", "Grouped", "Upsampled"])
def test_they_are_those_of_a_double_loop(task: Tasks, name: str) -> None:
    given = task(name)
    assert given.state is not None
    for group in given.structure.groups:
        (member,) = [m for m in group.members if m.role == "out" and m.parameter in given.structure.learned]
        layout = given.structure.layouts[member.parameter, member.dim]
        filters = np.moveaxis(given.state[member.parameter].double().numpy(), member.dim, 0)
        expected = np.zeros(group.width)
        for index, one in enumerate(filters):
            expected[layout.positions[index]] += sum(np.sqrt(((one - other) ** 2).sum()) for other in filters)
        assert scores(given)[group.name] == pytest.approx(expected / expected.mean(), abs=1e-6)


def test_a_large_filter_amid_the_others_goes_before_a_small_one_apart(task: Tasks) -> None:
    """The norm says the reverse."""
    weight = torch.zeros(5, 3, 3, 3)
    weight[:, 0, 0, 0] = torch.tensor([10.0, 11, 12, 13, 0])
    found = scores(task("Chain"), a__0__weight=weight)["a.0"]
    assert found.argmin() in (1, 2) and found.argmax() == 4


def test_the_layer_scope_is_uniform_scaling(task: Tasks) -> None:
    given = task("vgg16", options={"layer": 1})
    found = fpgm.generate(given)
    assert found.ranking is not None and found.ranking.scope == "layer"
    assert found.widths.tolist() == given.uniform().tolist()
    assert fpgm.generate(task("vgg16")).widths.tolist() != given.uniform().tolist()
