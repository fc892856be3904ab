"""Gates' gradients: against finite differences, and against what taking a channel out does to the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pruneas.generators import Task, taylor
from pruneas.structure.build import build_widths, inherit
from pruneas.structure.groups import Group

Tasks = Callable[..., Task]


def batch(given: Task) -> tuple[torch.Tensor, torch.Tensor]:
    assert given.images is not None
    return next(given.images(8))


def loss(given: Task, network: nn.Module) -> float:
    images, labels = batch(given)
    network.double().eval()
    with torch.no_grad():
        return F.cross_entropy(network(images.double()), labels).item()


def cut(given: Task, group: str, position: int) -> nn.Module:
    """The network built without one channel."""
    widths = {**given.structure.widths, group: given.structure.widths[group] - 1}
    keep = {name: list(range(width)) for name, width in given.structure.widths.items()}
    keep[group].remove(position)
    assert given.state is not None
    network = build_widths(given.structure, widths)
    network.load_state_dict(inherit(given.structure, given.state, keep))
    return network


def scaled(given: Task, group: Group, position: int, factor: float) -> Task:
    """The task with all weights that read a channel multiplied."""
    assert given.state is not None
    state = {name: tensor.clone() for name, tensor in given.state.items()}
    for member in group.members:
        if member.role == "in":
            layout = given.structure.layouts[member.parameter, member.dim]
            mine = layout.groups == list(given.structure.widths).index(group.name)
            state[member.parameter].transpose(0, member.dim)[
                torch.from_numpy(mine & (layout.positions == position))
            ] *= factor
    return replace(given, state=state)


@pytest.mark.parametrize("name", ["Single", "Chain", "Residual", "Dense", "Depthwise", "Flat", "Functional", "Grouped"])
def test_scores_are_squared_derivatives_of_the_loss_by_a_channels_gate(task: Tasks, name: str) -> None:
    """By finite differences: all weights that read a channel times 1 + h and times 1 - h."""
    given, h = task(name), 1e-4
    scores = taylor.gate_scores(given)
    for group in given.structure.groups:
        for position in range(group.width):
            more, less = (loss(given, scaled(given, group, position, 1 + way * h).network()) for way in (1, -1))
            assert scores[group.name][position] == pytest.approx(((more - less) / (2 * h)) ** 2, rel=1e-2, abs=1e-9)


@pytest.mark.parametrize("name", ["Chain", "Residual", "Dense", "Depthwise"])
def test_taking_a_channel_out_changes_the_loss_by_about_its_score(task: Tasks, name: str) -> None:
    """The fainter the channels, the nearer: what is off, of all channels in relation to all scores."""
    base, off = task(name), {}
    for faintness in (0.3, 0.01):
        changes, roots = [], []
        for group in base.structure.groups:
            for position in range(group.width):
                given = scaled(base, group, position, faintness)
                roots.append(np.sqrt(taylor.gate_scores(given)[group.name][position]))
                without = loss(given, cut(given, group.name, position))
                changes.append(abs(without - loss(given, given.network())))
        off[faintness] = np.abs(np.subtract(changes, roots)).sum() / np.sum(roots)
    assert off[0.3] < 0.2 and off[0.01] < 0.03


def test_squares_are_averaged_over_batches(task: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    given = task("Chain")
    images, labels = batch(given)
    halves = [
        taylor.gate_scores(replace(given, images=lambda _, part=part: iter([(images[part], labels[part])])))
        for part in (slice(0, 4), slice(4, 8))
    ]
    monkeypatch.setattr(taylor, "BATCH", 4)
    both = taylor.gate_scores(given)
    for name, scores in both.items():
        assert scores == pytest.approx((halves[0][name] + halves[1][name]) / 2)


def test_channels_that_are_read_only_in_training_count_where_evaluation_reads_them(task: Tasks) -> None:
    scores = taylor.gate_scores(task("Auxiliary"))
    assert (scores["b.0"] > 0).all()


def test_weights_that_the_network_freezes_have_their_gradients_all_the_same(
    task: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = task("Chain")
    expected, network = taylor.gate_scores(given), Task.network
    monkeypatch.setattr(Task, "network", lambda each: network(each).requires_grad_(False))
    for name, scores in taylor.gate_scores(given).items():
        assert scores.tolist() == expected[name].tolist() and scores.all()


def test_the_base_is_asked_in_evaluation_mode(task: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its running statistics are what it is pruned with; those of eight images would give other gradients."""
    given, network = task("Chain"), Task.network
    assert given.state is not None
    expected = taylor.gate_scores(given)
    shifted = {name: each + 1 if name.endswith("running_mean") else each for name, each in given.state.items()}
    assert taylor.gate_scores(replace(given, state=shifted))["a.0"].tolist() != expected["a.0"].tolist()
    monkeypatch.setattr(Task, "network", lambda each: network(each).train())
    assert taylor.gate_scores(given)["a.0"].tolist() == expected["a.0"].tolist()


def test_only_as_many_images_as_asked_are_read(task: Tasks) -> None:
    given = task("Chain", options={"images": 3})
    images, labels = batch(given)
    three = replace(given, options={}, images=lambda _: iter([(images[:3], labels[:3])]))
    for name, scores in taylor.gate_scores(given).items():
        assert scores.tolist() == taylor.gate_scores(three)[name].tolist()
