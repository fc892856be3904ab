import json
import shutil
from dataclasses import replace

import optuna
import pytest

from pruneas.progress import Silent
from pruneas.search.notes import note
from pruneas.search.records import SEARCH, STOPPED, TrialRecord, best_candidates, num_trained, read_trials
from pruneas.search.stopping import LEAST, Extrapolation, Line, Rule
from pruneas.search.storage import address, connect
from pruneas.search.study import STUDY
from pruneas.search.trials import STOPPING
from pruneas.search.worker import Place, Worker, lead
from pruneas.training import Recipe
from tests.tiny import FakePool, Givens, led, made_up_training

AFTER, ENDS = [0.1, 0.2, 0.3, 0.4], [0.5, 0.7, 0.7, 0.9]


def test_a_line_is_least_squares_and_its_interval_that_of_a_new_training():
    """Worked by hand: mean 0.25, squares 0.05, slope 0.06 / 0.05; residuals 0.02, 0.06, 0.06, 0.02 on two degrees of
    freedom, for which Student's t is 4.302653 at 97.5 %."""
    line = Line.through(2, AFTER, ENDS)
    assert (line.epoch, line.num) == (2, 4)
    assert (line.slope, line.intercept, line.mean, line.squares) == pytest.approx((1.2, 0.4, 0.25, 0.05))
    assert line.margin == pytest.approx(4.302653 * 0.004**0.5)
    found = line.at(0.0)  # at a distance of 0.25: sqrt(1 + 1/4 + 0.0625 / 0.05)
    assert (found.epoch, found.accuracy, found.low) == (2, pytest.approx(0.4), 0.0)
    assert found.high == pytest.approx(0.4 + 4.302653 * 0.004**0.5 * 2.5**0.5)
    assert line.at(0.25).high == 1.0  # 1.004 is no accuracy
    assert line.at(0.2).low == pytest.approx(0.64 - 4.302653 * 0.004**0.5 * 1.3**0.5)


def test_nothing_is_read_off_where_nothing_differs_or_better_ones_end_worse():
    assert Line.through(1, [0.5] * 4, ENDS) is None
    assert Line.through(1, AFTER, ENDS[::-1]) is None
    assert Line.through(1, AFTER, [0.7] * 4) is None
    assert Line.through(1, AFTER[:2], ENDS[:2]) is None


def curves(num, epochs=6):
    """Of `num` trainings that end at 0.50, 0.52, ...; two thirds of it after a third, but for 0.01 to and fro."""
    ends = [0.5 + 0.02 * index for index in range(num)]
    return [
        tuple(end * (0.5 + 0.5 * epoch / epochs) + (0.01 * (-1) ** index if epoch < epochs else 0)
              for epoch in range(1, epochs + 1))
        for index, end in enumerate(ends)
    ]  # fmt: skip


def test_a_rule_needs_trainings_that_went_to_their_end_and_leaves_the_first_third_alone():
    assert Rule.of(curves(LEAST - 1), 6, 2) is None
    assert Rule.of(curves(LEAST), 6, LEAST + 1) is None
    rule = Rule.of(curves(LEAST), 6, 2)
    assert rule.goal == pytest.approx(0.5 + 0.02 * (LEAST - 2))
    assert [line.epoch for line in rule.lines] == [2, 3, 4, 5]
    assert Rule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


def test_a_training_is_stopped_where_its_interval_ends_below_the_goal_and_no_earlier():
    rule = Rule.of(curves(12), 6, 3)
    bad, good = (0.1,) * 5, curves(12)[-1]
    assert rule.stopped(bad[:1]) is None, "the first third"
    found = rule.stopped(bad[:2])
    assert found == rule.lines[0].at(0.1)
    assert found.high < rule.goal == pytest.approx(0.68)
    assert [rule.stopped(good[:epoch]) for epoch in range(7)] == [None] * 7
    assert rule.stopped((*bad, 0.1)) is None, "it has gone to its end"
    edge = next(line for line in rule.lines if line.epoch == 3)
    low, high = 0.0, 1.0  # the accuracy from which on it goes on
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if edge.at(middle).high < rule.goal else (low, middle)
    assert rule.stopped((0, 0, low - 1e-9)) is not None
    assert rule.stopped((0, 0, high + 1e-9)) is None


def test_where_early_epochs_say_nothing_nothing_is_stopped():
    """Ends go up and down whatever came before, as at a high learning rate: only the lowest could be told."""
    ends = [0.5, 0.7, 0.6, 0.55, 0.65, 0.52, 0.68, 0.6]
    rule = Rule.of([(0.3 + 0.01 * index, end) for index, end in enumerate(ends)], 2, 3)
    assert rule is None or all(rule.stopped((0.28 + 0.01 * index,)) is None for index in range(12))


# In a search --------------------------------------------------------------------------------------------------------

EPOCHS = 6


def curved(training):
    """A made-up training that rises to its end, with a wobble of its own, and stops when it is told to."""
    whole = made_up_training(training)
    end, wobble = whole.validation_accuracy, (training.seed % 7 - 3) / 2000
    accuracies = []
    for epoch in range(1, EPOCHS + 1):
        accuracies.append(end * (0.4 + 0.6 * epoch / EPOCHS) + (wobble if epoch < EPOCHS else 0.0))
        extrapolation = None if training.stopping is None else training.stopping.stopped(accuracies)
        if extrapolation is not None:
            break
    return replace(
        whole,
        epochs=tuple({"epoch": epoch, "validation_accuracy": a} for epoch, a in enumerate(accuracies, 1)),
        validation_accuracy=accuracies[-1],
        images=100 * len(accuracies),
        extrapolation=extrapolation,
    )


@pytest.fixture(scope="module")
def wide():
    """A space in which hardly any proposal comes twice."""
    return Givens.of('pruneas:vgg(layout=[8, 8, "M", 12, 12], channels=1)')


def stopping(wide, folder, **changes):
    changes = {"stops_below": 3, "num_trials": 16, "workers": 1} | changes
    recipe = Recipe(epochs=EPOCHS, batch_size=20)
    return wide.search(folder, anchors={"uniform": wide.uniform}, recipe=recipe, **changes)


def run(search, pool=None, **more):
    return led(search, pool or FakePool(made=curved), **more)


@pytest.fixture(scope="module")
def searched(wide, tmp_path_factory):
    """The folder of a search that was not disturbed, and its trials."""
    folder = tmp_path_factory.mktemp("stopping")
    return folder, run(stopping(wide, folder))


def copied(folder, path):
    shutil.copytree(folder, path, dirs_exist_ok=True)
    return path


def early(records):
    return [record for record in records if record.extrapolation is not None and record.copied_from is None]


def told(folder):
    storage = connect(address(folder / "study.db"))
    trials = optuna.load_study(study_name=STUDY, storage=storage).get_trials()
    storage.engine.dispose()
    return trials


def test_trials_that_cannot_come_among_the_best_complete_with_an_extrapolated_value(searched):
    folder, found = searched
    stopped = early(found)
    assert len(stopped) >= 3
    assert all(record.origin == SEARCH for record in stopped)
    assert sum(record.is_measured for record in found[: stopped[0].number]) >= LEAST
    for record in stopped:
        extrapolation = record.extrapolation
        assert len(record.curve) == extrapolation.epoch >= EPOCHS / 3
        assert record.images == 100 * extrapolation.epoch
        assert (record.accuracy, record.loss) == (extrapolation.accuracy, None)
        before = [other for other in found[: record.number] if other.is_measured]
        assert extrapolation.high < best_candidates(before, 3)[-1].accuracy
    assert {record.number for record in best_candidates(found, 100)}.isdisjoint(record.number for record in stopped)
    for trial, record in zip(told(folder), found, strict=True):
        assert (trial.state.name, trial.value) == ("COMPLETE", record.accuracy)
        assert Extrapolation.from_json(trial.user_attrs.get(STOPPED)) == record.extrapolation
    assert read_trials(folder) == found


def test_nothing_is_stopped_unless_it_is_asked_for(tmp_path, wide):
    assert early(run(stopping(wide, tmp_path, stops_below=None))) == []
    assert all(STOPPING not in trial.user_attrs for trial in told(tmp_path))


@pytest.mark.parametrize("crash_after", [10, 14])
def test_a_search_that_was_killed_stops_the_same_trials_at_the_same_epochs(tmp_path, wide, searched, crash_after):
    search = stopping(wide, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(search, FakePool(made=curved, crash_after=crash_after))
    assert run(search) == searched[1]


def test_two_workers_stop_by_what_was_there_before_their_batch(tmp_path, wide):
    whole = run(stopping(wide, tmp_path / "whole", workers=2))
    search = stopping(wide, tmp_path / "parts", workers=2)
    with pytest.raises(KeyboardInterrupt):
        run(search, FakePool(made=curved, crash_after=13))
    assert run(search) == whole
    assert early(whole)
    rules = [trial.user_attrs.get(STOPPING) for trial in told(tmp_path / "whole")]
    assert rules[-2] == rules[-1] is not None


def test_being_killed_between_handing_in_and_telling_tells_what_was_stopped(tmp_path, wide, searched, monkeypatch):
    _, whole = searched
    search, victim = stopping(wide, tmp_path), early(whole)[0].number

    def crashing(self, record, tell=Worker._tell):
        if record.number == victim:
            raise KeyboardInterrupt
        tell(self, record)

    monkeypatch.setattr(Worker, "_tell", crashing)
    with pytest.raises(KeyboardInterrupt):
        run(search)
    monkeypatch.undo()
    assert run(search) == whole
    assert STOPPED in told(tmp_path)[victim].user_attrs


def test_a_study_that_was_deleted_is_made_anew_with_what_was_stopped_and_goes_on(tmp_path, wide, searched):
    folder, first = copied(searched[0], tmp_path), searched[1]
    for path in folder.glob("study.db*"):
        path.unlink()
    pool = FakePool(made=curved)
    longer = run(stopping(wide, folder, num_trials=18), pool)
    assert longer[: len(first)] == first
    assert pool.num_trained == 2
    assert [trial.value for trial in told(folder)] == [record.accuracy for record in longer]


def test_images_that_are_saved_are_counted(tmp_path, wide):
    search, place = stopping(wide, tmp_path), Place(url=address(tmp_path / "study.db"), study=STUDY)
    spared = []
    found = lead(search, place, {}, FakePool(made=curved), Silent(), lambda images: None, spared=spared.append)
    assert sum(spared) + sum(record.images for record in found) == 100 * EPOCHS * num_trained(found)
    assert sum(spared) > 0


def test_the_dashboard_s_note_says_what_was_extrapolated(wide, searched):
    folder, found = searched
    plan = {"base": {"widths": wide.structure.widths, "flops": wide.model.base.flops}, "epochs": EPOCHS}
    stopped = early(found)[0]
    text = note(told(folder)[stopped.number], plan, None)
    assert f"extrapolated: stopped after epoch {stopped.extrapolation.epoch} (prediction interval " in text
    assert "extrapolated" not in note(told(folder)[0], plan, None)


def test_a_record_of_before_there_was_stopping_was_not_stopped(searched):
    record = early(searched[1])[0]
    data = json.loads(json.dumps(record.to_json()))
    assert TrialRecord.from_json(data) == record
    del data["extrapolation"]
    assert TrialRecord.from_json(data).extrapolation is None
