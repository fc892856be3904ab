"""What `pruneas.compare` and `pruneas compare` call: pruning methods' architectures by the paper's arms.

    runs/<space>-compare-<hash>/, or <run>/comparison/
      space.toml, run.json       settings; versions, hardware, seed, command, seconds
      bases/<n>/base/            a trained base network
      bases/<n>/generators/      what the methods gave from it
      transferred/generators/    designs that were brought along
      starts/                    the weights that fine-tuned and ticket arms begin with
      trainings/                 every training, by what it is; the first seed's weights
      progress.json              what the last command asks for, and how it ended if it failed
      comparison.json            the result of the last command that was finished
      report.html                all of it to be looked at

More budgets, generators, arms and seeds add to what is there: the folder is named after the space alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pruneas import forking, interrupts
from pruneas.architecture import Architecture, Budget
from pruneas.config import Space
from pruneas.errors import RunError, SpaceError
from pruneas.progress import Observer
from pruneas.report.comparison import ComparisonRecord
from pruneas.run.folder import COMPARED, SPACE, digest, held, is_answered, prepare, settled
from pruneas.run.result import SearchResult, load
from pruneas.run.sources import mask_files, source_file

COMPARISON, PROGRESS = "comparison.json", "progress.json"
BASES, TRAININGS = "bases", "trainings"
ARMS = ("unpruned", "fine-tuned", "scratch-e", "scratch-b", "ticket", "random")
"""What a comparison trains: the paper's arms, and architectures of random widths. Uniform scaling always is there."""
BASELINES = ("uniform", "random", "uniform-sparsity")
LEARNING = ("guided", "guided-sparsity")
"""Methods that need architectures to learn from: --transfer brings them in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be compared. `cap`: of Scratch-B, None for the paper's. `sources`: architectures whose design is tried
    here, too; `masks`: the files of those of them that have some, by `Architecture.mask`."""

    space: Space
    generators: tuple[str, ...]
    budgets: tuple[str, ...]
    num_seeds: int
    arms: tuple[str, ...] = ARMS
    bases: Literal["each", "once"] = "each"
    cap: float | None = None
    sources: tuple[Architecture, ...] = ()
    masks: Mapping[str, Path] = field(default_factory=dict)
    run: Path | None = None
    found: SearchResult | None = None

    def __post_init__(self) -> None:
        complaints = [
            f"--arms: there is no arm called {arm!r}; there are {', '.join(ARMS)}"
            for arm in self.arms
            if arm not in ARMS
        ]
        if not {"scratch-e", "scratch-b"} & set(self.arms):
            complaints.append("--arms: must have scratch-e or scratch-b: uniform scaling is trained by one of them")
        if self.num_seeds < 1:
            complaints.append(f"--seeds: must be at least 1, got {self.num_seeds}")
        complaints += [
            f"--generators: {name!r} learns from other architectures; give those with --transfer"
            for name in self.generators
            if name in LEARNING
        ]
        if self.cap is not None and not self.cap >= 1.0:
            complaints.append(f"--cap: must be at least 1, got {self.cap:g}")
        if complaints:
            raise SpaceError(complaints)
        for budget in self.budgets:
            Budget.parse(budget)

    def to_json(self) -> dict[str, str]:
        """Texts that say what was asked, equal where the answer is the same."""
        found = None if self.run is None else (self.run / "result.json").read_bytes()
        learned = [source.to_json() for source in self.sources]
        return {
            "budgets": ", ".join(str(Budget.parse(budget)) for budget in self.budgets),
            "generators": ", ".join(self.generators),
            "arms": ", ".join(arm for arm in ARMS if arm in self.arms),
            "seeds": str(self.num_seeds),
            "bases": self.bases,
            "cap": "the paper's" if self.cap is None else "none" if math.isinf(self.cap) else f"{self.cap:g}",
            "transfer": ", ".join(hashlib.sha256(text.encode()).hexdigest()[:12] for text in learned),
            "run": "" if found is None else hashlib.sha256(found).hexdigest()[:12],
            "options": json.dumps(self.space.generators.options, sort_keys=True),
        }

    @property
    def folder(self) -> Path:
        """Where it lies if nobody says so."""
        if self.run is not None:
            return self.run / COMPARED
        return Path("runs") / f"{self.space.name}-compare-{digest(settled(self.space))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonResult:
    """A finished comparison: its folder, and its result as values."""

    folder: Path
    record: ComparisonRecord

    def __str__(self) -> str:
        return "\n".join(self.record.verdict)


def of_space(
    space: Space,
    *,
    budgets: Sequence[str] = (),
    generators: Sequence[str] | None = None,
    num_seeds: int | None = None,
    **others: Any,
) -> Asked:
    """A comparison of what the space says, where it is not said otherwise."""
    methods = space.generators.methods if generators is None else generators
    return Asked(
        space=space,
        budgets=tuple(budgets) or (str(space.budget),),
        generators=tuple(name for name in methods if name not in BASELINES),
        num_seeds=space.finalists.seeds if num_seeds is None else num_seeds,
        **others,
    )


def of_run(run: Path, overrides: dict[str, Any], *, bases: Literal["each", "once"] = "once", **others: Any) -> Asked:
    """A comparison of a finished search's architecture with its generators', from its base network.

    Raises RunError where there is no finished run.
    """
    found = load(run)
    return of_space(Space.load(run / SPACE, overrides), run=run, found=found, bases=bases, **others)


def compare(
    asked: Asked, *, folder: Path | None = None, download: bool = False, command: str, observer: Observer
) -> ComparisonResult:
    """Train all arms that have not been trained yet, and say what they show.

    A comparison that was interrupted goes on where it was; one that is finished is returned at once. Trainings that
    runs beside it have done already are taken over. Raises SpaceError for what cannot be compared.
    """
    folder = asked.folder if folder is None else folder
    kept = settled(asked.space)
    if (result := _finished(folder, kept, asked)) is not None:
        return result
    observer.stage("start", "loading torch", 0)
    forking.start(kept.compute.threads)

    with interrupts.held_back():
        from pruneas.run.comparison import Comparison
        from pruneas.run.setting import Setting

    with held(folder):
        if (result := _finished(folder, kept, asked)) is not None:
            return result
        budgets = map(Budget.parse, asked.budgets)
        setting = Setting.of(kept, folder, download, observer, budgets=budgets, run=asked.run)
        prepare(folder, kept, fresh=False)
        record = Comparison(asked, setting, command, observer).go()
    return ComparisonResult(folder=folder, record=record)


def load_comparison(folder: Path) -> ComparisonResult:
    """The result of a finished comparison, or of that of a run. Raises RunError where there is none."""
    path = next((p for p in (folder / COMPARISON, folder / COMPARED / COMPARISON) if p.exists()), None)
    if path is None:
        raise RunError(f"{folder}: holds no finished comparison; give the comparison's command again to go on with it")
    try:
        record = ComparisonRecord.from_json(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RunError(
            f"{path}: cannot be read: {error}. Delete it and give the comparison's command again: it is made anew from "
            "the records, nothing is trained twice"
        ) from error
    return ComparisonResult(folder=path.parent, record=record)


def transferred(paths: Sequence[Path], trust: Collection[str] = ()) -> dict[str, Any]:
    """The architectures at these paths (files, or finished runs'), and their masks: `sources` and `masks` of `Asked`.

    Raises ArchitectureError for one whose factory is of a package that is not in `trust`.
    """
    files = [source_file(path) for path in paths]
    sources = tuple(Architecture.load(file, trust=trust) for file in files)
    for source in sources:
        source.check_trust()
    return {"sources": sources, "masks": mask_files(files)}


def _finished(folder: Path, space: Space, asked: Asked) -> ComparisonResult | None:
    """The result of the comparison in that folder, if it is of what is asked."""
    if not is_answered(folder, space) or not (folder / COMPARISON).exists():
        return None
    result = load_comparison(folder)
    return result if dict(result.record.asked) == asked.to_json() else None
