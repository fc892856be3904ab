"""Channel regression: the LASSO and the refit from sums, against scikit-learn and numpy with all rows at hand."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from torch import nn

from pruneas.cost.widths import WidthRules
from pruneas.generators import Task, readers, regression
from pruneas.generators.readers import captured, kernels, position_of, readers_of
from pruneas.structure.build import build_widths, inherit
from pruneas.structure.groups import Group
from tests.generators.test_thinet import ONE_GROUP, output

Tasks = Callable[..., Task]


def group_of(given: Task, name: str) -> Group:
    return next(group for group in given.structure.groups if group.name == name)


def everything(given: Task) -> dict[str, Sequence[int]]:
    return {name: range(width) for name, width in given.structure.widths.items()}


def sums_of(given: Task, name: str, keep: dict[str, Sequence[int]] | None = None) -> dict[str, regression.Sums]:
    assert given.state is not None
    group, base = group_of(given, name), given.network().eval()
    return regression.reader_sums(given, group, base, given.state, keep or everything(given))


def all_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every place of every map of 11 x 13 once, in place of ten by lot."""
    monkeypatch.setattr(
        regression,
        "random_places",
        lambda view, module, _: torch.arange(int(np.prod(readers._places(view, module)))).expand(len(view), -1),
    )


def unfolded(network: nn.Module, module: str, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """All windows (rows, inputs * 9) that a 3 x 3 convolution with padding 1 reads, and its outputs (rows, outputs)."""
    (inputs,) = captured(network, [module], images)[module]
    layer = network.get_submodule(module)
    with torch.no_grad():
        outputs = layer(inputs)
    x = nn.functional.unfold(inputs, 3, padding=1).transpose(1, 2).flatten(0, 1)
    return x.double().numpy(), outputs.flatten(2).transpose(1, 2).flatten(0, 1).double().numpy()


@pytest.mark.parametrize("count", [1, 2, 4, 7, 8])
def test_the_lassos_survivors_are_scikit_learns_with_all_rows(count: int) -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 8)) @ (np.eye(8) + 0.3 * rng.normal(size=(8, 8)))
    y = z.sum(1) + rng.normal(size=500)
    beta, alpha = regression.select(z.T @ z, z.T @ y, count)
    assert np.count_nonzero(beta) == count
    full = Lasso(alpha=alpha / len(z), fit_intercept=False, tol=1e-10, max_iter=100_000).fit(z, y)
    assert beta == pytest.approx(full.coef_, abs=1e-4)
    assert np.flatnonzero(beta).tolist() == np.flatnonzero(full.coef_).tolist()


def test_orthogonal_channels_survive_by_the_size_of_what_they_give() -> None:
    """Then beta is the soft threshold (|z'y| - alpha) / z'z."""
    beta, alpha = regression.select(np.diag([4.0, 4, 4, 4]), np.array([4.0, 1, -3, 2]), 2)
    assert 2 <= alpha < 3
    assert beta == pytest.approx([(4 - alpha) / 4, 0, (alpha - 3) / 4, 0], abs=1e-6)


def test_more_are_left_where_no_alpha_leaves_just_so_many_and_fewer_where_there_are_no_more() -> None:
    equal, _ = regression.select(np.eye(4), np.array([3.0, 3, 3, 1]), 2)
    assert np.count_nonzero(equal) == 3
    dead, _ = regression.select(np.diag([1.0, 1, 0, 0]), np.array([1.0, 1, 0, 0]), 3)
    assert np.flatnonzero(dead).tolist() == [0, 1]


def test_sums_are_those_of_all_rows(task: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base whose reader has no bias: no column of ones."""
    all_windows(monkeypatch)
    monkeypatch.setattr(regression, "BATCH", 3)
    given = task("Chain")
    assert given.images is not None
    images, _ = next(given.images(8))
    x, y = unfolded(given.network().eval(), "b.0", images)
    (found,) = sums_of(given, "a.0").values()
    assert found.xx[0] == pytest.approx(x.T @ x, rel=1e-4, abs=1e-4)
    assert found.xy[0] == pytest.approx(x.T @ y, rel=1e-4, abs=1e-3)
    assert found.inputs.tolist() == np.repeat(range(5), 9).tolist() and found.bias is None


@pytest.mark.parametrize(("name", "group", "module"), [("Chain", "a.0", "b.0"), ("Dense", "stem.0", "b.0")])
def test_contributions_are_those_of_all_rows(
    task: Tasks, monkeypatch: pytest.MonkeyPatch, name: str, group: str, module: str
) -> None:
    """Each channel's part of all outputs, one after the other in one column; without what other groups give."""
    all_windows(monkeypatch)
    given = task(name)
    assert given.images is not None
    images, _ = next(given.images(8))
    network, weight = given.network().eval(), f"{module}.weight"
    x, y = unfolded(network, module, images)
    kernel = kernels(network.get_submodule(module)).numpy()
    position = position_of(given.structure, group_of(given, group), weight)
    parts = np.einsum("rik,oik->iro", x.reshape(len(x), -1, 9), kernel)
    z = np.stack([parts[position == channel].sum(0).ravel() for channel in range(position.max() + 1)], axis=1)
    rest = y.ravel() - parts[position < 0].sum(0).ravel()
    sums = {weight: sums_of(given, group)[weight]}
    gram, moment = regression.contributions(given, group_of(given, group), sums)
    assert gram == pytest.approx(z.T @ z, rel=1e-4, abs=1e-3)
    assert moment == pytest.approx(z.T @ rest, rel=1e-4, abs=1e-3)


def test_the_refit_is_least_squares_over_all_rows(task: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    all_windows(monkeypatch)
    given, kept = task("Chain"), np.array([0, 2, 3])
    assert given.images is not None and given.state is not None
    images, _ = next(given.images(8))
    x, y = unfolded(given.network().eval(), "b.0", images)
    mine = x.reshape(len(x), 5, 9)[:, kept].reshape(len(x), -1)
    expected, *_ = np.linalg.lstsq(mine, y, rcond=None)
    weight, _ = regression.refit(given.state["b.0.weight"].double(), sums_of(given, "a.0")["b.0.weight"], kept)
    assert weight[:, kept].flatten(1).T.numpy() == pytest.approx(expected, rel=1e-3, abs=1e-4)
    others = [1, 4]
    assert torch.equal(weight[:, others], given.state["b.0.weight"].double()[:, others])


def test_the_bias_is_fitted_with_the_kernel(task: Tasks) -> None:
    given, kept = task("Chain"), np.array([1, 2, 5, 6])
    assert given.images is not None and given.state is not None
    images, _ = next(given.images(8))
    network = given.network().eval()
    (inputs,) = captured(network, ["fc"], images)["fc"]
    with torch.no_grad():
        y = network.fc(inputs).double().numpy()
    x = np.column_stack([inputs[:, kept].double().numpy(), np.ones(8)])
    expected, *_ = np.linalg.lstsq(x, y, rcond=None)
    sums = sums_of(given, "b.0")["fc.weight"]
    assert sums.bias == "fc.bias" and sums.inputs.tolist() == [*range(7), -1]
    weight, offset = regression.refit(given.state["fc.weight"].double(), sums, kept)
    assert x[:, :-1] @ weight[:, kept].T.numpy() + (given.state["fc.bias"] + offset).numpy() == pytest.approx(
        x @ expected, abs=1e-4
    )


def test_what_no_row_shows_stays_as_it_was(task: Tasks) -> None:
    """A single image of a single place cannot say anything about most directions."""
    given = task("Chain", options={"images": 1})
    assert given.state is not None
    sums = sums_of(given, "b.0")["fc.weight"]
    weight, offset = regression.refit(given.state["fc.weight"], sums, np.arange(7))
    assert weight.numpy() == pytest.approx(given.state["fc.weight"].numpy(), abs=1e-5)
    assert offset.numpy() == pytest.approx(np.zeros(2), abs=1e-5)


def test_windows_are_of_the_network_as_pruned_and_outputs_of_the_base(
    task: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the residual network `b` writes to the stream that was cut before: its outputs are cut, too."""
    all_windows(monkeypatch)
    given, kept = task("Residual"), [0, 2, 4]
    assert given.images is not None and given.state is not None
    images, _ = next(given.images(8))
    keep = {**everything(given), "stem.0": kept}
    pruned = build_widths(given.structure, {"stem.0": 3, "a.0": 7})
    pruned.load_state_dict(inherit(given.structure, given.state, keep))
    x, _ = unfolded(pruned.eval(), "b.0", images)
    _, y = unfolded(given.network().eval(), "b.0", images)
    found = sums_of(given, "a.0", keep)["b.0.weight"]
    assert found.xx[0] == pytest.approx(x.T @ x, rel=1e-4, abs=1e-3)
    assert found.xy[0] == pytest.approx(x.T @ y[:, kept], rel=1e-4, abs=1e-3)
    assert found.outputs.tolist() == kept


def test_no_batch_outlives_the_next(task: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    given, alive = task("Residual"), []
    seen = regression.rows

    def watched(*args: object) -> torch.Tensor:
        found = seen(*args)
        alive.append(weakref.ref(found))
        return found

    def many(batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(5):
            assert not any(each() is not None for each in alive[:-5])  # all but the last batch's
            images = torch.randn(4, 3, 11, 13)
            alive.append(weakref.ref(images))
            yield images, torch.zeros(4, dtype=torch.long)
            del images

    monkeypatch.setattr(regression, "rows", watched)
    found = sums_of(replace(given, images=many), "stem.0")
    assert len(alive) == 5 * 5  # of each batch the images, and the rows of two readers in both networks
    assert {name: (each.xx.shape, each.xy.shape) for name, each in found.items()} == {
        "a.0.weight": ((1, 45, 45), (1, 45, 7)),
        "fc.weight": ((1, 6, 6), (1, 6, 2)),
    }


@pytest.mark.parametrize(("name", "group"), ONE_GROUP)
def test_the_next_layer_puts_out_what_it_did_more_nearly_than_with_inherited_weights(
    task: Tasks, monkeypatch: pytest.MonkeyPatch, name: str, group: str
) -> None:
    monkeypatch.setattr(readers, "PLACES", 100)
    rules = WidthRules(freeze=[each for each in task(name).structure.widths if each != group])
    given = task(name, "0.85", rules)
    assert given.state is not None and given.images is not None
    found = regression.METHOD(given)
    assert found.keep is not None and found.state is not None
    assert len(found.keep[group]) < given.structure.widths[group]
    images, _ = next(given.images(8))
    network = given.network()
    module = next(iter(readers_of(given.structure, group_of(given, group), network).values()))[0]
    wanted, errors = output(network, module, images), []
    for state in (found.state, inherit(given.structure, given.state, found.keep)):
        built = build_widths(given.structure, given.model.mapping(found.widths))
        built.load_state_dict(dict(state))
        errors.append((output(built, module, images) - wanted).square().sum().item())
    assert errors[0] < 0.9 * errors[1]


@pytest.mark.parametrize("name", ["Chain", "Residual", "Dense", "Depthwise", "Grouped", "Flat", "Auxiliary"])
def test_the_whole_network_stays_nearer_to_the_base(task: Tasks, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(readers, "PLACES", 100)
    given = task(name, "0.6")
    assert given.state is not None and given.images is not None
    found = regression.METHOD(given)
    assert found.keep is not None and found.state is not None
    images, _ = next(given.images(8))
    errors = []
    with torch.no_grad():
        wanted = given.network().eval()(images)
        for state in (found.state, inherit(given.structure, given.state, found.keep)):
            built = build_widths(given.structure, given.model.mapping(found.widths)).eval()
            built.load_state_dict(dict(state))
            errors.append((built(images) - wanted).square().sum().item())
    assert errors[0] < 0.5 * errors[1]


def test_groups_that_nothing_reads_by_a_module_keep_their_strongest_filters(task: Tasks) -> None:
    given = task("Functional")
    assert given.state is not None
    found = regression.METHOD(given)
    assert found.keep is not None and found.state is not None
    norms = given.state["kernel"].abs().sum((1, 2, 3))
    assert found.keep["kernel"] == sorted(norms.argsort(descending=True)[: len(found.keep["kernel"])].tolist())
    plain = inherit(given.structure, given.state, found.keep)
    assert all(torch.equal(tensor, plain[name]) for name, tensor in found.state.items())


def test_modules_that_share_a_weight_keep_their_own_bias(task: Tasks) -> None:
    given = task("Shared")
    assert given.state is not None
    found = regression.METHOD(given)
    assert found.keep is not None and found.state is not None
    assert torch.equal(found.state["a.weight"], found.state["b.weight"])
    plain = inherit(given.structure, given.state, found.keep)
    assert not torch.equal(found.state["a.weight"], plain["a.weight"])
    assert torch.equal(found.state["a.bias"], plain["a.bias"])
    assert torch.equal(found.state["b.bias"], plain["b.bias"])
