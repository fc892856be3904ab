"""L1 norms of filters, worked by hand, and their votes in a residual stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from pruneas.architecture import Reference
from pruneas.cost.limits import Limits
from pruneas.cost.model import CostModel
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.generators import Task, l1
from pruneas.structure.build import structure_of as trace
from tests.nets import image

Tasks = Callable[..., Task]


def scores(given: Task, **changed: torch.Tensor) -> dict[str, np.ndarray]:
    assert given.state is not None
    state = {**given.state, **{name.replace("__", "."): tensor for name, tensor in changed.items()}}
    ranking = l1.generate(dataclasses.replace(given, state=state)).ranking
    assert ranking is not None and ranking.scope == "network"
    return dict(ranking.scores)


def test_scores_are_norms_divided_by_their_layers_mean(task: Tasks) -> None:
    given = task("Chain")
    weight = torch.zeros(5, 3, 3, 3)
    weight[:, 0, 0, 0] = torch.tensor([1.0, -2.0, 3.0, -4.0, 5.0])
    assert scores(given, a__0__weight=weight)["a.0"] == pytest.approx(np.array([1, 2, 3, 4, 5]) / 3)


def test_members_of_a_residual_stream_vote_with_equal_weight(task: Tasks) -> None:
    """A member a hundred times larger says no more than the other."""
    given = task("Residual")
    stem, branch = torch.zeros(5, 3, 3, 3), torch.zeros(5, 7, 3, 3)
    stem[:, 0, 0, 0] = torch.tensor([1.0, 1, 1, 1, 6])
    branch[:, 0, 0, 0] = 100 * torch.tensor([3.0, 1, 1, 1, 4])
    expected = (np.array([1, 1, 1, 1, 6]) / 2 + np.array([3, 1, 1, 1, 4]) / 2) / 2
    assert scores(given, stem__0__weight=stem, b__0__weight=branch)["stem.0"] == pytest.approx(expected)


def test_scaling_a_layer_does_not_change_its_share(task: Tasks) -> None:
    given = task("vgg16")
    assert given.state is not None
    louder = {name: tensor * (50 if name == "features.0.weight" else 1) for name, tensor in given.state.items()}
    assert l1.generate(dataclasses.replace(given, state=louder)).widths.tolist() == l1.generate(given).widths.tolist()


def test_the_layer_scope_is_uniform_scaling_of_the_same_scores(task: Tasks) -> None:
    given = task("vgg16")
    network, layer = l1.generate(given), l1.generate(dataclasses.replace(given, options={"layer": 1}))
    assert network.ranking is not None and layer.ranking is not None
    assert (network.ranking.scope, layer.ranking.scope) == ("network", "layer")
    assert layer.widths.tolist() == given.uniform().tolist() != network.widths.tolist()
    assert all((layer.ranking.scores[name] == scores).all() for name, scores in network.ranking.scores.items())


def test_transposed_filters_are_the_second_dimension(task: Tasks) -> None:
    given = task("Upsampled")
    weight = torch.zeros(5, 7, 2, 2)
    weight[0, :, 0, 0] = torch.arange(7.0)
    assert scores(given, up__weight=weight)["up"] == pytest.approx(np.arange(7) / 3)


def test_weights_that_are_all_zero_still_have_scores(task: Tasks) -> None:
    assert scores(task("Chain"), a__0__weight=torch.zeros(5, 3, 3, 3))["a.0"].tolist() == [0.0] * 5


def test_channels_that_no_filter_produces_are_scored_by_what_goes_along() -> None:
    class Learned(nn.Module):
        """Features of a learned vector: a group with members of one dimension alone."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.offset, self.scale = (
                nn.Conv2d(3, 5, 1),
                nn.Parameter(torch.zeros(5)),
                nn.Parameter(torch.zeros(7)),
            )
            self.fc = nn.Linear(7, 5)
            self.out = nn.Linear(5, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.conv(x).mean((2, 3)) + self.fc(self.scale.sigmoid().expand(x.shape[0], -1)))

    network = Learned()
    structure = trace(network, Reference("tests:learned", {}), image(3, 4, 4))
    assert structure.widths == {"conv": 5, "scale": 7}
    model = CostModel.of(structure, network)
    legal = LegalWidths.of(structure, WidthRules())
    state = {**network.state_dict(), "scale": torch.tensor([1.0, -1, 3, -3, 5, -5, 10])}
    given = Task(
        structure=structure, model=model, legal=legal, limits=Limits({"flops": model.base.flops}), seed=0, state=state,
        options={},
    )  # fmt: skip
    ranking = l1.generate(given).ranking
    assert ranking is not None
    assert ranking.scores["scale"] == pytest.approx(np.array([1, 1, 3, 3, 5, 5, 10]) / 4)
