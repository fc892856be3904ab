import contextlib
import functools
import itertools
import json

import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from pruneas.errors import DataError, RunError, StructureError
from pruneas.progress import Silent
from pruneas.search import samplers
from pruneas.search.records import SEARCH, Anchor, TrialRecord, best_candidates, num_trained, read_trials
from pruneas.search.storage import address, connect
from pruneas.search.study import open_study
from pruneas.search.worker import COPIES_IN_A_ROW, Worker
from pruneas.training import Outcome
from tests.tiny import FakePool, Givens, led


class Watch(Silent):
    def __init__(self):
        self.lines, self.notes = [], []

    def trial(self, line):
        self.lines.append(line)

    def note(self, text):
        self.notes.append(text)


def run(search, pool=None, observer=None):
    return led(search, pool, observer or Watch())


def told(folder):
    return {trial.number: trial.value for trial in open_study(connect(address(folder / "study.db"))).get_trials()}


def test_the_anchors_come_first_with_their_exact_widths(tmp_path, givens):
    found = run(givens.search(tmp_path))
    assert [record.origin for record in found[:3]] == ["uniform", "l1", SEARCH]
    assert list(found[0].widths.values()) == givens.uniform.tolist()
    assert list(found[1].widths.values()) == [2, 6, 9]


def test_every_candidate_is_inside_the_budget(tmp_path, givens):
    for record in run(givens.search(tmp_path, num_trials=12)):
        widths = givens.model.vector(record.widths)
        assert record.flops == int(givens.model.flops(widths)) <= givens.most
        assert record.params == int(givens.model.params(widths))
        assert givens.legal.holds(widths)


def test_the_records_the_study_and_what_is_returned_agree(tmp_path, givens):
    found = run(givens.search(tmp_path))
    assert read_trials(tmp_path) == found
    assert told(tmp_path) == {record.number: record.accuracy for record in found}


def test_as_many_candidates_are_trained_as_asked_for_and_copies_do_not_count(tmp_path, givens):
    pool = FakePool()
    found = run(givens.search(tmp_path, num_trials=10), pool)
    assert num_trained(found) == 10 == pool.num_trained
    for copy in (record for record in found if record.copied_from is not None):
        source = found[copy.copied_from]
        assert (copy.widths, copy.accuracy) == (source.widths, source.accuracy)
        assert source.copied_from is None
        assert copy.images == 0


def test_equal_anchors_are_trained_once(tmp_path, givens):
    pool = FakePool()
    found = run(givens.search(tmp_path, anchors={"uniform": givens.uniform, "l1": givens.uniform}, num_trials=1), pool)
    assert [record.copied_from for record in found] == [None]
    found = run(givens.search(tmp_path, anchors={"uniform": givens.uniform, "l1": givens.uniform}, num_trials=2), pool)
    assert found[1].copied_from == 0


def test_more_trials_extend_a_search_and_train_nothing_again(tmp_path, givens):
    first = run(givens.search(tmp_path, num_trials=4))
    pool = FakePool()
    assert run(givens.search(tmp_path, num_trials=4), pool) == first
    assert pool.num_trained == 0
    longer = run(givens.search(tmp_path, num_trials=7), pool)
    assert longer[: len(first)] == first
    assert pool.num_trained == 3


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("crash_after", [0, 1, 2, 5])
def test_a_search_that_is_stopped_anywhere_goes_on_to_the_same_trials(tmp_path, givens, workers, crash_after):
    whole = run(givens.search(tmp_path / "whole", workers=workers))
    search = givens.search(tmp_path / "parts", workers=workers)
    with pytest.raises(KeyboardInterrupt):
        run(search, FakePool(crash_after=crash_after))
    assert run(search) == whole


@pytest.mark.parametrize("point", range(7))
def test_being_killed_between_writing_and_telling_loses_nothing(tmp_path, givens, monkeypatch, point):
    whole = run(givens.search(tmp_path / "whole", num_trials=7))
    search = givens.search(tmp_path / "parts", num_trials=7)
    count = 0

    def crashing(self, record, tell=Worker._tell):
        nonlocal count
        count += 1
        if count == point + 1:
            raise KeyboardInterrupt
        tell(self, record)

    monkeypatch.setattr(Worker, "_tell", crashing)
    with pytest.raises(KeyboardInterrupt):
        run(search)
    monkeypatch.undo()
    written = num_trained(read_trials(tmp_path / "parts"))
    pool = FakePool()
    assert run(search, pool) == whole
    assert pool.num_trained == 7 - written


class Cut:
    """Raises KeyboardInterrupt before or after one of the writes to a study."""

    def __init__(self, point, moment):
        self.left, self.moment = point, moment

    def into(self, monkeypatch):
        for name in dir(RDBStorage):
            if name.startswith(("set_", "create_new_")):
                method = functools.partial(self.write, getattr(RDBStorage, name))
                monkeypatch.setattr(RDBStorage, name, lambda *given, method=method, **more: method(*given, **more))

    def write(self, write, *arguments, **more):
        self.left -= 1
        if self.left == -1 and self.moment == "before":
            raise KeyboardInterrupt
        value = write(*arguments, **more)
        if self.left == -1:
            raise KeyboardInterrupt
        return value


@pytest.mark.parametrize("sampler", ["random", "gp"])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_being_killed_at_any_write_leads_to_the_same_trials(tmp_path, givens, monkeypatch, sampler, moment, step):
    """In a half-drawn trial, in a batch half asked for, or with a trial that copies another one's result beside one
    that was never asked for."""
    monkeypatch.setattr(samplers, "RANDOM_TRIALS", 0)
    whole = run(givens.search(tmp_path / "whole", workers=3, sampler=sampler, num_trials=8))
    for point in itertools.count(3, step):
        search = givens.search(tmp_path / f"parts{point}", workers=3, sampler=sampler, num_trials=8)
        cut = Cut(point, moment)
        with monkeypatch.context() as crash, contextlib.suppress(KeyboardInterrupt):
            cut.into(crash)
            run(search)
        if cut.left >= 0:  # there are no more writes
            break
        assert run(search) == whole, f"cut at write {point}"
    assert point > 50


def test_being_killed_between_two_anchors_is_no_other_search(tmp_path, givens, monkeypatch):
    import optuna

    def once(self, *arguments, enqueue=optuna.Study.enqueue_trial, **more):
        monkeypatch.setattr(optuna.Study, "enqueue_trial", raising)
        return enqueue(self, *arguments, **more)

    def raising(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(optuna.Study, "enqueue_trial", once)
    search = givens.search(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        run(search)
    monkeypatch.undo()
    assert run(search) == run(givens.search(tmp_path / "whole"))


def test_a_study_that_was_deleted_is_made_anew_from_the_records(tmp_path, givens):
    search = givens.search(tmp_path, num_trials=10)
    first = run(search)
    for name in ("study.db", "study.db-wal", "study.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    pool, watch = FakePool(), Watch()
    assert run(search, pool, watch) == first
    assert pool.num_trained == 0
    assert told(tmp_path) == {record.number: record.accuracy for record in first}
    assert [line.number for line in watch.lines] == [record.number for record in first]


def test_a_record_that_was_deleted_is_written_again_from_the_study(tmp_path, givens):
    search = givens.search(tmp_path)
    first = run(search)
    (tmp_path / "trials" / "00002.json").unlink()
    pool = FakePool()
    assert run(search, pool) == first == read_trials(tmp_path)
    assert pool.num_trained == 0


def test_the_study_of_an_earlier_pruneas_is_gone_on_with(tmp_path, givens):
    search = givens.search(tmp_path)
    first = run(search)
    storage = connect(address(tmp_path / "study.db"))
    with storage.engine.begin() as connection:  # which had no leases, and did not write down what it had planned
        connection.execute(sqlalchemy.text("DROP TABLE pruneas_leases"))
        connection.execute(sqlalchemy.text("DELETE FROM trial_user_attributes WHERE key = 'planned'"))
    (tmp_path / "trials" / "00005.json").unlink()
    pool = FakePool()
    assert run(givens.search(tmp_path, num_trials=6), pool) == first
    assert pool.num_trained == 1


def test_a_trial_that_somebody_else_asked_for_and_ended_is_nobody_s(tmp_path, givens):
    first = run(givens.search(tmp_path, num_trials=3, workers=1))
    storage = connect(address(tmp_path / "study.db"))
    study = open_study(storage)
    study.tell(study.ask(), state=TrialState.FAIL)
    storage.engine.dispose()
    found = run(givens.search(tmp_path, num_trials=5, workers=1))
    assert found[: len(first)] == first
    assert num_trained(found) == 5
    assert len(first) not in {record.number for record in found}


def test_a_record_that_is_garbage_is_told_with_what_to_do(tmp_path, givens):
    run(givens.search(tmp_path))
    path = tmp_path / "trials" / "00002.json"
    for content in (path.read_text()[:40], "[]", "{}", '{"number": 2, "curve": 3}'):
        path.write_text(content)
        with pytest.raises(RunError, match=r"00002\.json: is not a trial's record .*; delete it and give the command"):
            run(givens.search(tmp_path))


def test_a_record_of_another_search_is_refused(tmp_path, givens):
    search = givens.search(tmp_path)
    run(search)
    path = tmp_path / "trials" / "00003.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"seed": data["seed"] + 1}))
    (tmp_path / "study.db").unlink()
    with pytest.raises(RunError, match=r"00003\.json: is not of this study"):
        run(search)


def test_a_study_of_other_generators_is_refused(tmp_path, givens):
    run(givens.search(tmp_path, anchors={"uniform": givens.uniform}))
    with pytest.raises(RunError, match="without the generators l1; use --fresh"):
        run(givens.search(tmp_path))


def test_a_training_that_fails_is_recorded_and_the_search_goes_on(tmp_path, givens):
    def fails(key, training):
        if key == "trial 1":
            return Outcome(key=key, failure="the loss became nan")
        if key == "trial 2":
            error = StructureError("cannot be built")
            return Outcome(key=key, failure=str(error), user_error=error)
        return None

    watch = Watch()
    found = run(givens.search(tmp_path), FakePool(fails=fails), watch)
    assert [record.failure for record in found[:4]] == [None, "the loss became nan", "cannot be built", None]
    assert found[1].accuracy is None
    assert watch.notes == ["trial 1 failed: the loss became nan", "trial 2 failed: cannot be built"]
    assert num_trained(found) == 6
    assert told(tmp_path)[1] is None
    assert {1, 2}.isdisjoint(record.number for record in best_candidates(found, 10))


def test_what_would_befall_every_training_ends_the_search(tmp_path, givens):
    def fails(key, training):
        error = DataError("an image is corrupt")
        return Outcome(key=key, failure=str(error), user_error=error)

    with pytest.raises(DataError, match="corrupt"):
        run(givens.search(tmp_path), FakePool(fails=fails))
    assert read_trials(tmp_path) == []


def test_a_space_with_nothing_new_to_offer_ends_the_search(tmp_path):
    narrow = Givens.of(at_least={"features.0": 4}, freeze=("features.3",), at_most={"features.7": 11}, budget="1.0")
    pool = FakePool()
    found = run(narrow.search(tmp_path, anchors={"uniform": narrow.uniform}, num_trials=500), pool)
    assert num_trained(found) < 30
    assert all(record.copied_from is not None for record in found[-COPIES_IN_A_ROW:])
    assert run(narrow.search(tmp_path, anchors={"uniform": narrow.uniform}, num_trials=500), pool) == found


def test_the_best_are_those_of_highest_accuracy_then_lower_loss_then_the_first():
    def made(number, accuracy, loss=0.0, copied_from=None):
        return TrialRecord(
            number=number, origin=SEARCH, widths={"a": number}, flops=1, params=1, seed=0, accuracy=accuracy, loss=loss,
            curve=(), seconds=0.0, images=0, copied_from=copied_from,
        )  # fmt: skip

    records = [made(0, 0.5, 0.2), made(1, 0.5, 0.1), made(2, None), made(3, 0.9, copied_from=0), made(4, 0.5, 0.1)]
    assert [record.number for record in best_candidates(records, 10)] == [1, 4, 0]
    assert TrialRecord.from_json(json.loads(json.dumps(records[3].to_json()))) == records[3]


def test_blocks_that_are_searched_are_taken_out_and_priced_without(tmp_path):
    givens = Givens.of("pruneas:resnet20(width=0.25, channels=1)")
    names = [block.name for block in givens.structure.blocks]
    anchors = {
        "uniform": givens.uniform,
        "sss": Anchor(widths=givens.structure.widths, removed=tuple(names[:2])),
    }
    found = run(givens.search(tmp_path, anchors=anchors, searches_blocks=True, num_trials=12))
    assert [record.removed for record in found[:2]] == [(), tuple(names[:2])]
    proposed = found[2:]
    assert any(record.removed for record in proposed)
    for record in proposed:
        model = givens.model.without(givens.structure, record.removed)
        widths = model.vector(record.widths)
        assert record.flops == int(model.flops(widths)) <= givens.most
        gone = givens.structure.without(record.removed)
        assert all(record.widths[name] == givens.structure.widths[name] for name in gone)
    assert read_trials(tmp_path) == found


def test_anchors_keep_what_their_channel_selections_take(tmp_path, givens):
    selections = {"features.0": (1, 3)}
    anchor = Anchor(widths=givens.model.mapping(givens.uniform), selections=selections)
    trained = []
    pool = FakePool(fails=lambda _, training: trained.append(training.selections))
    found = run(givens.search(tmp_path, anchors={"uniform": givens.uniform, "slimming": anchor}, num_trials=3), pool)
    assert found[1].selections == selections
    assert found[1].copied_from is None, "the same widths with other channels are another architecture"
    assert trained[:2] == [{}, selections]
