"""Trainings by what they are: shared, kept, and taken over from where they were done."""

from dataclasses import replace

import pytest

from pruneas.compare.trainings import Trainings, best_of, read_training
from pruneas.errors import DataError, RunError, TrainingError
from pruneas.files import write_json
from pruneas.progress import Silent
from pruneas.search.train import Training
from pruneas.training import DataSource, Outcome, Recipe
from tests.tiny import FakePool, made_up_training

DATA = "fingerprint"


@pytest.fixture
def training(givens):
    return Training(
        structure=givens.structure,
        widths=givens.model.mapping(givens.uniform),
        flops=1,
        params=1,
        data=DataSource(source="digits", shape=(1, 8, 8), training=60, validation=40, seed=0, download=False),
        recipe=Recipe(epochs=2, batch_size=20),
        seed=3,
        device="cpu",
        test=True,
    )


def store(folder, elsewhere=()):
    (folder / "trainings").mkdir(parents=True, exist_ok=True)
    return Trainings(folder / "trainings", DATA, 60, elsewhere)


def run(trainings, pool=None, notes=None):
    pool = pool or FakePool()
    trainings.run(pool, Silent(), lambda images: None, ([] if notes is None else notes).append)
    return pool.num_trained


def done_elsewhere(folder, training, *, tested=True, weights=False):
    """A run's folder with a record of that training among its tested ones."""
    record = replace(made_up_training(training), identity=training.identity(DATA))
    (folder / "test").mkdir(parents=True)
    write_json(folder / "test" / "any-name.json", replace(record, test_accuracy=0.75 if tested else None).to_json())
    if weights:
        (folder / "test" / "any-name.safetensors").write_bytes(b"weights")


def test_the_same_training_is_done_once_whoever_asks(training, tmp_path):
    trainings = store(tmp_path)
    first = trainings.add("a", replace(training, test=False))
    again = trainings.add("b", training, weights=True)
    other = trainings.add("c", replace(training, seed=4))
    assert first == again != other
    assert trainings.images_left == 2 * 2 * 60
    assert run(trainings) == 2
    assert trainings.record(first).test_accuracy is not None  # because one of the two asked for it
    assert trainings.missing == [first]  # its weights: a made-up training leaves none
    trainings.weights(first).touch()
    assert trainings.missing == [] and run(trainings) == 0


def test_what_another_run_has_done_is_taken_over(training, tmp_path):
    done_elsewhere(tmp_path / "before", training, weights=True)
    trainings = store(tmp_path / "now", [tmp_path / "before"])
    identity = trainings.add("a", training, weights=True)
    trainings.take_over()
    assert trainings.missing == []
    assert trainings.record(identity).test_accuracy == 0.75
    assert trainings.weights(identity).read_bytes() == b"weights"
    assert trainings.origins == {identity: str(tmp_path / "before")}


@pytest.mark.parametrize("lacking", ["test", "weights"])
def test_what_lacks_something_is_done_again(training, tmp_path, lacking):
    done_elsewhere(tmp_path / "before", training, tested=lacking != "test", weights=lacking != "weights")
    trainings = store(tmp_path / "now", [tmp_path / "before"])
    identity = trainings.add("a", training, weights=True)
    trainings.take_over()
    assert trainings.missing == [identity] and trainings.origins == {}


def test_records_of_other_trainings_and_rubbish_are_left_alone(training, tmp_path):
    done_elsewhere(tmp_path / "before", replace(training, seed=4))
    (tmp_path / "before" / "test" / "rubbish.json").write_text("{")
    trainings = store(tmp_path / "now", [tmp_path / "before"])
    identity = trainings.add("a", training)
    trainings.take_over()
    assert trainings.missing == [identity]


def test_a_failure_is_noted_and_what_befalls_all_ends_it(training, tmp_path):
    def fails(error):
        return FakePool(fails=lambda key, training: Outcome(key=key, failure=str(error), user_error=error))

    trainings, notes = store(tmp_path), []
    identity = trainings.add("l1, seed 1", training)
    run(trainings, fails(TrainingError("the loss became nan")), notes)
    assert notes == ["training l1, seed 1 failed: the loss became nan"]
    assert trainings.record(identity) is None
    with pytest.raises(DataError):
        run(trainings, fails(DataError("the images are gone")))


def test_what_the_numbers_depend_on_is_told_wherever_they_were_made(training, tmp_path):
    done_elsewhere(tmp_path / "before", training)
    path = tmp_path / "before" / "test" / "any-name.json"
    write_json(path, replace(read_training(path), notes=("memory ran out", "compiled")).to_json())
    trainings = store(tmp_path / "now", [tmp_path / "before"])
    trainings.add("a", training)
    trainings.add("b", replace(training, seed=4))
    trainings.take_over()
    run(trainings, FakePool(made=lambda training: replace(made_up_training(training), notes=("compiled",))))
    assert trainings.notes() == ["training a: memory ran out", "training a and 1 more: compiled"]


def test_a_record_without_the_test_accuracy_that_is_asked_for_is_none(training, tmp_path):
    trainings = store(tmp_path)
    identity = trainings.add("a", replace(training, test=False))
    run(trainings)
    assert trainings.record(identity) is not None
    trainings.add("a", training)
    assert trainings.record(identity) is None


def test_a_damaged_record_says_what_to_do(training, tmp_path):
    trainings = store(tmp_path)
    identity = trainings.add("a", training)
    (tmp_path / "trainings" / f"{identity}.json").write_text("[]")
    with pytest.raises(RunError, match="delete it and give the command again"):
        trainings.record(identity)


def test_validation_chooses_ties_by_lower_loss(training):
    record = made_up_training(training)

    def made(accuracy, loss):
        return replace(record, validation_accuracy=accuracy, validation_loss=loss)

    assert best_of([made(0.5, 0.1), made(0.6, 0.9), made(0.6, 0.8)]) == 2
