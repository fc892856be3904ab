"""What `pruneas worker` calls: joining searches that were begun elsewhere, from what stands in their studies."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import platformdirs
from pydantic import ValidationError

from pruneas.architecture import Reference
from pruneas.config import Space
from pruneas.errors import DataError, RunError
from pruneas.progress import Observer
from pruneas.run.folder import SPACE, located
from pruneas.run.machine import devices
from pruneas.run.place import place_of
from pruneas.run.setting import Setting
from pruneas.search.records import PLAN, Anchor
from pruneas.search.storage import connect, shown
from pruneas.search.trials import Search
from pruneas.search.worker import OVER, Place, join
from pruneas.training import Pool
from pruneas.trust import check, consented

SCHEMA = 1
"""Of the plan; workers and the run they join have to agree on it."""


def search_of(setting: Setting, anchors: Mapping[str, Anchor], folder: Path) -> Search:
    """The search of a run. `anchors`: by the generator's name; `folder`: where checkpoints go."""
    return Search(
        structure=setting.structure,
        model=setting.model,
        legal=setting.legal,
        most=setting.most,
        quantity=setting.budget.quantity,
        anchors=anchors,
        data=setting.source,
        recipe=setting.trial_recipe,
        num_trials=setting.space.search.trials,
        sampler=setting.space.search.sampler,
        tie=setting.space.search.tie,
        searches_blocks=setting.space.search.blocks,
        seed=setting.space.compute.seed,
        devices=devices(setting.device, setting.workers),
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
        "limit": setting.most,
        "folder": str(setting.folder.resolve()),
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
    """Work on searches until they are over, one after another. Returns the names of their studies.

    `target` is a run's folder, on the run's machine or a shared path, or the URL of a storage, of which `study` names
    one study in place of all; `data` says where the images are here; `trust`: packages whose networks a storage may
    name, as for architecture files (`trust.py`).
    Raises RunError where there is nothing to join, DataError where the images are others than the run's,
    ArchitectureError for a network that is not trusted.
    """
    url, known = place_of(target)
    trusted = {*trust, *(() if "://" in target else consented(Path(target) / SPACE))}
    study = study or known
    storage = connect(url, create=False)
    finished: list[str] = []
    seen = False
    try:
        while True:
            found = {each.study_name: each.user_attrs for each in optuna.get_all_study_summaries(storage)}
            joinable = {
                name: attributes[PLAN]
                for name, attributes in found.items()
                if PLAN in attributes and study in (None, name)
            }
            seen = seen or bool(joinable)
            if not seen:
                named = f" called {study!r}" if study is not None else ""
                raise RunError(
                    f"storage {shown(url)}: holds no search{named}; begin one with `pruneas search --storage URL`"
                )
            name = next((n for n in joinable if n not in finished and not found[n].get(OVER)), None)
            if name is None:
                return finished
            place = Place(url=url, study=name, lease=joinable[name]["lease"])
            _work(place, joinable[name], storage, data, device, workers, download, trusted, observer)
            finished.append(name)
    finally:
        storage.engine.dispose()


def _work(
    place: Place,
    plan: Mapping[str, Any],
    storage: optuna.storages.RDBStorage,
    data: str | None,
    device: str,
    workers: int,
    download: bool,
    trusted: Collection[str],
    observer: Observer,
) -> None:
    where = f"study {place.study!r} in {shown(place.url)}"
    if plan.get("schema") != SCHEMA:
        raise RunError(f"{where}: was begun by another version of pruneas; install the run's version here")
    try:
        space = Space.model_validate(tomllib.loads(plan["space"]))
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
    folder = Path(plan["folder"])
    if not (folder / SPACE).is_file() or _text(folder / SPACE) != plan["space"]:  # not the run's, or not here
        digest = hashlib.sha256(f"{shown(place.url)} {place.study}".encode()).hexdigest()[:16]
        folder = platformdirs.user_cache_path("pruneas") / "checkpoints" / digest
    setting = Setting.of(space, folder, download, observer)
    if setting.data.fingerprint != plan["data"]:
        raise DataError(
            f"data {space.data.source!r}: must be the images that the run was begun with ({plan['data']}), found "
            f"others ({setting.data.fingerprint}); give their place here with --data"
        )
    if (setting.structure.fingerprint, setting.most) != (plan["structure"], plan["limit"]):
        raise RunError(
            f"{where}: the network {space.network.reference} is another one here than where the run was begun; "
            "install the same versions"
        )
    (folder / "trials").mkdir(parents=True, exist_ok=True)
    anchors = {name: Anchor.from_json(anchor) for name, anchor in plan["anchors"].items()}
    search = search_of(setting, anchors, folder)
    observer.stage("search", f"{place.study}, {setting.trial_recipe.epochs} epochs each", 0)
    with Pool(workers=setting.workers, threads=space.compute.threads) as pool:
        join(search, place, storage, pool, observer, lambda images: None)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
