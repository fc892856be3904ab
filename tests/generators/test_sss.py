"""Sparse structure selection: the proximal step by hand and against other solvers, and which branches go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from torch import nn

from pruneas.architecture import Reference
from pruneas.cost.count import count
from pruneas.cost.limits import Limits
from pruneas.cost.model import CostModel
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.errors import StructureError
from pruneas.generators import Task, sss
from pruneas.structure.build import analyse, build_widths, inherit, leading
from pruneas.training import FitResult, Recipe
from tests.nets import image

Tasks = Callable[..., Task]


def test_the_step_worked_by_hand() -> None:
    """eta 0.5, gamma 0.4, mu 0.5; z = soft(lambda - eta g, 0.2), v = z - lambda + mu v, lambda = max(0, z + mu v)."""
    scales = torch.tensor([1.0, 0.1, 0.0, 0.5])
    gradient = torch.tensor([1.0, 0.0, -2.0, 2.0])
    velocity = torch.tensor([0.2, -0.4, 0.0, 0.0])
    # z: 1 - 0.5 - 0.2 = 0.3; 0.1 is inside of the threshold: 0; 1 - 0.2 = 0.8; -0.5 + 0.2 = -0.3
    # v: 0.3 - 1 + 0.1 = -0.6; 0 - 0.1 - 0.2 = -0.3; 0.8; -0.3 - 0.5 = -0.8
    found, moved = sss.proximal_step(scales, velocity, gradient, rate=0.5, gamma=0.4, momentum=0.5)
    assert moved.tolist() == pytest.approx([-0.6, -0.3, 0.8, -0.8])
    assert found.tolist() == pytest.approx([0.0, 0.0, 1.2, 0.0], abs=1e-7)


def test_without_a_gradient_scales_fall_to_zero_and_stay_there() -> None:
    scales, velocity = torch.ones(1), torch.zeros(1)
    seen = [1.0]
    for _ in range(60):
        scales, velocity = sss.proximal_step(scales, velocity, torch.zeros(1), rate=0.1, gamma=0.2, momentum=0.9)
        seen.append(scales.item())
    assert all(after <= before for before, after in pairwise(seen))
    assert seen[-1] == 0.0 and min(seen) == 0.0 and seen.index(0.0) < 30


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_ends_where_other_solvers_of_the_same_convex_problem_end_zeros_included(seed: int) -> None:
    """1/2 |A x - b|^2 + gamma sum(x), x >= 0, by plain proximal gradient in numpy and by scikit-learn."""
    rng = np.random.default_rng(seed)
    a, b, gamma = rng.normal(size=(40, 8)), rng.normal(size=40) * 3, 6.0
    rate = 1.0 / np.linalg.norm(a, 2) ** 2
    plain = np.ones(8)
    for _ in range(5000):
        plain = np.maximum(0.0, plain - rate * (a.T @ (a @ plain - b)) - rate * gamma)
    lasso = Lasso(alpha=gamma / 40, positive=True, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(a, b)
    matrix, target = torch.from_numpy(a), torch.from_numpy(b)
    found, velocity = torch.ones(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    for _ in range(3000):
        gradient = matrix.T @ (matrix @ found - target)
        found, velocity = sss.proximal_step(found, velocity, gradient, rate=rate / 4, gamma=gamma, momentum=0.9)
    assert 2 <= int((found == 0).sum()) <= 6
    assert (found.numpy() == 0).tolist() == (plain == 0).tolist() == (lasso.coef_ == 0).tolist()
    assert found.numpy() == pytest.approx(plain, abs=1e-6)
    assert found.numpy() == pytest.approx(lasso.coef_, abs=1e-6)


@cache
def residual_task(budget: float = 1.0) -> Task:
    """Half-width ResNet-20 with 9 blocks, of which 7 can be taken out."""
    structure = analyse(Reference.parse("pruneas:resnet20(width=0.5)"), image(3, 16, 16))
    model = CostModel.of(structure, build_widths(structure, structure.widths, seed=0))
    return Task(
        structure=structure,
        model=model,
        legal=LegalWidths.of(structure, WidthRules()),
        limits=Limits({"flops": int(budget * model.base.flops)}),
        seed=0,
        recipe=Recipe(
            epochs=1, batch_size=2, learning_rate=0.1, momentum=0.5, nesterov=False, schedule="constant", warmup=0.0
        ),
        num_images=80,
        train=pulling({}),
    )


def pulling(weights: dict[str, float]) -> Callable[..., FitResult]:
    """A training whose loss is a weighted sum of the branches' outputs on ones, so that it resists in known ways."""

    def train(network: nn.Module, *, after_step: Callable[[nn.Module], None]) -> FitResult:
        outputs: dict[str, torch.Tensor] = {}
        for name in weights:  # after the method's own hooks, so that scales are in what these see
            network.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
        for _ in range(40):
            network.eval()(torch.ones(1, 3, 16, 16))
            network.zero_grad()
            sum(weight * outputs[name].mean() for name, weight in weights.items()).backward()
            after_step(network)
        return FitResult(epochs=(), seconds=0.0, images=0, precision="float32")

    return train


def test_scales_get_the_gradient_of_the_loss_and_only_of_their_branch() -> None:
    """The loss pushes the first scale up and knows nothing of the others: those fall to zero, at once."""
    given = residual_task()
    blocks = list(given.structure.blocks)
    named = {block.name: index for index, block in enumerate(blocks)}
    branch = blocks[named["blocks.0"]].branch
    assert branch == "blocks.0.bn2"
    network = given.network().eval()
    found: list[torch.Tensor] = []
    network.get_submodule(branch).register_forward_hook(lambda _, __, out: found.append(out.mean()))
    network(torch.ones(1, 3, 16, 16))
    lifted = {branch: -10.0 / found[0].item()}  # d loss / d scale = -10
    task = replace(given, train=pulling(lifted), options={"gamma": 1.0})
    scales, lived = sss.trained_scales(task, blocks)
    assert scales[named["blocks.0"]] > 2.0 and lived[named["blocks.0"]] == 40
    others = [index for name, index in named.items() if name != "blocks.0"]
    assert scales[others].tolist() == [0.0] * 6
    # Without a gradient: 1 - 0.15 - 0.275 ..., the same for all six.
    by_hand, velocity, steps = 1.0, 0.0, 0
    while by_hand > 0:
        z = max(0.0, by_hand - 0.1)
        velocity = z - by_hand + 0.5 * velocity
        by_hand, steps = max(0.0, z + 0.5 * velocity), steps + 1
    assert lived[others].tolist() == [steps - 1] * 6


def scaled(monkeypatch: pytest.MonkeyPatch, scales: dict[str, float], lived: dict[str, int] | None = None) -> None:
    def found(task: Task, blocks: list[sss.Block]) -> tuple[np.ndarray, np.ndarray]:
        names = [block.name for block in blocks]
        return np.array([scales[name] for name in names]), np.array([(lived or {}).get(name, 0) for name in names])

    monkeypatch.setattr(sss, "trained_scales", found)


SCALES = {f"blocks.{i}": s for i, s in ((0, 0.5), (1, 0.0), (2, 0.9), (4, 0.0), (5, 0.3), (7, 0.7), (8, 0.2))}


def test_branches_go_by_their_scales_until_the_budget_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    given = residual_task()
    scaled(monkeypatch, SCALES, {"blocks.1": 30, "blocks.4": 10})
    order = ["blocks.4", "blocks.1", "blocks.8", "blocks.5", "blocks.0", "blocks.7", "blocks.2"]
    for number in range(8):
        removed = order[:number]
        small = build_widths(given.structure, given.structure.widths, removed)
        fits = count(small, given.structure.inputs).flops  # by fvcore, on the built network
        found = sss.METHOD(replace(given, limits=Limits({"flops": fits})))
        assert sorted(found.removed) == sorted(removed)
        assert found.widths.tolist() == given.model.base_widths.tolist()
        if number < 7:
            assert len(sss.METHOD(replace(given, limits=Limits({"flops": fits - 1}))).removed) == number + 1


def test_where_no_branch_is_left_widths_are_scaled_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    given = residual_task(0.1)
    scaled(monkeypatch, SCALES)
    found = sss.METHOD(given)
    assert len(found.removed) == 7
    left = given.model.without(given.structure, found.removed)
    assert int(left.flops(found.widths)) <= given.limits.most["flops"] < int(left.flops(given.model.base_widths))
    kept = [name for name in given.structure.widths if name not in given.structure.without(found.removed)]
    shares = [given.model.mapping(found.widths)[name] / given.structure.widths[name] for name in kept]
    assert max(shares) - min(shares) <= 1 / 8 + 1e-9  # a step of the narrowest group
    assert int(left.flops(found.widths)) > 0.85 * given.limits.most["flops"]


def test_a_share_is_of_the_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    scaled(monkeypatch, SCALES)
    for share, number in ((0.0, 0), (0.3, 2), (0.43, 3), (1.0, 7)):
        found = sss.METHOD(replace(residual_task(), share=share))
        assert len(found.removed) == number
        assert {"blocks.4", "blocks.1", "blocks.8"}.issuperset(found.removed) or number > 3


def test_the_same_task_gives_the_same_branches(task: Tasks) -> None:
    first, again = sss.METHOD(task("resnet20")), sss.METHOD(task("resnet20"))
    assert first.removed == again.removed != ()
    assert first.widths.tolist() == again.widths.tolist()


def test_a_zero_scale_is_the_network_without_the_branch() -> None:
    """What the method trains towards is what it gives: a scale of zero and the rebuilt network compute the same."""
    given = residual_task()
    network = given.network().eval()
    removed = ("blocks.1", "blocks.5")
    small = build_widths(given.structure, given.structure.widths, removed).eval()
    small.load_state_dict(
        inherit(given.structure, network.state_dict(), leading(given.structure, given.structure.widths), removed)
    )
    for name in removed:
        branch = next(block.branch for block in given.structure.blocks if block.name == name)
        assert branch is not None
        network.get_submodule(branch).register_forward_hook(lambda _, __, output: output * 0.0)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(small(x), network(x))


def test_networks_whose_branches_no_module_puts_out_are_refused() -> None:
    given = residual_task()
    blocks = tuple(replace(block, branch=None) for block in given.structure.blocks)
    task = replace(given, structure=replace(given.structure, blocks=blocks), train=pulling({}))
    with pytest.raises(StructureError, match="generator sss needs a residual branch that one module puts out"):
        sss.METHOD(task)


def test_networks_without_branches_are_refused(task: Tasks) -> None:
    with pytest.raises(StructureError, match="generator sss needs blocks: no residual branch can be taken out"):
        sss.METHOD(task("vgg16"))
