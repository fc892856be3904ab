"""A comparison on its way: base networks, what the generators make of them, their trainings, the record.

Every stage keeps its results in the comparison's folder and takes up what it finds there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pruneas.architecture import Architecture, Budget
from pruneas.compare.arms import ARMS, PASSES, Arm, Arms, Candidate, Starts, default_cap, starts
from pruneas.compare.trainings import Trainings
from pruneas.errors import RunError, TrainingError
from pruneas.files import copy_file, write_json, write_text
from pruneas.generators import METHODS, Method, find_methods
from pruneas.networks import provider
from pruneas.progress import Observer
from pruneas.report.comparison import ComparisonRecord, ComputeRecord, Role
from pruneas.report.comparison_state import ProgressRecord, RowTrainings
from pruneas.run.compare import BASELINES, BASES, COMPARISON, PROGRESS, TRAININGS, Asked
from pruneas.run.comparison_record import comparison_record
from pruneas.run.folder import COMPARED, SPACE, read_json
from pruneas.run.generation import BASE, Generation, run_all
from pruneas.run.ledger import Ledger
from pruneas.run.report import reported, write_report
from pruneas.run.setting import Setting, check_givens
from pruneas.run.sweep import is_sweep
from pruneas.search.propose import GeneratorRecord, file_stem
from pruneas.search.records import read_trials
from pruneas.search.train import Training, TrainingRecord
from pruneas.seeds import derive
from pruneas.structure.masks import mask_path
from pruneas.training import Pool

NOTHING = ComputeRecord(images=0.0, flops=0.0, seconds=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An architecture at a budget from one base network, with the compute that it took to know it."""

    name: str
    role: Role
    budget: str | None
    base: int
    masked: bool
    candidate: Candidate
    before: ComputeRecord


@dataclass(slots=True, kw_only=True)
class Row:
    """The trainings of an architecture's arm: for each seed its entry, and by fine-tuning rate their identities."""

    name: str
    role: Role
    budget: str | None
    arm: Arm
    masked: bool
    entries: list[Entry] = field(default_factory=list)
    trained: list[Mapping[float | None, str]] = field(default_factory=list)

    @property
    def key(self) -> str:
        """How people call it: 'l1 at 0.5, scratch-b'."""
        masks, place = " (masks)" if self.masked else "", "" if self.budget is None else f" at {self.budget}"
        return "unpruned" if self.arm == "unpruned" else f"{self.name}{masks}{place}, {self.arm}"


class Comparison:
    """One comparison on its way through its stages."""

    def __init__(self, asked: Asked, setting: Setting, command: str, observer: Observer) -> None:
        self.asked, self.command, self.observer = asked, command, observer
        names = [*asked.generators, *(["random"] if "random" in asked.arms else []), "uniform-sparsity"]
        options = {name: each for name, each in asked.space.generators.options.items() if name in names}
        self.s = setting = replace(setting, methods=find_methods(names, options))
        self.notes = list(setting.notes)
        self.seed = asked.space.compute.seed
        self.budgets = {str(budget): budget for budget in map(Budget.parse, asked.budgets)}
        self.targets = {name: setting.target(budget) for name, budget in self.budgets.items()}
        # Weights that were given have no seed: there is one base network, and nothing that it began with.
        self.num_bases = asked.num_seeds if asked.bases == "each" and setting.given is None else 1
        self.arms = Arms(
            structure=setting.structure,
            base_flops=setting.model.base.flops,
            data=setting.source,
            recipe=setting.recipe,
            device=setting.device,
            compile=setting.space.compute.compile,
            cap=default_cap(setting.source.shape) if asked.cap is None else asked.cap,
        )
        self.generations = [self._generation(index) for index in range(self.num_bases)]
        self.transferred = self._transferred()
        self.trainings = Trainings(
            setting.folder / TRAININGS,
            setting.data.fingerprint,
            len(setting.data.train),
            self._elsewhere(),
        )
        (setting.folder / TRAININGS).mkdir(parents=True, exist_ok=True)
        facts = {"command": command, **setting.facts()}
        check_givens(setting.folder, facts)
        left = {"generators": sum(each.images_left() for each in self.generations)}
        self._asked: tuple[RowTrainings, ...] = ()
        self.ledger = Ledger(setting.folder / "run.json", facts, left, observer)

    def go(self) -> ComparisonRecord:
        self._keep_progress()
        with reported(self.s.folder, self.ledger, self.observer):
            record = self._go()
        if self.asked.run is not None and self.s.folder.resolve() == (self.asked.run / COMPARED).resolve():
            try:
                write_report(self.asked.run)  # with a link to this one
            except RunError as error:  # a run of an earlier version
                self.observer.note(f"the run's own page stays without a link to this comparison: {error}")
        return record

    def _go(self) -> ComparisonRecord:
        with self.s.pool() as pool:
            if self.transferred is not None:  # needs no base network, so one that cannot work is told before any
                run_all({"": self.transferred}, pool, self.ledger, stage="transferred")
            bases = self._bases(pool)
            self._take_over_generators()
            run_all({self._label(i): each for i, each in enumerate(self.generations)}, pool, self.ledger)
            for generation in [*self.generations, *([self.transferred] if self.transferred else [])]:
                self.notes += [note for note in generation.notes() if note not in self.notes]
            rows = self._rows(bases)
            self._asked = tuple(_asked(row) for row in rows)
            self._keep_progress()
            self._train(pool, "arms", f"{len(rows)} rows, {self.asked.num_seeds} seeds each")
            for text in self.trainings.notes():
                self._note(text)
        self.ledger.save()
        record = comparison_record(self, rows, seconds=self.ledger.seconds)
        write_text(self.s.folder / COMPARISON, record.to_json() + "\n")
        return record

    @property
    def seeds(self) -> list[int]:
        """Those of a search's final trainings, so that they need not be done again."""
        return [derive(self.seed, "test", index) for index in range(self.asked.num_seeds)]

    # Base networks and generators ------------------------------------------------------------------------------------

    def _base_seed(self, index: int) -> int:
        """What everything about one base network derives from; the first one's is the run's own."""
        return self.seed if index == 0 else derive(self.seed, "base network", index)

    def _label(self, index: int) -> str:
        return f"base {index + 1}: " if self.num_bases > 1 else ""

    def _generation(self, index: int) -> Generation:
        compute = self.asked.space.compute.model_copy(update={"seed": self._base_seed(index)})
        space = self.asked.space.model_copy(update={"compute": compute})
        setting = replace(self.s, space=space, folder=self.s.folder / BASES / str(index))
        for name in ("base", "generators"):
            (setting.folder / name).mkdir(parents=True, exist_ok=True)
        # A run goes on without generators that cannot work; those that were asked for by name must.
        needed = ["uniform", *(self.asked.generators if self.asked.run is None else [])]
        return Generation(setting, self.targets, self.observer, needed=needed)

    def _transferred(self) -> Generation | None:
        """What is made of the architectures that were brought along, once for all base networks."""
        if not (sources := self.asked.sources):
            return None
        names = ["guided"] if any(source.mask is None for source in sources) else []
        names += ["guided-sparsity"] if any(source.mask is not None for source in sources) else []
        methods = [METHODS[name] for name in names]
        setting = replace(self.s, methods=methods, space=self.asked.space, folder=self.s.folder / "transferred")
        (setting.folder / "generators").mkdir(parents=True, exist_ok=True)
        return Generation(setting, self.targets, self.observer, needed=names, sources=sources, masks=self.asked.masks)

    def _bases(self, pool: Pool) -> list[TrainingRecord | None]:
        """Train the base networks that the methods or the unpruned arm need, and give each to its generators.

        The run's own is taken where there is one. None for a network whose weights were given.
        """
        needed = any("weights" in method.needs for method in self.s.methods)
        if self.s.given is not None or not (needed or self._reads_test_of_bases):
            return [None] * self.num_bases
        taken = self._take_over_base()
        asked = {
            index: self.trainings.add(f"{self._label(index)}{BASE}", self._base_training(index), weights=True)
            for index in range(self.num_bases)
            if taken is None or index > 0
        }
        self.trainings.take_over()
        self._train(pool, "base networks", "from scratch, by the recipe")
        found: list[TrainingRecord | None] = []
        for index, generation in enumerate(self.generations):
            if index not in asked:
                found.append(taken)
                continue
            record = self.trainings.record(asked[index])
            if record is None:
                raise TrainingError(f"training a base network failed; {self.notes[-1]}")
            if not generation.weights.exists():
                copy_file(self.trainings.weights(asked[index]), generation.weights)
            write_json(generation.s.folder / "base" / "record.json", record.to_json())
            found.append(record)
        return found

    @property
    def _reads_test_of_bases(self) -> bool:
        """Whether the base networks are the unpruned arm: only where there is one a seed."""
        return self.asked.bases == "each" and self.s.given is None and "unpruned" in self.asked.arms

    def _base_training(self, index: int, seed: int | None = None) -> Training:
        return Training(
            structure=self.s.structure,
            widths=self.s.structure.widths,
            flops=self.s.model.base.flops,
            params=self.s.model.base.params,
            data=self.s.source,
            recipe=self.s.recipe,
            seed=derive(self._base_seed(index), "base") if seed is None else seed,
            device=self.s.device,
            test=self._reads_test_of_bases or seed is not None,
            compile=self.s.space.compute.compile,
        )

    def _take_over_base(self) -> TrainingRecord | None:
        """The run's trained base network, for the first base; its test accuracy is not known."""
        run = self.asked.run
        if run is None or self._reads_test_of_bases:
            return None
        weights, path = run / "base" / "weights.safetensors", run / "base" / "record.json"
        if not (weights.exists() and path.exists()):
            return None
        record = TrainingRecord.from_json(read_json(path))
        copy_file(weights, self.generations[0].weights)
        write_json(self.generations[0].s.folder / "base" / "record.json", record.to_json())
        return record

    def _take_over_generators(self) -> None:
        """What the run's generators gave, for the first base."""
        run, generation = self.asked.run, self.generations[0]
        if run is None or self.asked.found is None:
            return
        own = str(Budget.parse(self.asked.found.record.budget))
        if own in self.targets:
            for method in self.s.methods:
                generation.take_over(method, run, "", own)

    # Rows ------------------------------------------------------------------------------------------------------------

    def _rows(self, bases: Sequence[TrainingRecord | None]) -> list[Row]:
        """All rows in the order of the table, their trainings asked for seed by seed."""
        entries = [list(self._entries(index, bases[index])) for index in range(self.num_bases)]
        rows: dict[tuple[object, ...], Row] = {}
        for number, seed in enumerate(self.seeds):
            index = number if self.num_bases > 1 else 0
            for entry in entries[index]:
                for arm in self._arms_of(entry):
                    trainings = self.arms.trainings(entry.candidate, arm, seed)
                    if arm == "unpruned":
                        own = None if self._reads_test_of_bases else seed
                        trainings = {None: self._base_training(index, own)}
                    row = Row(name=entry.name, role=entry.role, budget=entry.budget, arm=arm, masked=entry.masked)
                    if not trainings:
                        self._note(f"{row.key}: left out: {entry.candidate.starts.without}")
                        continue
                    row = rows.setdefault((row.key,), row)
                    row.entries.append(entry)
                    row.trained.append(
                        {
                            rate: self.trainings.add(
                                f"{row.key}, seed {number + 1}" + ("" if rate is None else f", rate {rate:g}"),
                                training,
                                weights=number == 0,
                            )
                            for rate, training in trainings.items()
                        }
                    )
        self.trainings.take_over()
        return sorted(rows.values(), key=self._place)

    def _place(self, row: Row) -> tuple[int, ...]:
        """Where a row stands in the table: by budget as they were asked for, then widths before masks, then role."""
        roles: tuple[Role, ...] = ("base", "uniform", "random", "generator", "transferred", "found")
        methods = [method.name for method in self.s.methods]
        return (
            -1 if row.budget is None else list(self.targets).index(row.budget),
            row.masked,
            roles.index(row.role),
            methods.index(row.name) if row.name in methods else 0,
            ARMS.index(row.arm),
        )

    def _arms_of(self, entry: Entry) -> Iterator[Arm]:
        wanted: Mapping[Role, Sequence[Arm]] = {"base": ("unpruned",), "generator": ARMS[1:]}
        for arm in wanted.get(entry.role, ("scratch-e", "scratch-b")):
            if arm in self.asked.arms:
                yield arm

    def _entries(self, index: int, base: TrainingRecord | None) -> Iterator[Entry]:
        """All architectures that are made from one base network, or stand beside it."""
        whole = self.s.model.base
        yield Entry(
            name="base",
            role="base",
            budget=None,
            base=index,
            masked=False,
            before=NOTHING,
            candidate=Candidate(
                widths=self.s.structure.widths,
                flops=whole.flops,
                params=whole.params,
                built_flops=whole.flops,
                built_params=whole.params,
            ),
        )
        generation = self.generations[index]
        methods = {method.name: method for method in self.s.methods}
        for budget in self.targets:
            records = [(record, generation) for record in generation.records(budget)]
            if self.transferred is not None:
                records += [(record, self.transferred) for record in self.transferred.records(budget)]
            has_masks = any(r.mask is not None and r.method != "uniform-sparsity" for r, _ in records)
            for record, origin in records:
                method = methods.get(record.method) or METHODS[record.method]
                before = self._before(method, record, base)
                if record.method != "uniform-sparsity":
                    yield self._entry(method, record, origin, budget, index, base, before, masked=False)
                if record.mask is not None and has_masks:
                    yield self._entry(method, record, origin, budget, index, base, before, masked=True)
            if (found := self._found(budget, index)) is not None:
                yield found

    def _entry(
        self,
        method: Method,
        record: GeneratorRecord,
        origin: Generation,
        budget: str,
        index: int,
        base: TrainingRecord | None,
        before: ComputeRecord,
        *,
        masked: bool,
    ) -> Entry:
        role: Role = "transferred" if origin is self.transferred else "generator"
        if method.name in BASELINES:
            role = "random" if method.name == "random" else "uniform"
        whole = self.s.model.base
        found = Starts()
        if role == "generator" and {"fine-tuned", "ticket"} & set(self.asked.arms):
            folder = self.s.folder / "starts" / f"{file_stem(method.name, budget)}{'-masks' if masked else ''}-{index}"
            found = starts(
                self.s.structure,
                method,
                record,
                generators=origin.s.folder / "generators",
                base=origin.weights,
                base_seed=None if base is None else base.seed,
                folder=folder,
                masked=masked,
            )
        architecture = Architecture.load(origin.architecture(method.name, budget))
        if masked:
            assert record.masked_flops is not None and record.masked_params is not None
            candidate = Candidate(
                widths=self.s.structure.widths,
                flops=record.masked_flops,
                params=record.masked_params,
                built_flops=whole.flops,
                built_params=whole.params,
                masks=mask_path(origin.masked(method.name, budget)),
                starts=found,
            )
        else:
            candidate = Candidate(
                widths=record.widths,
                removed=tuple(record.removed),
                selections=architecture.selections,
                flops=record.flops,
                params=record.params,
                built_flops=record.flops,
                built_params=record.params,
                starts=found,
            )
        return Entry(
            name=method.name, role=role, budget=budget, base=index, masked=masked, candidate=candidate, before=before
        )

    def _found(self, budget: str, index: int) -> Entry | None:
        """The architecture that the run found, at its budget."""
        found = self.asked.found
        if found is None or str(Budget.parse(found.record.budget)) != budget:
            return None
        architecture = found.architecture
        winner = found.record.arm(found.record.winner)
        return Entry(
            name="found",
            role="found",
            budget=budget,
            base=index,
            masked=False,
            before=self._searched(found.folder),
            candidate=Candidate(
                widths=winner.widths,
                removed=winner.removed,
                selections=architecture.selections,
                flops=winner.flops,
                params=winner.params,
                built_flops=winner.flops,
                built_params=winner.params,
            ),
        )

    # Compute ---------------------------------------------------------------------------------------------------------

    def _before(self, method: Method, record: GeneratorRecord, base: TrainingRecord | None) -> ComputeRecord:
        """The method's own compute, and the base network's training where it needs that."""
        trained = base is not None and "weights" in method.needs
        images = record.images + (base.images if trained and base is not None else 0)
        return ComputeRecord(
            images=float(images),
            flops=float(PASSES * self.s.model.base.flops * images),
            seconds=record.seconds + (base.seconds if trained and base is not None else 0.0),
        )

    def _searched(self, run: Path) -> ComputeRecord:
        """All that the run trained until it named its winner."""
        trained = [(r.flops, r.images, r.seconds) for r in read_trials(run) if r.accuracy is not None]
        for path in (run / "base" / "record.json", *sorted((run / "selection").glob("*.json"))):
            if path.exists():
                record = TrainingRecord.from_json(read_json(path))
                trained.append((record.flops, record.images, record.seconds))
        for path in sorted((run / "generators").glob("*.json")):
            if not path.name.endswith((".architecture.json", ".failure.json")):
                given = GeneratorRecord.read(path)
                trained.append((self.s.model.base.flops, given.images, given.seconds))
        return ComputeRecord(
            images=float(sum(images for _, images, _ in trained)),
            flops=float(sum(PASSES * flops * images for flops, images, _ in trained)),
            seconds=sum(seconds for _, _, seconds in trained),
        )

    # Doing it --------------------------------------------------------------------------------------------------------

    def _train(self, pool: Pool, stage: str, detail: str) -> None:
        missing = self.trainings.missing
        if missing:
            self.observer.stage(stage, detail, len(missing))
            self.ledger.begin(stage, self.trainings.images_left)
            self.trainings.run(pool, self.observer, self.ledger.work, self._note)

    def _elsewhere(self) -> list[Path]:
        """Where trainings may have been done already: the run, and all others that lie beside it, those at several
        budgets included.

        A factory of a package without a version may have changed since: only the run itself is trusted then.
        """
        run, folder = self.asked.run, self.s.folder
        home = (folder if run is None else run).resolve()
        is_known = not provider(self.s.structure.network).endswith("(no version)")
        shelf = home.parent.parent if is_sweep(home.parent) else home.parent
        others = [each for pattern in ("*", "*/*") for each in sorted(shelf.glob(f"{pattern}/{SPACE}"))]
        return [*([] if run is None else [home]), *(o.parent for o in others if is_known and o.parent != home)]

    def _note(self, text: str) -> None:
        """Something that whoever reads the result has to know."""
        if text not in self.notes:
            self.notes.append(text)
            self.observer.note(text)
            self._keep_progress()

    def _keep_progress(self) -> None:
        """What a report says of a comparison that is not finished."""
        progress = ProgressRecord(asked=self.asked.to_json(), rows=self._asked, notes=tuple(self.notes))
        write_text(self.s.folder / PROGRESS, progress.to_json() + "\n")


def _asked(row: Row) -> RowTrainings:
    return RowTrainings(key=row.key, trainings=tuple(tuple(chosen.values()) for chosen in row.trained))
