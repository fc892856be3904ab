import threading
import time

import pytest

from pruneas.search.leases import TABLE, Leases
from pruneas.search.storage import address, connect


@pytest.fixture
def engine(storage):
    found = connect(address(storage)).engine
    yield found
    found.dispose()


def leases(engine, owner, *, study="study", seconds=60.0):
    found = Leases(engine=engine, study=study, owner=owner, seconds=seconds)
    found.create()
    return found


def test_a_task_is_one_owner_s(engine):
    ann, ben = leases(engine, "ann"), leases(engine, "ben")
    assert ann.claim("trial 0")
    assert not ben.claim("trial 0")
    assert ann.claim("trial 0")
    assert ben.claim("trial 1")
    assert leases(engine, "ben", study="another").claim("trial 0")
    assert {task: hold.owner for task, hold in ann.holds().items()} == {"trial 0": "ann", "trial 1": "ben"}
    ann.release("trial 0")
    ben.release("trial 0")
    assert ben.claim("trial 0")


def test_a_task_that_is_not_renewed_is_the_next_one_s(engine):
    ann, ben = leases(engine, "ann", seconds=2.0), leases(engine, "ben")
    assert ann.claim("trial 0")
    assert ann.holds()["trial 0"].is_held
    time.sleep(1.2)
    assert ann.renew(["trial 0"]) == set()
    time.sleep(1.0)
    assert not ben.claim("trial 0")  # the second lease has most of a second left, for machines that are busy
    time.sleep(1.2)
    assert not ann.holds()["trial 0"].is_held
    assert ann.renew(["trial 0"]) == set()  # late, but nobody has asked for it
    time.sleep(2.2)
    assert ben.claim("trial 0")
    assert ann.renew(["trial 0"]) == {"trial 0"}
    ann.release("trial 0")
    assert not ann.claim("trial 0")


def test_a_result_is_handed_in_once_and_by_the_owner_alone(engine):
    ann, ben = leases(engine, "ann", seconds=0.1), leases(engine, "ben")
    assert ann.claim("trial 0")
    time.sleep(0.2)
    assert ben.claim("trial 0")
    assert not ann.finish("trial 0", "hers")
    assert ann.results(["trial 0"]) == {}
    assert ben.finish("trial 0", "his")
    assert ben.finish("trial 0", "his")  # the first answer was lost on its way
    assert not ben.finish("trial 0", "another")
    assert not ann.claim("trial 0")
    assert ann.results(["trial 0", "trial 1"]) == {"trial 0": "his"}
    assert ben.renew(["trial 0"]) == {"trial 0"}


def test_what_the_dead_had_is_free(engine):
    for owner in ("here:/runs/a#1", "here:/runs/a#2", "here:/runs/ab#3", "here:/runs%#4"):
        assert leases(engine, owner).claim(f"task of {owner}")
    done = leases(engine, "here:/runs/a#1")
    assert done.claim("done") and done.finish("done", "a result")
    me = leases(engine, "here:/runs/a#5")
    assert me.claim("mine")
    me.release_others("here:/runs/a#")
    assert sorted(task for task, hold in me.holds().items() if hold.is_held) == [
        "mine", "task of here:/runs%#4", "task of here:/runs/ab#3"
    ]  # fmt: skip
    assert me.holds()["done"].owner == "here:/runs/a#1"


def test_results_from_elsewhere_replace_none(engine):
    ann = leases(engine, "ann")
    ann.put("trial 0", "old")
    ann.put("trial 0", "new")
    ann.claim("trial 1")
    ann.put("trial 1", "known")
    assert ann.results(["trial 0", "trial 1"]) == {"trial 0": "old", "trial 1": "known"}
    assert not ann.finish("trial 1", "trained")
    ann.clear(but="trial 1")
    assert set(ann.holds()) == {"trial 1"}


def test_of_many_who_ask_at_once_one_gets_it(storage):
    ready, got = threading.Barrier(6), []

    def ask(name):
        engine = connect(address(storage)).engine  # whose tables all of them make at once
        mine = leases(engine, name)
        ready.wait()
        got.extend(task for task in range(8) if mine.claim(f"trial {task}"))
        engine.dispose()

    threads = [threading.Thread(target=ask, args=(f"worker {index}",)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(8))


def test_the_database_s_clock_is_seconds_since_1970(engine):
    ann = leases(engine, "ann", seconds=100)
    ann.claim("trial 0")
    with engine.connect() as connection:
        ends = connection.execute(TABLE.select()).one().ends
    assert abs(ends - 100 - time.time()) < 5
