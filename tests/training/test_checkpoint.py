"""A training that stops at any epoch and goes on must end with the bits of one that never stopped."""

from dataclasses import replace

import pytest
import torch

from pruneas.training import Recipe, fit
from tests.training.test_fit import net, same

RECIPE = Recipe(epochs=4, batch_size=13, learning_rate=0.1, crop=2)


class Killed(Exception):
    pass


def killed_after(epoch):
    def after_epoch(record):
        if record.epoch == epoch:
            raise Killed

    return after_epoch


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("epoch", [1, 3])
def test_a_training_that_was_killed_ends_as_if_it_had_not_been(small, tmp_path, epoch, average):
    recipe = replace(RECIPE, average=average, cutout=2)
    whole, stopped, resumed = net(dropout=0.2), net(dropout=0.2), net(dropout=0.2)
    expected = fit(whole, small, recipe, seed=3)
    with pytest.raises(Killed):
        fit(stopped, small, recipe, seed=3, checkpoint=tmp_path / "c", after_epoch=killed_after(epoch))
    seen = []
    found = fit(resumed, small, recipe, seed=3, checkpoint=tmp_path / "c", after_epoch=seen.append)
    assert same(whole, resumed)
    assert [record.epoch for record in seen] == [1, 2, 3, 4]
    for ours, theirs in zip(found.epochs, expected.epochs, strict=True):
        assert replace(ours, seconds=0.0) == replace(theirs, seconds=0.0)


def test_a_finished_training_is_only_read(small, tmp_path):
    first, again = net(), net()
    fit(first, small, RECIPE, seed=3, checkpoint=tmp_path / "c")
    steps = []
    fit(again, small, RECIPE, seed=3, checkpoint=tmp_path / "c", after_step=steps.append)
    assert same(first, again)
    assert not steps


@pytest.mark.parametrize("change", [{"seed": 4}, {"recipe": replace(RECIPE, learning_rate=0.2)}])
def test_another_trainings_file_is_not_taken_up(small, tmp_path, change):
    fit(net(), small, RECIPE, seed=3, checkpoint=tmp_path / "c")
    given = {"recipe": RECIPE, "seed": 3, **change}
    fresh, other = net(), net()
    fit(fresh, small, given["recipe"], seed=given["seed"])
    fit(other, small, given["recipe"], seed=given["seed"], checkpoint=tmp_path / "c")
    assert same(fresh, other)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"\0" * 64])
def test_a_damaged_file_is_replaced(small, tmp_path, damage):
    path = tmp_path / "c"
    fit(net(), small, RECIPE, seed=3, checkpoint=path)
    path.write_bytes(damage(path.read_bytes()))
    model, again = net(), net()
    fit(model, small, RECIPE, seed=3, checkpoint=path)
    steps = []
    fit(again, small, RECIPE, seed=3, checkpoint=path, after_step=steps.append)
    assert not steps
    assert same(model, again)


def test_gradients_are_clipped_together(small):
    model = net()
    recipe = Recipe(epochs=1, batch_size=53, learning_rate=0.1, crop=0, max_norm=1e-3, weight_decay=0.0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    fit(model, small, recipe, seed=0)
    moved = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), before, strict=True)])
    # One step at two thirds of the peak, times nesterov's 1.9, with a gradient of norm 0.001.
    assert moved.norm().item() == pytest.approx(0.1 * (0.5 / 0.75) * 1.9 * 1e-3, rel=1e-3)
