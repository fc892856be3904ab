import json
from dataclasses import replace

import pytest

from pruneas.compare.finalists import Entrant, Stage, choose
from pruneas.compare.trainings import read_training
from pruneas.errors import DataError, RunError, TrainingError
from pruneas.progress import Silent
from pruneas.training import DataSource, Outcome, Recipe
from tests.tiny import FakePool, made_up_training


def entrant(givens, name, widths):
    return Entrant(name=name, origin="search", widths=dict(zip(givens.model.groups, widths, strict=True)))


@pytest.fixture
def stage(givens, tmp_path):
    return Stage(
        name="test",
        structure=givens.structure,
        model=givens.model,
        data=DataSource(source="digits", shape=(1, 8, 8), training=200, validation=100, seed=0, download=False),
        recipe=Recipe(epochs=2),
        run_seed=0,
        num_seeds=3,
        device="cpu",
        test=True,
        folder=tmp_path,
    )


def run(stage, entrants, pool=None, notes=None):
    return stage.run(
        entrants, pool or FakePool(), Silent(), lambda images: None, ([] if notes is None else notes).append
    )


def test_every_entrant_is_trained_once_a_seed_with_the_same_seeds(stage, givens):
    found = run(stage, [entrant(givens, "a", (3, 5, 8)), entrant(givens, "b", (2, 6, 9))])
    assert [record.seed for record in found["a"]] == [record.seed for record in found["b"]] == stage.seeds
    assert len(set(stage.seeds)) == 3


def test_stages_have_seeds_of_their_own(stage):
    assert not set(stage.seeds) & set(replace(stage, name="selection").seeds)


def test_equal_widths_are_trained_once(stage, givens):
    pool = FakePool()
    found = run(stage, [entrant(givens, "a", (3, 5, 8)), entrant(givens, "b", (3, 5, 8))], pool)
    assert pool.num_trained == 3
    assert found["a"] == found["b"]


def test_what_is_there_is_not_trained_again(stage, givens):
    entrants = [entrant(givens, "a", (3, 5, 8)), entrant(givens, "b", (2, 6, 9))]
    whole = run(stage, entrants)
    stage.path(entrants[1], stage.seeds[1]).unlink()
    pool = FakePool()
    assert run(stage, entrants, pool) == whole
    assert pool.num_trained == 1


def test_only_the_first_seed_leaves_weights_and_only_where_the_test_set_is_read(stage, givens):
    jobs = stage.jobs([entrant(givens, "a", (3, 5, 8))])
    weights = [job.arguments["training"].weights for job, _ in jobs.values()]
    assert [path is not None for path in weights] == [True, False, False]
    selection = replace(stage, test=False).jobs([entrant(givens, "a", (3, 5, 8))])
    assert [(j.arguments["training"].weights, j.arguments["training"].test) for j, _ in selection.values()] == [
        (None, False)
    ] * 3


def test_a_training_that_fails_is_noted_and_left_out_and_so_is_an_entrant_without_any(stage, givens):
    def fails(key, training):
        if key in ("a, seed 2", "b, seed 1", "b, seed 2", "b, seed 3"):
            error = TrainingError("the loss became nan")
            return Outcome(key=key, failure=str(error), user_error=error)
        return None

    notes = []
    found = run(stage, [entrant(givens, "a", (3, 5, 8)), entrant(givens, "b", (2, 6, 9))], FakePool(fails=fails), notes)
    assert {name: len(records) for name, records in found.items()} == {"a": 2}
    assert notes[1] == "test training of a, seed 2 failed: the loss became nan" or notes[0].startswith("test training")
    assert len(notes) == 4


def test_what_its_numbers_depend_on_is_told_again_by_a_stage_that_goes_on(stage, givens):
    notes, again = [], []
    pool = FakePool(made=lambda training: replace(made_up_training(training), notes=("memory ran out",)))
    run(stage, [entrant(givens, "a", (3, 5, 8))], pool, notes)
    run(stage, [entrant(givens, "a", (3, 5, 8))], None, again)
    assert notes == again == ["test: training a, seed 1 and 2 more: memory ran out"]


def test_what_would_befall_every_training_ends_it(stage, givens):
    def fails(key, training):
        error = DataError("the images are gone")
        return Outcome(key=key, failure=str(error), user_error=error)

    with pytest.raises(DataError):
        run(stage, [entrant(givens, "a", (3, 5, 8))], FakePool(fails=fails))


def test_others_records_show(stage, givens):
    a, b = entrant(givens, "a", (3, 5, 8)), entrant(givens, "b", (2, 6, 9))
    run(stage, [a, b])
    assert stage.strangers([a, b]) == set()
    assert stage.strangers([a]) == {b.fingerprint}


def test_a_record_that_is_garbage_is_told_with_what_to_do(stage, givens):
    a = entrant(givens, "a", (3, 5, 8))
    run(stage, [a])
    path = stage.path(a, stage.seeds[0])
    for content in (path.read_text()[:50], "[]", "{}"):
        path.write_text(content)
        with pytest.raises(RunError, match=r"is not a training's record .* delete it and give the command again"):
            run(stage, [a])
    path.write_text(json.dumps({}))
    with pytest.raises(RunError):
        read_training(path)


def test_the_highest_mean_wins_and_ties_go_to_the_lower_loss(stage, givens):
    job, _ = next(iter(stage.jobs([entrant(givens, "a", (3, 5, 8))]).values()))
    record = made_up_training(job.arguments["training"])

    def made(accuracy, loss):
        return replace(record, validation_accuracy=accuracy, validation_loss=loss)

    assert choose({"a": [made(0.9, 0.1), made(0.1, 0.1)], "b": [made(0.6, 0.5), made(0.6, 0.5)]}) == "b"
    assert choose({"a": [made(0.5, 0.2)], "b": [made(0.5, 0.1)]}) == "b"
