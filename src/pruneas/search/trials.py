"""The search: ask for widths, project them onto the budget, train them from scratch, tell.

Trials are asked for in batches, one trial a worker, and all trials of a batch are asked for before any is trained. What
is proposed then does not depend on which training ends first, so a search repeats exactly however many workers it has.
A batch is written down before it is asked for: a search that was killed goes on in the middle of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from pruneas.cost.model import CostModel, Widths
from pruneas.cost.projection import project
from pruneas.cost.widths import LegalWidths
from pruneas.architecture import Quantity
from pruneas.errors import RunError
from pruneas.files import write_json
from pruneas.progress import Observer, TrialLine
from pruneas.search.parameters import Parametrisation
from pruneas.search.records import SEARCH, TrialRecord
from pruneas.search.study import ask_next, open_study, reopened, sampler_for
from pruneas.search.train import Epoch, Training, TrainingRecord, train
from pruneas.seeds import derive
from pruneas.structure.groups import Structure
from pruneas.training import DataSource, Job, Pool, Recipe

COPIES_IN_A_ROW = 20
"""After so many proposals in a row that were trained before, the space has nothing new to offer."""
BATCH = "batch"


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

    def run(self, pool: Pool, observer: Observer, worked: Callable[[int], None]) -> list[TrialRecord]:
        """Run or go on until `num_trials` candidates are trained. Returns all trials, copies and failures included.

        `worked` is told of images trained on. Raises RunError where the study is not this search's.
        """
        study = open_study(self.folder / "study.db")
        parametrisation = Parametrisation.around(list(self.anchors.values()), self.model, self.legal)
        self._enqueue(study, parametrisation)
        records = {record.number: record for record in read_trials(self.folder)}
        for record in records.values():
            observer.trial(self._line(record))
        while True:
            batch = self._batch(study, records)
            if batch is None:
                return [records[number] for number in sorted(records)]
            asked = [(trial, self._widths(trial, parametrisation)) for trial in batch]
            for record in self._evaluate(asked, records, pool, observer, worked):
                write_json(self.folder / "trials" / f"{record.number:05}.json", record.to_json())
                self._tell(study, record)
                records[record.number] = record
                observer.trial(self._line(record))

    def _enqueue(self, study: optuna.Study, parametrisation: Parametrisation) -> None:
        """The anchors are the first trials, with their exact widths: parameters alone could not give them back."""
        known = {trial.user_attrs.get("origin") for trial in study.get_trials(deepcopy=False)}
        if known and not set(self.anchors) <= known:
            raise RunError(f"{self.folder / 'study.db'}: belongs to a search with other generators; use --fresh")
        for name, widths in self.anchors.items():
            if name not in known:
                study.enqueue_trial(
                    parametrisation.encode(widths),
                    user_attrs={"origin": name, "exact_widths": self.model.mapping(widths)},
                )

    def _batch(self, study: optuna.Study, records: Mapping[int, TrialRecord]) -> list[optuna.Trial] | None:
        """The trials to train now: what is open of the last batch, or a new one; None when the search is over."""
        start, size = study.user_attrs.get(BATCH, (0, 0))
        trials = study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state == TrialState.RUNNING and trial.number in records:
                self._tell(study, records[trial.number])  # killed between writing it down and telling
        trials = study.get_trials(deepcopy=False)
        asked = [trial for trial in trials if trial.state != TrialState.WAITING]
        if not any(trial.state == TrialState.RUNNING for trial in asked) and len(asked) >= start + size:
            trained = [record for record in records.values() if record.copied_from is None]
            missing = self.num_trials - len(trained)
            last = [records[number].copied_from is not None for number in sorted(records)[-COPIES_IN_A_ROW:]]
            if missing <= 0 or (len(last) == COPIES_IN_A_ROW and all(last)):
                return None
            start, size = len(asked), min(self.workers, missing)
            study.set_user_attr(BATCH, (start, size))
        # Open ones of this batch, then those that were not asked for yet.
        batch = []
        for frozen in asked:
            if frozen.number >= start and frozen.state == TrialState.RUNNING:
                study.sampler = sampler_for(self.sampler, self.seed, frozen.number, len(self.anchors))
                batch.append(reopened(study, frozen))
                self._suggest(batch[-1], study)
        while len(asked) < start + size:
            batch.append(ask_next(study, self.sampler, self.seed, len(self.anchors)))
            self._suggest(batch[-1], study)
            asked.append(study.get_trials(deepcopy=False)[batch[-1].number])
        return batch

    def _suggest(self, trial: optuna.Trial, study: optuna.Study) -> None:
        """Draw every multiplier now, so that the next trial of the batch is asked for with this one's in sight."""
        parametrisation = Parametrisation.around(list(self.anchors.values()), self.model, self.legal)
        for name, low, high in zip(parametrisation.names, parametrisation.low, parametrisation.high, strict=True):
            trial.suggest_float(name, float(low), float(high), log=True)

    def _widths(self, trial: optuna.Trial, parametrisation: Parametrisation) -> Widths:
        exact = trial.user_attrs.get("exact_widths")
        if exact is not None:
            return self.model.vector(exact)
        return project(parametrisation.decode(trial.params), self.model, self.legal, self.most, self.quantity)

    def _evaluate(
        self,
        asked: list[tuple[optuna.Trial, Widths]],
        records: Mapping[int, TrialRecord],
        pool: Pool,
        observer: Observer,
        worked: Callable[[int], None],
    ) -> Iterator[TrialRecord]:
        """Train what is new in a batch; widths that were trained before, or twice in the batch, are trained once."""
        first = {
            tuple(r.widths.values()): r.number
            for r in records.values()
            if r.copied_from is None and r.accuracy is not None
        }
        done: dict[int, TrialRecord] = dict(records)
        copies: list[TrialRecord] = []
        jobs: dict[str, tuple[optuna.Trial, TrialRecord]] = {}
        for trial, widths in asked:
            record = TrialRecord(
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
            self._annotate(trial, record)
            key = tuple(record.widths.values())
            if key in first:
                copies.append(replace(record, copied_from=first[key]))
            else:
                first[key] = trial.number
                jobs[f"trial {trial.number}"] = (trial, record)

        def on_message(key: str, message: Any) -> None:
            if isinstance(message, Epoch):
                trial = jobs[key][0]
                trial.report(message.accuracy, message.epoch)
                observer.training(key, message.epoch, message.epochs, message.accuracy)
                worked(message.images)

        tasks = [
            Job(
                key=key,
                function=train,
                arguments={
                    "training": Training(
                        structure=self.structure,
                        widths=record.widths,
                        flops=record.flops,
                        params=record.params,
                        data=self.data,
                        recipe=self.recipe,
                        seed=record.seed,
                        device=self.device,
                    )
                },
            )
            for key, (_, record) in jobs.items()
        ]
        for outcome in pool.run(tasks, on_message):
            _, record = jobs[outcome.key]
            observer.trained(outcome.key)
            if (
                outcome.user_error is not None
                and not isinstance(outcome.value, TrainingRecord)
                and outcome.user_error.exit_code == 2
            ):
                raise outcome.user_error
            if outcome.failure is not None:
                record = replace(record, failure=outcome.failure)
                observer.note(f"{outcome.key} failed: {outcome.failure}")
            else:
                value: TrainingRecord = outcome.value
                record = replace(
                    record,
                    accuracy=value.validation_accuracy,
                    loss=value.validation_loss,
                    curve=tuple(epoch["validation_accuracy"] for epoch in value.epochs),
                    seconds=value.seconds,
                    images=value.images,
                )
            done[record.number] = record
            yield record
        for record in copies:
            source = done[record.copied_from] if record.copied_from is not None else record
            yield replace(
                record, accuracy=source.accuracy, loss=source.loss, curve=source.curve, failure=source.failure
            )

    def _annotate(self, trial: optuna.Trial, record: TrialRecord) -> None:
        """What the dashboard shows of a trial; kept once, a finished trial takes no more."""
        if "widths" in trial.user_attrs:
            return
        trial.set_user_attr("origin", record.origin)
        trial.set_user_attr("widths", " ".join(map(str, record.widths.values())))
        trial.set_user_attr("FLOPs", record.flops)
        trial.set_user_attr("share of base FLOPs", round(record.flops / self.model.base.flops, 5))
        trial.set_user_attr("params", record.params)
        trial.set_user_attr("seed", record.seed)

    def _tell(self, study: optuna.Study, record: TrialRecord) -> None:
        if record.accuracy is None:
            study.tell(record.number, state=TrialState.FAIL, skip_if_finished=True)
        else:
            study.tell(record.number, record.accuracy, skip_if_finished=True)

    def _line(self, record: TrialRecord) -> TrialLine:
        return TrialLine(
            number=record.number,
            origin=record.origin,
            flops=record.flops,
            flops_share=record.flops / self.model.base.flops,
            params=record.params,
            accuracy=record.accuracy,
            seconds=record.seconds,
            copied_from=record.copied_from,
            failure=record.failure,
        )


def read_trials(folder: Path) -> list[TrialRecord]:
    """The finished trials of a run folder, in order. Raises RunError for a file that cannot be read."""
    records = []
    for path in sorted((folder / "trials").glob("*.json")):
        try:
            records.append(TrialRecord.from_json(json.loads(path.read_text(encoding="utf-8"))))
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise RunError(
                f"{path}: is not a trial's record ({error}); delete it and its trial is trained again"
            ) from error
    return records


def best_candidates(records: list[TrialRecord], count: int) -> list[TrialRecord]:
    """The trained candidates of highest validation accuracy, ties by lower loss, then by number."""
    trained = [record for record in records if record.accuracy is not None and record.copied_from is None]
    return sorted(trained, key=lambda r: (-(r.accuracy or 0.0), r.loss or 0.0, r.number))[:count]


__all__ = ["FrozenTrial", "Search", "best_candidates", "read_trials"]
