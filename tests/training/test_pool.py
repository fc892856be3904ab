import gc
import multiprocessing.connection
import os
import signal
import struct
import subprocess
import sys
import time
import types

import pytest
import torch

from pruneas.errors import DataError
from pruneas.training import Job, Pool
from pruneas.training.pool import LIVES


def double(report, number):
    report("half-way")
    return 2 * number


def threads(report):
    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


def tensor(report):
    return {"weight": torch.arange(7.0)}


def raise_data_error(report):
    raise DataError("pictures: must be a folder")


class Unpicklable(DataError):
    def __init__(self, where, what):
        super().__init__(f"{where}: {what}")


def raise_unpicklable_error(report):
    raise Unpicklable("pictures", "must be a folder")


def divide_by_zero(report):
    return 1 / 0


def use_all_memory(report):
    raise MemoryError("that was too much")


def give_back_a_lock(report):
    import threading

    return threading.Lock()


def tell_pid_and_sleep(report):
    report(os.getpid())
    time.sleep(60)


def leave(report):
    os._exit(3)


def die_in_the_middle_of_a_message(report):
    connections = [x for x in gc.get_objects() if isinstance(x, multiprocessing.connection.Connection)]
    [sender] = [connection for connection in connections if connection.writable and not connection.closed]
    os.write(sender.fileno(), struct.pack("!i", 1000) + b"only the beginning")
    os.kill(os.getpid(), signal.SIGKILL)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:  # a zombie waits for its parent only
        return stat.read().rpartition(")")[2].split()[0] != "Z"


def soon(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def one(function, **arguments):
    with Pool(workers=1, threads=1) as pool:
        [outcome] = pool.run([Job(key="a", function=function, arguments=arguments)])
    return outcome


def test_every_job_gives_its_value_and_its_messages():
    messages = []
    with Pool(workers=2, threads=1) as pool:
        jobs = (Job(key=str(n), function=double, arguments={"number": n}) for n in range(5))
        outcomes = list(pool.run(jobs, lambda key, message: messages.append((key, message))))
    assert {outcome.key: outcome.value for outcome in outcomes} == {str(n): 2 * n for n in range(5)}
    assert sorted(messages) == [(str(n), "half-way") for n in range(5)]


def test_a_child_has_the_threads_it_was_given():
    with Pool(workers=1, threads=2) as pool:
        [outcome] = pool.run([Job(key="a", function=threads, arguments={})])
    assert outcome.value[0] == 2


def test_tensors_outlive_the_child_that_made_them():
    assert torch.equal(one(tensor).value["weight"], torch.arange(7.0))


def test_jobs_are_drawn_only_when_a_worker_is_free():
    drawn = []

    def jobs():
        for n in range(4):
            drawn.append(n)
            yield Job(key=str(n), function=double, arguments={"number": n})

    with Pool(workers=1, threads=1) as pool:
        for done, _ in enumerate(pool.run(jobs()), 1):
            assert len(drawn) == done


def test_an_error_of_the_users_comes_back_as_itself():
    outcome = one(raise_data_error)
    assert isinstance(outcome.user_error, DataError)
    assert str(outcome.user_error) == "pictures: must be a folder"
    assert outcome.failure is not None


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (divide_by_zero, "ZeroDivisionError: division by zero ("),
        (raise_unpicklable_error, "Unpicklable: pictures: must be a folder"),
        (use_all_memory, "ran out of memory (MemoryError: that was too much)"),
        (give_back_a_lock, "cannot pickle '_thread.lock' object"),
        (leave, "ended with exit code 3 and without a result"),
        (die_in_the_middle_of_a_message, "was killed by signal 9, SIGKILL (out of memory?)"),
    ],
)
def test_a_failure_says_what_happened(function, text):
    outcome = one(function)
    assert text in outcome.failure
    assert outcome.value is None
    assert outcome.user_error is None


def test_a_job_that_cannot_be_sent_is_a_failure_and_the_others_run():
    with Pool(workers=1, threads=1) as pool:
        jobs = [
            Job(key="a", function=lambda report: 1, arguments={}),
            Job(key="b", function=double, arguments={"number": 3}),
        ]
        first, second = pool.run(jobs)
    assert first.failure.startswith("cannot be sent to another process")
    assert second.value == 6


def test_what_only_the_main_script_knows_is_a_failure_that_says_so(monkeypatch):
    main = types.ModuleType("__main__")
    exec("def job(report): return 1", main.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert "__main__" in one(main.job).failure


def test_killing_one_child_leaves_the_others():
    pids = []

    def kill(key, message):
        if key == "victim":
            pids.append(message)
            os.kill(message, signal.SIGKILL)

    with Pool(workers=2, threads=1) as pool:
        jobs = [
            Job(key="victim", function=tell_pid_and_sleep, arguments={}),
            Job(key="other", function=double, arguments={"number": 4}),
        ]
        outcomes = {outcome.key: outcome for outcome in pool.run(jobs, kill)}
    assert outcomes["victim"].failure == "was killed by signal 9, SIGKILL (out of memory?)"
    assert outcomes["other"].value == 8


def die_young(report, path, lives):
    """Each life gets one message further, and dies before the next; the last one ends well."""
    lived = len(path.read_text())
    path.write_text("x" * (lived + 1))
    for number in range(lived + 1):
        report(number)
    if lived < lives:
        os.kill(os.getpid(), signal.SIGKILL)
    return lived


def test_a_job_that_is_killed_is_begun_anew_as_long_as_it_gets_further(tmp_path):
    (tmp_path / "lives").write_text("")
    assert one(die_young, path=tmp_path / "lives", lives=2 * LIVES).value == 2 * LIVES


def die_at_once(report, path):
    path.write_text(path.read_text() + "x")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_job_that_is_killed_again_and_again_has_failed(tmp_path):
    (tmp_path / "lives").write_text("")
    outcome = one(die_at_once, path=tmp_path / "lives")
    assert outcome.failure == "was killed by signal 9, SIGKILL (out of memory?)"
    assert len((tmp_path / "lives").read_text()) == LIVES


def wait_for(report, path):
    report(os.getpid())
    while not path.exists():
        time.sleep(0.05)
    return os.getpid()


def test_a_job_outlives_the_server_that_its_process_was_forked_from(tmp_path):
    from multiprocessing import forkserver

    seen = []

    def kill_the_server(key, pid):
        seen.append(pid)
        if len(seen) == 1:
            os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
        else:
            (tmp_path / "go on").touch()

    with Pool(workers=1, threads=1) as pool:
        job = Job(key="job", function=wait_for, arguments={"path": tmp_path / "go on"})
        (outcome,) = pool.run([job], kill_the_server)
    assert outcome.value == seen[1] != seen[0]
    assert soon(lambda: not alive(seen[0]))


def test_jobs_that_are_not_wanted_any_more_are_killed_and_have_no_outcome():
    pids = {}

    def unwanted():
        return {"a"} if "a" in pids else set()

    with Pool(workers=2, threads=1) as pool:
        jobs = [Job(key="a", function=tell_pid_and_sleep, arguments={})]
        assert list(pool.run(jobs, lambda key, pid: pids.setdefault(key, pid), unwanted)) == []
    assert soon(lambda: not alive(pids["a"]))


def test_where_there_is_nothing_to_do_now_it_is_asked_again():
    answers = iter([None, Job(key="a", function=double, arguments={"number": 2}), None, None])
    with Pool(workers=2, threads=1) as pool:
        assert [outcome.value for outcome in pool.run(answers)] == [4]


def test_an_interrupt_in_the_parent_ends_the_children():
    pids = []

    def interrupt(key, message):
        pids.append(message)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Pool(workers=1, threads=1) as pool:
        list(pool.run([Job(key="a", function=tell_pid_and_sleep, arguments={})], interrupt))
    assert soon(lambda: not alive(pids[0]))


SCRIPT = """
from test_pool import double, tell_pid_and_sleep
from pruneas.training import Job, Pool
from pruneas.training.pool import LIVES
print("started", flush=True)
with Pool(workers=2, threads=1) as pool:
    for outcome in pool.run([Job(key="a", function=double, arguments={"number": 21})]):
        print(outcome.value, outcome.failure, flush=True)
    if SLEEP:
        job = Job(key="b", function=tell_pid_and_sleep, arguments={})
        list(pool.run([job], lambda key, pid: print(pid, flush=True)))
"""


def start_script(tmp_path, *, sleep):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("SLEEP", str(sleep)))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    return subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_script_without_a_guard_runs_once_and_says_nothing_else(tmp_path):
    output, errors = start_script(tmp_path, sleep=False).communicate(timeout=60)
    assert output == "started\n42 None\n"
    assert errors == ""


def test_children_die_with_a_parent_that_is_killed(tmp_path):
    script = start_script(tmp_path, sleep=True)
    assert [script.stdout.readline() for _ in range(2)] == ["started\n", "42 None\n"]
    pid = int(script.stdout.readline())
    assert alive(pid)
    script.kill()
    script.communicate(timeout=30)
    assert soon(lambda: not alive(pid))


@pytest.mark.parametrize(("workers", "count"), [(0, 1), (1, 0)])
def test_a_pool_needs_workers_and_threads(workers, count):
    with pytest.raises(ValueError, match="workers and threads must be at least 1"):
        Pool(workers=workers, threads=count)


def hold_a_gpu(report, path):
    report(os.environ["CUDA_VISIBLE_DEVICES"])
    while not path.exists():
        time.sleep(0.05)


def test_each_job_sees_the_gpu_that_fewest_use(tmp_path):
    seen = {}
    ends = {"b": ["b"], "c": ["a", "c"]}  # b ends once it has a GPU, and leaves it to c

    def told(key, gpu):
        seen[key] = gpu
        if len(seen) > 1:
            for name in ends[max(seen)]:
                (tmp_path / name).touch()

    jobs = [Job(key=key, function=hold_a_gpu, arguments={"path": tmp_path / key}) for key in "abc"]
    with Pool(workers=2, threads=1, gpus=("4", "7")) as pool:
        assert [outcome.failure for outcome in pool.run(jobs, told)] == [None] * 3
    assert {seen["a"], seen["b"]} == {"4", "7"} and seen["c"] == seen["b"]
