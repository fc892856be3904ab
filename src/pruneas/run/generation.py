"""The base network and the generators of a run: what has no record yet is trained and run, what has one is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pruneas.architecture import Architecture
from pruneas.errors import NetworkError, TrainingError
from pruneas.files import copy_file, copy_once, write_json, write_text
from pruneas.generators import Method
from pruneas.networks.weights import read_weights
from pruneas.progress import Observer
from pruneas.run.folder import read_json
from pruneas.run.ledger import Ledger
from pruneas.run.setting import Setting
from pruneas.search.propose import GeneratorRecord, Proposal, Target, file_stem, masked_name, propose
from pruneas.search.train import (
    CHECKPOINT,
    Progress,
    Training,
    TrainingRecord,
    concerns_all,
    images_per_epoch,
    notes_of,
    save_weights,
    train,
)
from pruneas.seeds import derive
from pruneas.structure.build import describe
from pruneas.structure.masks import mask_path
from pruneas.training import Job, Outcome, Pool

BASE = "base network"


class Generation:
    """What the methods of a setting give for each of `targets`.

    The files are `generators/<method>[@<target>].json`, `.architecture.json` beside each, and where the method masks
    weights `.masked.architecture.json` with its masks. `needed` are the methods without which nothing can go on; others
    that cannot work here are left out, and not tried again. `masks`: the files of those of the sources that have some.
    """

    def __init__(
        self,
        setting: Setting,
        targets: Mapping[str, Target],
        observer: Observer,
        *,
        needed: Sequence[str] = (),
        sources: Sequence[Architecture] = (),
        masks: Mapping[str, Path] | None = None,
    ) -> None:
        self.s, self.targets, self.observer = setting, targets, observer
        self.needed, self.sources, self.masks = needed, tuple(sources), dict(masks or {})
        self.weights = setting.folder / "base" / "weights.safetensors"

    def run(self, pool: Pool, ledger: Ledger) -> None:
        """Train the base network where a method needs it, and run every method that has no record yet."""
        run_all({"": self}, pool, ledger)

    def jobs(self) -> tuple[list[Job], list[Job]]:
        """What is still to be done: first what can be at once, then what needs the trained base network."""
        trains_base, missing = self._missing()
        if self.s.given is not None:
            save_weights(self.s.given, self.weights)
        elif missing and not trains_base and any("weights" in method.needs for method in missing):
            self._check_weights()
        at_once = [self._proposal_job(method, None) for method in missing if "weights" not in method.needs]
        later = [self._proposal_job(method, self.weights) for method in missing if "weights" in method.needs]
        return ([self._base_job()] if trains_base else []) + at_once, later

    def trains(self, key: str) -> bool:
        """Whether the job of that key trains a network."""
        return key in {BASE, *(method.name for method in self.s.methods if "training" in method.needs)}

    def images_left(self) -> float:
        """Images to train on."""
        trains_base, missing = self._missing()
        trainings = trains_base + sum("training" in method.needs for method in missing)
        return float(trainings * self.s.recipe.epochs * images_per_epoch(self.s.recipe, len(self.s.data.train)))

    def records(self, target: str) -> list[GeneratorRecord]:
        """What the methods gave for a target; those that failed are left out."""
        paths = [self._path(method.name, target) for method in self.s.methods]
        return [GeneratorRecord.read(path) for path in paths if path.exists()]

    def architecture(self, method: str, target: str) -> Path:
        """The file of a method's architecture."""
        return self._path(method, target).with_suffix(".architecture.json")

    def masked(self, method: str, target: str) -> Path:
        """The file of the base network's architecture with the method's masks, where it gave some."""
        return self.s.folder / "generators" / masked_name(method, target)

    def notes(self) -> list[str]:
        """What whoever uses what the methods gave has to know: how the base network was trained, which were left out,
        and what others had to leave."""
        base = self.s.folder / "base" / "record.json"
        told = notes_of({BASE: TrainingRecord.from_json(read_json(base))}) if base.exists() else []
        told += [f"generator {name} left out: {failure}" for name, failure in self.failures().items()]
        for target in self.targets:
            told += [f"generator {r.method}: {note}" for r in self.records(target) for note in r.notes]
        return list(dict.fromkeys(told))

    def adopt(self, other: Generation, target: str) -> None:
        """Take over the base network, and what the methods gave another run for one of its targets, as this run's own.

        What is here already stays.
        """
        base = other.s.folder / "base"
        for name in (self.weights.name, "record.json"):
            copy_once(base / name, self.s.folder / "base" / name)
        for method in self.s.methods:
            copy_once(other._failure_path(method.name), self._failure_path(method.name))
            self.take_over(method, other.s.folder, target, "")

    def take_over(self, method: Method, run: Path, theirs: str, target: str) -> None:
        """Take over what a method gave in another run's folder for a target of its own, as what it gives for `target`.

        Not where this run has that already, and not what is no answer to what is asked here: a record of other options
        or sources, or one whose weights are gone. The method is run again then, with the same seed.
        """
        folder, own = run / "generators", self.s.folder / "generators"
        path = folder / f"{file_stem(method.name, theirs)}.json"
        if not path.exists() or self.is_there(method.name, target):
            return
        record = GeneratorRecord.read(path)
        kept = [name for name in (record.weights, record.trained) if name is not None]
        trains = "training" in method.needs and record.keep is not None  # and some kept no weights, long ago
        if record.asked != self.asked(method.name) or (trains and not kept):
            return
        if not all((folder / name).exists() for name in kept):
            return
        if record.weights is not None:
            name = record.weights.replace(file_stem(method.name, theirs), file_stem(method.name, target), 1)
            copy_file(folder / record.weights, own / name)
            record = replace(record, weights=name)
        if record.trained is not None:
            copy_file(folder / record.trained, own / record.trained)
        if record.mask is not None:
            copy_file(mask_path(folder / masked_name(method.name, theirs)), mask_path(self.masked(method.name, target)))
        self.save(target, record)

    def failures(self) -> dict[str, str]:
        """Why methods were left out."""
        paths = {method.name: self._failure_path(method.name) for method in self.s.methods}
        return {name: _failure(path) for name, path in paths.items() if path.exists()}

    def _path(self, method: str, target: str) -> Path:
        return self.s.folder / "generators" / f"{file_stem(method, target)}.json"

    def _failure_path(self, method: str) -> Path:
        return self.s.folder / "generators" / f"{method}.failure.json"

    def is_there(self, method: str, target: str) -> bool:
        """Whether the method was run for the target, with the options and sources of now."""
        path = self._path(method, target)
        return path.exists() and GeneratorRecord.read(path).asked == self.asked(method)

    def asked(self, method: str) -> str:
        """Stands for the method's options and sources, as in its records."""
        return self._proposal(method, None).asked

    def _missing(self) -> tuple[bool, list[Method]]:
        """Whether the base network has to be trained, and the methods that have not been run for every target."""
        missing = [
            method
            for method in self.s.methods
            if not self._failure_path(method.name).exists()
            and not all(self.is_there(method.name, target) for target in self.targets)
        ]
        needs_base = self.s.given is None and any("weights" in method.needs for method in missing)
        record = self.s.folder / "base" / "record.json"
        return needs_base and not (record.exists() and self.weights.exists()), missing

    def _check_weights(self) -> None:
        try:
            read_weights(self.weights)
        except NetworkError as error:
            raise TrainingError(
                f"{error}. Delete it and give the command again: the base network is trained again, with the same seed"
            ) from error

    def settle(self, outcome: Outcome) -> None:
        """Keep what a job gave. Raises what it failed with, where nothing can go on without it."""
        if outcome.failure is None and outcome.key == BASE:
            write_json(self.s.folder / "base" / "record.json", outcome.value.to_json())
        elif outcome.failure is None:
            for target, record in outcome.value.items():
                self.save(target, record)
        elif outcome.key in (BASE, *self.needed):
            what = "training the base network" if outcome.key == BASE else f"generator {outcome.key}"
            raise outcome.user_error or TrainingError(f"{what} failed: {outcome.failure}")
        elif (error := concerns_all(outcome)) is not None:
            raise error
        elif outcome.user_error is None:  # killed, or a mistake in the method: nothing that has to stay so
            raise TrainingError(
                f"generator {outcome.key} failed: {outcome.failure}. Give the command again to try it once more, "
                "or leave it out of --generators"
            )
        else:
            # A method that cannot work here (no batch norm) or diverged leaves the others to go on.
            write_json(self._failure_path(outcome.key), {"method": outcome.key, "failure": outcome.failure})

    def save(self, target: str, record: GeneratorRecord) -> None:
        """Keep what a method gave: its record, and its architectures."""
        architecture = describe(self.s.structure, record.widths, record.removed, record.keep)
        write_text(self.architecture(record.method, target), architecture.to_json() + "\n")
        if record.mask is not None:
            whole = replace(describe(self.s.structure, self.s.structure.widths), mask=record.mask)
            write_text(self.masked(record.method, target), whole.to_json() + "\n")
        write_json(self._path(record.method, target), record.to_json())

    def _base_job(self) -> Job:
        training = Training(
            structure=self.s.structure,
            widths=self.s.structure.widths,
            flops=self.s.model.base.flops,
            params=self.s.model.base.params,
            data=self.s.source,
            recipe=self.s.recipe,
            seed=derive(self.s.space.compute.seed, "base"),
            device=self.s.device,
            weights=self.weights,
            checkpoint=self.s.folder / "base" / f"record{CHECKPOINT}",
            compile=self.s.space.compute.compile,
        )
        return Job(key=BASE, function=train, arguments={"training": training})

    def _proposal_job(self, method: Method, weights: Path | None) -> Job:
        proposal = self._proposal(method.name, weights)
        return Job(key=method.name, function=propose, arguments={"proposal": proposal})

    def _proposal(self, method: str, weights: Path | None) -> Proposal:
        return Proposal(
            method=method,
            targets=self.targets,
            structure=self.s.structure,
            model=self.s.model,
            legal=self.s.legal,
            data=self.s.source,
            recipe=self.s.recipe,
            seed=derive(self.s.space.compute.seed, "generator", method),
            device=self.s.device,
            weights=weights,
            folder=self.s.folder / "generators",
            sources=self.sources,
            masks=self.masks,
            options=self.s.space.generators.options.get(method, {}),
            compile=self.s.space.compute.compile,
        )


def run_all(generations: Mapping[str, Generation], pool: Pool, ledger: Ledger, *, stage: str = "generators") -> None:
    """Run several generations beside each other, each job's name beginning with its generation's."""
    jobs = {name: generation.jobs() for name, generation in generations.items()}
    first = next(iter(generations.values()))
    if not any(at_once or later for at_once, later in jobs.values()):
        return
    trainings = sum(generations[name].trains(job.key) for name, parts in jobs.items() for part in parts for job in part)
    first.observer.stage(stage, ", ".join(method.name for method in first.s.methods), trainings)
    ledger.begin(stage, sum(generation.images_left() for generation in generations.values()))

    def told(key: str, message: Any) -> None:
        if isinstance(message, Progress):
            message.tell(key, first.observer, ledger.work)

    for index in range(2):
        named = {name + job.key: (generations[name], job) for name, parts in jobs.items() for job in parts[index]}
        for outcome in pool.run([replace(job, key=key) for key, (_, job) in named.items()], told):
            generation, job = named[outcome.key]
            if generation.trains(job.key):
                first.observer.trained(outcome.key)
            generation.settle(replace(outcome, key=job.key))


def _failure(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["failure"])
    except (ValueError, TypeError, KeyError, OSError):
        return "for a reason that cannot be read any more"
