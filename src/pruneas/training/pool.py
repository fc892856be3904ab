"""Runs functions in processes of their own, several at a time.

A fresh process for every job gives its memory back, and one that is killed takes no other with it: the job is begun
anew, as long as it gets further than before, or has not been killed too often. Imports are paid
once: children are forked from a server that has torch loaded (where the platform can, else spawned). A job's arguments
and results are pickled by value and travel over a pipe; nothing is shared.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from pruneas import forking
from pruneas.errors import PruneasError

SECONDS_TO_DIE = 5.0
LIVES = 3
"""How often a job may be killed, by a signal, without having got further than before."""
MOST_LIVES = 30
"""How often in all: messages also come as time goes by."""
ATTEMPTS = 50
SERVER_DIED = 255
"""What multiprocessing says of every process whose fork server is gone."""
PULSE = 1.0
"""Seconds after which whoever runs jobs is heard, also while no job says anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`function(report, **arguments)` is called in the child; what it gives to `report` reaches the parent at once.

    The function must be importable by name, from a module and not from a script or notebook; the arguments picklable.
    It is called again where its process was killed; what it reports shows how far it got.
    """

    key: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a job ended: with a `value`; with the `user_error` it raised; or with a `failure`, in words.

    `user_error` comes with `failure` (its text) set; `value` is None whenever `failure` is set.
    """

    key: str
    value: Any = None
    failure: str | None = None
    user_error: PruneasError | None = None


@dataclass(slots=True)
class _Child:
    """A job's process, and the GPU it has to itself. `messages`: how many it sent; `furthest`: the most that an earlier
    process of the job sent; `lives`: how often it may still be killed without sending more; `deaths`: how often it was.
    """

    job: Job
    process: BaseProcess
    connection: Connection
    gpu: str | None = None
    messages: int = 0
    furthest: int = 0
    lives: int = LIVES
    deaths: int = 0


class Pool:
    """At most `workers` jobs at a time, each with `threads` threads for torch. A context manager; leaving it kills
    what still runs. Of several `gpus` (as CUDA_VISIBLE_DEVICES names them) each job sees the one that fewest use, as
    'cuda'.

    Raises:
        ValueError: workers or threads is below 1.
    """

    def __init__(self, *, workers: int, threads: int, gpus: Sequence[str] = ()) -> None:
        if workers < 1 or threads < 1:
            raise ValueError(f"workers and threads must be at least 1, got {workers} and {threads}")
        self._workers = workers
        self._threads = threads
        self._gpus = gpus
        self._children: list[_Child] = []
        self._context = forking.context()

    def __enter__(self) -> "Pool":
        forking.start(self._threads)
        return self

    def __exit__(self, *_: object) -> None:
        self._kill_all()

    def run(
        self,
        jobs: Iterable[Job | None],
        on_message: Callable[[str, Any], None] | None = None,
        pulse: Callable[[], Collection[str]] | None = None,
    ) -> Iterator[Outcome]:
        """Yields outcomes as jobs finish. `jobs` is read one by one as workers come free, so it may depend on outcomes;
        where it yields None there is nothing to do now, and it is asked again after the next outcome or pulse.

        `on_message(key, message)` is called here, in the parent, between outcomes. `pulse()` is called about every
        second and returns the keys of jobs that are not wanted any more: they are killed and have no outcome. If either
        raises, or the caller stops reading, every running job is killed.
        """
        waiting = iter(jobs)
        exhausted = False
        try:
            while True:
                idle = False
                while not exhausted and not idle and len(self._children) < self._workers:
                    try:
                        job = next(waiting)
                    except StopIteration:
                        exhausted = True
                    else:
                        if job is None:
                            idle = True
                        elif isinstance(started := self._start(job), Outcome):
                            yield started
                        else:
                            self._children.append(started)
                if exhausted and not self._children:
                    return
                # A child that dies closes its pipe; the sentinel says so where a grandchild keeps it open.
                ready = wait(
                    [thing for child in self._children for thing in (child.connection, child.process.sentinel)],
                    None if pulse is None and not idle else PULSE,
                )
                if pulse is not None:
                    self._drop(pulse())
                for child in list(self._children):
                    if child.connection in ready or child.process.sentinel in ready:
                        outcome = _receive(child, on_message)
                        if outcome is not None:
                            self._children.remove(child)
                            was_killed = outcome.failure is not None and _was_killed(child)
                            _bury(child)
                            if was_killed and isinstance(again := self._revived(child), _Child):
                                self._children.append(again)
                            else:
                                yield outcome
        finally:
            self._kill_all()

    def _revived(self, dead: _Child) -> "_Child | Outcome | None":
        """The job of a child that was killed, begun anew; None where that has been done often enough."""
        lives = LIVES if dead.messages > dead.furthest else dead.lives - 1
        if lives <= 0 or dead.deaths + 1 >= MOST_LIVES:
            return None
        child = self._start(dead.job)
        if isinstance(child, _Child):
            child.furthest, child.lives = max(dead.messages, dead.furthest), lives
            child.deaths = dead.deaths + 1
        return child

    def _drop(self, keys: Collection[str]) -> None:
        """Kill jobs that are not wanted any more."""
        for child in [child for child in self._children if child.job.key in keys]:
            self._children.remove(child)
            child.process.kill()
            _bury(child)

    def _start(self, job: Job) -> _Child | Outcome:
        try:
            payload = _dumps((job.function, dict(job.arguments)))
        except Exception as err:
            return Outcome(key=job.key, failure=f"cannot be sent to another process: {_last_line(err)}")
        receiver, sender = self._context.Pipe(duplex=False)
        used = [child.gpu for child in self._children]
        gpu = min(self._gpus, key=used.count, default=None)
        process = self._context.Process(target=_child_main, args=(payload, sender, self._threads, gpu), name=job.key)
        # Interrupts are not shut out here, as this may wait seconds for the server; children ignore them as it does.
        with forking.bare_main(), forking.environment(self._threads):
            for attempt in range(ATTEMPTS):
                try:
                    process.start()
                    break
                except ConnectionError:  # the server has just been killed; a new one is begun once it is known
                    if attempt + 1 == ATTEMPTS:
                        raise
                    time.sleep(0.1)
        sender.close()  # the child has the only one now, so its death is the end of the pipe
        return _Child(job, process, receiver, gpu)

    def _kill_all(self) -> None:
        children, self._children = self._children, []
        for child in children:
            child.process.kill()
        for child in children:
            _bury(child)


def _receive(child: _Child, on_message: Callable[[str, Any], None] | None) -> Outcome | None:
    """Takes in one message of a child that has one or has died; its outcome, if that was the last."""
    key = child.job.key
    try:
        if not child.connection.poll(0):  # it was the sentinel: dead, and nothing left in the pipe
            raise EOFError
        kind, content = pickle.loads(child.connection.recv_bytes())
    except (EOFError, OSError, pickle.UnpicklingError):  # an end in the middle of a message is an OSError
        child.process.join(SECONDS_TO_DIE)
        return Outcome(key=key, failure=_cause_of_death(child.process.exitcode))
    except Exception as err:
        return Outcome(key=key, failure=f"its answer cannot be read: {_last_line(err)}")
    if kind == "message":
        child.messages += 1
        if on_message is not None:
            on_message(key, content)
        return None
    if kind == "value":
        return Outcome(key=key, value=content)
    if kind == "user error":
        return Outcome(key=key, user_error=content, failure=_last_line(content))
    return Outcome(key=key, failure=content)


def _was_killed(child: _Child) -> bool:
    """Whether a signal ended the process, or the server that it was forked from, which alone could say how it ends."""
    code = child.process.exitcode
    if code == SERVER_DIED and child.process.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(child.process.pid, signal.SIGKILL)  # it may be well, and must not work beside its successor
    return code is not None and (code < 0 or code == SERVER_DIED)


def _bury(child: _Child) -> None:
    child.process.join(SECONDS_TO_DIE)
    if child.process.exitcode is None:  # its work is done or unwanted, but threads or handlers hold it up
        child.process.kill()
        child.process.join()
    child.connection.close()
    child.process.close()


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode is None:
        return "closed its connection without a result"
    if exitcode >= 0:
        return f"ended with exit code {exitcode} and without a result"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = "unknown"
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"was killed by signal {-exitcode}, {name}{hint}"


def _child_main(payload: bytes, sender: Connection, threads: int, gpu: str | None) -> None:
    """What a child runs: the job, then one last message with its value or what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    _die_with_parent()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read when CUDA is first used, which the fork server never does
    import torch

    torch.set_num_threads(threads)
    lock = threading.Lock()

    def send(kind: str, content: Any) -> None:
        message = _dumps((kind, content))
        with lock:
            sender.send_bytes(message)

    try:
        function, arguments = pickle.loads(payload)
        last = _dumps(("value", function(lambda message: send("message", message), **arguments)))
    except PruneasError as err:
        last = _user_error(err)
    except MemoryError as err:
        last = _dumps(("failure", f"ran out of memory ({_last_line(err)})"))
    except BaseException as err:
        last = _dumps(("failure", f"{_last_line(err)}{_place(err)}"))
    with lock:
        sender.send_bytes(last)
    sender.close()


def _user_error(err: PruneasError) -> bytes:
    """The error itself if it comes out of pickling with the same text; else its text."""
    try:
        last = _dumps(("user error", err))
        if str(pickle.loads(last)[1]) == str(err):
            return last
    except Exception:
        pass
    return _dumps(("failure", _last_line(err)))


def _die_with_parent() -> None:
    """Ends this process when the one that asked for it is gone, even by kill -9.

    PR_SET_PDEATHSIG would watch the fork server instead, which is this process's parent.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def _dumps(thing: Any) -> bytes:
    # Not Connection.send: torch makes that share tensors by file descriptor, which the sender's death invalidates.
    return pickle.dumps(thing, protocol=pickle.HIGHEST_PROTOCOL)


def _last_line(err: BaseException) -> str:
    return "".join(traceback.format_exception_only(err)).strip()


def _place(err: BaseException) -> str:
    frames = traceback.extract_tb(err.__traceback__)
    return f" ({frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name})" if frames else ""
