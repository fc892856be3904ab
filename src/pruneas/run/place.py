"""Where the study of a run is, or will be, from the run's folder or the URL of a storage. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import sqlalchemy

from pruneas.config import Space
from pruneas.errors import RunError
from pruneas.files import write_json
from pruneas.run.folder import default_folder, read_json
from pruneas.search.storage import address, shown
from pruneas.search.study import STUDY

SWEEP = "sweep.json"
"""Where a run at several budgets keeps what studies it has, also those that have not begun."""


def place_for(folder: Path, space: Space, storage: str | None) -> tuple[sqlalchemy.URL, str]:
    """Where the study of a run will be: in its folder, or in a storage, named as the folder is by default."""
    if storage is None:
        return address(folder / "study.db"), STUDY
    return address(storage), default_folder(space).name


def write_places(folder: Path, studies: Mapping[str, str], storage: str | None) -> None:
    """Keep where the studies of a run at several budgets are: their names by budget, and the storage of all, without
    its password; None: each in the folder of its budget."""
    kept = None if storage is None else shown(address(storage))
    write_json(folder / SWEEP, {"storage": kept, "studies": dict(studies)})


def places_of(target: str) -> dict[str, tuple[sqlalchemy.URL, str | None]]:
    """The places of all studies of a run, in order: at several budgets by these, else one that is called ''.

    Raises RunError as `place_of` does.
    """
    folder = Path(target)
    if "://" in target or not (folder / SWEEP).is_file():
        return {"": place_of(target)}
    known = read_json(folder / SWEEP)
    return {
        name: (address(known["storage"] or folder / name / "study.db"), study)
        for name, study in known["studies"].items()
    }


def place_of(target: str) -> tuple[sqlalchemy.URL, str | None]:
    """The database, and the study in it if only one is meant. A run knows its storage without the password, which the
    driver takes from PGPASSWORD or ~/.pgpass.

    Raises RunError where there is no run, or one whose search has not begun.
    """
    if "://" in target:
        return address(target), None
    folder = Path(target)
    if not folder.is_dir():
        raise RunError(
            f"{target}: there is no such folder; give the folder of a run, such as runs/digits-0.5-1a2b3c, or the URL "
            "of its storage"
        )
    record = folder / "run.json"
    known = read_json(record) if record.is_file() else {}
    if known.get("study", STUDY) != STUDY:
        return address(known["storage"]), known["study"]
    if (folder / SWEEP).is_file():
        runs = ", ".join(str(folder / name) for name in read_json(folder / SWEEP)["studies"])
        raise RunError(f"{target}: holds searches at several budgets, each with a study of its own; give one of {runs}")
    if not (folder / "study.db").is_file():
        raise RunError(f"{target}: holds no study.db; give the folder of a run whose search has begun")
    return address(folder / "study.db"), STUDY
