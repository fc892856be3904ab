"""What a search is, and what a trial of it is: asked for, projected onto the budget, written down.

Who does the trials, and when, is `worker.py`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from pruneas.architecture import Quantity
from pruneas.catalogue import Tie
from pruneas.cost.limits import Limits
from pruneas.cost.model import CostModel
from pruneas.cost.projection import project
from pruneas.cost.widths import LegalWidths
from pruneas.errors import RunError
from pruneas.generators.stages import group_stages
from pruneas.progress import TrialLine
from pruneas.search.parameters import Parametrisation
from pruneas.search.records import PLANNED, SEARCH, Anchor, TrialRecord, trial_path
from pruneas.search.stopping import Rule
from pruneas.search.study import ask_next, complete, draw
from pruneas.search.train import CHECKPOINT, Training, TrainingRecord, concerns_all, train
from pruneas.seeds import derive
from pruneas.structure.groups import Structure
from pruneas.training import DataSource, Job, Outcome, Recipe

EXACT = "exact"
"""The attribute of a trial that holds the architecture that it is, where parameters may not say it."""
STOPPING = "stopping"
"""The attribute of a trial that holds the rule by which its training may be stopped, where there is one."""
SURPLUS = "surplus"
"""The attribute of a trial that was asked for too late, and is nobody's; it says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Everything a search needs to know. `recipe` is a trial's, shorter than the finalists'.

    `folder`: of the run, where trials keep their checkpoints, in `trials/`. `stops_below`: proposals that cannot come
    among so many best are stopped early; None: none are.
    """

    structure: Structure
    model: CostModel
    legal: LegalWidths
    limits: Limits
    anchors: Mapping[str, Anchor]
    data: DataSource
    recipe: Recipe
    num_trials: int
    sampler: str
    tie: Tie
    searches_blocks: bool
    seed: int
    device: str
    workers: int
    folder: Path
    stops_below: int | None = None
    compile: str = "auto"

    # Asking ---------------------------------------------------------------------------------------------------------

    def _parametrisation(self) -> Parametrisation:
        return Parametrisation.around(
            {name: self.model.vector(anchor.widths) for name, anchor in self.anchors.items()},
            self.model,
            self.legal,
            tie=self.tie,
            stages=group_stages(self.structure),
            blocks=[block.name for block in self.structure.blocks] if self.searches_blocks else (),
        )

    def enqueue_anchors(self, study: optuna.Study) -> None:
        """The anchors are the first trials, with their exact widths: parameters alone could not give them back."""
        trials = study.get_trials(deepcopy=False)
        known = {trial.user_attrs.get("origin") for trial in trials}
        missing = [name for name in self.anchors if name not in known]
        if missing and any(trial.state != TrialState.WAITING for trial in trials):
            raise RunError(
                f"study {study.study_name!r}: belongs to a search without the generators {', '.join(missing)}; use "
                "--fresh to begin anew"
            )
        parametrisation = self._parametrisation()
        for name in missing:
            anchor = self.anchors[name]
            study.enqueue_trial(
                parametrisation.encode(self.model.vector(anchor.widths), anchor.removed),
                user_attrs={"origin": name, EXACT: anchor.to_json()},
            )

    def enqueue_known(self, study: optuna.Study, record: TrialRecord) -> None:
        """A trial that was done already, for a study that does not know it: the same numbers, the same widths."""
        study.enqueue_trial(
            dict(record.parameters) or self._parametrisation().encode(self.model.vector(record.widths), record.removed),
            user_attrs={"origin": record.origin, EXACT: _architecture(record).to_json()},
        )

    def ask(self, study: optuna.Study, number: int, done: Collection[TrialRecord]) -> bool:
        """Ask for the next trial, which will have that number, and write down what it is. `done`: what was finished
        before any trial of its batch was asked for.

        False where it has another number, as others have asked meanwhile: a proposal is dropped then, as it may be one
        more than is wanted; what was enqueued is the same trial whoever asks for it.
        """
        trial = ask_next(study, number, self.sampler, self.seed, len(self.anchors))
        if trial.number != number and EXACT not in trial.user_attrs:
            trial.set_user_attr(SURPLUS, f"others asked for trial {number} meanwhile")
            study.tell(trial, state=TrialState.FAIL)
            return False
        draw(trial, self._parametrisation().ranges)  # all, so that the next trial is asked for with this one in sight
        self._describe(trial, done)
        return trial.number == number

    def ask_again(self, study: optuna.Study, trial: FrozenTrial, done: Collection[TrialRecord]) -> None:
        """Complete a trial whose asking was cut off, to what it would have been."""
        ranges = self._parametrisation().ranges
        self._describe(complete(study, trial, ranges, self.sampler, self.seed, len(self.anchors)), done)

    def _describe(self, trial: optuna.Trial, done: Collection[TrialRecord]) -> None:
        """Keep what follows from a trial's parameters as attributes: nobody has to reckon it again, and the dashboard
        shows it."""
        record = self._untrained(trial)
        trial.set_user_attr("origin", record.origin)
        trial.set_user_attr("FLOPs", record.flops)
        trial.set_user_attr("share of the budget", round(self._budget_share(record), 5))
        trial.set_user_attr("params", record.params)
        if "memory" in self.limits.most:
            trial.set_user_attr("peak memory, bytes", self._cost(record, "memory"))
        if "latency" in self.limits.most:
            trial.set_user_attr("latency, ms by the table", self._cost(record, "latency") / 10**9)
        trial.set_user_attr("widths", " ".join(map(str, record.widths.values())))
        if (rule := self._stopping(record, done)) is not None:
            trial.set_user_attr(STOPPING, rule.to_json())
        trial.set_user_attr(PLANNED, record.to_json())  # the last: it says that all are there

    def _stopping(self, record: TrialRecord, done: Collection[TrialRecord]) -> Rule | None:
        """When the training of a trial may be stopped: never that of an anchor, which is compared with in the end."""
        if self.stops_below is None or record.origin != SEARCH:
            return None
        return Rule.of([other.curve for other in done if other.is_measured], self.recipe.epochs, self.stops_below)

    @staticmethod
    def is_described(trial: FrozenTrial) -> bool:
        """Whether a trial was asked for to the end: somebody who died may have left it half-drawn."""
        is_earlier = trial.state.is_finished() and "origin" in trial.user_attrs
        return PLANNED in trial.user_attrs or is_earlier  # of a study that was made before the plan was written down

    def planned(self, trial: FrozenTrial) -> TrialRecord:
        """The record of a described trial, before its training."""
        if PLANNED in trial.user_attrs:
            return TrialRecord.from_json(trial.user_attrs[PLANNED])
        return self._untrained(trial)

    def _untrained(self, trial: optuna.Trial | FrozenTrial) -> TrialRecord:
        if EXACT in trial.user_attrs:
            anchor = Anchor.from_json(trial.user_attrs[EXACT])
        else:
            anchor = self._proposed(trial.params)
        model, widths = self.model, self.model.vector(anchor.widths)
        if anchor.removed:
            model = model.without(self.structure, anchor.removed)
        return TrialRecord(
            number=trial.number,
            origin=trial.user_attrs.get("origin", SEARCH),
            widths=anchor.widths,
            removed=anchor.removed,
            selections=anchor.selections,
            flops=int(model.flops(widths)),
            params=int(model.params(widths)),
            seed=derive(self.seed, "trial", trial.number),
            accuracy=None,
            loss=None,
            curve=(),
            seconds=0.0,
            images=0,
            parameters=dict(trial.params),
        )

    def _proposed(self, parameters: Mapping[str, float]) -> Anchor:
        """The architecture that parameters stand for. Groups that only removed branches hold are as wide as can be:
        equal architectures are equal."""
        parametrisation = self._parametrisation()
        removed, model = parametrisation.removed(parameters), self.model
        if removed:
            model = model.without(self.structure, removed)
        widths = project(parametrisation.decode(parameters), model, self.legal, self.limits)
        if removed:
            gone = self.structure.without(removed)
            widths = np.where([name in gone for name in model.groups], self.legal.highest, widths)
        return Anchor(widths=model.mapping(widths), removed=removed)

    # Training -------------------------------------------------------------------------------------------------------

    def checked(self, record: TrialRecord, planned: TrialRecord) -> TrialRecord:
        """A record that was found in the run's folder. Raises RunError where it is not the planned trial's."""
        if (key_of(record), record.seed) != (key_of(planned), planned.seed):
            raise RunError(
                f"{trial_path(self.folder, record.number)}: is not of this study: it has widths "
                f"{list(record.widths.values())}, the study asks for {list(planned.widths.values())}. Delete it and it "
                "is trained again, or use --fresh to begin anew"
            )
        return record

    def job(self, key: str, trial: FrozenTrial, record: TrialRecord) -> Job:
        """The training of a trial, by its record."""
        stopping = trial.user_attrs.get(STOPPING)
        training = Training(
            structure=self.structure,
            widths=record.widths,
            removed=record.removed,
            selections=record.selections,
            flops=record.flops,
            params=record.params,
            data=self.data,
            recipe=self.recipe,
            seed=record.seed,
            device=self.device,
            checkpoint=trial_path(self.folder, record.number).with_suffix(CHECKPOINT),
            stopping=None if stopping is None else Rule.from_json(stopping),
            compile=self.compile,
        )
        return Job(key=key, function=train, arguments={"training": training})

    def _budget_share(self, record: TrialRecord) -> float:
        """How much a candidate uses of the limit that it uses most of, at most 1."""
        return max(self._cost(record, quantity) / most for quantity, most in self.limits.most.items())

    def _cost(self, record: TrialRecord, quantity: Quantity) -> int:
        counted = {"flops": record.flops, "params": record.params}
        if quantity in counted:
            return counted[quantity]
        model = self.model.without(self.structure, record.removed) if record.removed else self.model
        return int(model.cost(self.model.vector(record.widths), quantity))

    def images_spared(self, record: TrialRecord) -> int:
        """How many images a trial was not trained on because it was stopped early."""
        if record.extrapolation is None or record.copied_from is not None:
            return 0
        epochs = record.extrapolation.epoch
        return record.images // epochs * (self.recipe.epochs - epochs)

    def line(self, record: TrialRecord) -> TrialLine:
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
            stopped_after=None if record.extrapolation is None else record.extrapolation.epoch,
        )


Key = tuple[tuple[int, ...], tuple[str, ...], tuple[tuple[str, tuple[int, ...]], ...]]


def key_of(record: TrialRecord) -> Key:
    """What is equal for trials of the same architecture."""
    return tuple(record.widths.values()), record.removed, tuple(sorted(record.selections.items()))


def _architecture(record: TrialRecord) -> Anchor:
    return Anchor(widths=record.widths, removed=record.removed, selections=record.selections)


def trained(record: TrialRecord, outcome: Outcome) -> TrialRecord:
    """The record with what came of its training. Raises what would befall every other training, too."""
    if (error := concerns_all(outcome)) is not None:
        raise error
    if outcome.failure is not None:
        return replace(record, failure=outcome.failure)
    value: TrainingRecord = outcome.value
    early = value.extrapolation
    return replace(
        record,
        accuracy=value.validation_accuracy if early is None else early.accuracy,
        loss=value.validation_loss if early is None else None,
        extrapolation=early,
        curve=tuple(epoch["validation_accuracy"] for epoch in value.epochs),
        seconds=value.seconds,
        images=value.images,
        notes=value.notes,
    )
