"""Several processes on one search, played by threads; whole processes are in tests/run/test_workers.py."""

import json
import threading
import time

import optuna
import psycopg
import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from pruneas.errors import RunError
from pruneas.progress import Silent
from pruneas.search import worker
from pruneas.search.leases import TABLE, Leases
from pruneas.search.records import PLAN, num_trained, read_trials
from pruneas.search.storage import address, connect
from pruneas.search.study import open_study
from pruneas.search.trials import Search
from pruneas.search.worker import ASKING, RUN, Place, join, lead
from tests.tiny import FakePool, led, until


class Timed(FakePool):
    """Takes its second job only after `second`, beating meanwhile; after its first training it sleeps until `asleep`,
    with all its heartbeats."""

    def __init__(self, *, second=lambda: True, asleep=lambda: True, **more):
        super().__init__(**more)
        self.second, self.asleep = second, asleep

    def run(self, jobs, on_message=None, pulse=None):
        def paced():
            for job in jobs:
                yield job
                while self.num_trained and not self.second():
                    yield None

        for outcome in super().run(paced(), on_message, pulse):
            until(self.asleep)
            yield outcome


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


class Team:
    """A leader and those who join, each in a thread; `ended()` gives the leader's trials."""

    def __init__(self, givens, storage, tmp_path, *, lease=30.0, **changes):
        self.search = givens.search(tmp_path / "run", **changes)
        self.place = Place(url=address(storage), study="a study", lease=lease)
        self.threads, self.found, self.errors = [], {}, []

    def begin(self, name, work):
        def kept():
            try:
                self.found[name] = work()
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=kept)
        self.threads.append(thread)
        thread.start()

    def lead(self, pool, observer=None):
        self.begin(
            "leader",
            lambda: lead(self.search, self.place, {"schema": 1}, pool, observer or Silent(), lambda images: None),
        )

    def join(self, name, pool, observer=None):
        def work():
            storage = connect(self.place.url)
            while PLAN not in {
                key for each in optuna.get_all_study_summaries(storage) for key in each.user_attrs
            }:  # the leader is about to
                time.sleep(0.05)
            try:
                return join(self.search, self.place, storage, pool, observer or Silent(), lambda images: None)
            finally:
                storage.engine.dispose()

        self.begin(name, work)

    def ended(self):
        for thread in self.threads:
            thread.join(120)
        assert self.errors == []
        assert all(found == self.found["leader"] for found in self.found.values())
        return self.found["leader"]


def test_those_who_join_share_the_trials_and_each_is_trained_once(givens, storage, tmp_path):
    team = Team(givens, storage, tmp_path, num_trials=7, workers=1)
    pools = []
    pools += [Timed(second=lambda: all(pool.num_trained for pool in pools)) for _ in range(3)]
    team.lead(pools[0])
    team.join("ann", pools[1])
    team.join("ben", pools[2])
    found = team.ended()
    assert [record.number for record in found] == list(range(len(found)))
    assert num_trained(found) == 7 == sum(pool.num_trained for pool in pools)
    assert len({tuple(r.widths.values()) for r in found if r.copied_from is None}) == 7
    assert read_trials(tmp_path / "run") == found


def test_a_trial_of_one_who_slept_is_another_s_and_counted_once(givens, storage, tmp_path):
    team = Team(givens, storage, tmp_path, num_trials=6, workers=1, lease=2.0)
    notes = Notes()
    awake = Timed(second=lambda: sleeper.num_trained)
    sleeper = Timed(asleep=lambda: awake.num_trained == 6)
    team.lead(awake)
    team.join("sleeper", sleeper, notes)
    found = team.ended()
    assert num_trained(found) == 6
    assert awake.num_trained == 6 and sleeper.num_trained == 1
    assert [note for note in notes.notes if "another has taken it over" in note]


def test_who_joins_and_dies_leaves_its_trial_to_the_others(givens, storage, tmp_path):
    team = Team(givens, storage, tmp_path, num_trials=5, workers=1, lease=2.0)
    team.lead(Timed(second=lambda: team.errors))
    team.join("mortal", FakePool(crash_after=1))
    for thread in team.threads:
        thread.join(120)
    assert [type(error) for error in team.errors] == [KeyboardInterrupt]
    assert num_trained(team.found["leader"]) == 5


def test_without_the_leader_those_who_joined_end_the_search_and_it_takes_their_results(givens, storage, tmp_path):
    search = givens.search(tmp_path / "run", num_trials=6, workers=1)
    place = Place(url=address(storage), study="a study")
    arguments = place, {"schema": 1}
    with pytest.raises(KeyboardInterrupt):
        lead(search, *arguments, FakePool(crash_after=2), Silent(), lambda images: None)
    opened = connect(place.url)
    found = join(search, place, opened, FakePool(), Silent(), lambda images: None)
    opened.engine.dispose()
    assert num_trained(found) == 6
    assert len(read_trials(tmp_path / "run")) == 2
    pool, images = FakePool(), []
    assert lead(search, *arguments, pool, Silent(), images.append) == found == read_trials(tmp_path / "run")
    assert pool.num_trained == 0
    assert sum(images) == 4


def test_a_second_leader_is_told_of_the_first(givens, storage, tmp_path):
    team = Team(givens, storage, tmp_path, num_trials=4)
    notes = Notes()
    ready, go_on = threading.Event(), threading.Event()

    class Waiting(FakePool):
        def run(self, *arguments):
            for outcome in super().run(*arguments):
                ready.set()
                go_on.wait(60)
                yield outcome

    team.lead(Waiting(), notes)
    assert ready.wait(60)
    elsewhere = givens.search(tmp_path / "elsewhere", num_trials=4)
    with pytest.raises(
        RunError, match=r"'a study' in .*: .*/run leads this search \(process \d+\); join it with"
    ) as told:
        lead(elsewhere, team.place, {"schema": 1}, FakePool(), Silent(), lambda images: None)
    go_on.set()
    assert "sesame" not in str(told.value)
    found = team.ended()
    # The first has ended: whoever leads now has all its trials.
    again = lead(elsewhere, team.place, {"schema": 1}, FakePool(crash_after=0), Silent(), lambda images: None)
    assert again == found


def test_a_leader_that_slept_while_another_took_over_stops(givens, storage, tmp_path):
    search = givens.search(tmp_path / "run", num_trials=6, workers=1)
    place = Place(url=address(storage), study="a study", lease=1.0)

    class Taken(FakePool):
        """At the third training another leader comes, as this one has been asleep for long."""

        def run(self, jobs, on_message=None, pulse=None):
            for outcome in super().run(jobs, on_message, pulse):
                if self.num_trained == 3:
                    time.sleep(1.5)
                    other = place.leases(connect(place.url).engine, "elsewhere")
                    assert other.claim(RUN)
                    other.engine.dispose()
                yield outcome

    with pytest.raises(RunError, match=r"did not answer for more than 1 s, and another one leads the search now"):
        lead(search, place, {}, Taken(), Silent(), lambda images: None)
    assert [record.number for record in read_trials(tmp_path / "run")] == [0, 1, 2]


def test_fresh_forgets_the_study(givens, storage, tmp_path):
    place = Place(url=address(storage), study="a study")
    first = lead(givens.search(tmp_path / "a", num_trials=3), place, {}, FakePool(), Silent(), lambda images: None)
    pool = FakePool()
    search = givens.search(tmp_path / "b", num_trials=3)
    assert lead(search, place, {}, pool, Silent(), lambda images: None, fresh=True) == first
    assert pool.num_trained == num_trained(first)


def test_a_study_that_was_deleted_meanwhile_is_told(givens, storage, tmp_path):
    search = givens.search(tmp_path / "run", num_trials=6)
    place = Place(url=address(storage), study="a study")

    class Deleting(FakePool):
        def run(self, *arguments):
            for outcome in super().run(*arguments):
                if self.num_trained == 3:
                    optuna.delete_study(study_name="a study", storage=connect(place.url))
                yield outcome

    with pytest.raises(RunError, match="'a study': was deleted while it was worked on; give the command again"):
        lead(search, place, {}, Deleting(), Silent(), lambda images: None)
    pool = FakePool()
    found = lead(search, place, {}, pool, Silent(), lambda images: None)
    assert num_trained(found) == 6
    assert pool.num_trained < 6


def test_a_run_goes_on_elsewhere_from_its_folder_alone(givens, tmp_path, postgres_server):
    """Its proposals were asked for as workers came free: asking again, in batches, would not repeat them."""
    team = Team(givens, postgres_server.database(), tmp_path, num_trials=8, workers=1, sampler="tpe")
    ann = FakePool()
    team.lead(Timed(second=lambda: ann.num_trained))
    team.join("ann", ann)
    found = team.ended()
    copied = {record.copied_from for record in found}
    lost = [record.number for record in found if record.copied_from is None and record.number not in copied][3:5]
    for number in lost:
        (tmp_path / "run" / "trials" / f"{number:05}.json").unlink()
    pool = FakePool()
    again = led(givens.search(tmp_path / "run", num_trials=8, workers=2, sampler="tpe"), pool)
    assert num_trained(again) == 8
    assert pool.num_trained <= 2
    kept = [record for record in found if record.number not in lost]
    assert [record for record in again if record in kept] == kept


def test_who_dies_while_asking_is_followed_by_whoever_asks_next(givens, storage, tmp_path):
    search = givens.search(tmp_path / "run", num_trials=4, workers=1)
    place = Place(url=address(storage), study="a study", lease=1.0)
    known = connect(place.url)
    open_study(known, place.study).set_user_attr(PLAN, {})  # it has begun: leases of a new study are forgotten
    engine = known.engine
    dead = place.leases(engine, "dead")
    dead.create()
    dead.claim(ASKING)
    began = time.monotonic()
    found = lead(search, place, {}, FakePool(), Silent(), lambda images: None)
    engine.dispose()
    assert num_trained(found) == 4
    assert time.monotonic() - began > 0.9


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"data": "others"},
            "begun in /runs/a, and these differ here: the images. Go on in that folder, or use --fresh",
        ),
        ({"structure": "another", "limits": {"flops": 9}}, "these differ here: the network, the limits"),
        ({"anchors": {"l1": {"widths": {"a": 3}}}}, "these differ here: what the generators gave"),
        ({"latency_table": {"rest": 2.0}}, "these differ here: the table of latency"),
        ({"schema": 1}, "is a newer pruneas's; install that version here, or use --fresh"),
    ],
)
def test_a_study_of_other_images_networks_or_generators_is_not_taken_over(givens, tmp_path, changes, text):
    place = Place(url=address(f"sqlite:///{tmp_path / 'storage.db'}"), study="a study")
    plan = {"schema": 2, "folder": "/runs/a", "structure": "a", "data": "b", "limits": {"flops": 8}}
    plan |= {"latency_table": None, "anchors": {"l1": {"widths": {"a": 2}, "removed": (), "selections": {}}}}
    arguments = FakePool(), Silent(), lambda images: None
    found = lead(givens.search(tmp_path / "a", num_trials=2, workers=1), place, plan, *arguments)
    other = givens.search(tmp_path / "b", num_trials=3, workers=1)
    with pytest.raises(RunError, match=text):
        lead(other, place, plan | changes, *arguments)
    study = open_study(connect(place.url), place.study)
    assert study.user_attrs[PLAN] == json.loads(json.dumps(plan))
    assert lead(other, place, plan | {"folder": "/runs/b"}, *arguments)[: len(found)] == found  # the same, extended
    assert lead(other, place, plan | changes, *arguments, fresh=True)


def asleep(monkeypatch, search, name, at, meanwhile):
    """Before its so manieth call of a method, the search's process sleeps, past its lease, and `meanwhile` happens."""
    done, calls = getattr(Search, name), []

    def late(self, *arguments):
        if self is search:
            calls.append(name)
            if len(calls) == at:
                meanwhile()
        return done(self, *arguments)

    monkeypatch.setattr(Search, name, late)


def ends(place, search):
    """Another takes the turn of who sleeps while it asks, and ends the search."""
    opened = connect(place.url)
    with opened.engine.begin() as connection:
        connection.execute(TABLE.update().where(TABLE.c.task == ASKING).values(ends=0.0))
    join(search, place, opened, FakePool(), Silent(), lambda images: None)
    opened.engine.dispose()


def test_who_sleeps_while_asking_adds_no_trial_to_those_asked_for(givens, storage, tmp_path, monkeypatch):
    place = Place(url=address(storage), study="a study")
    search, other = (givens.search(tmp_path / name, num_trials=6, workers=1) for name in ("run", "elsewhere"))
    asleep(monkeypatch, search, "ask", 4, lambda: ends(place, other))
    found = lead(search, place, {}, FakePool(), Silent(), lambda images: None)
    assert num_trained(found) == 6
    trials = open_study(connect(place.url), place.study).get_trials()
    [surplus] = [trial for trial in trials if trial.number not in {record.number for record in found}]
    assert (surplus.state, surplus.user_attrs) == (TrialState.FAIL, {"surplus": "others asked for trial 3 meanwhile"})
    longer = givens.search(tmp_path / "run", num_trials=8, workers=1)
    assert num_trained(lead(longer, place, {}, FakePool(), Silent(), lambda images: None)) == 8


def test_a_trial_of_one_who_slept_while_it_was_drawn_is_completed_by_others(givens, storage, tmp_path, monkeypatch):
    place = Place(url=address(storage), study="a study")
    search, other = (givens.search(tmp_path / name, num_trials=6, workers=1) for name in ("run", "elsewhere"))
    asleep(monkeypatch, search, "_stopping", 4, lambda: ends(place, other))
    pool = FakePool()
    found = lead(search, place, {}, pool, Silent(), lambda images: None)
    assert [record.number for record in found] == list(range(len(found)))
    assert (num_trained(found), pool.num_trained) == (6, 3)


def test_who_lost_the_turn_while_it_slept_does_not_ask(givens, tmp_path, monkeypatch):
    """Neither for what was half asked for, nor for more."""
    search = givens.search(tmp_path, num_trials=4, workers=2)
    with monkeypatch.context() as crash, pytest.raises(KeyboardInterrupt):
        crash.setattr(Search, "_untrained", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        led(search)
    events = []

    def renewed(self, tasks, renew=Leases.renew):
        if ASKING not in tasks:
            return renew(self, tasks)
        events.append("lost" if not events or events[-1] != "lost" else "kept")
        return {ASKING} if events[-1] == "lost" else renew(self, tasks)

    monkeypatch.setattr(Leases, "renew", renewed)
    for name in ("ask", "ask_again"):

        def asked(self, *arguments, name=name, ask=getattr(Search, name)):
            events.append(name)
            return ask(self, *arguments)

        monkeypatch.setattr(Search, name, asked)
    assert num_trained(led(search)) == 4
    assert events[:3] == ["lost", "kept", "ask_again"]
    asked_at = [index for index, event in enumerate(events) if event.startswith("ask")]
    assert len(asked_at) >= 4 and all(events[index - 1] == "kept" for index in asked_at)


def test_a_storage_that_goes_away_as_a_search_begins_or_is_joined_is_waited_for(givens, storage, tmp_path, monkeypatch):
    """In each of its steps: to connect, to lead, to open the study, to begin, and to join."""
    away = OperationalError("SELECT", {}, psycopg.OperationalError("server closed the connection"))
    cut = []

    def cuts(owner, name):
        def step(*arguments, step=getattr(owner, name), **more):
            value = step(*arguments, **more)
            if name not in cut:  # it was done, but the answer is lost
                cut.append(name)
                if name != "connect":
                    raise away
                value.engine.dispose()
                raise RunError("storage x: cannot be opened") from away
            return value

        monkeypatch.setattr(owner, name, step)

    for owner, name in ((worker, "connect"), (Leases, "claim"), (worker, "open_study"), (Search, "enqueue_anchors")):
        cuts(owner, name)
    place, notes = Place(url=address(storage), study="a study"), Notes()
    with pytest.raises(KeyboardInterrupt):
        lead(givens.search(tmp_path / "run"), place, {}, FakePool(crash_after=2), notes, lambda images: None)
    assert cut == ["connect", "claim", "open_study", "enqueue_anchors"]
    assert len([note for note in notes.notes if "answers again" in note]) == 4
    cuts(optuna, "load_study")
    opened = connect(place.url)
    found = join(givens.search(tmp_path / "elsewhere"), place, opened, FakePool(), notes, lambda images: None)
    opened.engine.dispose()
    assert cut[4:] == ["load_study"]
    assert num_trained(found) == 6


def test_who_joined_before_a_run_was_extended_works_on_until_it_is_over(givens, storage, tmp_path):
    place = Place(url=address(storage), study="a study")
    short, long = (givens.search(tmp_path / "run", num_trials=number, workers=1) for number in (4, 9))
    with pytest.raises(KeyboardInterrupt):
        lead(short, place, {"trials": 4}, FakePool(crash_after=2), Silent(), lambda images: None)
    joined = []

    class Joined(FakePool):
        def run(self, *arguments):
            for outcome in super().run(*arguments):
                yield outcome
                if self.num_trained == 3:
                    opened = connect(place.url)
                    joined.append(join(short, place, opened, FakePool(), Silent(), lambda images: None))
                    opened.engine.dispose()

    found = lead(long, place, {"trials": 9}, Joined(), Silent(), lambda images: None)
    assert joined == [found]
    assert num_trained(found) == 9


def test_a_machine_of_the_same_name_does_not_take_a_living_leader_s_trials(givens, tmp_path):
    place = Place(url=address(tmp_path / "storage.db"), study="a study")
    givens.search(tmp_path / "run")  # makes the folder
    identity = tmp_path / "run" / "trials" / ".identity"

    def leading():
        return worker._leading(connect(place.url), place, tmp_path / "run", print, fresh=False)

    with leading() as (_, mine):
        kept = identity.read_text()
        identity.write_text("0" * 8)  # the same path, on another machine
        with pytest.raises(RunError, match=r"/run leads this search \(process \d+\)"), leading():
            pass
        assert mine.renew([RUN]) == set()
        identity.write_text(kept)
        with leading():  # but the folder is its own: who worked from it is dead
            assert mine.renew([RUN]) == {RUN}
