"""A whole run, from a space and a budget to an architecture and what it is worth.

Each stage keeps its results in the run's folder and takes up what it finds there, so a run that was killed goes on
where it was, and a finished one is only read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pruneas.compare.finalists import Entrant, Stage, choose
from pruneas.cost.model import Widths
from pruneas.cost.projection import uniform
from pruneas.errors import TrainingError
from pruneas.files import copy_file, write_json, write_text
from pruneas.progress import Observer
from pruneas.report.numbers import duration
from pruneas.report.records import Role
from pruneas.report.run import trial_name
from pruneas.run.folder import BEST, LATENCY, NETWORK, RESULT, read_json
from pruneas.run.generation import Generation
from pruneas.run.joining import plan_of, search_of
from pruneas.run.ledger import Ledger
from pruneas.run.record import Arm, latency_notes, latency_record, network_record, result_record
from pruneas.run.report import reported
from pruneas.run.result import SearchResult
from pruneas.run.setting import Setting, check_givens
from pruneas.search.propose import GeneratorRecord, Target
from pruneas.search.records import SEARCH, Anchor, TrialRecord, best_candidates, num_trained, read_trials
from pruneas.search.speed import Speed, images_measured, measure
from pruneas.search.storage import shown
from pruneas.search.train import Training, TrainingRecord, images_per_epoch
from pruneas.search.worker import Place, lead
from pruneas.structure.build import describe
from pruneas.structure.groups import Structure
from pruneas.training import Job, Pool

WORTH = 20
"""The time is estimated where so many times the work of measuring it is left."""


class Run:
    """One run on its way through its stages. `fresh`: its study is begun anew, wherever it is kept. `adopt`
    brings what generators gave elsewhere."""

    def __init__(
        self,
        setting: Setting,
        place: Place,
        command: str,
        observer: Observer,
        *,
        fresh: bool = False,
        adopt: Callable[[Generation], None] | None = None,
    ) -> None:
        self.s, self.place, self.fresh = setting, place, fresh
        self.command = command
        self.observer = observer
        self.notes = list(setting.notes)
        observer.stage("budget", setting.reach(), 0)
        facts = {"command": command, **setting.facts(), "storage": shown(place.url), "study": place.study}
        check_givens(setting.folder, facts)
        self._say_if_moved(setting.folder / "run.json")
        target = Target(limits=setting.limits)
        self.generation = Generation(setting, {"": target}, observer, needed=["uniform"])  # what all is compared with
        if adopt is not None:
            adopt(self.generation)
        self.ledger = Ledger(setting.folder / "run.json", facts, self._images_left(), observer)
        write_text(setting.folder / NETWORK, network_record(setting).to_json() + "\n")

    def go(self) -> SearchResult:
        with reported(self.s.folder, self.ledger, self.observer):
            with self.s.pool() as pool:
                self._estimate(pool)
                self.generation.run(pool, self.ledger)
                for note in self.generation.notes():
                    self._note(note)
                generated = self.generation.records("")
                self.observer.anchors({r.method: r.widths for r in generated}, self.s.structure.widths)
                trials = self._search(pool, generated)
                result = self._finalists(pool, generated, trials)
            self.ledger.save()
        return result

    # How long it will take ------------------------------------------------------------------------------------------

    def _estimate(self, pool: Pool) -> None:
        """Say how long the run will take, from a few steps of the base network and of uniform scaling, where that is
        long enough to be worth measuring. As many are measured at a time as will train."""
        left, recipe = self._images_left(), self.s.recipe
        if sum(left.values()) < WORTH * 2 * images_measured(recipe.batch_size):
            return
        widths = {"base": self.s.model.base_widths, "uniform": self._uniform()}
        jobs = []
        for name, of_groups in widths.items():
            training = Training(
                structure=self.s.structure,
                widths=self.s.model.mapping(of_groups),
                flops=int(self.s.model.flops(of_groups)),
                params=int(self.s.model.params(of_groups)),
                data=self.s.source,
                recipe=recipe,
                seed=0,
                device=self.s.device,
            )
            for copy in range(self.s.workers):
                jobs.append(Job(key=f"{name} {copy}", function=measure, arguments={"training": training}))
        self.observer.stage("speed", "a few steps, to estimate the time", 0)
        outcomes = list(pool.run(jobs))
        if failure := next((outcome.failure for outcome in outcomes if outcome.failure is not None), None):
            self.observer.note(f"how long the run will take cannot be measured: {failure}")
            return
        base, uniform = (
            Speed.mean([outcome.value for outcome in outcomes if outcome.key.startswith(name)]) for name in widths
        )
        per_epoch = images_per_epoch(recipe, len(self.s.data.train))
        full, trial = per_epoch * recipe.epochs, per_epoch * self.s.trial_recipe.epochs
        seconds = base.seconds(left["generators"], left["generators"] / full)
        seconds += uniform.seconds(left["search"], left["search"] / trial)
        others = left["selection"] + left["test"]
        seconds += uniform.seconds(others, others / full)
        less = ", less what stopping trials early saves" if self.s.space.search.stopping else ""
        self.observer.note(f"will take about {duration(seconds / self.s.workers)}{less}")

    def _uniform(self) -> Widths:
        return uniform(self.s.model, self.s.legal, self.s.limits)

    # What is left, and what is told ---------------------------------------------------------------------------------

    def _images(self, trainings: int, epochs: int) -> float:
        return float(trainings * epochs * images_per_epoch(self.s.recipe, len(self.s.data.train)))

    def _images_left(self) -> dict[str, float]:
        """Images to train on by stage. Finalists are not known yet: some may share a training, none takes more."""
        folder, space, full = self.s.folder, self.s.space, self.s.recipe.epochs
        seeds, entrants = space.finalists.seeds, len(self.s.methods) + 2  # the base network and a searched one
        trials = max(0, space.search.trials - num_trained(read_trials(folder)))
        selection = space.finalists.count * seeds - len(list((folder / "selection").glob("*.json")))
        test = entrants * seeds - len(list((folder / "test").glob("*.json")))
        return {
            "generators": self.generation.images_left(),
            "search": self._images(trials, self.s.trial_recipe.epochs),
            "selection": self._images(max(0, selection), full),
            "test": self._images(max(0, test), full),
        }

    def _say_if_moved(self, path: Path) -> None:
        before = read_json(path) if path.exists() else {}
        if before.get("study", self.place.study) != self.place.study:
            self.observer.note(
                f"the study was kept in {before['storage']} before, and is in {shown(self.place.url)} now, made from "
                "trials/; what workers do there is not seen here. Give the same --storage to go on there"
            )

    def _note(self, text: str) -> None:
        """Something that whoever reads the result has to know."""
        self.notes.append(text)
        self.observer.note(text)

    # The search -----------------------------------------------------------------------------------------------------

    def _search(self, pool: Pool, generated: Sequence[GeneratorRecord]) -> list[TrialRecord]:
        asked = self.s.space.search.trials
        missing = max(0, asked - num_trained(read_trials(self.s.folder)))
        epochs = f"{self.s.trial_recipe.epochs} of {self.s.recipe.epochs} epochs each"
        self.observer.stage("search", epochs, missing)
        self.ledger.begin("search", self._images(missing, self.s.trial_recipe.epochs))
        # A search of widths alone cannot begin with an architecture that is small for its missing branches.
        anchors = {
            record.method: _anchor(self.s.structure, record)
            for record in generated
            if self.s.space.search.blocks or not record.removed
        }
        trials = lead(
            search_of(self.s, anchors, self.s.folder),
            self.place,
            plan_of(self.s, anchors, self.place.lease),
            pool,
            self.observer,
            self.ledger.work,
            spared=self.ledger.spare,
            fresh=self.fresh,
        )
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
        known = [_generated(record.method, _anchor(self.s.structure, record)) for record in generated]
        roles = _roles(self.s.structure.widths, known, winner, _best_searched(entrants, selected, trials))
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
            self.s,
            arms,
            winner,
            trials,
            selected=selected,
            command=self.command,
            seconds=self.ledger.seconds,
            notes=self.notes,
        )
        is_limited = "latency" in self.s.limits.most
        timed = [entrant for name, (entrant, _) in roles.items() if name in ("base", "uniform", winner.name)]
        timed += [entrant for entrant in entrants if is_limited and entrant not in timed]
        self.observer.stage("latency", ", ".join(entrant.name for entrant in timed), 0)
        latency = latency_record(self.s, timed)
        write_text(self.s.folder / LATENCY, latency.to_json() + "\n")
        if is_limited:
            record = replace(record, notes=(*record.notes, *latency_notes(self.s, timed, latency)))
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
            compile=self.s.space.compute.compile,
        )

    def _train(self, pool: Pool, stage: Stage, entrants: Sequence[Entrant]) -> dict[str, list[TrainingRecord]]:
        self.ledger.begin(stage.name, self._images(len(stage.jobs(entrants)), self.s.recipe.epochs))
        return stage.run(entrants, pool, self.observer, self.ledger.work, self._note)

    def _save_best(self, stage: Stage, winner: Entrant) -> None:
        """The winner's architecture, and its weights of the first test seed, trained on the training part alone."""
        best = self.s.folder / BEST
        architecture = replace(
            describe(self.s.structure, winner.widths, winner.removed), selections=dict(winner.selections)
        )
        write_text(best / "architecture.json", architecture.to_json() + "\n")
        seed = stage.seeds[0]
        weights = stage.weights(winner, seed)
        if not weights.exists():
            self._note("best/ has no weights: the winner's first training failed")
            for name in ("weights.safetensors", "weights.json"):  # of the winner before the run was extended
                (best / name).unlink(missing_ok=True)
            return
        copy_file(weights, best / "weights.safetensors")
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


def _anchor(structure: Structure, record: GeneratorRecord) -> Anchor:
    """What a method gave, with what channel selections take of the channels that it keeps."""
    removed = tuple(record.removed)
    selections = describe(structure, record.widths, removed, record.keep).selections
    return Anchor(widths=record.widths, removed=removed, selections=selections)


def _generated(name: str, anchor: Anchor) -> Entrant:
    return Entrant(name=name, origin=name, widths=anchor.widths, removed=anchor.removed, selections=anchor.selections)


def _roles(
    base: Mapping[str, int], generated: Sequence[Entrant], winner: Entrant, searched: Entrant | None
) -> dict[str, tuple[Entrant, Role]]:
    """Who is in the final comparison, by name and in the order of the table."""
    roles: dict[str, tuple[Entrant, Role]] = {"base": (Entrant(name="base", origin="base", widths=base), "base")}
    for entrant in generated:
        roles[entrant.name] = (entrant, "uniform" if entrant.name == "uniform" else "generator")
    if searched is not None and searched.name != winner.name:
        roles[searched.name] = (searched, "searched")
    if winner.origin != "uniform":
        roles[winner.name] = (roles.get(winner.name, (winner, "winner"))[0], "winner")
    return roles


def _entrant(record: TrialRecord) -> Entrant:
    return Entrant(
        name=trial_name(record),
        origin=record.origin,
        widths=record.widths,
        removed=record.removed,
        selections=record.selections,
    )
