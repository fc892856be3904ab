"""What every generator owes: the same result for the same task, inside the budget, legal, and nothing else touched."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pruneas.catalogue import other_generators
from pruneas.cost.widths import WidthRules
from pruneas.errors import SpaceError, StructureError
from pruneas.generators import METHODS, Generated, Method, Task, find_methods
from pruneas.structure.build import build_widths
from tests.generators.conftest import make_task
from tests.nets import NETS

Tasks = Callable[..., Task]
NETWORKS = [
    "Chain", "Residual", "OptionA", "ConstantPad", "Dense", "Depthwise", "Grouped", "Gated", "Auxiliary",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet20", "vgg16", "mobilenet_v2")),
]  # fmt: skip


@pytest.fixture(params=METHODS.values(), ids=METHODS.keys())
def method(request: pytest.FixtureRequest) -> Method:
    return request.param


def generated(method: Method, given: Task) -> Generated:
    """What a method gives, unless the network does not meet a need of it, the only thing that it may refuse for."""
    try:
        return method(given)
    except StructureError as error:
        if any(str(error).startswith(f"generator {method.name} needs {need}:") for need in method.needs):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("budget", "multiple_of"), [("0.8", 1), ("params=0.8", 2)])
def test_widths_are_legal_and_inside_the_budget(
    method: Method, task: Tasks, name: str, budget: str, multiple_of: int
) -> None:
    given = task(name, budget, WidthRules(multiple_of=multiple_of))
    found = generated(method, given)
    assert given.legal.holds(found.widths)
    model = given.model.without(given.structure, found.removed)
    assert given.limits.fit(model, found.widths)


@pytest.mark.parametrize("name", NETS)
def test_it_works_on_any_network_that_meets_its_needs(method: Method, task: Tasks, name: str) -> None:
    given = task(name, "0.8")
    found = generated(method, given)
    assert not method.uniform_widths or found.widths.tolist() == given.uniform().tolist()
    if found.state is not None:
        network = build_widths(given.structure, given.model.mapping(found.widths), found.removed)
        network.load_state_dict(dict(found.state))
        assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())


def test_a_share_of_the_channels_goes_where_there_is_no_budget(method: Method, task: Tasks) -> None:
    given = replace(task("vgg16", rules=WidthRules(minimum=0.0)), share=0.3)
    found = generated(method, given)
    total = int(given.model.base_widths.sum())
    assert 0.7 * total - len(given.model.groups) <= found.widths.sum() <= 0.7 * total + len(given.model.groups)


def test_the_same_task_gives_the_same_result(method: Method, task: Tasks) -> None:
    torch.manual_seed(1)
    first = generated(method, task("Residual"))
    torch.manual_seed(2)
    again = generated(method, task("Residual"))
    assert summary(first) == summary(again)


def summary(found: Generated) -> object:
    """All that a method gives, the weights by their sums: what two runs have to have in common."""
    return (
        found.widths.tolist(),
        list(found.removed),
        {name: list(kept) for name, kept in (found.keep or {}).items()},
        {name: scores.tolist() for name, scores in (found.ranking.scores if found.ranking else {}).items()},
        {name: tensor.double().sum().item() for name, tensor in (found.state or {}).items()},
        list(found.removed),
        {name: mask.flatten().nonzero().sum().item() for name, mask in (found.masks or {}).items()},
    )


def summaries() -> str:
    found = {}
    for name, method in METHODS.items():
        try:
            found[name] = summary(method(make_task("Residual")))
        except StructureError as error:  # a need that is not met
            found[name] = str(error)
    return json.dumps(found)


def test_a_fresh_process_gives_the_same_results() -> None:
    """With another seed for hashes, so that nothing goes by the order of a set."""
    code = "from tests.generators.test_contract import summaries; print(summaries())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert json.loads(found.stdout) == json.loads(summaries())


@pytest.mark.parametrize("name", ["Chain", "Residual", "Dense", "Depthwise"])
def test_the_base_and_the_random_state_are_left_alone(method: Method, task: Tasks, name: str) -> None:
    """Weights, buffers and their gradients are the task's: a method works on networks that it makes itself."""
    given = task(name)
    assert given.state is not None
    before = copy.deepcopy(dict(given.state))
    random = torch.get_rng_state()
    found = generated(method, given)
    assert list(given.state) == list(before)
    for name_, tensor in given.state.items():
        assert torch.equal(tensor, before[name_]), name_
        assert not tensor.requires_grad and tensor.grad is None and not tensor._backward_hooks
    mine = {tensor.data_ptr() for tensor in given.state.values()}
    assert not any(tensor.data_ptr() in mine for tensor in (found.state or {}).values())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", ["ConstantPad", "Depthwise", "Residual"])
def test_scores_are_finite_and_complete_and_kept_channels_are_the_top_ones(
    method: Method, task: Tasks, name: str
) -> None:
    given = task(name)
    found = generated(method, given)
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
    found = generated(method, given)
    assert given.model.mapping(found.widths)["b.0"] == 6
    assert found.keep is None or found.keep["b.0"] == list(range(6))


def test_the_narrowest_and_the_widest_budget_are_met(method: Method, task: Tasks) -> None:
    given = task("vgg16")
    least = int(given.model.cost(given.legal.lowest, "flops"))
    assert generated(method, task("vgg16", f"{least}FLOPs")).widths.tolist() == given.legal.lowest.tolist()
    assert generated(method, task("vgg16", "1.0")).widths.tolist() == given.model.base_widths.tolist()


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["Chain", "Residual", "Dense", "Depthwise"])
def test_it_works_on_a_gpu(method: Method, task: Tasks, name: str) -> None:
    given = task(name, "0.8")
    images = given.images
    assert images is not None
    there = replace(given, device="cuda", images=lambda size: ((x.cuda(), y.cuda()) for x, y in images(size)))
    found = generated(method, there)
    assert given.legal.holds(found.widths)
    assert all(tensor.device.type == "cpu" for tensor in (found.state or {}).values())


def test_the_table_goes_by_the_methods_names() -> None:
    assert {name: method.name for name, method in METHODS.items()} == {name: name for name in METHODS}
    assert next(iter(METHODS)) == "uniform"
    assert all(method.summary for method in METHODS.values())


def test_uniform_comes_first_and_every_name_once() -> None:
    assert [method.name for method in find_methods(["l1", "uniform", "l1"], {})] == ["uniform", "l1"]
    assert [method.name for method in find_methods([], {})] == ["uniform"]


def test_unknown_names_and_options_are_complained_about_together() -> None:
    known = ", ".join([*METHODS, *other_generators()])
    with pytest.raises(SpaceError) as caught:
        find_methods(["slimmin", "slimming", "xyzzy"], {"slimming": {"pul": 1}, "uniform": {}})
    assert caught.value.complaints == (
        "generators.methods: there is no generator called 'slimmin'; did you mean 'slimming'?",
        "generators.options.slimming: there is no option 'pul'",
        f"generators.methods: there is no generator called 'xyzzy'; there are {known}",
        "generators.options.uniform: 'uniform' is not among generators.methods",
    )
