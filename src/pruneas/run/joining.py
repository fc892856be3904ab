"""What `pruneas worker` calls: joining searches that were begun elsewhere, from what stands in their studies."""

from __future__ import annotations

import hashlib
import time
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import platformdirs
import sqlalchemy
from pydantic import ValidationError

from pruneas.architecture import Reference
from pruneas.config import Space
from pruneas.cost.latency_table import LatencyTable
from pruneas.errors import DataError, InputError, RunError
from pruneas.progress import Observer
from pruneas.run.folder import SPACE, located
from pruneas.run.place import places_of
from pruneas.run.setting import Setting
from pruneas.search.records import PLAN, Anchor
from pruneas.search.storage import connect, patiently, shown
from pruneas.search.trials import Search
from pruneas.search.worker import AHEAD, LEASE, OVER, Place, join
from pruneas.trust import check, consented

SCHEMA = 2
"""Of the plan; workers and the run they join have to agree on it."""
PICKLED = ("cma",)
"""Samplers whose state Optuna keeps in the study as a pickle; nothing else that stands there is ever unpickled."""
LOOK_EVERY = 5.0
"""Seconds between two looks whether a search that was announced has begun."""


def search_of(setting: Setting, anchors: Mapping[str, Anchor], folder: Path) -> Search:
    """The search of a run. `anchors`: by the generator's name; `folder`: where checkpoints go."""
    return Search(
        structure=setting.structure,
        model=setting.model,
        legal=setting.legal,
        limits=setting.limits,
        anchors=anchors,
        data=setting.source,
        recipe=setting.trial_recipe,
        num_trials=setting.space.search.trials,
        sampler=setting.space.search.sampler,
        tie=setting.space.search.tie,
        searches_blocks=setting.space.search.blocks,
        seed=setting.space.compute.seed,
        device=setting.device,
        workers=setting.workers,
        folder=folder,
        stops_below=setting.space.finalists.count if setting.space.search.stopping else None,
        compile=setting.space.compute.compile,
    )


def plan_of(setting: Setting, anchors: Mapping[str, Anchor], lease: float) -> dict[str, Any]:
    """What travels in the study: all that a worker needs beside the images, and what it checks itself against."""
    return {
        "schema": SCHEMA,
        "space": located(setting.space).to_toml(),
        "anchors": {name: anchor.to_json() for name, anchor in anchors.items()},
        "structure": setting.structure.fingerprint,
        "data": setting.data.fingerprint,
        "limits": setting.limits.to_json(),
        "latency_table": None if setting.model.table is None else setting.model.table.to_json(),
        "folder": str(setting.folder.resolve()),
        "trials": setting.space.search.trials,
        "lease": lease,
        "epochs": setting.trial_recipe.epochs,
        "base": {
            "widths": dict(setting.structure.widths),
            "flops": setting.model.base.flops,
            "params": setting.model.base.params,
        },
    }


def work(
    target: str,
    *,
    study: str | None = None,
    data: str | None = None,
    device: str = "auto",
    workers: int = 0,
    download: bool = False,
    trust: Sequence[str] = (),
    observer: Observer,
) -> list[str]:
    """Work on searches until they are over, one after another. Returns their budgets, of a run at several; else the
    names of their studies.

    `target` is a run's folder, on the run's machine or a shared path, or the URL of a storage, of which `study` names
    one study (or budget) in place of all; those that are announced are waited for. `data` says where the images are
    here; `trust`: packages whose networks a storage may name, as for architecture files (`trust.py`), and 'optuna' for
    a sampler that keeps pickles.
    Raises RunError where there is nothing to join, DataError where the images are others than the run's,
    ArchitectureError for a network that is not trusted; of several studies, one of which can be joined, those that
    cannot are noted and left to others.
    """
    places = places_of(target)
    refused: dict[tuple[sqlalchemy.URL, str], InputError] = {}
    storages = {url: connect(url, create=False) for url in dict.fromkeys(url for url, _ in places.values())}
    finished: dict[tuple[sqlalchemy.URL, str], str] = {}
    seen, waiting = False, ""
    try:
        while True:
            found = [
                (label, url, each.study_name, each.user_attrs)
                for label, (url, known) in places.items()
                for each in _studies(storages[url], observer)
                if known in (None, each.study_name) and study in (None, each.study_name, label)
            ]
            ahead = [label or name for label, _, name, attributes in found if attributes.get(AHEAD)]
            begun = [each for each in found if PLAN in each[3] and not each[3].get(AHEAD)]
            seen = seen or bool(ahead or begun)
            if not seen:
                named = f" called {study!r}" if study is not None else ""
                raise RunError(
                    f"storage {' '.join(map(shown, storages))}: holds no search{named}; begin one with `pruneas search "
                    "--storage URL`"
                )
            left = [each for each in begun if not {each[1:3]} & {*finished, *refused} and not each[3].get(OVER)]
            if left:
                label, url, name, attributes = left[0]
                place = Place(url=url, study=name, lease=attributes[PLAN].get("lease", LEASE))
                trusted = {*trust, *(() if "://" in target else consented(Path(target) / label / SPACE))}
                try:
                    setting, search = _prepared(
                        place, attributes[PLAN], data, device, workers, download, trusted, observer
                    )
                except InputError as error:
                    if len(found) == 1:
                        raise
                    refused[url, name] = error
                    observer.note(f"{error}; this search is left to others")
                    continue
                observer.stage("search", f"{name}, {setting.trial_recipe.epochs} epochs each", 0)
                with setting.pool() as pool:
                    join(search, place, storages[url], pool, observer, lambda images: None)
                finished[url, name] = label or name
            elif ahead:
                if ahead[0] != waiting:
                    waiting = ahead[0]
                    observer.stage("search", f"waits until {waiting} begins", 0)
                time.sleep(LOOK_EVERY)
            elif refused and not finished:
                raise next(iter(refused.values()))
            else:
                return [*finished.values()]
    finally:
        for storage in storages.values():
            storage.engine.dispose()


def _studies(storage: optuna.storages.RDBStorage, observer: Observer) -> list[optuna.study.StudySummary]:
    return patiently(lambda: optuna.get_all_study_summaries(storage), observer.note)


def _prepared(
    place: Place,
    plan: Mapping[str, Any],
    data: str | None,
    device: str,
    workers: int,
    download: bool,
    trusted: Collection[str],
    observer: Observer,
) -> tuple[Setting, Search]:
    """What a study's plan says, on this machine. Raises an InputError where it cannot be worked on here."""
    where = f"study {place.study!r} in {shown(place.url)}"
    if plan.get("schema") != SCHEMA:
        raise RunError(f"{where}: was begun by another version of pruneas; install the run's version here")
    try:
        given = tomllib.loads(plan["space"])
        given.pop("generators", None)  # which may be of packages that are not here; what they gave are the anchors
        space = Space.model_validate(given)
    except (ValidationError, tomllib.TOMLDecodeError, KeyError) as error:
        raise RunError(f"{where}: its settings cannot be read; install the run's version of pruneas here") from error
    space = space.model_copy(
        update={
            "network": space.network.model_copy(update={"weights": None}),  # the base's; the anchors follow from them
            "data": space.data if data is None else space.data.model_copy(update={"source": data}),
            "compute": space.compute.model_copy(update={"device": device, "workers": workers}),
        }
    )
    reference = Reference.parse(space.network.reference)
    check(reference.name, reference.arguments, [tuple(space.network.input)], trusted, place=where)
    if space.search.sampler in PICKLED and "optuna" not in trusted:
        raise RunError(
            f"{where}: its sampler, {space.search.sampler!r}, keeps its state there as Python's pickle, so whoever can "
            "write to the storage can run code here. If you trust them all, say so: --trust optuna"
        )
    folder = Path(plan["folder"])
    if not (folder / SPACE).is_file() or _text(folder / SPACE) != plan["space"]:  # not the run's, or not here
        digest = hashlib.sha256(f"{shown(place.url)} {place.study}".encode()).hexdigest()[:16]
        folder = platformdirs.user_cache_path("pruneas") / "checkpoints" / digest
    table = plan["latency_table"]
    table = None if table is None else LatencyTable.from_json(table)
    setting = Setting.of(space, folder, download, observer, table=table)
    if setting.data.fingerprint != plan["data"]:
        raise DataError(
            f"data {space.data.source!r}: must be the images that the run was begun with ({plan['data']}), found "
            f"others ({setting.data.fingerprint}); give their place here with --data"
        )
    if (setting.structure.fingerprint, setting.limits.to_json()) != (plan["structure"], plan["limits"]):
        raise RunError(
            f"{where}: the network {space.network.reference} is another one here than where the run was begun; "
            "install the same versions"
        )
    (folder / "trials").mkdir(parents=True, exist_ok=True)
    anchors = {name: Anchor.from_json(anchor) for name, anchor in plan["anchors"].items()}
    return setting, search_of(setting, anchors, folder)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
