"""ThiNet: its greedy step and its least squares against doing the same with all rows at hand."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from pruneas.cost.widths import WidthRules
from pruneas.generators import Task, readers, thinet
from pruneas.generators.readers import captured, kernels, random_places, windows
from pruneas.structure.build import build_widths, inherit

Tasks = Callable[..., Task]
ONE_GROUP = [
    ("Single", "a.0"), ("Chain", "a.0"), ("Chain", "b.0"), ("Dense", "stem.0"), ("Dense", "a.0"),
    ("Depthwise", "stem.0"), ("Grouped", "stem.0"), ("Flat", "a.0"), ("Gated", "both.0"), ("Residual", "a.0"),
    ("Shared", "a"),
]  # fmt: skip
"""Groups whose first reader sees nothing else that is cut with them."""


def test_the_removal_order_by_hand() -> None:
    """Rows (1, -1, 3) and (2, -1, 0): x1 is smallest alone, 2 beside 5 and 9; with it, x0 leaves (0, 1), x2 (2, -1)."""
    x = np.array([[1.0, -1, 3], [2, -1, 0]])
    assert thinet.removal_order(x.T @ x) == [1, 0, 2]


def test_each_greedy_step_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        x = rng.normal(size=(50, 9)) + rng.normal(size=9)
        gone: list[int] = []
        for channel in thinet.removal_order(x.T @ x):
            others = [each for each in range(9) if each not in gone]
            sizes = {each: (x[:, [*gone, each]].sum(1) ** 2).sum() for each in others}
            assert channel == min(sizes, key=sizes.__getitem__)
            gone.append(channel)


def test_greedy_is_near_the_best_of_all_choices() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 8)) + 0.3
    best = min((x[:, list(gone)].sum(1) ** 2).sum() for gone in combinations(range(8), 4))
    median = np.median([(x[:, list(gone)].sum(1) ** 2).sum() for gone in combinations(range(8), 4)])
    found = (x[:, thinet.removal_order(x.T @ x)[:4]].sum(1) ** 2).sum()
    assert best <= found < best + 0.5 * (median - best)


def test_scales_are_the_least_squares_of_all_rows() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 9)) @ rng.normal(size=(9, 9))
    kept = [0, 3, 4, 8]
    expected, *_ = np.linalg.lstsq(x[:, kept], x.sum(1), rcond=None)
    found = thinet.scales(x.T @ x, kept)
    assert found[kept] == pytest.approx(expected)
    assert (np.delete(found, kept) == 1).all()


def test_what_no_row_shows_keeps_its_scale() -> None:
    x = np.random.default_rng(3).normal(size=(100, 4))
    x[:, 1] = 0
    assert thinet.scales(x.T @ x, [0, 1])[1] == 1
    assert thinet.scales(np.zeros((4, 4)), [0, 1]).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv2d(6, 10, 3, padding=1), (6, 7, 5)),
        (nn.Conv2d(6, 10, 3, groups=2), (6, 7, 5)),
        (nn.Linear(6, 4), (6,)),
        (nn.Linear(6, 4), (3, 6)),
    ],
)
def test_a_row_adds_up_to_an_output_without_its_bias(module: nn.Module, shape: tuple[int, ...]) -> None:
    inputs = torch.randn(5, *shape)
    found = thinet._contributions(module, inputs, torch.Generator().manual_seed(0)).sum(1)
    same = torch.Generator().manual_seed(0)
    places = random_places(windows(module, inputs), module, same)
    filters = torch.randint(module.weight.shape[0], (5 * readers.PLACES,), generator=same)
    with torch.no_grad():
        out = module(inputs) - (module.bias if isinstance(module, nn.Linear) else module.bias[:, None, None])
    flat = out.reshape(5, -1, out.shape[-1]) if isinstance(module, nn.Linear) else out.flatten(2).transpose(1, 2)
    expected = flat[torch.arange(5).repeat_interleave(readers.PLACES), places.flatten(), filters]
    torch.testing.assert_close(found, expected.double(), rtol=1e-4, atol=1e-5)


def test_grams_of_batches_add_up_to_that_of_all_rows(task: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows that the method drew, all kept by the test."""
    monkeypatch.setattr(thinet, "BATCH", 3)
    given, drawn = task("Chain"), []
    contributions = thinet._contributions

    def kept(module: nn.Module, *rest: object) -> torch.Tensor:
        drawn.append((module, contributions(module, *rest)))
        return drawn[-1][1]

    monkeypatch.setattr(thinet, "_contributions", kept)
    grams = thinet.reader_grams(given)
    for name, weight, kind in (("a.0", "b.0.weight", nn.Conv2d), ("b.0", "fc.weight", nn.Linear)):
        x = torch.cat([found for module, found in drawn if isinstance(module, kind)]).numpy()
        assert x.shape == (8 * readers.PLACES, given.structure.widths[name])
        assert grams[name][weight] == pytest.approx(x.T @ x)


def test_channels_of_a_flattened_map_are_rows_of_their_own(task: Tasks) -> None:
    """Thirty features each: what they contribute together."""
    given = task("Flat")
    network = given.network()
    contribution = torch.rand(4, 150, dtype=torch.float64)
    group = given.structure.groups[0]
    gram = thinet._gram(contribution, readers.position_of(given.structure, group, "hidden.weight"), 5)
    summed = contribution.reshape(4, 5, 30).sum(-1).numpy()
    assert gram == pytest.approx(summed.T @ summed)
    assert kernels(network.get_submodule("hidden")).shape == (7, 150, 1)


def test_no_batch_outlives_the_next(task: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held does not grow with the images: the Gram matrices are all that is left of a batch."""
    given, alive = task("Residual"), []
    seen = thinet.rows

    def watched(*args: object) -> torch.Tensor:
        found = seen(*args)
        alive.append(weakref.ref(found))
        return found

    def many(batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(5):
            assert not any(each() is not None for each in alive[:-4])  # all but the last batch's
            images = torch.randn(4, 3, 11, 13)
            alive.append(weakref.ref(images))
            yield images, torch.zeros(4, dtype=torch.long)
            del images

    monkeypatch.setattr(thinet, "rows", watched)
    grams = thinet.reader_grams(replace(given, images=many))
    assert len(alive) == 5 * 4  # of each batch the images, and the rows of three readers
    assert {name: {gram.shape for gram in each.values()} for name, each in grams.items()} == {
        "stem.0": {(5, 5)},
        "a.0": {(7, 7)},
    }


def output(network: nn.Module, module: str, images: torch.Tensor) -> torch.Tensor:
    (inputs,) = captured(network, [module], images)[module][:1]
    with torch.no_grad():
        return network.get_submodule(module)(inputs)


@pytest.mark.parametrize(("name", "group"), ONE_GROUP)
def test_the_next_layer_puts_out_what_it_did_more_nearly_than_with_inherited_weights(
    task: Tasks, monkeypatch: pytest.MonkeyPatch, name: str, group: str
) -> None:
    monkeypatch.setattr(readers, "PLACES", 400)
    rules = WidthRules(freeze=[each for each in task(name).structure.widths if each != group])
    given = task(name, "0.85", rules)
    assert given.state is not None and given.images is not None
    found = thinet.METHOD(given)
    assert found.keep is not None and found.state is not None
    assert len(found.keep[group]) < given.structure.widths[group]
    images, _ = next(given.images(8))
    network = given.network()
    (pruned,) = [each for each in given.structure.groups if each.name == group]
    modules = next(iter(readers.readers_of(given.structure, pruned, network).values()))
    wanted, errors = output(network, modules[0], images), []
    for state in (found.state, inherit(given.structure, given.state, found.keep)):
        built = build_widths(given.structure, given.model.mapping(found.widths))
        built.load_state_dict(dict(state))
        errors.append((output(built, modules[0], images) - wanted).square().sum().item())
    assert errors[0] < errors[1]


def test_groups_that_nothing_reads_by_a_module_keep_their_strongest_filters(task: Tasks) -> None:
    given = task("Functional")
    assert given.state is not None
    found = thinet.METHOD(given)
    assert found.keep is not None and found.state is not None
    norms = given.state["kernel"].abs().sum((1, 2, 3))
    assert found.keep["kernel"] == sorted(norms.argsort(descending=True)[: len(found.keep["kernel"])].tolist())
    plain = inherit(given.structure, given.state, found.keep)
    assert all(torch.equal(tensor, plain[name]) for name, tensor in found.state.items())


def test_all_names_of_a_shared_weight_are_scaled(task: Tasks) -> None:
    found = thinet.METHOD(task("Shared"))
    assert found.state is not None
    assert torch.equal(found.state["a.weight"], found.state["b.weight"])
