import errno
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from pruneas.errors import DataError, NetworkError, RunError, StructureError, TrainingError
from pruneas.networks.weights import fit_to, read_weights
from pruneas.search.stopping import Line, Rule
from pruneas.search.train import (
    Reporter,
    Training,
    TrainingRecord,
    concerns_all,
    images_per_epoch,
    outputs_of,
    save_weights,
    train,
)
from pruneas.structure.build import build_widths
from pruneas.structure.masks import write_masks
from pruneas.training import DataSource, EpochRecord, Outcome, Recipe
from tests.nets import NETS, image
from tests.structure.odd import Tied


@pytest.fixture
def training(givens):
    widths = givens.model.mapping(givens.uniform)
    return Training(
        structure=givens.structure,
        widths=widths,
        flops=int(givens.model.flops(givens.uniform)),
        params=int(givens.model.params(givens.uniform)),
        data=DataSource(source="digits", shape=(1, 8, 8), training=60, validation=40, seed=0, download=False),
        recipe=Recipe(epochs=2, batch_size=20, crop=1, flip=False),
        seed=3,
        device="cpu",
    )


def test_a_training_tells_its_epochs_and_reads_the_test_set_only_when_asked(training, tmp_path):
    told = []
    found = train(told.append, training=training)
    ends = [progress for progress in told if progress.accuracy is not None]  # a slow machine tells in between, too
    assert [(progress.epoch, progress.epochs) for progress in ends] == [(1, 2), (2, 2)]
    assert sum(progress.images for progress in told) == 120
    assert [progress.loss for progress in ends] == [epoch["train_loss"] for epoch in found.epochs]
    assert ends[0].images_per_second == pytest.approx(60 / found.epochs[0]["seconds"])
    assert found.images == 120
    assert (found.test_accuracy, found.test_loss) == (None, None)
    assert found.validation_accuracy == found.epochs[-1]["validation_accuracy"] == told[-1].accuracy
    tested = train(told.append, training=replace(training, test=True, weights=tmp_path / "w.safetensors"))
    assert tested.epochs[0]["validation_accuracy"] == found.epochs[0]["validation_accuracy"]
    assert 0 <= tested.test_accuracy <= 1
    assert (tmp_path / "w.safetensors").exists()


def test_weights_that_are_shared_are_written_and_come_back_shared(tmp_path):
    network = Tied()
    save_weights(network, tmp_path / "w.safetensors")
    again = Tied()
    fit_to(again, read_weights(tmp_path / "w.safetensors"), "w.safetensors")
    assert again.head.weight is again.table.weight
    words = torch.arange(12).view(1, 12) % 11
    assert torch.equal(again(words), network(words))


def test_a_record_comes_back_from_json_as_it_was(training):
    found = train(lambda message: None, training=training)
    assert TrainingRecord.from_json(found.to_json()) == found


def test_nothing_is_trained_that_does_not_cost_what_was_said(training):
    with pytest.raises(StructureError, match="where the closed form said"):
        train(lambda message: None, training=replace(training, flops=training.flops - 1))


def test_an_epoch_is_of_whole_batches_or_of_the_one_there_is():
    assert images_per_epoch(Recipe(epochs=1, batch_size=32), 100) == 96
    assert images_per_epoch(Recipe(epochs=1, batch_size=128), 100) == 100


@pytest.mark.parametrize(
    ("error", "ends"),
    [(DataError("x"), True), (RunError("x"), True), (NetworkError("x"), False), (StructureError("x"), False),
     (TrainingError("x"), False), (None, False)],
)  # fmt: skip
def test_only_what_would_befall_every_training_ends_a_run(error, ends):
    outcome = Outcome(key="a", failure="x", user_error=error)
    assert concerns_all(outcome) is (error if ends else None)


def test_weights_that_cannot_be_written_are_told_and_leave_nothing(givens, tmp_path, monkeypatch):
    def full(*arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    network = build_widths(givens.structure, givens.structure.widths, seed=0)
    monkeypatch.setattr(sys.modules["pruneas.search.train"], "save_file", full)
    with pytest.raises(RunError, match=r"w\.safetensors: cannot be written: .*No space left on device"):
        save_weights(network, tmp_path / "w.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_shared_are_written_under_each_name(tmp_path):
    network = NETS["Shared"].factory()
    save_weights(network, tmp_path / "w.safetensors")
    read = NETS["Shared"].factory()
    fit_to(read, read_weights(tmp_path / "w.safetensors"), "w.safetensors")
    assert read.a.weight is read.b.weight
    assert torch.equal(read.a.weight, network.a.weight)


def test_outputs_are_counted_and_the_network_is_left_as_it_was(givens):
    network = build_widths(givens.structure, givens.structure.widths, seed=0).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert outputs_of(network, image(1, 8, 8)) == 10
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_training_goes_on_where_it_was_killed_and_leaves_no_checkpoint(training, tmp_path):
    given = replace(training, recipe=Recipe(epochs=3, batch_size=20, crop=1))
    whole = train(lambda _: None, training=given)
    given = replace(given, checkpoint=tmp_path / "0.checkpoint.safetensors")

    def killed(message):
        if message.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(killed, training=given)
    assert given.checkpoint.exists()
    told = []
    resumed = train(told.append, training=given)
    assert [message.epoch for message in told] == [1, 2, 3]
    assert not given.checkpoint.exists()
    assert without_seconds(resumed) == without_seconds(whole)


def without_seconds(record):
    epochs = [{key: value for key, value in epoch.items() if key != "seconds"} for epoch in record.epochs]
    return replace(record, seconds=0.0, epochs=tuple(epochs))


def test_a_training_can_begin_with_given_weights(training, tmp_path):
    source = build_widths(training.structure, training.widths, seed=99)
    save_weights(source, tmp_path / "initial.safetensors")
    # A rate so small that nothing moves: what comes out is what went in.
    still = replace(training.recipe, learning_rate=1e-12, weight_decay=0.0, epochs=1, precision="float32")
    given = replace(
        training, initial=tmp_path / "initial.safetensors", recipe=still, weights=tmp_path / "w.safetensors"
    )
    train(lambda _: None, training=given)
    found = load_file(tmp_path / "w.safetensors")
    for name, parameter in source.named_parameters():
        torch.testing.assert_close(found[name], parameter.detach())


def test_the_identity_of_a_training_is_what_its_weights_depend_on(training, tmp_path):
    save_weights(build_widths(training.structure, training.widths, seed=1), tmp_path / "a.safetensors")
    save_weights(build_widths(training.structure, training.widths, seed=2), tmp_path / "b.safetensors")
    first = training.identity("images")
    same = [
        replace(training, test=True, weights=tmp_path / "w", checkpoint=tmp_path / "c"),
        replace(training, widths=dict(reversed(training.widths.items()))),
    ]
    others = [
        replace(training, seed=4),
        replace(training, recipe=replace(training.recipe, epochs=3)),
        replace(training, widths={**training.widths, "features.0": 1}),
        replace(training, device="cuda"),
        replace(training, initial=tmp_path / "a.safetensors"),
        replace(training, initial=tmp_path / "b.safetensors"),
        replace(training, masks=tmp_path / "a.safetensors"),
    ]
    assert {each.identity("images") for each in same} == {first}
    found = {each.identity("images") for each in others} | {first, training.identity("other images")}
    assert len(found) == len(others) + 2


def test_masks_are_held_from_the_first_step_to_the_last(givens, training, tmp_path):
    whole = givens.structure.widths
    masks = {"features.3.weight": torch.rand(7, 5, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.3}
    write_masks(masks, tmp_path / "m.safetensors")
    save_weights(build_widths(givens.structure, whole, seed=9), tmp_path / "initial.safetensors")
    base = replace(
        training, widths=whole, flops=givens.model.base.flops, params=givens.model.base.params,
        masks=tmp_path / "m.safetensors", weights=tmp_path / "w.safetensors",
    )  # fmt: skip
    for initial in (None, tmp_path / "initial.safetensors"):
        record = train(lambda _: None, training=replace(base, initial=initial))
        left = load_file(tmp_path / "w.safetensors")["features.3.weight"]
        assert torch.equal(left != 0, masks["features.3.weight"])
        assert TrainingRecord.from_json(record.to_json()) == record
        assert record.identity == replace(base, initial=initial).identity(training.data.load().fingerprint)


def test_within_a_long_epoch_there_are_signs_of_life():
    now = 0.0
    told = []
    reporter = Reporter(told.append, Recipe(epochs=3, batch_size=10), 105, clock=lambda: now)
    for step in range(10):
        now = 2.0 * (step + 1)
        reporter.after_step(None)
    record = EpochRecord(
        epoch=1, train_loss=2.5, validation_accuracy=0.5, validation_loss=2.0, learning_rate=0.1, seconds=20.0
    )
    reporter.after_epoch(record)
    reporter.after_epoch(replace(record, epoch=2))
    assert [progress.epoch for progress in told] == [0.3, 0.6, 0.9, 1, 2]
    assert [progress.images for progress in told] == [30, 30, 30, 10, 100]
    assert [progress.images_per_second for progress in told] == [5.0] * 5
    assert [progress.loss for progress in told] == [None, None, None, 2.5, 2.5]


def test_an_epoch_that_begins_anew_is_counted_once():
    now = 0.0
    told = []
    reporter = Reporter(told.append, Recipe(epochs=3, batch_size=10), 40, clock=lambda: now)
    for _ in range(3 + 4):  # memory ran out after three steps
        now += 6.0
        reporter.after_step(None)
    assert sum(progress.images for progress in told) == 40
    assert max(progress.epoch for progress in told) == 1


def test_a_training_is_stopped_by_its_own_curve_wherever_it_was_interrupted(training, tmp_path):
    line = Line(epoch=2, slope=1.0, intercept=0.25, num=9, mean=0.1, squares=0.1, margin=0.01)
    rule = Rule(goal=1.1, lines=(line,))
    longer = replace(training, recipe=replace(training.recipe, epochs=4))
    whole = train(lambda message: None, training=longer)
    assert whole.extrapolation is None
    told = []
    stopping = replace(longer, stopping=rule, checkpoint=tmp_path / "c.safetensors")
    found = train(told.append, training=stopping)
    accuracies = [epoch["validation_accuracy"] for epoch in whole.epochs]
    assert [epoch["validation_accuracy"] for epoch in found.epochs] == accuracies[:2]
    assert found.validation_accuracy == accuracies[1]
    assert found.extrapolation == line.at(accuracies[1])
    assert found.images == 120 == sum(message.images for message in told)
    assert not (tmp_path / "c.safetensors").exists()
    assert TrainingRecord.from_json(found.to_json()) == found
    assert found.identity != whole.identity

    def cut_off(message):
        if message.accuracy is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(cut_off, training=stopping)
    again = train(lambda message: None, training=stopping)
    assert again.extrapolation == found.extrapolation
    assert len(again.epochs) == 2
