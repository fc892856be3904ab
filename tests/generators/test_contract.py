"""What every generator owes: the same result for the same task, inside the budget, legal, and nothing else touched."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pruneas.cost.widths import WidthRules
from pruneas.errors import SpaceError
from pruneas.generators import METHODS, Method, Task, find_methods

Tasks = Callable[..., Task]
NETWORKS = [
    "Chain", "Residual", "OptionA", "ConstantPad", "Dense", "Depthwise", "Grouped", "Gated", "Auxiliary", "resnet20",
    "vgg16", "mobilenet_v2",
]  # fmt: skip


@pytest.fixture(params=METHODS.values(), ids=METHODS.keys())
def method(request: pytest.FixtureRequest) -> Method:
    return request.param


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("budget", "multiple_of"), [("0.8", 1), ("params=0.8", 2)])
def test_widths_are_legal_and_inside_the_budget(
    method: Method, task: Tasks, name: str, budget: str, multiple_of: int
) -> None:
    given = task(name, budget, WidthRules(multiple_of=multiple_of))
    found = method(given)
    assert given.legal.holds(found.widths)
    assert given.model.cost(found.widths, given.quantity) <= given.most


def test_the_same_task_gives_the_same_result(method: Method, task: Tasks) -> None:
    torch.manual_seed(1)
    first = method(task("resnet20"))
    torch.manual_seed(2)
    again = method(task("resnet20"))
    assert first.widths.tolist() == again.widths.tolist()
    assert first.keep == again.keep


def test_the_base_and_the_random_state_are_left_alone(method: Method, task: Tasks) -> None:
    given = task("Dense")
    assert given.state is not None
    before = copy.deepcopy(dict(given.state))
    random = torch.get_rng_state()
    method(given)
    assert all(torch.equal(tensor, before[name]) for name, tensor in given.state.items())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("name", ["ConstantPad", "Depthwise", "resnet20"])
def test_scores_are_finite_and_complete_and_kept_channels_are_the_top_ones(
    method: Method, task: Tasks, name: str
) -> None:
    given = task(name)
    found = method(given)
    if found.ranking is None:
        assert found.keep is None
        return
    assert found.keep is not None
    assert list(found.ranking.scores) == list(given.model.groups) == list(found.keep)
    for group, width in given.model.mapping(found.widths).items():
        scores, keep = found.ranking.scores[group], found.keep[group]
        assert scores.shape == (given.structure.widths[group],)
        assert np.isfinite(scores).all()
        assert keep == sorted(set(keep)) and len(keep) == width
        dropped = np.delete(scores, keep)
        assert not dropped.size or scores[keep].min() >= dropped.max()


def test_frozen_groups_keep_all_their_channels(method: Method, task: Tasks) -> None:
    given = task("ConstantPad")
    found = method(given)
    assert given.model.mapping(found.widths)["b.0"] == 6
    assert found.keep is None or found.keep["b.0"] == list(range(6))


def test_the_narrowest_and_the_widest_budget_are_met(method: Method, task: Tasks) -> None:
    given = task("vgg16")
    least = int(given.model.cost(given.legal.lowest, "flops"))
    assert method(task("vgg16", f"{least}FLOPs")).widths.tolist() == given.legal.lowest.tolist()
    assert method(task("vgg16", "1.0")).widths.tolist() == given.model.base_widths.tolist()


def test_the_table_goes_by_the_methods_names() -> None:
    assert {name: method.name for name, method in METHODS.items()} == {name: name for name in METHODS}
    assert next(iter(METHODS)) == "uniform"
    assert all(method.summary for method in METHODS.values())


def test_uniform_comes_first_and_every_name_once() -> None:
    assert [method.name for method in find_methods(["l1", "uniform", "l1"], {})] == ["uniform", "l1"]
    assert [method.name for method in find_methods([], {})] == ["uniform"]


def test_unknown_names_and_options_are_complained_about_together() -> None:
    with pytest.raises(SpaceError) as caught:
        find_methods(["slimmin", "slimming", "xyzzy"], {"slimming": {"pul": 1}, "uniform": {}})
    assert caught.value.complaints == (
        "generators.methods: there is no generator called 'slimmin'; did you mean 'slimming'?",
        "generators.options.slimming: there is no option 'pul'",
        "generators.methods: there is no generator called 'xyzzy'; there are uniform, l1, slimming",
        "generators.options.uniform: 'uniform' is not among generators.methods",
    )
