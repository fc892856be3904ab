"""Doing the trials of a search: claim one, have it trained, hand in what came of it; ask for more when there is none.

Whoever works on a search does the same, the process that began it and any that joined it: what is to do stands in the
study, who does it in the leases (`leases.py`), and what was done in the leases' results, each of which is entered once.
So any process can be killed at any moment. What it was training is another's when its lease ends, with the same number,
widths and seed, and goes on at its checkpoint if that lies where the other can read it; a trial that was half asked for
is completed by whoever asks next; one that has its result but was not told to the study is told by whoever sees it.

Only one process asks at a time. As long as nobody has joined, trials are asked for in batches, one trial a worker of
the run, and all trials of a batch are asked for before any is trained. What is proposed then does not depend on which
training ends first, so with the same number of workers a search repeats exactly. Once somebody has joined, nobody waits
for a batch to end: each asks for one trial when it has nothing to do.

The run's folder mirrors the results in `trials/`. A study that was deleted, or is on a machine that cannot be reached,
is made anew from them.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from pruneas.errors import RunError
from pruneas.files import write_json, write_text
from pruneas.progress import Observer
from pruneas.search.leases import Hold, Leases
from pruneas.search.records import PLAN, STOPPED, TrialRecord, num_trained, read_trials, task_of, trial_path
from pruneas.search.storage import connect, patiently, shown
from pruneas.search.study import open_study, opened, report_epoch
from pruneas.search.train import Progress
from pruneas.search.trials import Key, Search, key_of, trained
from pruneas.training import Job, Outcome, Pool

T = TypeVar("T")

COPIES_IN_A_ROW = 20
"""After so many proposals in a row that were trained before, the space has nothing new to offer."""
LEASE = 120.0
"""Seconds after which the trial of a worker that has not been heard of is another's."""
JOINED, OVER, AHEAD, BATCH = "joined", "over", "ahead", "batch"
"""Attributes of the study: whether anybody has joined; whether the search is over; whether it is announced, but has not
begun; the number of the last batch's first trial, and how many trials it has."""
RUN, ASKING = "run", "asking"
"""Tasks beside the trials: to be the one who began the search; to ask."""
AGREED = {
    "structure": "the network",
    "data": "the images",
    "limits": "the limits",
    "latency_table": "the table of latency",
    "anchors": "what the generators gave",
}
"""Entries of the plan that whoever leads a search must have as the one who began it; what else it holds may change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a search's study is, and under which name."""

    url: sqlalchemy.URL
    study: str
    lease: float = LEASE

    def leases(self, engine: sqlalchemy.Engine, home: str) -> Leases:
        """As seen by a new owner, whose name begins with `home`: the machine and folder, '#', the folder's identity."""
        owner = f"{home}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        return Leases(engine=engine, study=self.study, owner=owner, seconds=self.lease)


def lead(
    search: Search,
    place: Place,
    plan: Mapping[str, Any],
    pool: Pool,
    observer: Observer,
    worked: Callable[[int], None],
    *,
    spared: Callable[[int], None] = lambda images: None,
    fresh: bool = False,
) -> list[TrialRecord]:
    """Run or go on with a search until `num_trials` candidates are trained, or nothing new is proposed any more.

    Returns all trials, copies and failures included. `plan` is kept in the study for those who join; `worked` is told
    of images trained on, `spared` of those that need not be because a training was stopped early; `fresh` forgets an
    earlier study of that name. Nobody else may work in the run's folder.
    Raises RunError where the study or the records are not this search's, or another process leads it.
    """
    kept = {record.number: record for record in read_trials(search.folder)}
    storage = patiently(lambda: connect(place.url), observer.note)
    with _leading(storage, place, search.folder, observer.note, fresh=fresh) as (study, leases):
        patiently(lambda: _begin(search, study, leases, plan, place), observer.note)
        worker = Worker(search, study, leases, observer, worked, spared, kept=kept, leads=True)
        return worker.run(pool)


def _begin(search: Search, study: optuna.Study, leases: Leases, plan: Mapping[str, Any], place: Place) -> None:
    """Write into the study what is to be done. Can be done again after it was cut off anywhere."""
    before = study.user_attrs.get(PLAN)
    if before is None:  # a new one: what another of its name had, which was deleted, is not its
        leases.clear(but=RUN)
    else:
        _check_plan(before, json.loads(json.dumps(plan)), place)
    study.set_user_attr(PLAN, dict(plan))
    study.set_user_attr(OVER, False)
    search.enqueue_anchors(study)
    study.set_user_attr(AHEAD, False)


def _check_plan(before: Mapping[str, Any], plan: Mapping[str, Any], place: Place) -> None:
    """Raises RunError where a study is of another search than the plan, or of a version that this one cannot read."""
    where = f"study {place.study!r} in {shown(place.url)}"
    if before.get("schema", 0) > plan.get("schema", 0):
        raise RunError(f"{where}: is a newer pruneas's; install that version here, or use --fresh to begin anew")
    differing = [text for key, text in AGREED.items() if key in before and before[key] != plan.get(key)]
    if differing:
        raise RunError(
            f"{where}: must be of the same search, but was begun in {before.get('folder', 'another folder')}, and "
            f"these differ here: {', '.join(differing)}. Go on in that folder, or use --fresh to begin anew"
        )


def announce(place: Place, folder: Path, told: Callable[[str], None], *, fresh: bool = False) -> None:
    """Say that this process will lead a search of that run's folder, later: who would join waits until it begins.

    `told` hears of a storage that is away; `fresh` forgets an earlier study of that name. Raises RunError where another
    process leads it, and at once where the storage cannot be opened.
    """
    with _leading(connect(place.url), place, folder, told, fresh=fresh) as (study, _):
        patiently(lambda: study.set_user_attr(AHEAD, True), told)


def withdraw(place: Place) -> None:
    """Say that a search that was announced does not begin after all; nothing where it has begun, or is gone."""
    with contextlib.suppress(RunError, sqlalchemy.exc.SQLAlchemyError):  # whatever ended the run is what is to be told
        storage = connect(place.url, create=False)
        try:
            if place.study in optuna.get_all_study_names(storage):
                open_study(storage, place.study).set_user_attr(AHEAD, False)
        finally:
            storage.engine.dispose()


@contextlib.contextmanager
def _leading(
    storage: optuna.storages.RDBStorage, place: Place, folder: Path, told: Callable[[str], None], *, fresh: bool
) -> Iterator[tuple[optuna.Study, Leases]]:
    """Be the one who leads a search, from a run's folder that nobody else works in. `fresh` makes its study anew.

    A storage that goes away meanwhile is waited for, and `told`; it is closed in the end.
    """
    home = f"{socket.gethostname()}:{folder.resolve()}#{_identity(folder)}"
    leases = place.leases(storage.engine, home)

    def claimed() -> bool:
        leases.create()
        leases.release_others(f"{home}.")  # the folder is ours alone, so whoever worked from it is dead
        return leases.claim(RUN)

    def opened() -> optuna.Study:
        if fresh and place.study in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=place.study, storage=storage)
        return open_study(storage, place.study)

    try:
        if not patiently(claimed, told):
            leader, _, process = str(patiently(leases.holds, told)[RUN].owner).rpartition("#")
            raise RunError(
                f"study {place.study!r} in {shown(place.url)}: {leader} leads this search (process "
                f"{process.split('.')[-2:][0]}); join it with `pruneas worker`, or wait for it"
            )
        yield patiently(opened, told), leases
    finally:
        with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
            leases.release(RUN)
        storage.engine.dispose()


def _identity(folder: Path) -> str:
    """Of a run's folder: another machine may have the same name, and a run at the same path (clones, containers)."""
    path = folder / "trials" / ".identity"
    if not path.is_file():
        write_text(path, uuid.uuid4().hex[:8])
    return path.read_text(encoding="utf-8")


def join(
    search: Search,
    place: Place,
    storage: optuna.storages.RDBStorage,
    pool: Pool,
    observer: Observer,
    worked: Callable[[int], None],
) -> list[TrialRecord]:
    """Work on a search that another process began, until it is over. Returns all its trials."""

    def joined() -> optuna.Study:
        study = optuna.load_study(study_name=place.study, storage=storage)
        study.set_user_attr(JOINED, True)
        return study

    study = patiently(joined, observer.note)
    leases = place.leases(storage.engine, f"{socket.gethostname()}#")
    return Worker(search, study, leases, observer, worked).run(pool)


class Worker:
    """One process's part in a search. `kept`: the records that are in the run's folder, of which `leads` takes care."""

    def __init__(
        self,
        search: Search,
        study: optuna.Study,
        leases: Leases,
        observer: Observer,
        worked: Callable[[int], None],
        spared: Callable[[int], None] = lambda images: None,
        *,
        kept: Mapping[int, TrialRecord] | None = None,
        leads: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._search, self._study, self._leases = search, study, leases
        self._observer, self._worked, self._spared, self._clock = observer, worked, spared, clock
        self._kept, self._leads = dict(kept or {}), leads
        self._num_trials = search.num_trials
        self._done: dict[int, TrialRecord] = {}
        self._mine: dict[int, TrialRecord] = {}
        self._trials: list[FrozenTrial] = []
        self._holds: Mapping[str, Hold] = {}
        self._renewed = clock()

    def run(self, pool: Pool) -> list[TrialRecord]:
        """Work until the search is over. Returns all its trials."""
        try:
            self._patiently(self._take_over)
            for outcome in pool.run(self._jobs(), self._told, self._pulse):
                self._observer.trained(outcome.key)
                self._settle(outcome)
            self._patiently(lambda: self._study.set_user_attr(OVER, True))
        finally:
            for number in self._mine:
                with contextlib.suppress(Exception):  # if it cannot be told now, the lease ends by itself
                    self._leases.release(task_of(number))
        return [self._done[number] for number in sorted(self._done)]

    # What is to do --------------------------------------------------------------------------------------------------

    def _jobs(self) -> Iterator[Job | None]:
        """Trainings as there are some; None while all are in the hands of others."""
        while True:
            job, is_over = self._patiently(self._next)
            if is_over:
                return
            yield job

    def _next(self) -> tuple[Job | None, bool]:
        """A training, if there is one for this process; and whether the search is over."""
        while True:
            self._look()
            job, is_settled = self._claimed()
            if job is not None:
                return job, False
            if is_settled:  # without a training, and others may have waited for that
                continue
            if self._is_over():
                return None, True
            if not self._ask():
                return None, False

    def _look(self) -> None:
        """See what has become of the trials since the last look."""
        self._holds = self._leases.holds()
        self._trials = self._study.get_trials(deepcopy=False)
        new = [task_of(trial.number) for trial in self._trials if trial.number not in self._done]
        new = [task for task in new if task in self._holds and self._holds[task].is_done]
        if not new:
            return
        records = [TrialRecord.from_json(json.loads(text)) for text in self._leases.results(new).values()]
        for record in sorted(records, key=lambda record: record.number):
            if not self._trials[record.number].state.is_finished():
                self._tell(record)
            self._enter(record)

    @property
    def _open(self) -> list[FrozenTrial]:
        """Trials that were asked for and have no result. One that ended before it was described never will."""
        return [
            trial
            for trial in self._trials
            if trial.state != TrialState.WAITING
            and trial.number not in self._done
            and (self._search.is_described(trial) or not trial.state.is_finished())
        ]

    def _claimed(self) -> tuple[Job | None, bool]:
        """The training of an open trial that nobody else works on; or whether one was settled without a training.

        Of trials with the same widths the first is trained, the others wait for it.
        """
        sources = {
            key_of(record): record
            for record in self._done.values()
            if record.copied_from is None and record.accuracy is not None
        }
        seen: set[Key] = set()
        for trial in self._open:
            if not self._search.is_described(trial):
                continue  # somebody is asking for it, or has died over it
            record, task = self._search.planned(trial), task_of(trial.number)
            if key_of(record) in seen:
                continue
            seen.add(key_of(record))
            hold = self._holds.get(task)
            is_others = hold is not None and hold.is_held and hold.owner != self._leases.owner
            if trial.number in self._mine or is_others or not self._leases.claim(task):
                continue
            source = sources.get(key_of(record))
            if trial.number in self._kept:
                self._finish(self._search.checked(self._kept[trial.number], record))
            elif source is not None:
                self._finish(
                    replace(
                        record,
                        copied_from=source.number,
                        accuracy=source.accuracy,
                        loss=source.loss,
                        curve=source.curve,
                        notes=source.notes,
                        extrapolation=source.extrapolation,
                    )
                )
            else:
                self._mine[trial.number] = record
                return self._search.job(task, trial, record), False
            return None, True
        return None, False

    def _is_over(self) -> bool:
        if self._open or self._is_half_asked():
            return False
        return self._num_missing() <= 0 or is_exhausted(self._done)

    def _is_half_asked(self) -> bool:
        """Whether somebody is asking for a batch, or has died over it."""
        start, size = self._attributes().get(BATCH, (0, 0))
        is_described = self._search.is_described
        return self._num_asked() < start + size or not all(is_described(trial) for trial in self._open)

    def _num_asked(self) -> int:
        return sum(trial.state != TrialState.WAITING for trial in self._trials)

    def _num_missing(self) -> int:
        """How many trials are still to be asked for, if all that are open will be trained."""
        return self._num_trials - num_trained(self._done.values()) - len(self._open)

    def _attributes(self) -> Mapping[str, Any]:
        """The study's. Whoever leads the search may have asked for more trials since this process joined it."""
        attributes: Mapping[str, Any] = self._study.user_attrs
        self._num_trials = attributes.get(PLAN, {}).get("trials", self._num_trials)
        return attributes

    # Asking ---------------------------------------------------------------------------------------------------------

    def _ask(self) -> bool:
        """Complete what was half asked for, or ask for more trials. Whether there are new ones."""
        if not self._leases.claim(ASKING):
            return False
        try:
            self._look()  # at what whoever asked before has left
            attributes = self._attributes()
            start, size = attributes.get(BATCH, (0, 0))
            half = [trial for trial in self._open if not self._search.is_described(trial)]
            for trial in half:
                if self._leases.renew([ASKING]):
                    return True  # asleep for so long that another has taken it up
                self._search.ask_again(self._study, trial, self._before(start))
            num_asked = self._num_asked()
            if num_asked >= start + size:
                if (size := self._size_of_batch(num_asked, bool(attributes.get(JOINED)))) <= 0:
                    return bool(half)
                start = num_asked
                self._study.set_user_attr(BATCH, (start, size))
            for number in range(num_asked, start + size):
                if self._leases.renew([ASKING]):
                    return True
                if number in self._kept and number >= len(self._trials):
                    self._search.enqueue_known(self._study, self._kept[number])
                if not self._search.ask(self._study, number, self._before(start)):
                    return True  # asleep between the two
            return True
        except optuna.exceptions.UpdateFinishedTrialError:
            return True  # asleep while it was drawn: another has completed it, and it has been trained
        finally:
            self._leases.release(ASKING)

    def _before(self, start: int) -> list[TrialRecord]:
        """What was finished before the batch was asked for that begins with this number: of what is finished now, none
        of the batch itself, so that whoever completes it has the same in sight."""
        return [self._done[number] for number in sorted(self._done) if number < start]

    def _size_of_batch(self, num_asked: int, is_joined: bool) -> int:
        """How many trials to ask for now."""
        unknown = max(self._kept, default=-1) + 1 - num_asked
        if unknown > 0:
            return unknown
        missing = self._num_missing()
        if missing <= 0 or is_exhausted(self._done):
            return 0
        if is_joined:
            return 1
        return 0 if self._open else min(self._search.workers, missing)

    # Handing in -----------------------------------------------------------------------------------------------------

    def _settle(self, outcome: Outcome) -> None:
        number = _number(outcome.key)
        record = trained(self._mine[number], outcome)
        if record.failure is not None:
            self._observer.note(f"{outcome.key} failed: {record.failure}")
        for text in record.notes:
            self._observer.note(f"{outcome.key}: {text}")
        if not self._patiently(lambda: self._finish(record)):
            self._observer.note(_lost(outcome.key))
        del self._mine[number]

    def _finish(self, record: TrialRecord) -> bool:
        """Hand in a result, once and for all. False where the trial is another's meanwhile."""
        if not self._leases.finish(task_of(record.number), json.dumps(record.to_json())):
            return False
        self._enter(record)
        self._tell(record)
        return True

    def _enter(self, record: TrialRecord) -> None:
        """A trial has its result, by whomever."""
        if record.number in self._done:
            return
        if self._leads and record.number not in self._kept:
            write_json(trial_path(self._search.folder, record.number), record.to_json())
            if record.number not in self._mine:
                self._worked(record.images)
            self._spared(self._search.images_spared(record))
        self._done[record.number] = record
        self._observer.trial(self._search.line(record))

    def _tell(self, record: TrialRecord) -> None:
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # another was faster
            if record.extrapolation is not None:
                trial = opened(self._study, self._trials[record.number])
                trial.set_user_attr(STOPPED, asdict(record.extrapolation))
            if record.accuracy is None:
                self._study.tell(record.number, state=TrialState.FAIL, skip_if_finished=True)
            else:
                self._study.tell(record.number, record.accuracy, skip_if_finished=True)

    # While trainings go on ------------------------------------------------------------------------------------------

    def _told(self, key: str, message: Any) -> None:
        if isinstance(message, Progress):
            trial, epoch, accuracy = self._trials[_number(key)], int(message.epoch), message.accuracy
            if accuracy is not None:
                self._patiently(lambda: report_epoch(opened(self._study, trial), epoch, accuracy))
            message.tell(key, self._observer, self._worked)

    def _pulse(self) -> set[str]:
        """Renew the leases when it is time. Returns the trainings that are others' now."""
        if self._clock() - self._renewed < self._leases.seconds / 4:
            return set()
        held = {task_of(number) for number in self._mine} | ({RUN} if self._leads else set())
        lost = self._patiently(lambda: self._leases.renew(held))
        self._renewed = self._clock()
        if RUN in lost:
            raise RunError(
                f"{self._search.folder}: this process did not answer for more than {self._leases.seconds:.0f} s, and "
                "another one leads the search now; join it with `pruneas worker`"
            )
        for task in lost:
            del self._mine[_number(task)]
            self._observer.trained(task)
            self._observer.note(_lost(task))
        return lost

    def _take_over(self) -> None:
        """Enter results that are in the run's folder, but not in the study: it was made before there were leases."""
        self._look()
        for trial in self._trials:
            number = trial.number
            if trial.state.is_finished() and number in self._kept and number not in self._done:
                self._leases.put(task_of(number), json.dumps(self._kept[number].to_json()))
        if self._is_half_asked():  # before any of the batch has a result, which whoever asked did not know either
            self._ask()

    def _patiently(self, step: Callable[[], T]) -> T:
        try:
            return patiently(step, self._observer.note)
        except KeyError as error:
            if "does not exist" not in str(error):  # Optuna's, of what it looks for in its tables
                raise
            raise RunError(
                f"study {self._leases.study!r}: was deleted while it was worked on; give the command again: the study "
                "is made anew from trials/, and nothing is trained twice"
            ) from error


def is_exhausted(done: Mapping[int, TrialRecord]) -> bool:
    """Whether the last proposals had all been trained before."""
    last = [done[number].copied_from is not None for number in sorted(done)[-COPIES_IN_A_ROW:]]
    return len(last) == COPIES_IN_A_ROW and all(last)


def _number(task: str) -> int:
    return int(task.rpartition(" ")[2])


def _lost(key: str) -> str:
    return f"{key}: this process did not answer in time, so another has taken it over; what was trained here is dropped"
