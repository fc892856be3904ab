"""Searches at several budgets: one base network and one set of generators for all, and a run of its own for each.

runs/<name>/
  common/        the base network and what every method gives for each budget
  <budget>/      a run like any other: to look at, to go on with, to export
  sweep.json     where the study of each budget is or will be, for those who join
  front.json     accuracy against cost
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pruneas import forking, interrupts
from pruneas.architecture import Budget
from pruneas.config import Finalists, Search, Space
from pruneas.errors import RunError
from pruneas.files import copy_once, write_text
from pruneas.progress import Observer
from pruneas.report.front import FrontRecord
from pruneas.run.folder import check_fresh, digest, held, prepare
from pruneas.run.result import SearchResult, finished, load
from pruneas.run.search import search

COMMON, FRONT = "common", "front.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """Finished searches at several budgets, in the order in which they were asked for."""

    folder: Path
    front: FrontRecord
    results: tuple[SearchResult, ...]


def sweep(
    space: Space,
    budgets: Sequence[str],
    *,
    run: Path | None,
    fresh: bool,
    download: bool,
    command: str,
    observer: Observer,
    storage: str | None = None,
    lease: float | None = None,
) -> SweepResult:
    """Search at each of the budgets, or go on with it; the arguments are those of `run.search.search`.

    Each budget has a study of its own, which is announced before anything is trained: who joins waits for those that
    have not begun. Raises BudgetError for a budget that cannot be met, before anything is trained.
    """
    asked = {folder_name(budget): budget for budget in map(Budget.parse, budgets)}
    spaces = {name: space.model_copy(update={"budget": str(budget)}) for name, budget in asked.items()}
    folder = run if run is not None else _default_folder(space, list(spaces.values()))
    if not fresh:
        known = [finished(folder / name, each) for name, each in spaces.items()]
        if all(result is not None for result in known):
            return _result(folder, [result for result in known if result is not None])
    observer.stage("start", "loading torch", 0)
    forking.start(space.compute.threads)

    with interrupts.held_back():
        from pruneas.run.generation import Generation
        from pruneas.run.ledger import Ledger
        from pruneas.run.place import place_for, write_places
        from pruneas.run.setting import Setting, check_givens
        from pruneas.search.worker import LEASE, Place, announce, withdraw
        from pruneas.training import Pool

    common = folder / COMMON
    kept = space.model_copy(update={"budget": "1.0", "search": Search(), "finalists": Finalists()})
    with held(common), contextlib.ExitStack() as announced:
        setting = Setting.of(kept, common, download, observer, budgets=asked.values(), fresh=fresh)
        targets = {name: setting.target(budget) for name, budget in asked.items()}
        for name in (COMMON, *spaces) if fresh else ():
            check_fresh(folder / name)  # all, before any is deleted
        prepare(common, kept, fresh=fresh)
        facts = {"command": command, **setting.facts()}
        check_givens(common, facts)
        studies: dict[str, str] = {}
        for name, each in spaces.items():
            url, studies[name] = place_for(folder / name, each, storage)
            if not fresh and finished(folder / name, each) is not None:
                continue
            place = Place(url=url, study=studies[name], lease=LEASE if lease is None else lease)
            with held(folder / name):
                prepare(folder / name, each, fresh=fresh)
                announce(place, folder / name, fresh=fresh)
            announced.callback(withdraw, place)
        write_places(folder, studies, storage)
        made = Generation(setting, targets, observer, needed=["uniform"])
        ledger = Ledger(common / "run.json", facts, {"generators": made.images_left()}, observer)
        with Pool(workers=setting.workers, threads=space.compute.threads) as pool:
            made.run(pool, ledger)
        ledger.save()
        results: list[SearchResult] = []
        for name, each in spaces.items():
            observer.note(f"budget {each.budget}")

            def adopt(generation: Generation, target: str = name) -> None:
                generation.adopt(made, target)
                for before in results:  # the base network is trained and tested once for all
                    _copy_base_tests(before, generation.s.folder)

            results.append(
                search(
                    each,
                    run=folder / name,
                    fresh=False,  # it was begun anew when it was announced
                    download=download,
                    command=command,
                    observer=observer,
                    storage=storage,
                    lease=lease,
                    adopt=adopt,
                    table=setting.model.table,
                )
            )
    return _result(folder, results)


def load_sweep(folder: Path) -> SweepResult:
    """A finished sweep. Raises RunError where there is none."""
    try:
        front = FrontRecord.from_json((folder / FRONT).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RunError(
            f"{folder / FRONT}: cannot be read: {error}; give the search's command again: it is made anew from the "
            "runs beside it"
        ) from error
    results = tuple(load(folder / folder_name(Budget.parse(point.budget))) for point in front.points)
    return SweepResult(folder=folder, front=front, results=results)


def is_sweep(folder: Path) -> bool:
    return (folder / FRONT).is_file()


def folder_name(budget: Budget) -> str:
    return str(budget).replace("=", "-")


def _result(folder: Path, results: Sequence[SearchResult]) -> SweepResult:
    front = FrontRecord.of([result.record for result in results])
    write_text(folder / FRONT, front.to_json() + "\n")
    return SweepResult(folder=folder, front=front, results=tuple(results))


def _default_folder(space: Space, spaces: Sequence[Space]) -> Path:
    budgets = "_".join(folder_name(Budget.parse(each.budget)) for each in spaces)
    return Path("runs") / f"{space.name}-{budgets}-{digest(*spaces)}"


def _copy_base_tests(result: SearchResult, folder: Path) -> None:
    base = result.record.by_role("base")
    assert base is not None
    for seed in base.seeds:
        for path in (result.folder / "test").glob(f"*-{seed}.json"):
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["flops"] != base.flops or record["params"] != base.params:
                continue
            for file in (path.with_suffix(".safetensors"), path):  # the record last: it says that all is there
                copy_once(file, folder / "test" / file.name)
