"""Whole processes on one search: killed, without their database, on a full disk; and what must never be written."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pruneas.search.records import num_trained, read_trials
from tests import postgres
from tests.tiny import ANSI_FREE, SPACE, command, outcome_of, space_file, until
from tests.tiny import pruneas as cli

SEARCH = ["search", "--space", "tiny.toml", "--run", "run"]


RANDOM = ["--sampler", "random"]
"""In so small a space another sampler soon proposes nothing new."""


class Process:
    """The command line in a session of its own, so that all its processes are known."""

    def __init__(self, *arguments, cwd):
        self.log = cwd / f"{arguments[0]}.{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command(*arguments), cwd=cwd, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | ANSI_FREE,
            )  # fmt: skip

    @property
    def output(self):
        return self.log.read_text()

    def members(self):
        """The ids of its processes, without Python's tracker of resources, whose loss Python itself complains of."""
        found = []
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                try:
                    session = int((path / "stat").read_text().rpartition(")")[2].split()[3])
                    line = (path / "cmdline").read_bytes()
                except OSError:
                    continue
                if session == self.process.pid and line and b"resource_tracker" not in line:
                    found.append(int(path.name))
        return sorted(found)

    def kill(self, how=signal.SIGKILL):
        try:
            os.killpg(self.process.pid, how)
        except ProcessLookupError:
            pass
        return self.process.wait(60)

    def wait(self, timeout=280):
        code = self.process.wait(timeout)
        assert code == 0, self.output
        return self.output


@pytest.fixture
def begun():
    """Starts processes; those that are left at the end are killed."""
    processes = []

    def begin(*arguments, cwd):
        processes.append(Process(*arguments, cwd=cwd))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()


def assert_whole(run, num_trials):
    """As many trials as asked for, each once, none failed."""
    records = read_trials(run)
    assert [record.number for record in records] == list(range(len(records)))
    assert num_trained(records) == num_trials
    assert all(record.failure is None and record.accuracy is not None for record in records)


@pytest.mark.timeout(600)
def test_a_search_on_postgresql_outlives_its_server_and_a_worker_and_writes_no_password(tmp_path, begun):
    if (reason := postgres.missing()) is not None:
        pytest.skip(reason)
    server = postgres.Server()
    server.start()
    here, there = tmp_path / "here", tmp_path / "there"
    try:
        url = server.database()
        for folder in (here, there):
            folder.mkdir()
            space_file(folder, SPACE.replace("fidelity = 0.5", "fidelity = 1.0"))
        run = begun(
            *SEARCH, *RANDOM, "--storage", url, "--lease", "3", "--trials", "11", "--epochs", "24",
            "--workers", "1", cwd=here,
        )  # fmt: skip
        until(lambda: len(read_trials(here / "run")) >= 1)
        mortal, worker = (begun("worker", url, "--workers", "1", cwd=there) for _ in range(2))
        until(lambda: all("search: tiny-0.5-" in joined.output for joined in (mortal, worker)))
        mortal.kill()
        server.kill()
        until(lambda: "the storage does not answer" in run.output)
        server.start()
        output = run.wait()
        assert "over: " in worker.wait()
        assert_whole(here / "run", 11)
        assert "the storage answers again" in output
        again = cli("worker", "run", cwd=here, PGPASSWORD=postgres.PASSWORD)  # where it is stands in the run's folder
        assert (again.returncode, again.stdout) == (0, "over: nothing is left to do\n"), again.stderr
        refused = cli("worker", url.replace("/test1", "/test2"), cwd=here)
        assert refused.returncode == 2
        assert 'database "test2" does not exist' in refused.stderr
        written = [path for folder in (here, there) for path in folder.rglob("*") if path.is_file()]
        assert len(written) > 20
        for secret in (postgres.PASSWORD, postgres.PASSWORD.replace(" ", "%20")):
            assert secret not in refused.stderr
            assert [path for path in written if secret.encode() in path.read_bytes()] == []
        assert "tester:***@127.0.0.1" in json.loads((here / "run" / "run.json").read_text())["command"]
    finally:
        server.stop()


def test_those_who_cannot_join_are_told_why(finished, tmp_path):
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    for target, text in (
        ("nothing", "nothing: holds no study.db; give the folder of a run whose search has begun"),
        ("nowhere", "nowhere: there is no such folder"),
        (f"sqlite:///{nothing / 'x.db'}", "x.db: holds no study; give the folder or the storage of a search"),
        ("mysql://ann:secret@host/x", "storage 'mysql://ann:***@host/x': must be postgresql://"),
    ):
        found = cli("worker", target, cwd=tmp_path)
        assert found.returncode == 2
        assert text in found.stderr
    assert list(nothing.iterdir()) == []
    run = finished.copied(tmp_path)
    found = cli("worker", "run", cwd=run.cwd)
    assert (found.returncode, found.stdout) == (0, "over: nothing is left to do\n")


# Killed at random moments -------------------------------------------------------------------------------------------


def survives(cwd, begun, arguments, kills, *, joins=False, seed=0):
    """A search of which any process is killed at any moment, so often; with `joins`, also one that has joined it.

    What was killed as a whole is begun again. Returns how many kills hit somebody.
    """
    draw = random.Random(seed)
    given = {"parent": arguments} | ({"worker": ["worker", "run", "--workers", "1"]} if joins else {})
    running, hits = {}, 0
    for _ in range(20 * kills):
        for name, each in given.items():
            if name == "worker" and not (cwd / "run" / "study.db").exists():
                continue
            if name not in running or running[name].process.poll() not in (None, 0):
                running[name] = begun(*each, cwd=cwd)
        if hits == kills or running["parent"].process.poll() == 0:
            break
        time.sleep(draw.uniform(0.2, 5))
        victim = running[draw.choice(sorted(running))]
        members = victim.members()
        if members:
            # The main process takes all others with it; the others are training, or wait for work.
            hits += 1
            os.kill(draw.choice([victim.process.pid, *members]), signal.SIGKILL)
            time.sleep(0.2)
    for _ in range(5):  # somebody may just have been killed
        if running["parent"].process.wait(600) == 0:
            return hits
        running["parent"] = begun(*arguments, cwd=cwd)
    raise AssertionError(running["parent"].output)


LONGER = [*RANDOM, "--trials", "8", "--epochs", "12", "--workers", "1"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_thirty_times_one_worker_does_the_same_trials_with_the_same_values(tmp_path, begun):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
        space_file(tmp_path / name)
    begun(*SEARCH, *LONGER, cwd=tmp_path / "whole").wait(1200)
    assert survives(tmp_path / "parts", begun, [*SEARCH, *LONGER], 30) == 30
    whole, parts = outcome_of(tmp_path / "whole" / "run"), outcome_of(tmp_path / "parts" / "run")
    assert parts == whole


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("joins", [False, True])
def test_killed_thirty_times_more_workers_complete_the_same_trials(tmp_path, begun, joins):
    space_file(tmp_path)
    arguments = [*SEARCH, *LONGER[:-1], "2", "--lease", "3"]
    hits = survives(tmp_path, begun, arguments, 30, joins=joins)
    assert hits >= 20
    assert_whole(tmp_path / "run", 8)


@pytest.mark.timeout(600)
def test_killed_four_times_one_worker_does_the_same_trials_with_the_same_values(finished, tmp_path, begun):
    space_file(tmp_path)
    assert survives(tmp_path, begun, SEARCH, 4) > 0
    assert outcome_of(tmp_path / "run") == outcome_of(finished.folder)
