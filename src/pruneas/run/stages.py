"""A whole run, from a space and a budget to an architecture and what it is worth.

Each stage keeps its results in the run's folder and takes up what it finds there, so a run that was killed goes on
where it was, and a finished one is only read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pruneas.compare.finalists import Entrant, Stage, choose
from pruneas.errors import NetworkError, RunError, TrainingError
from pruneas.files import replacing, write_json, write_text
from pruneas.generators import Method
from pruneas.networks.weights import read_weights
from pruneas.progress import Observer
from pruneas.report.records import Role
from pruneas.run.folder import BEST, RESULT, read_json
from pruneas.run.ledger import Ledger
from pruneas.run.machine import hardware, versions
from pruneas.run.record import Arm, result_record
from pruneas.run.result import SearchResult
from pruneas.run.setting import Setting
from pruneas.search.propose import GeneratorRecord, Proposal, propose
from pruneas.search.records import SEARCH, TrialRecord, best_candidates, num_trained, read_trials
from pruneas.search.train import (
    Epoch,
    Training,
    TrainingRecord,
    concerns_all,
    images_per_epoch,
    save_weights,
    train,
)
from pruneas.search.trials import Search
from pruneas.seeds import derive
from pruneas.structure.build import describe
from pruneas.training import Job, Pool

BASE = "base network"


class Run:
    """One run on its way through its stages."""

    def __init__(self, setting: Setting, command: str, observer: Observer) -> None:
        self.s = setting
        self.command = command
        self.observer = observer
        self.notes = list(setting.notes)
        threads, given = setting.space.compute.threads, setting.space.network.weights
        facts = {
            "command": command,
            "seed": setting.space.compute.seed,
            "device": setting.device,
            "workers": setting.workers,
            "threads": threads,
            "hardware": hardware(setting.device, setting.workers, threads),
            "versions": versions(),
            "data": setting.data.fingerprint,
            "structure": setting.structure.fingerprint,
            "weights": None if given is None else hashlib.sha256(Path(given).expanduser().read_bytes()).hexdigest(),
            "limit": setting.most,
        }
        _check_givens(setting.folder / "run.json", facts)
        self.ledger = Ledger(setting.folder / "run.json", facts, self._images_left(), observer)

    def go(self) -> SearchResult:
        with Pool(workers=self.s.workers, threads=self.s.space.compute.threads) as pool:
            generated = self._generators(pool)
            self.observer.anchors({r.method: r.widths for r in generated}, self.s.structure.widths)
            trials = self._search(pool, generated)
            result = self._finalists(pool, generated, trials)
        self.ledger.save()
        return result

    # What is left, and what is told ---------------------------------------------------------------------------------

    def _images(self, trainings: int, epochs: int) -> float:
        return float(trainings * epochs * images_per_epoch(self.s.recipe, len(self.s.data.train)))

    def _images_left(self) -> dict[str, float]:
        """Images to train on by stage. Finalists are not known yet: some may share a training, none takes more."""
        folder, space, full = self.s.folder, self.s.space, self.s.recipe.epochs
        seeds, entrants = space.finalists.seeds, len(self.s.methods) + 2  # the base network and a searched one
        first, jobs = self._missing_generators()
        own = sum("training" in method.needs for method in jobs)
        trials = max(0, space.search.trials - num_trained(read_trials(folder)))
        selection = space.finalists.count * seeds - len(list((folder / "selection").glob("*.json")))
        test = entrants * seeds - len(list((folder / "test").glob("*.json")))
        return {
            "generators": self._images(first + own, full),
            "search": self._images(trials, self.s.trial_recipe.epochs),
            "selection": self._images(max(0, selection), full),
            "test": self._images(max(0, test), full),
        }

    def _told(self, key: str, message: Any) -> None:
        if isinstance(message, Epoch):
            self.observer.training(key, message.epoch, message.epochs, message.accuracy)
            self.ledger.work(message.images)

    def _note(self, text: str) -> None:
        """Something that whoever reads the result has to know."""
        self.notes.append(text)
        self.observer.note(text)

    # The generators -------------------------------------------------------------------------------------------------

    def _path(self, method: str) -> Path:
        return self.s.folder / "generators" / f"{method}.json"

    def _failure_path(self, method: str) -> Path:
        return self.s.folder / "generators" / f"{method}.failure.json"

    @property
    def _base_weights(self) -> Path:
        return self.s.folder / "base" / "weights.safetensors"

    def _missing_generators(self) -> tuple[bool, list[Method]]:
        """Whether the base network has to be trained, and the methods that have not been run."""
        missing = [
            method
            for method in self.s.methods
            if not self._path(method.name).exists() and not self._failure_path(method.name).exists()
        ]
        needs_base = self.s.given is None and any("weights" in method.needs for method in missing)
        record = self.s.folder / "base" / "record.json"
        return needs_base and not (record.exists() and self._base_weights.exists()), missing

    def _generators(self, pool: Pool) -> list[GeneratorRecord]:
        """Train the base network where a method needs it, and run every method that has no record yet.

        A method that failed is not tried again when the run goes on: the search may have begun without it.
        """
        trains_base, missing = self._missing_generators()
        if self.s.given is not None:
            save_weights(self.s.given, self._base_weights)
        elif missing and not trains_base and any("weights" in method.needs for method in missing):
            self._check_base_weights()
        if missing:
            own = sum("training" in method.needs for method in missing)
            names = ", ".join(method.name for method in self.s.methods)
            self.observer.stage("generators", names, trains_base + own)
            self.ledger.begin("generators", self._images(trains_base + own, self.s.recipe.epochs))
            at_once = [self._proposal_job(method, None) for method in missing if "weights" not in method.needs]
            later = [self._proposal_job(method, self._base_weights) for method in missing if "weights" in method.needs]
            self._settle(pool, ([self._base_job()] if trains_base else []) + at_once)
            self._settle(pool, later)
        for method in self.s.methods:
            if (path := self._failure_path(method.name)).exists():
                self._note(f"generator {method.name} left out: {_failure(path)}")
        paths = [self._path(method.name) for method in self.s.methods]
        return [GeneratorRecord.read(path) for path in paths if path.exists()]

    def _check_base_weights(self) -> None:
        try:
            read_weights(self._base_weights)
        except NetworkError as error:
            raise TrainingError(
                f"{error}. Delete it and give the command again: the base network is trained again, with the same seed"
            ) from error

    def _settle(self, pool: Pool, jobs: Sequence[Job]) -> None:
        trains = {BASE, *(method.name for method in self.s.methods if "training" in method.needs)}
        for outcome in pool.run(jobs, self._told):
            if outcome.key in trains:
                self.observer.trained(outcome.key)
            if outcome.failure is None and outcome.key == BASE:
                write_json(self.s.folder / "base" / "record.json", outcome.value.to_json())
            elif outcome.failure is None:
                self._save_generated(outcome.value)
            elif outcome.key in (BASE, "uniform"):  # nothing can be compared without them
                what = "training the base network" if outcome.key == BASE else "uniform scaling"
                raise outcome.user_error or TrainingError(f"{what} failed: {outcome.failure}")
            elif (error := concerns_all(outcome)) is not None:
                raise error
            elif outcome.user_error is None:  # killed, or a mistake in the method: nothing that has to stay so
                raise TrainingError(
                    f"generator {outcome.key} failed: {outcome.failure}. Give the command again to try it once more, "
                    "or leave it out of --generators"
                )
            else:
                # A method that cannot work here (no batch norm) or diverged leaves the others to search.
                write_json(self._failure_path(outcome.key), {"method": outcome.key, "failure": outcome.failure})

    def _save_generated(self, record: GeneratorRecord) -> None:
        architecture = describe(self.s.structure, record.widths, record.removed, record.keep)
        write_text(self.s.folder / "generators" / f"{record.method}.architecture.json", architecture.to_json() + "\n")
        write_json(self._path(record.method), record.to_json())

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
            weights=self._base_weights,
        )
        return Job(key=BASE, function=train, arguments={"training": training})

    def _proposal_job(self, method: Method, weights: Path | None) -> Job:
        proposal = Proposal(
            method=method.name,
            structure=self.s.structure,
            model=self.s.model,
            legal=self.s.legal,
            most=self.s.most,
            quantity=self.s.budget.quantity,
            data=self.s.source,
            recipe=self.s.recipe,
            seed=derive(self.s.space.compute.seed, "generator", method.name),
            device=self.s.device,
            weights=weights,
            options=self.s.space.generators.options.get(method.name, {}),
        )
        return Job(key=method.name, function=propose, arguments={"proposal": proposal})

    # The search -----------------------------------------------------------------------------------------------------

    def _search(self, pool: Pool, generated: Sequence[GeneratorRecord]) -> list[TrialRecord]:
        asked = self.s.space.search.trials
        missing = max(0, asked - num_trained(read_trials(self.s.folder)))
        epochs = f"{self.s.trial_recipe.epochs} of {self.s.recipe.epochs} epochs each"
        self.observer.stage("search", epochs, missing)
        self.ledger.begin("search", self._images(missing, self.s.trial_recipe.epochs))
        trials = Search(
            structure=self.s.structure,
            model=self.s.model,
            legal=self.s.legal,
            most=self.s.most,
            quantity=self.s.budget.quantity,
            anchors={record.method: self.s.model.vector(record.widths) for record in generated},
            data=self.s.source,
            recipe=self.s.trial_recipe,
            num_trials=asked,
            sampler=self.s.space.search.sampler,
            seed=self.s.space.compute.seed,
            device=self.s.device,
            workers=self.s.workers,
            folder=self.s.folder,
        ).run(pool, self.observer, self.ledger.work)
        if (found := num_trained(trials)) < asked:
            self._note(
                f"the search ended after {found} of {asked} candidates: it proposed only what had been trained before"
            )
        return trials

    # The finalists --------------------------------------------------------------------------------------------------

    def _finalists(
        self, pool: Pool, generated: Sequence[GeneratorRecord], trials: Sequence[TrialRecord]
    ) -> SearchResult:
        best = best_candidates(trials, self.s.space.finalists.count)
        if not best:
            raise TrainingError(f"no candidate could be trained; the first one failed with: {trials[0].failure}")
        entrants = [_entrant(record) for record in best]
        selected = self._train(pool, self._stage("selection", test=False), entrants)
        if not selected:
            raise TrainingError(f"no finalist could be trained in full; {self.notes[-1]}")
        winner = next(entrant for entrant in entrants if entrant.name == choose(selected))
        roles = _roles(self.s.structure.widths, generated, winner, _best_searched(entrants, selected, trials))
        stage = self._stage("test", test=True)
        before = len(stage.strangers([entrant for entrant, _ in roles.values()]))
        tested = self._train(pool, stage, [entrant for entrant, _ in roles.values()])
        for name in ("uniform", winner.name):
            if name not in tested:
                raise TrainingError(f"nothing can be compared without {name}; {self.notes[-1]}")
        if before:
            self._note(
                f"the test set was read before, for {before} other architecture{'s' * (before > 1)}: the run was "
                "extended after it had ended, and its winner is another one now"
            )
        self._save_best(stage, winner)
        arms = {
            name: Arm(entrant=entrant, role=role, records=tested[name])
            for name, (entrant, role) in roles.items()
            if name in tested
        }
        record = result_record(
            self.s, arms, winner, trials, command=self.command, seconds=self.ledger.seconds, notes=self.notes
        )
        write_text(self.s.folder / RESULT, record.to_json() + "\n")
        return SearchResult(folder=self.s.folder, record=record)

    def _stage(self, name: str, *, test: bool) -> Stage:
        return Stage(
            name=name,
            structure=self.s.structure,
            model=self.s.model,
            data=self.s.source,
            recipe=self.s.recipe,
            run_seed=self.s.space.compute.seed,
            num_seeds=self.s.space.finalists.seeds,
            device=self.s.device,
            test=test,
            folder=self.s.folder / name,
        )

    def _train(self, pool: Pool, stage: Stage, entrants: Sequence[Entrant]) -> dict[str, list[TrainingRecord]]:
        self.ledger.begin(stage.name, self._images(len(stage.jobs(entrants)), self.s.recipe.epochs))
        return stage.run(entrants, pool, self.observer, self.ledger.work, self._note)

    def _save_best(self, stage: Stage, winner: Entrant) -> None:
        """The winner's architecture, and its weights of the first test seed, trained on the training part alone."""
        best = self.s.folder / BEST
        write_text(best / "architecture.json", describe(self.s.structure, winner.widths).to_json() + "\n")
        seed = stage.seeds[0]
        weights = stage.weights(winner, seed)
        if not weights.exists():
            self._note("best/ has no weights: the winner's first training failed")
            for name in ("weights.safetensors", "weights.json"):  # of the winner before the run was extended
                (best / name).unlink(missing_ok=True)
            return
        with replacing(best / "weights.safetensors") as temporary:
            shutil.copyfile(weights, temporary)
        write_json(
            best / "weights.json",
            {
                "name": winner.name,
                "seed": seed,
                "trained_on": f"the {len(self.s.data.train)} training images alone, not on validation or test images",
                "normalisation": {"mean": list(self.s.data.mean), "std": list(self.s.data.std)},
                "classes": list(self.s.data.classes),
            },
        )


def _best_searched(
    entrants: Sequence[Entrant], selected: Mapping[str, Sequence[TrainingRecord]], trials: Sequence[TrialRecord]
) -> Entrant | None:
    """The best architecture that the search itself found, so that the result shows one even where an anchor won."""
    searched = {entrant.name: entrant for entrant in entrants if entrant.origin == SEARCH and entrant.name in selected}
    if searched:
        return searched[choose({name: selected[name] for name in searched})]
    candidates = [record for record in best_candidates(trials, len(trials)) if record.origin == SEARCH]
    return _entrant(candidates[0]) if candidates else None


def _roles(
    base: Mapping[str, int], generated: Sequence[GeneratorRecord], winner: Entrant, searched: Entrant | None
) -> dict[str, tuple[Entrant, Role]]:
    """Who is in the final comparison, by name and in the order of the table."""
    roles: dict[str, tuple[Entrant, Role]] = {"base": (Entrant(name="base", origin="base", widths=base), "base")}
    for record in generated:
        role: Role = "uniform" if record.method == "uniform" else "generator"
        roles[record.method] = (Entrant(name=record.method, origin=record.method, widths=record.widths), role)
    if searched is not None and searched.name != winner.name:
        roles[searched.name] = (searched, "searched")
    if winner.origin != "uniform":
        roles[winner.name] = (roles.get(winner.name, (winner, "winner"))[0], "winner")
    return roles


def _entrant(record: TrialRecord) -> Entrant:
    name = f"search #{record.number}" if record.origin == SEARCH else record.origin
    return Entrant(name=name, origin=record.origin, widths=record.widths)


def _check_givens(path: Path, facts: Mapping[str, Any]) -> None:
    """What the settings name must be what it was when the run began: half a run on other images is no run.

    Raises RunError naming what has changed.
    """
    if not path.exists():
        return
    before = read_json(path)
    names = {"data": "the images", "structure": "the network", "weights": "the given weights", "device": "the device"}
    changed = [text for key, text in names.items() if key in before and before[key] != facts[key]]
    if changed:
        raise RunError(
            f"{path.parent}: {' and '.join(changed)} changed since the run began; use --fresh to begin anew, or put "
            "back what was there"
        )


def _failure(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["failure"])
    except (ValueError, TypeError, KeyError, OSError):
        return "for a reason that cannot be read any more"
