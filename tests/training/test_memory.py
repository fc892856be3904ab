"""What happens when memory runs out: fewer images at a time, the same steps, and a record that says so."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from pruneas.errors import TrainingError
from pruneas.training import Recipe, evaluate, fit
from tests.training.test_fit import net, same, weights

RECIPE = Recipe(epochs=3, batch_size=13, learning_rate=0.1, crop=2, precision="float32")
TOO_MUCH = 2**46  # floats: more than the address space of a 64-bit processor holds


class Hungry(nn.Module):
    """Asks for more memory than there is when it sees more than `most` images, from the `start`-th call on."""

    def __init__(self, most, start=0, error=None):
        super().__init__()
        self.most, self.start, self.error, self.calls = most, start, error, 0

    def forward(self, x):
        self.calls += 1
        if len(x) > self.most and self.calls > self.start:
            if self.error is not None:
                raise self.error
            torch.empty(TOO_MUCH)
        return x


def without_batch_norm(*first):
    torch.manual_seed(0)
    return nn.Sequential(*first, nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))


@pytest.mark.parametrize("error", [None, MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
@pytest.mark.parametrize("batch_size", [13, 53])
def test_a_batch_in_parts_is_the_same_step(small, batch_size, error):
    recipe = replace(RECIPE, batch_size=batch_size)
    whole, parts = without_batch_norm(), without_batch_norm(Hungry(8, error=error))
    expected = fit(whole, small, recipe, seed=3, penalty=lambda model: 0.01 * model[-1].weight.abs().sum())
    found = fit(parts, small, recipe, seed=3, penalty=lambda model: 0.01 * model[-1].weight.abs().sum())
    for a, b in zip(weights(parts), weights(whole), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    assert [epoch.part for epoch in found.epochs] == [8, 8, 8]
    assert [epoch.part for epoch in expected.epochs] == [None] * 3
    assert found.epochs[-1].train_loss == pytest.approx(expected.epochs[-1].train_loss, abs=1e-4)
    assert found.images == expected.images
    assert expected.notes == ()
    [note] = found.notes
    assert f"memory ran out: from epoch 1 on, batches of {batch_size} images were computed 8 at a time" in note
    assert "batch norm normalised over so many" in note


def test_the_epoch_in_which_memory_runs_out_begins_anew_and_goes_on_alike_after_a_stop(small, tmp_path):
    """Four steps an epoch and one evaluation: the seventh call is the second step of the second epoch."""
    recipe = replace(RECIPE, average=0.9)
    hungry = [nn.Sequential(Hungry(8, start=6), net(dropout=0.2)) for _ in range(3)]
    found = fit(hungry[0], small, recipe, seed=3)
    assert [epoch.part for epoch in found.epochs] == [None, 8, 8]

    class Stopped(Exception):
        pass

    def stop(record):
        if record.epoch == 2:
            raise Stopped

    with pytest.raises(Stopped):
        fit(hungry[1], small, recipe, seed=3, checkpoint=tmp_path / "c", after_epoch=stop)
    hungry[2][0].most = 10**9  # there is memory now, but the training goes on as it began
    again = fit(hungry[2], small, recipe, seed=3, checkpoint=tmp_path / "c")
    assert [replace(a, seconds=0.0) for a in again.epochs] == [replace(a, seconds=0.0) for a in found.epochs]
    assert same(hungry[0], hungry[2])


def test_a_network_too_large_for_the_smallest_part_is_an_error_that_says_what_to_do(small):
    with pytest.raises(
        TrainingError,
        match=r"memory of cpu ran out with 8 images at a time, and fewer are not tried: .*can't allocate memory"
        r".* Use a smaller network or smaller images, or train fewer at the same time \(compute.workers\)",
    ):
        fit(without_batch_norm(Hungry(0)), small, RECIPE, seed=3)


def test_other_errors_are_left_alone(small):
    with pytest.raises(RuntimeError, match="something else"):
        fit(without_batch_norm(Hungry(8, error=RuntimeError("something else"))), small, RECIPE, seed=3)


def test_evaluation_takes_fewer_images_at_a_time(small):
    model, hungry = net(), nn.Sequential(Hungry(8), net())
    moments = {"mean": small.mean, "std": small.std, "precision": "float32"}
    expected, found = evaluate(model, small.test, **moments), evaluate(hungry, small.test, **moments)
    assert found.accuracy == expected.accuracy
    assert found.loss == pytest.approx(expected.loss, abs=1e-6)
