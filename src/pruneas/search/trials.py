"""The search: ask for widths, project them onto the budget, train them from scratch, tell.

Trials are asked for in batches, one trial a worker, and all trials of a batch are asked for before any is trained. What
is proposed then does not depend on which training ends first, so with the same number of workers a search repeats
exactly.

A search can be killed at any moment. A batch is written down before it is asked for, and every trial has its record in
`trials/` before the study is told of it. What the study has asked for is therefore the plan, and the records are what
was done: a trial that is open in the study but has a record is told from it, one that has none is trained (again, from
the same widths and seed). So a record that was deleted is made anew. A study that was deleted is asked the same
questions again and told the recorded answers, as long as they are the same: after the run was extended, or with
another number of workers, batches can come out differently, and the first record that does not fit is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from pruneas.architecture import Quantity
from pruneas.cost.model import CostModel, Widths
from pruneas.cost.projection import project
from pruneas.cost.widths import LegalWidths
from pruneas.errors import RunError
from pruneas.files import write_json
from pruneas.progress import Observer, TrialLine
from pruneas.search.parameters import Parametrisation
from pruneas.search.records import SEARCH, TrialRecord, num_trained, read_trials, trial_path
from pruneas.search.study import ask_next, open_study, reopened, report_epoch
from pruneas.search.train import CHECKPOINT, Progress, Training, TrainingRecord, concerns_all, train
from pruneas.seeds import derive
from pruneas.structure.groups import Structure
from pruneas.training import DataSource, Job, Outcome, Pool, Recipe

COPIES_IN_A_ROW = 20
"""After so many proposals in a row that were trained before, the space has nothing new to offer."""
BATCH = "batch"
"""The study's attribute that holds the number of the last batch's first trial, and how many trials it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Everything a search needs to know. `recipe` is a trial's, shorter than the finalists'."""

    structure: Structure
    model: CostModel
    legal: LegalWidths
    most: int
    quantity: Quantity
    anchors: Mapping[str, Widths]
    data: DataSource
    recipe: Recipe
    num_trials: int
    sampler: str
    seed: int
    device: str
    workers: int
    folder: Path
    """Of the run: `study.db` and `trials/` are in it."""
    compile: str = "auto"

    def run(self, pool: Pool, observer: Observer, worked: Callable[[int], None]) -> list[TrialRecord]:
        """Run or go on until `num_trials` candidates are trained, or nothing new is proposed any more.

        Returns all trials, copies and failures included. `worked` is told of images trained on. Raises RunError where
        the study or the records are not this search's.
        """
        kept = {record.number: record for record in read_trials(self.folder)}
        study = open_study(self.folder / "study.db")
        self._enqueue(study)
        done: dict[int, TrialRecord] = {}
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished() and trial.number in kept:
                done[trial.number] = kept[trial.number]
                observer.trial(self._line(kept[trial.number]))
        while batch := self._batch(study, done):
            for record in self._evaluate(batch, kept, done, pool, observer, worked):
                write_json(trial_path(self.folder, record.number), record.to_json())
                self._tell(study, record)
                done[record.number] = record
                observer.trial(self._line(record))
        return [done[number] for number in sorted(done)]

    # Asking ---------------------------------------------------------------------------------------------------------

    def _parametrisation(self) -> Parametrisation:
        return Parametrisation.around(list(self.anchors.values()), self.model, self.legal)

    def _enqueue(self, study: optuna.Study) -> None:
        """The anchors are the first trials, with their exact widths: parameters alone could not give them back."""
        trials = study.get_trials(deepcopy=False)
        known = {trial.user_attrs.get("origin") for trial in trials}
        missing = [name for name in self.anchors if name not in known]
        if missing and any(trial.state != TrialState.WAITING for trial in trials):
            raise RunError(
                f"{self.folder / 'study.db'}: belongs to a search without the generators {', '.join(missing)}; use "
                "--fresh to begin anew"
            )
        parametrisation = self._parametrisation()
        for name in missing:
            widths = self.anchors[name]
            study.enqueue_trial(
                parametrisation.encode(widths),
                user_attrs={"origin": name, "exact_widths": self.model.mapping(widths)},
            )

    def _batch(self, study: optuna.Study, done: Mapping[int, TrialRecord]) -> list[optuna.Trial]:
        """The trials to do now: what is left of the last batch, or a new one. Empty when the search is over."""
        parametrisation = self._parametrisation()

        def drawn(trial: optuna.Trial) -> optuna.Trial:
            """With every multiplier drawn now, so that the next one is asked for with this one in sight."""
            for name, low, high in zip(parametrisation.names, parametrisation.low, parametrisation.high, strict=True):
                trial.suggest_float(name, float(low), float(high), log=True)
            return trial

        asked = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
        left = [trial for trial in asked if trial.number not in done]
        start, size = study.user_attrs.get(BATCH, (0, 0))
        if not left and len(asked) >= start + size:
            missing = self.num_trials - num_trained(done.values())
            if missing <= 0 or self.is_exhausted(done):
                return []
            start, size = len(asked), min(self.workers, missing)
            study.set_user_attr(BATCH, (start, size))
        batch = [drawn(reopened(study, trial, self.sampler, self.seed, len(self.anchors))) for trial in left]
        for _ in range(start + size - len(asked)):
            batch.append(drawn(ask_next(study, self.sampler, self.seed, len(self.anchors))))
        return batch

    @staticmethod
    def is_exhausted(done: Mapping[int, TrialRecord]) -> bool:
        """Whether the last proposals had all been trained before."""
        last = [done[number].copied_from is not None for number in sorted(done)[-COPIES_IN_A_ROW:]]
        return len(last) == COPIES_IN_A_ROW and all(last)

    # Training -------------------------------------------------------------------------------------------------------

    def _evaluate(
        self,
        batch: Sequence[optuna.Trial],
        kept: Mapping[int, TrialRecord],
        done: Mapping[int, TrialRecord],
        pool: Pool,
        observer: Observer,
        worked: Callable[[int], None],
    ) -> Iterator[TrialRecord]:
        """The records of a batch's trials as they are finished. Widths that were trained before, or twice in the batch,
        are trained once; a trial that has its record already is not trained."""
        sources = {
            _key(record): record
            for record in done.values()
            if record.copied_from is None and record.accuracy is not None
        }
        new: dict[str, tuple[optuna.Trial, TrialRecord]] = {}
        copies: list[TrialRecord] = []
        for trial in batch:
            record = self._untrained(trial)
            self._annotate(trial, record)
            if trial.number in kept:
                record = self._kept(kept[trial.number], record)
                sources.setdefault(_key(record), record)
                yield record
            elif _key(record) in sources:
                copies.append(replace(record, copied_from=sources[_key(record)].number))
            else:
                sources[_key(record)] = record
                new[f"trial {trial.number}"] = trial, record

        def on_message(key: str, message: Any) -> None:
            if isinstance(message, Progress):
                if message.accuracy is not None:
                    report_epoch(new[key][0], int(message.epoch), message.accuracy)
                message.tell(key, observer, worked)

        for outcome in pool.run([self._job(key, record) for key, (_, record) in new.items()], on_message):
            observer.trained(outcome.key)
            record = _trained(new[outcome.key][1], outcome)
            if record.failure is not None:
                observer.note(f"{outcome.key} failed: {record.failure}")
            for text in record.notes:
                observer.note(f"{outcome.key}: {text}")
            sources[_key(record)] = record
            yield record
        for copy in copies:
            source = sources[_key(copy)]
            same = {name: getattr(source, name) for name in ("accuracy", "loss", "curve", "failure", "notes")}
            yield replace(copy, **same)

    def _untrained(self, trial: optuna.Trial) -> TrialRecord:
        exact = trial.user_attrs.get("exact_widths")
        if exact is not None:
            widths = self.model.vector(exact)
        else:
            shape = self._parametrisation().decode(trial.params)
            widths = project(shape, self.model, self.legal, self.most, self.quantity)
        return TrialRecord(
            number=trial.number,
            origin=trial.user_attrs.get("origin", SEARCH),
            widths=self.model.mapping(widths),
            flops=int(self.model.flops(widths)),
            params=int(self.model.params(widths)),
            seed=derive(self.seed, "trial", trial.number),
            accuracy=None,
            loss=None,
            curve=(),
            seconds=0.0,
            images=0,
        )

    def _kept(self, record: TrialRecord, planned: TrialRecord) -> TrialRecord:
        if (dict(record.widths), record.seed) != (dict(planned.widths), planned.seed):
            raise RunError(
                f"{trial_path(self.folder, record.number)}: is not of this study: it has widths "
                f"{list(record.widths.values())}, the study asks for {list(planned.widths.values())}. Delete it and it "
                "is trained again, or use --fresh to begin anew"
            )
        return record

    def _job(self, key: str, record: TrialRecord) -> Job:
        training = Training(
            structure=self.structure,
            widths=record.widths,
            flops=record.flops,
            params=record.params,
            data=self.data,
            recipe=self.recipe,
            seed=record.seed,
            device=self.device,
            checkpoint=trial_path(self.folder, record.number).with_suffix(CHECKPOINT),
            compile=self.compile,
        )
        return Job(key=key, function=train, arguments={"training": training})

    # Telling --------------------------------------------------------------------------------------------------------

    def _annotate(self, trial: optuna.Trial, record: TrialRecord) -> None:
        """What the dashboard shows of a trial; once, for a finished trial takes no more."""
        if "widths" in trial.user_attrs:
            return
        trial.set_user_attr("origin", record.origin)
        trial.set_user_attr("FLOPs", record.flops)
        trial.set_user_attr("share of base FLOPs", round(record.flops / self.model.base.flops, 5))
        trial.set_user_attr("share of the budget", round(self._budget_share(record), 5))
        trial.set_user_attr("params", record.params)
        trial.set_user_attr("seed", record.seed)
        trial.set_user_attr(
            "widths", " ".join(map(str, record.widths.values()))
        )  # the last: it says that all are there

    def _tell(self, study: optuna.Study, record: TrialRecord) -> None:
        if record.accuracy is None:
            study.tell(record.number, state=TrialState.FAIL, skip_if_finished=True)
        else:
            study.tell(record.number, record.accuracy, skip_if_finished=True)

    def _budget_share(self, record: TrialRecord) -> float:
        """How much of the budget a candidate uses, at most 1."""
        return (record.flops if self.quantity == "flops" else record.params) / self.most

    def _line(self, record: TrialRecord) -> TrialLine:
        return TrialLine(
            number=record.number,
            origin=record.origin,
            flops=record.flops,
            budget_share=self._budget_share(record),
            params=record.params,
            accuracy=record.accuracy,
            seconds=record.seconds,
            copied_from=record.copied_from,
            failure=record.failure,
        )


def _key(record: TrialRecord) -> tuple[int, ...]:
    return tuple(record.widths.values())


def _trained(record: TrialRecord, outcome: Outcome) -> TrialRecord:
    """The record with what came of its training. Raises what would befall every other training, too."""
    if (error := concerns_all(outcome)) is not None:
        raise error
    if outcome.failure is not None:
        return replace(record, failure=outcome.failure)
    value: TrainingRecord = outcome.value
    return replace(
        record,
        accuracy=value.validation_accuracy,
        loss=value.validation_loss,
        curve=tuple(epoch["validation_accuracy"] for epoch in value.epochs),
        seconds=value.seconds,
        images=value.images,
        notes=value.notes,
    )
