"""Trainings by what they are: each is done once, whoever asks for it, and taken over from where it was done before.

A training's record lies under its identity (`search.train.Training.identity`), a hash of all that its weights depend
on. So arms that come to the same training share it, what is finished stays finished, and records of searches and of
earlier comparisons fit wherever they are the same training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pruneas.errors import RunError
from pruneas.files import copy_file, write_json
from pruneas.progress import Observer
from pruneas.search.train import (
    CHECKPOINT,
    Progress,
    Training,
    TrainingRecord,
    concerns_all,
    images_per_epoch,
    notes_of,
    train,
)
from pruneas.training import Job, Pool

WEIGHTS = ".safetensors"
PLACES = ("test", "trainings", "comparison/trainings")
"""Where a run's folder holds records of trainings in full, with the weights, if they were kept, beside them."""


class Trainings:
    """Trainings that somebody asked for, and their records in `folder`, one file each.

    `data` is the fingerprint of the images, `num_images` how many of them are trained on. `elsewhere` are folders of
    runs whose records may be taken over.
    """

    def __init__(self, folder: Path, data: str, num_images: int, elsewhere: Sequence[Path] = ()) -> None:
        self.folder, self._data, self._num_images, self._elsewhere = folder, data, num_images, elsewhere
        self._asked: dict[str, Training] = {}
        self._names: dict[str, str] = {}
        self._origins = folder / "origins.json"

    def add(self, name: str, training: Training, *, weights: bool = False) -> str:
        """Ask for a training; returns its identity. `name` is for people, the first one stays.

        Whoever asks for the test accuracy or the weights of a training, it has them for all.
        """
        identity = training.identity(self._data)
        before = self._asked.get(identity, training)
        path = self._path(identity)
        self._names.setdefault(identity, name)
        self._asked[identity] = replace(
            training,
            test=training.test or before.test,
            weights=path.with_suffix(WEIGHTS) if weights else before.weights,
            checkpoint=path.with_suffix(CHECKPOINT),
        )
        return identity

    def record(self, identity: str) -> TrainingRecord | None:
        """The record of a training that was asked for, with a test accuracy if that was; None where it failed or was
        not done yet."""
        path = self._path(identity)
        record = read_training(path) if path.exists() else None
        has_all = record is not None and (record.test_accuracy is not None or not self._asked[identity].test)
        return record if has_all else None

    def weights(self, identity: str) -> Path:
        """Where the weights are, of trainings that keep theirs."""
        return self._path(identity).with_suffix(WEIGHTS)

    @property
    def origins(self) -> dict[str, str]:
        """The runs that records were taken over from, by identity."""
        return dict(json.loads(self._origins.read_text(encoding="utf-8"))) if self._origins.exists() else {}

    @property
    def missing(self) -> list[str]:
        """The identities of what is still to be done."""
        return [
            identity
            for identity, training in self._asked.items()
            if self.record(identity) is None or (training.weights is not None and not training.weights.exists())
        ]

    @property
    def images_left(self) -> float:
        """Images that are still to be trained on."""
        recipes = [self._asked[identity].recipe for identity in self.missing]
        return float(sum(recipe.epochs * images_per_epoch(recipe, self._num_images) for recipe in recipes))

    def run(self, pool: Pool, observer: Observer, worked: Callable[[int], None], note: Callable[[str], None]) -> None:
        """Do what is missing, in the order in which it was asked for. A training that fails is noted and left out."""
        names = {self._names[identity]: identity for identity in self.missing}
        jobs = [
            Job(key=name, function=train, arguments={"training": self._asked[identity]})
            for name, identity in names.items()
        ]

        def told(key: str, message: Any) -> None:
            if isinstance(message, Progress):
                message.tell(key, observer, worked)

        for outcome in pool.run(jobs, told):
            observer.trained(outcome.key)
            if (error := concerns_all(outcome)) is not None:
                raise error
            if outcome.failure is not None:
                note(f"training {outcome.key} failed: {outcome.failure}")
            else:
                write_json(self._path(names[outcome.key]), outcome.value.to_json())

    def notes(self) -> list[str]:
        """What else than the recipe the numbers depend on, wherever the trainings were done."""
        known = {self._names[identity]: self.record(identity) for identity in self._asked}
        return notes_of({name: record for name, record in known.items() if record is not None})

    def take_over(self) -> None:
        """Copy what was done elsewhere and has all that is asked for: a test accuracy, the weights."""
        wanted, origins = set(self.missing), self.origins
        for run in self._elsewhere if wanted else ():
            for path in (path for place in PLACES for path in sorted((run / place).glob("*.json"))):
                found = _identified(path)
                if found is None or found.identity not in wanted:
                    continue
                training, kept = self._asked[found.identity], path.with_suffix(WEIGHTS)
                if (training.test and found.test_accuracy is None) or (training.weights and not kept.exists()):
                    continue
                if training.weights is not None:
                    copy_file(kept, training.weights)
                origins[found.identity] = str(run)
                write_json(self._origins, origins)
                write_json(self._path(found.identity), found.to_json())
                wanted.discard(found.identity)

    def _path(self, identity: str) -> Path:
        return self.folder / f"{identity}.json"


def read_training(path: Path) -> TrainingRecord:
    """Raises RunError for a file that is no training's record."""
    try:
        return TrainingRecord.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise RunError(
            f"{path}: is not a training's record ({error}); delete it and give the command again: it is trained again, "
            "with the same seed"
        ) from error


def best_of(records: Sequence[TrainingRecord]) -> int:
    """Which of several trainings the validation images choose: the highest accuracy, ties by lower loss."""
    return max(range(len(records)), key=lambda i: (records[i].validation_accuracy, -records[i].validation_loss))


def _identified(path: Path) -> TrainingRecord | None:
    """A record that says what training it is of. Others, and what is none, are of no use here and no fault."""
    try:
        record = read_training(path)
    except RunError:
        return None
    return record if record.identity else None
