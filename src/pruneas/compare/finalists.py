"""The best candidates trained in full, and what they are held against.

Two stages, so that no accuracy is reported that had a part in a choice. *Selection*: the best candidates of the search
are trained with the full recipe and several seeds; the mean validation accuracy names the winner. *Test*: the winner,
the base network, uniform scaling and every generator's own architecture are trained with fresh seeds, and the test set
is read once for each training, at its end.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pruneas.compare.trainings import read_training
from pruneas.cost.model import CostModel
from pruneas.files import write_json
from pruneas.progress import Observer
from pruneas.search.train import CHECKPOINT, Progress, Training, TrainingRecord, concerns_all, notes_of, train
from pruneas.seeds import derive
from pruneas.structure.groups import Structure
from pruneas.training import DataSource, Job, Leader, Pool, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """An architecture that is trained in full. `origin` is a generator's name, 'search' or 'base'; `removed` are the
    blocks whose branches are taken out, `selections` what channel selections take in place of the first channels,
    `masks` a file of masks that are held while it is trained."""

    name: str
    origin: str
    widths: Mapping[str, int]
    removed: tuple[str, ...] = ()
    selections: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    masks: Path | None = None

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that name this architecture."""
        masks = None if self.masks is None else hashlib.sha256(self.masks.read_bytes()).hexdigest()
        parts = [dict(self.widths), *(part for part in (self.removed, dict(self.selections), masks) if part)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Trainings of several entrants, each with the same seeds. Records are kept in `folder`, one file a training:
    given again, only what is missing is trained."""

    name: str
    structure: Structure
    model: CostModel
    data: DataSource
    recipe: Recipe
    run_seed: int
    num_seeds: int
    device: str
    test: bool
    folder: Path
    compile: str = "auto"

    @property
    def seeds(self) -> list[int]:
        return [derive(self.run_seed, self.name, index) for index in range(self.num_seeds)]

    def run(
        self,
        entrants: Sequence[Entrant],
        pool: Pool | Leader,
        observer: Observer,
        worked: Callable[[int], None],
        note: Callable[[str], None],
    ) -> dict[str, list[TrainingRecord]]:
        """The records of every entrant, seeds in order. Equal widths are trained once.

        A training that fails is noted and left out; so is an entrant that has none left.
        """
        jobs = self.jobs(entrants)
        observer.stage(self.name, f"{len(entrants)} architectures, {self.num_seeds} seeds each", len(jobs))

        def on_message(key: str, message: Any) -> None:
            if isinstance(message, Progress):
                message.tell(key, observer, worked)

        for outcome in pool.run([job for job, _ in jobs.values()], on_message):
            observer.trained(outcome.key)
            if (error := concerns_all(outcome)) is not None:
                raise error
            if outcome.failure is not None:
                note(f"{self.name} training of {outcome.key} failed: {outcome.failure}")
            else:
                write_json(jobs[outcome.key][1], outcome.value.to_json())
        results: dict[str, list[TrainingRecord]] = {}
        known: dict[str, TrainingRecord] = {}
        for entrant in entrants:
            paths = [self.path(entrant, seed) for seed in self.seeds]
            found = {index: read_training(path) for index, path in enumerate(paths, 1) if path.exists()}
            known |= {f"{entrant.name}, seed {index}": record for index, record in found.items()}
            if found:
                results[entrant.name] = list(found.values())
        for text in notes_of(known):
            note(f"{self.name}: {text}")
        return results

    def jobs(self, entrants: Sequence[Entrant]) -> dict[str, tuple[Job, Path]]:
        """The trainings that are still to be done, with the file of each one's record."""
        jobs: dict[str, tuple[Job, Path]] = {}
        planned: set[Path] = set()
        for index, seed in enumerate(self.seeds):
            for entrant in entrants:
                path = self.path(entrant, seed)
                if path.exists() or path in planned:
                    continue
                planned.add(path)
                model, widths = self.model, self.model.vector(entrant.widths)
                if entrant.removed:
                    model = model.without(self.structure, entrant.removed)
                training = Training(
                    structure=self.structure,
                    widths=entrant.widths,
                    removed=entrant.removed,
                    selections=entrant.selections,
                    masks=entrant.masks,
                    flops=int(model.flops(widths)),
                    params=int(model.params(widths)),
                    data=self.data,
                    recipe=self.recipe,
                    seed=seed,
                    device=self.device,
                    test=self.test,
                    weights=self.weights(entrant, seed) if self.test and index == 0 else None,
                    checkpoint=path.with_suffix(CHECKPOINT),
                    compile=self.compile,
                )
                key = f"{entrant.name}, seed {index + 1}"
                jobs[key] = Job(key=key, function=train, arguments={"training": training}), path
        return jobs

    def strangers(self, entrants: Sequence[Entrant]) -> set[str]:
        """Fingerprints of other architectures' widths that have records here: the finalists of a run before it was
        extended."""
        known = {entrant.fingerprint for entrant in entrants}
        return {path.stem.partition("-")[0] for path in self.folder.glob("*.json")} - known

    def path(self, entrant: Entrant, seed: int) -> Path:
        return self.folder / f"{entrant.fingerprint}-{seed}.json"

    def weights(self, entrant: Entrant, seed: int) -> Path:
        return self.path(entrant, seed).with_suffix(".safetensors")


def choose(results: Mapping[str, Sequence[TrainingRecord]]) -> str:
    """The entrant of the highest mean validation accuracy, ties by lower mean loss."""
    return max(
        results,
        key=lambda name: (
            statistics.fmean(record.validation_accuracy for record in results[name]),
            -statistics.fmean(record.validation_loss for record in results[name]),
        ),
    )
