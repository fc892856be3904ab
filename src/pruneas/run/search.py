"""A whole run, from a space and a budget to an architecture and what it is worth.

Each stage keeps its results in the run's folder and takes up what it finds there, so a run that was killed goes on
where it was, and a finished one is only read.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


from pruneas.architecture import Architecture, Budget, Reference
from pruneas.compare.finalists import Entrant, Stage, choose
from pruneas.compare.statistics import CONFIDENCE, Difference, against_control, sampling_error, verdict
from pruneas.config import Space
from pruneas.cost.model import CostModel
from pruneas.cost.projection import limit
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.errors import DataError, RunError, TrainingError
from pruneas.files import replacing, write_json
from pruneas.generators import Method, find_methods
from pruneas.networks import make
from pruneas.networks.weights import fit_to, read_weights
from pruneas.progress import Observer
from pruneas.report.records import ArmRecord, DataRecord, ResultRecord, Role
from pruneas.run.folder import BEST, RESULT, default_folder, held, prepare, read_json
from pruneas.run.machine import hardware, num_workers, resolve_device, versions
from pruneas.search.propose import GeneratorRecord, Proposal, propose
from pruneas.search.records import SEARCH, TrialRecord
from pruneas.search.train import Epoch, Training, TrainingRecord, outputs_of, save_weights, train
from pruneas.search.trials import Search, best_candidates, read_trials
from pruneas.seeds import derive
from pruneas.structure.build import describe, structure_of
from pruneas.structure.confirm import confirmed
from pruneas.structure.groups import Structure
from pruneas.training import DataSet, DataSource, Job, Pool, Recipe

CLOCK_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """A finished run: its folder, its result as values, and the architecture it found."""

    folder: Path
    record: ResultRecord

    @property
    def architecture(self) -> Architecture:
        """The winner's architecture; `.build()` makes the network, freshly initialised."""
        return Architecture.load(self.folder / BEST / "architecture.json")

    @property
    def trials(self) -> list[TrialRecord]:
        """Every candidate of the search, in order."""
        return read_trials(self.folder)

    def __str__(self) -> str:
        return self.record.verdict


def load(folder: Path) -> SearchResult:
    """The result of a finished run. Raises RunError where there is none."""
    path = folder / RESULT
    if not folder.is_dir():
        raise RunError(f"{folder}: there is no such run")
    if not path.exists():
        raise RunError(f"{folder}: holds no finished run; give the search's command again to go on with it")
    try:
        record = ResultRecord.from_json(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from error
    return SearchResult(folder=folder, record=record)


def search(
    space: Space, *, run: Path | None, fresh: bool, download: bool, command: str, observer: Observer
) -> SearchResult:
    """Run or go on with a search. Returns the result of a finished one at once.

    `run` is the folder (by default one named after the settings, in runs/); `fresh` begins anew; `download` allows
    missing images to be fetched; `command` is what the result says it was made with.
    """
    folder = run if run is not None else default_folder(space)
    methods = find_methods(list(space.generators.methods), space.generators.options)
    device = resolve_device(space.compute.device)
    with held(folder):
        prepare(folder, space, fresh=fresh)
        if (folder / RESULT).exists():
            finished = load(folder)
            if finished.record.num_trials >= space.search.trials:
                return finished
        setting = _Setting.of(space, folder, device, download, observer)
        return _Run(setting, methods, command, observer).go()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """What is known before anything is trained."""

    space: Space
    folder: Path
    device: str
    workers: int
    source: DataSource
    data: DataSet
    structure: Structure
    model: CostModel
    legal: LegalWidths
    budget: Budget
    most: int
    recipe: Recipe
    trial_recipe: Recipe
    notes: tuple[str, ...]

    @classmethod
    def of(cls, space: Space, folder: Path, device: str, download: bool, observer: Observer) -> _Setting:
        observer.stage("network", space.network.reference, 0)
        reference = Reference.parse(space.network.reference)
        network = make(reference)
        structure = confirmed(structure_of(network, reference, space.network.input))
        model = CostModel.of(structure, network)
        legal = LegalWidths.of(structure, WidthRules(**space.widths.model_dump()))
        budget = Budget.parse(space.budget)
        most = limit(model, legal, budget)
        notes = [f"{name} keeps its width: {reason}" for name, reason in structure.frozen.items()]
        for note in notes:
            observer.note(note)
        observer.stage("data", space.data.source, 0)
        source = DataSource(
            source=space.data.source,
            shape=_image_shape(space.network.input),
            training=space.data.training,
            validation=space.data.validation,
            seed=space.compute.seed,
            download=download,
        )
        data = source.load()
        outputs = outputs_of(network, space.network.input)
        if outputs < len(data.classes):
            raise DataError(
                f"data {space.data.source!r} has {len(data.classes)} classes, the network {reference} {outputs} "
                f"outputs; give it as many, as in --network '{reference.name}(classes={len(data.classes)})'"
            )
        recipe = Recipe(**space.recipe.model_dump())
        epochs = max(1, round(space.search.fidelity * recipe.epochs))
        return cls(
            space=space,
            folder=folder,
            device=device,
            workers=num_workers(space.compute.workers, device),
            source=source,
            data=data,
            structure=structure,
            model=model,
            legal=legal,
            budget=budget,
            most=most,
            recipe=recipe,
            trial_recipe=Recipe(**{**space.recipe.model_dump(), "epochs": epochs}),
            notes=tuple(notes),
        )


class _Run:
    """One run on its way through its stages."""

    def __init__(self, setting: _Setting, methods: Sequence[Method], command: str, observer: Observer) -> None:
        self.s = setting
        self.methods = methods
        self.command = command
        self.observer = observer
        self.notes = list(setting.notes)
        self.images = 0.0
        self.began = self.saved = time.monotonic()
        self.info = setting.folder / "run.json"
        before = read_json(self.info) if self.info.exists() else {}
        self.seconds_before = float(before.get("seconds", 0.0))
        self._save_info()

    def go(self) -> SearchResult:
        threads = self.s.space.compute.threads
        with Pool(workers=self.s.workers, threads=threads) as pool:
            generated = self._generators(pool)
            anchors = {record.method: self.s.model.vector(record.widths) for record in generated}
            self.observer.anchors({r.method: r.widths for r in generated}, self.s.structure.widths)
            self.observer.stage(
                "search",
                f"{self.s.trial_recipe.epochs} of {self.s.recipe.epochs} epochs each",
                self.s.space.search.trials,
            )
            trials = Search(
                structure=self.s.structure,
                model=self.s.model,
                legal=self.s.legal,
                most=self.s.most,
                quantity=self.s.budget.quantity,
                anchors=anchors,
                data=self.s.source,
                recipe=self.s.trial_recipe,
                num_trials=self.s.space.search.trials,
                sampler=self.s.space.search.sampler,
                seed=self.s.space.compute.seed,
                device=self.s.device,
                workers=self.s.workers,
                folder=self.s.folder,
            ).run(pool, self.observer, self._worked)
            result = self._finalists(pool, generated, trials)
        self._save_info()
        return result

    # The generators -------------------------------------------------------------------------------------------------

    def _generators(self, pool: Pool) -> list[GeneratorRecord]:
        """Train the base network where a method needs it, and run every method that has no record yet."""
        paths = {method.name: self.s.folder / "generators" / f"{method.name}.json" for method in self.methods}
        missing = [method for method in self.methods if not paths[method.name].exists()]
        weights = self.s.folder / "base" / "weights.safetensors"
        needs_base = any("weights" in method.needs for method in missing)
        given = self.s.space.network.weights
        if needs_base and given is not None:
            network = make(self.s.structure.network)
            fit_to(network, read_weights(Path(given)), given)
            save_weights(network, weights)
        base_record = self.s.folder / "base" / "record.json"
        first = [] if not needs_base or given is not None or base_record.exists() else [self._base_job(weights)]
        at_once = [self._proposal_job(method, None) for method in missing if "weights" not in method.needs]
        if first or missing:
            self.observer.stage("generators", ", ".join(m.name for m in self.methods), len(first) + len(missing))
        self._settle(pool, first + at_once, paths, base_record)
        later = [self._proposal_job(method, weights) for method in missing if "weights" in method.needs]
        self._settle(pool, later, paths, base_record)
        return [GeneratorRecord(**read_json(path)) for path in paths.values() if path.exists()]

    def _settle(self, pool: Pool, jobs: Sequence[Job], paths: Mapping[str, Path], base_record: Path) -> None:
        for outcome in pool.run(jobs, self._told):
            self.observer.trained(outcome.key)
            if outcome.key in paths and outcome.failure is not None:
                # A method that cannot work here (no batch norm) or diverged leaves the others to search.
                if outcome.key == "uniform":
                    raise outcome.user_error or TrainingError(f"uniform scaling failed: {outcome.failure}")
                self.notes.append(f"generator {outcome.key} left out: {outcome.failure}")
                self.observer.note(self.notes[-1])
            elif outcome.user_error is not None:
                raise outcome.user_error
            elif outcome.failure is not None:
                raise TrainingError(f"training the base network failed: {outcome.failure}")
            elif outcome.key in paths:
                self._save_generated(outcome.value, paths[outcome.key])
            else:
                write_json(base_record, outcome.value.to_json())

    def _save_generated(self, record: GeneratorRecord, path: Path) -> None:
        architecture = describe(self.s.structure, record.widths)
        with replacing(path.with_suffix(".architecture.json").with_name(f"{record.method}.architecture")) as temporary:
            temporary.write_text(architecture.to_json() + "\n", encoding="utf-8")
        write_json(path, record.to_json())

    def _base_job(self, weights: Path) -> Job:
        training = Training(
            structure=self.s.structure,
            widths=self.s.structure.widths,
            flops=self.s.model.base.flops,
            params=self.s.model.base.params,
            data=self.s.source,
            recipe=self.s.recipe,
            seed=derive(self.s.space.compute.seed, "base"),
            device=self.s.device,
            weights=weights,
        )
        return Job(key="base network", function=train, arguments={"training": training})

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

    # The finalists --------------------------------------------------------------------------------------------------

    def _finalists(self, pool: Pool, generated: Sequence[GeneratorRecord], trials: list[TrialRecord]) -> SearchResult:
        best = best_candidates(trials, self.s.space.finalists.count)
        if not best:
            raise TrainingError(f"no candidate could be trained; the first one failed with: {trials[0].failure}")
        entrants = [_entrant(record) for record in best]
        selected = self._stage("selection", test=False).run(entrants, pool, self.observer, self._worked)
        winner = next(entrant for entrant in entrants if entrant.name == choose(selected))
        searched = [entrant for entrant in entrants if entrant.origin == SEARCH]
        candidates = [record for record in best_candidates(trials, len(trials)) if record.origin == SEARCH]
        if searched:
            searched_best = choose({entrant.name: selected[entrant.name] for entrant in searched})
            extra = next(entrant for entrant in searched if entrant.name == searched_best)
        else:
            extra = _entrant(candidates[0]) if candidates else winner
        roles: dict[str, tuple[Entrant, Role]] = {
            "base": (Entrant(name="base", origin="base", widths=self.s.structure.widths), "base")
        }
        for record in generated:
            role: Role = "uniform" if record.method == "uniform" else "generator"
            roles[record.method] = (Entrant(name=record.method, origin=record.method, widths=record.widths), role)
        for entrant in (extra, winner):
            if entrant.origin == SEARCH:
                roles[entrant.name] = (entrant, "winner" if entrant is winner else "searched")
        if winner.origin not in (SEARCH, "uniform"):
            roles[winner.origin] = (roles[winner.origin][0], "winner")
        stage = self._stage("test", test=True)
        tested = stage.run([entrant for entrant, _ in roles.values()], pool, self.observer, self._worked)
        self._save_best(stage, winner)
        record = self._record(roles, tested, winner, trials)
        with replacing(self.s.folder / RESULT) as temporary:
            temporary.write_text(record.to_json() + "\n", encoding="utf-8")
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

    def _save_best(self, stage: Stage, winner: Entrant) -> None:
        """The winner's architecture, and its weights of the first test seed, trained on the training part alone."""
        best = self.s.folder / BEST
        with replacing(best / "architecture.json") as temporary:
            temporary.write_text(describe(self.s.structure, winner.widths).to_json() + "\n", encoding="utf-8")
        seed = stage.seeds[0]
        weights = stage.weights(winner, seed)
        if not weights.exists():
            self.notes.append("best/ has no weights: the winner's first training failed")
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

    def _record(
        self,
        roles: Mapping[str, tuple[Entrant, Role]],
        tested: Mapping[str, Sequence[TrainingRecord]],
        winner: Entrant,
        trials: Sequence[TrialRecord],
    ) -> ResultRecord:
        samples = {name: [_accuracy(record) for record in records] for name, records in tested.items()}
        differences = against_control(samples["uniform"], {n: s for n, s in samples.items() if n != "uniform"}) or {}
        name = "uniform" if winner.origin == "uniform" else winner.name
        arms = tuple(
            self._arm(entrant, role, tested[arm], differences.get(arm)) for arm, (entrant, role) in roles.items()
        )
        shown = differences.get(name)
        if name == "uniform":
            sentence = "No widths were found that beat uniform scaling: it did best itself on the validation images."
        else:
            sentence = verdict(name, winner.origin == SEARCH, len(samples[name]), shown)
        space = self.s.space
        mean = statistics.fmean(samples[name])
        return ResultRecord(
            network=str(self.s.structure.network),
            input=self.s.structure.input_shape,
            data=DataRecord(
                name=space.data.source,
                fingerprint=self.s.data.fingerprint,
                training=len(self.s.data.train),
                validation=len(self.s.data.validation),
                test=len(self.s.data.test),
            ),
            budget=str(self.s.budget),
            limit=self.s.most,
            base_widths=self.s.structure.widths,
            base_flops=self.s.model.base.flops,
            base_params=self.s.model.base.params,
            arms=arms,
            winner=name,
            verdict=sentence,
            smallest_detectable=None if shown is None else shown.detectable,
            test_sampling_error=sampling_error(mean, len(self.s.data.test)),
            confidence=CONFIDENCE,
            num_trials=sum(trial.copied_from is None for trial in trials),
            num_distinct=sum(trial.copied_from is None and trial.accuracy is not None for trial in trials),
            seconds=self.seconds_before + time.monotonic() - self.began,
            hardware=hardware(self.s.device, self.s.workers, space.compute.threads),
            versions=versions(),
            command=self.command,
            seed=space.compute.seed,
            trial_epochs=self.s.trial_recipe.epochs,
            epochs=self.s.recipe.epochs,
            notes=tuple(self.notes),
        )

    def _arm(
        self, entrant: Entrant, role: Role, records: Sequence[TrainingRecord], difference: Difference | None
    ) -> ArmRecord:
        flops, params = records[0].flops, records[0].params
        is_held = role not in ("base", "uniform") and difference is not None
        return ArmRecord(
            name=entrant.name,
            origin=entrant.origin,
            role=role,
            widths=dict(entrant.widths),
            flops=flops,
            flops_share=flops / self.s.model.base.flops,
            params=params,
            seeds=tuple(record.seed for record in records),
            test_accuracies=tuple(_accuracy(record) for record in records),
            validation_accuracies=tuple(record.validation_accuracy for record in records),
            difference=difference.value if is_held and difference else None,
            interval=(difference.low, difference.high) if is_held and difference else None,
            seconds=sum(record.seconds for record in records),
        )

    # What is told and kept while it goes on -------------------------------------------------------------------------

    def _told(self, key: str, message: Any) -> None:
        if isinstance(message, Epoch):
            self.observer.training(key, message.epoch, message.epochs, message.accuracy)
            self._worked(message.images)

    def _worked(self, images: int) -> None:
        self.images += images
        self.observer.work(self.images, max(self._planned(), self.images))
        if time.monotonic() - self.saved > CLOCK_SECONDS:
            self._save_info()

    def _planned(self) -> float:
        """Images that are still to be trained on in this session, with those that were."""
        s = self.s
        epoch = len(s.data.train) // s.recipe.batch_size * s.recipe.batch_size or len(s.data.train)
        seeds = s.space.finalists.seeds
        entrants = len(self.methods) + 2
        prepare = 1 + sum("training" in method.needs for method in self.methods)
        full = prepare + s.space.finalists.count * seeds + entrants * seeds
        return float(epoch * (full * s.recipe.epochs + s.space.search.trials * s.trial_recipe.epochs))

    def _save_info(self) -> None:
        self.saved = time.monotonic()
        write_json(
            self.info,
            {
                "command": self.command,
                "seed": self.s.space.compute.seed,
                "device": self.s.device,
                "workers": self.s.workers,
                "threads": self.s.space.compute.threads,
                "hardware": hardware(self.s.device, self.s.workers, self.s.space.compute.threads),
                "versions": versions(),
                "data": self.s.data.fingerprint,
                "limit": self.s.most,
                "seconds": self.seconds_before + self.saved - self.began,
            },
        )


def _entrant(record: TrialRecord) -> Entrant:
    name = f"search #{record.number}" if record.origin == SEARCH else record.origin
    return Entrant(name=name, origin=record.origin, widths=record.widths)


def _accuracy(record: TrainingRecord) -> float:
    if record.test_accuracy is None:
        raise RunError("a finalist's record has no test accuracy; delete the run's test/ folder and go on")
    return record.test_accuracy


def _image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise DataError(f"network.input must be channels, height and width for images, got {list(shape)}")
    return shape[0], shape[1], shape[2]
