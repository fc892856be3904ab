"""One training on two processes (gloo, on the CPU) against the same one on a single process."""

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch import nn

from pruneas.errors import TrainingError
from pruneas.training import DataSource, Job, Leader, Pool, Ranks, Recipe, fit
from pruneas.training.ranks import follow
from tests.training.test_fit import same

DIGITS = DataSource(source="digits", shape=(1, 8, 8), training=90, validation=31)
RECIPE = Recipe(epochs=3, batch_size=21, learning_rate=0.1, crop=1, cutout=2, average=0.5, precision="float32")


def net(dropout: float = 0.0, norm: bool = False) -> nn.Module:
    """1 x 8 x 8 -> 10 logits."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 7, 3),
        nn.BatchNorm2d(7) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Flatten(),
        nn.Linear(7 * 36, 10),
    )


def both(function, tmp_path, **arguments):
    """What a function gives on each of two processes that are in one group."""
    with Pool(workers=2, threads=1) as pool:
        given = {"function": function, "store": f"file://{tmp_path / 'store'}", "arguments": arguments}
        jobs = [Job(key=str(rank), function=in_group, arguments={**given, "rank": rank}) for rank in (0, 1)]
        outcomes = {outcome.key: outcome for outcome in pool.run(jobs)}
    (tmp_path / "store").unlink(missing_ok=True)
    for outcome in outcomes.values():
        assert outcome.failure is None, outcome.failure
    return outcomes["0"].value, outcomes["1"].value


def in_group(report, function, store, rank, arguments):
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    try:
        return function(**arguments)
    finally:
        dist.destroy_process_group()


def trained(recipe, checkpoint=None, stop=None, **of_net):
    model = net(**of_net)

    def after_epoch(record):
        if record.epoch == stop:
            raise KeyError("stopped")

    try:
        result = fit(model, DIGITS.load(), recipe, seed=3, checkpoint=checkpoint, after_epoch=after_epoch)
    except KeyError:
        return model, None
    return model, result


def test_parts_make_up_the_batch():
    assert [Ranks(index, 3).part(8) for index in range(3)] == [slice(0, 2), slice(2, 5), slice(5, 8)]
    assert Ranks().part(8) == slice(0, 8)
    assert Ranks.here() == Ranks(0, 1)


def test_two_processes_train_as_one_does(tmp_path):
    alone, expected = trained(RECIPE)
    (first, found), (second, other) = both(trained, tmp_path, recipe=RECIPE)
    assert same(first, second)
    for ours, theirs in zip(first.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert [epoch.train_loss for epoch in found.epochs] == pytest.approx(
        [epoch.train_loss for epoch in expected.epochs], abs=1e-5
    )
    assert found.epochs[-1].validation_accuracy == expected.epochs[-1].validation_accuracy
    assert found.images == expected.images
    assert found.notes == ("trained by 2 processes; batch norm normalised over each one's part of a batch",)
    assert [epoch.validation_loss for epoch in other.epochs] == [epoch.validation_loss for epoch in found.epochs]


def test_a_stopped_training_goes_on_with_the_same_numbers_and_batch_norm_and_dropout(tmp_path):
    of_net = {"recipe": RECIPE, "dropout": 0.2, "norm": True}
    (whole, expected), (other, _) = both(trained, tmp_path, **of_net)
    assert same(whole, other)  # running statistics included
    both(trained, tmp_path, checkpoint=tmp_path / "c", stop=2, **of_net)
    (resumed, found), _ = both(trained, tmp_path, checkpoint=tmp_path / "c", **of_net)
    assert same(whole, resumed)
    assert [replace(e, seconds=0.0) for e in found.epochs] == [replace(e, seconds=0.0) for e in expected.epochs]


def job(report, number):
    report(number)
    if number == 2:
        raise TrainingError("diverged")
    total = Ranks.here().add(torch.tensor(float(number)))
    return total.item()


def led():
    if Ranks.here().index == 1:
        return follow()
    told = []
    with Leader() as leader:
        jobs = [Job(key=f"job {n}", function=job, arguments={"number": n}) for n in (1, 2, 3)]
        outcomes = list(leader.run(jobs, lambda key, message: told.append((key, message))))
    return told, [(outcome.key, outcome.value, outcome.failure) for outcome in outcomes]


def test_the_first_process_leads_and_the_others_do_its_jobs_with_it(tmp_path):
    (told, outcomes), nothing = both(led, tmp_path)
    assert told == [("job 1", 1), ("job 2", 2), ("job 3", 3)]
    assert outcomes == [("job 1", 2.0, None), ("job 2", None, "diverged"), ("job 3", 6.0, None)]
    assert nothing is None


def test_a_batch_too_small_to_share_is_an_error(tmp_path):
    with pytest.raises(AssertionError, match="a batch must have 2 images or more for each of 2 processes, it has 3"):
        both(trained, tmp_path, recipe=replace(RECIPE, batch_size=3))
