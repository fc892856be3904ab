"""Slimming: the penalty's strength, raw scales, and the refusal where there is no batch norm."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pruneas.cost.widths import WidthRules
from pruneas.errors import StructureError
from pruneas.generators import Task, slimming
from pruneas.generators.method import Penalty
from pruneas.training import FitResult

Tasks = Callable[..., Task]


def with_scales(scales: dict[str, list[float]], seen: list[float]) -> Callable[..., FitResult]:
    """A training that ends with these scales and notes what the penalty was on scales of one."""

    def train(network: nn.Module, *, penalty: Penalty | None = None) -> FitResult:
        assert penalty is not None
        seen.append(penalty(network).item())
        for name, values in scales.items():
            network.get_parameter(name).data.copy_(torch.tensor(values))
        return FitResult(epochs=(), seconds=0.0, images=0, precision="float32")

    return train


def generate(given: Task, scales: dict[str, list[float]], **options: Any) -> tuple[slimming.Generated, float]:
    seen: list[float] = []
    found = slimming.generate(dataclasses.replace(given, train=with_scales(scales, seen), options=options))
    return found, seen[0]


def test_scores_are_the_raw_scales_without_their_signs(task: Tasks) -> None:
    found, _ = generate(task("Chain"), {"a.1.weight": [0.1, -0.5, 0.2, -0.9, 0.3]})
    assert found.ranking is not None and found.ranking.scope == "network"
    assert found.ranking.scores["a.0"] == pytest.approx(np.array([0.1, 0.5, 0.2, 0.9, 0.3]))
    assert found.ranking.scores["b.0"].tolist() == [1.0] * 7


def test_members_of_a_residual_stream_are_averaged_unnormalised(task: Tasks) -> None:
    scales = {"stem.1.weight": [1.0, 1, 1, 1, 3], "b.1.weight": [30.0, 10, 10, 10, 10]}
    found, _ = generate(task("Residual"), scales)
    assert found.ranking is not None
    assert found.ranking.scores["stem.0"].tolist() == [15.5, 5.5, 5.5, 5.5, 6.5]


def test_one_threshold_cuts_the_whole_network(task: Tasks) -> None:
    given = task("Chain", "0.75", WidthRules(minimum=0.0))
    found, _ = generate(given, {"a.1.weight": [0.9] * 5, "b.1.weight": [0.9, 0.9, 0.9, 0.01, 0.02, 0.03, 0.04]})
    assert given.model.mapping(found.widths)["a.0"] == 5
    assert found.keep is not None and {0, 1, 2} <= set(found.keep["b.0"])


def test_the_penalty_times_the_learning_rates_is_the_pull(task: Tasks) -> None:
    _, penalty = generate(task("Chain"), {})
    assert penalty == pytest.approx(slimming.PULL / 10.0 * (5 + 7))  # twelve scales of one, rates that sum to ten
    _, weaker = generate(task("Chain"), {}, pull=0.066)
    assert weaker == pytest.approx(0.066 / 10.0 * 12)


def test_the_penaltys_gradient_is_the_scales_sign() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), nn.BatchNorm2d(5, affine=False))
    network[1].weight.data = torch.tensor([0.3, -0.2, 2.0, -7.0, 0.1])
    slimming.scale_norm(network).backward()
    assert network[1].weight.grad is not None
    assert network[1].weight.grad.tolist() == [1, -1, 1, -1, 1]
    assert network[0].weight.grad is None


@pytest.mark.parametrize(("name", "without"), [("GroupNormed", "a, b"), ("SqueezeExcite", "reduce"), ("Shared", "a")])
def test_groups_without_batch_norm_are_refused_by_name(task: Tasks, name: str, without: str) -> None:
    with pytest.raises(StructureError, match=f"slimming needs batch norm: groups without one: {without}$"):
        slimming.METHOD(task(name))


def test_groups_without_batch_norm_that_cannot_change_are_no_obstacle(task: Tasks) -> None:
    given = task("SqueezeExcite", "0.8", WidthRules(freeze=["reduce"]))
    found, _ = generate(given, {"stem.1.weight": [0.5, 0.1, 0.4, 0.3, 0.2]})
    assert given.model.mapping(found.widths)["reduce"] == 3


def test_options_must_be_numbers(task: Tasks) -> None:
    with pytest.raises(ValueError, match="option 'pull' must be a number, got 'much'"):
        generate(task("Chain"), {}, pull="much")
