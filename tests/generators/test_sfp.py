"""Soft filter pruning: what is zero after each epoch, what grows back, and what the survivors carry over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pruneas.generators import Generated, Task, sfp
from pruneas.structure.build import build_widths
from pruneas.training import EpochRecord, FitResult
from tests.generators.conftest import RECIPE

Tasks = Callable[..., Task]


def zeros(network: nn.Module, name: str) -> list[int]:
    """The filters of a convolution that are zero, every weight of them."""
    weight = network.get_parameter(name)
    return [index for index in range(len(weight)) if not weight[index].any()]


def record(epoch: int) -> EpochRecord:
    return EpochRecord(
        epoch=epoch, train_loss=1.0, validation_accuracy=0.5, validation_loss=1.0, learning_rate=0.1, seconds=0.0
    )


def generate(given: Task, steps: list[Callable[[nn.Module], None]]) -> tuple[Generated, list[dict[str, list[int]]]]:
    """With a training whose epochs are these changes; the zeroed filters before the first and after each."""
    seen: list[dict[str, list[int]]] = []

    def look(network: nn.Module) -> None:
        names = [name for name, parameter in network.named_parameters() if parameter.ndim == 4]
        seen.append({name: zeros(network, name) for name in names})

    def train(network: nn.Module, *, after_epoch: Callable[[EpochRecord], None], **_: Any) -> FitResult:
        look(network)
        for number, step in enumerate(steps, 1):
            with torch.no_grad():
                step(network)
            after_epoch(record(number))
            look(network)
        return FitResult(epochs=(), seconds=0.0, images=0, precision="float32")

    return sfp.METHOD(replace(given, train=train)), seen


def filters(name: str, sizes: list[float]) -> Callable[[nn.Module], None]:
    """An epoch that ends with filters of these sizes."""

    def step(network: nn.Module) -> None:
        weight = network.get_parameter(name)
        weight[:] = torch.tensor(sizes).reshape(-1, 1, 1, 1)

    return step


def test_each_epoch_ends_with_the_smallest_filters_at_zero_and_they_may_grow_back(task: Tasks) -> None:
    given = task("Chain", "0.5")
    assert given.model.mapping(given.uniform())["a.0"] == 3
    found, seen = generate(
        given,
        [filters("a.0.weight", [1, -5, 2, 4, 3]), filters("a.0.weight", [-9, 1, 8, 7, 2]), lambda network: None],
    )
    assert len(seen[0]["a.0.weight"]) == 2  # before the first epoch, too
    assert [each["a.0.weight"] for each in seen[1:]] == [[0, 2], [1, 4], [1, 4]]
    assert found.keep is not None and found.keep["a.0"] == [0, 2, 3]
    assert [len(each["b.0.weight"]) for each in seen] == [7 - given.model.mapping(found.widths)["b.0"]] * 4


def test_the_smallest_are_those_of_the_l2_norm(task: Tasks) -> None:
    """Filter 0 has the larger L1 norm, 27 * 1 beside 9 * 2.5, and the smaller L2 norm, sqrt(27) beside sqrt(56.25)."""

    def step(network: nn.Module) -> None:
        weight = network.get_parameter("a.0.weight")
        weight[:] = 10.0
        weight[0] = 1.0
        weight[1] = 0.0
        weight[1, 0] = 2.5

    given = task("Chain", "0.8")
    assert given.model.mapping(given.uniform())["a.0"] == 4
    _, seen = generate(given, [step])
    assert seen[-1]["a.0.weight"] == [0]


def test_a_residual_streams_channels_are_zeroed_in_all_layers_that_write_to_it(task: Tasks) -> None:
    """The means of (1, 2, 3, 4, 5) / 3 and (9, 1, 1, 1, 3) / 3: channels 1 and 2 are least."""
    given = task("Residual", "0.5")

    def step(network: nn.Module) -> None:
        filters("stem.0.weight", [1, 2, 3, 4, 5])(network)
        filters("b.0.weight", [9, 1, 1, 1, 3])(network)

    found, seen = generate(given, [step])
    assert seen[-1]["stem.0.weight"] == seen[-1]["b.0.weight"] == [1, 2]
    assert found.ranking is not None
    expected = (np.array([1, 2, 3, 4, 5]) / 3 + np.array([9, 1, 1, 1, 3]) / 3) / 2
    assert found.ranking.scores["stem.0"] == pytest.approx(expected)


def test_batch_norm_of_zeroed_filters_is_left_alone(task: Tasks) -> None:
    given = task("Chain", "0.5")
    network = given.network()
    sfp.prune(given, network)
    assert zeros(network, "a.0.weight")
    assert network.get_parameter("a.1.weight").tolist() == [1.0] * 5


def test_survivors_carry_their_trained_weights_over(task: Tasks) -> None:
    def step(network: nn.Module) -> None:
        filters("a.0.weight", [1, 5, 2, 4, 3])(network)
        network.get_buffer("a.1.running_mean")[:] = torch.arange(5.0)
        network.get_parameter("b.0.weight")[:] = torch.arange(5.0).reshape(1, 5, 1, 1) + 1

    given = task("Chain", "0.5")
    found, _ = generate(given, [step])
    assert found.state is not None
    network = build_widths(given.structure, given.model.mapping(found.widths))
    network.load_state_dict(dict(found.state))
    assert network.get_parameter("a.0.weight")[:, 0, 0, 0].tolist() == [5, 4, 3]
    assert network.get_buffer("a.1.running_mean").tolist() == [1, 3, 4]
    assert network.get_parameter("b.0.weight")[0, :, 0, 0].tolist() == [2, 4, 5]


def test_it_starts_from_scratch_and_trains_once_through_the_recipe(task: Tasks) -> None:
    """The base's training is not in its needs, so not in its cost."""
    assert sfp.METHOD.needs == {"training"}
    epochs: list[int] = []
    given = task("Chain")
    assert given.train is not None

    def counted(network: nn.Module, *, after_epoch: Callable[[EpochRecord], None], **_: Any) -> FitResult:
        for epoch in range(1, RECIPE.epochs + 1):
            after_epoch(record(epoch))
            epochs.append(epoch)
        return FitResult(epochs=(), seconds=0.0, images=0, precision="float32")

    sfp.METHOD(replace(given, train=counted))
    assert epochs == [1, 2]
