"""Slimming: the penalty's strength, raw scales, and the refusal where there is no batch norm."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pruneas.architecture import Inputs, Reference
from pruneas.cost.limits import Limits
from pruneas.cost.model import CostModel
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.errors import StructureError
from pruneas.generators import Task, slimming
from pruneas.generators.method import Penalty
from pruneas.networks import make
from pruneas.structure.build import build_widths, inherit, structure_of, surviving
from pruneas.training import FitResult
from tests.generators.conftest import NUM_IMAGES, RECIPE
from tests.nets import Selecting, conv, image

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


def task_of(reference: Reference, inputs: Inputs) -> Task:
    """A task of any network, without a budget that binds and without floors."""
    base = make(reference)
    structure = structure_of(base, reference, inputs)
    model = CostModel.of(structure, base)
    legal = LegalWidths.of(structure, WidthRules(minimum=0.0))
    return Task(
        structure=structure,
        model=model,
        legal=legal,
        limits=Limits({"flops": model.base.flops}),
        seed=0,
        recipe=RECIPE,
        num_images=NUM_IMAGES,
    )


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


def test_what_a_selection_takes_is_scored_by_the_batch_norm_before_it(task: Tasks) -> None:
    scales = {"norm.weight": [0.3, -0.2, 2.0, -7.0, 0.1], "stem.1.weight": [9.0] * 5, "b.1.weight": [9.0] * 5}
    found, _ = generate(task("Selecting", "0.8", WidthRules(minimum=0.0)), scales)
    assert found.ranking is not None and found.keep is not None
    assert found.ranking.scores["select"] == pytest.approx(np.array([0.3, 0.2, 2.0, 7.0, 0.1]))
    assert {2, 3} <= set(found.keep["select"])


class Narrowed(Selecting):
    """A base network that selects already: three channels of five, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.select.index = torch.tensor([4, 0, 3])
        self.a = conv(3, 7)


def test_a_selection_of_the_base_is_scored_by_what_it_takes() -> None:
    given = task_of(Reference("tests.generators.test_slimming:Narrowed", {}), image(3, 8, 8))
    found, _ = generate(given, {"norm.weight": [0.3, -0.2, 2.0, -7.0, 0.1]})
    assert found.ranking is not None
    assert found.ranking.scores["select"] == pytest.approx(np.array([0.1, 0.3, 7.0]))


@pytest.mark.parametrize(
    ("network", "channels", "share", "kept"),
    [
        ("preresnet164", 12_112, 0.4, 7267),
        ("preresnet164", 12_112, 0.6, 4844),
        ("densenet40", 9360, 0.4, 5615),
        ("densenet40", 9360, 0.6, 3743),
    ],
)
def test_shared_streams_are_cut_to_the_papers_number_of_channels(
    network: str, channels: int, share: float, kept: int
) -> None:
    """One threshold over all batch-norm scales; a layer keeps those above it [Liu2017's code]."""
    reference = Reference(f"pruneas:{network}", {"selection": True})
    given = dataclasses.replace(task_of(reference, image(3, 8, 8)), share=share)
    generator = torch.Generator().manual_seed(1)
    scales = {
        f"{name}.weight": torch.rand(norm.num_features, generator=generator).tolist()
        for name, norm in given.network().named_modules()
        if isinstance(norm, nn.BatchNorm2d)
    }
    found, _ = generate(given, scales)
    every = sorted(value for values in scales.values() for value in values)
    threshold = every[int(len(every) * share)]
    assert len(every) == int(given.model.base_widths.sum()) == channels
    assert int(found.widths.sum()) == kept == channels - int(channels * share) - 1
    widths = sorted(sum(value > threshold for value in values) for values in scales.values())
    assert sorted(found.widths.tolist()) == widths
    assert found.keep is not None
    for name, values in scales.items():
        layer = name.removesuffix(".weight")
        group = (
            "select"
            if layer == "bn"
            else layer.replace("bn1", "select").replace("bn2", "conv1").replace("bn3", "conv2")
        )
        assert found.keep[group] == [index for index, value in enumerate(values) if value > threshold]


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


@pytest.mark.parametrize("name", ["vgg16", "resnet20"])
def test_channels_with_zero_scale_and_shift_are_channels_that_are_not_there(task: Tasks, name: str) -> None:
    """The papers' mask implementation (gamma and beta of zero) and the rebuilt network compute the same."""
    given = task(name, "0.5", WidthRules(minimum=0.2))
    found, _ = generate(given, {})
    assert found.keep is not None and 0 < given.model.mapping(found.widths)[given.changing[-1]]
    masked = given.network().eval()
    generator = torch.Generator().manual_seed(0)
    norms = {n: m for n, m in masked.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for norm in norms.values():
        for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
            tensor.uniform_(0.2, 1.5, generator=generator)
    small = build_widths(given.structure, given.model.mapping(found.widths)).eval()
    small.load_state_dict(inherit(given.structure, masked.state_dict(), found.keep))
    indices = surviving(given.structure, found.keep)
    num_masked = 0
    for layer, norm in norms.items():
        gone = torch.ones(norm.num_features, dtype=torch.bool)
        gone[torch.from_numpy(indices[f"{layer}.weight", 0])] = False
        norm.weight.data[gone] = norm.bias.data[gone] = 0.0
        num_masked += int(gone.sum())
    assert num_masked > 100
    images = torch.randn(3, *given.structure.inputs[0].shape, generator=generator)
    torch.testing.assert_close(small(images), masked(images), rtol=1e-4, atol=1e-5)
