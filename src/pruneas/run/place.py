"""Where the study of a run is, from the run's folder or the URL of a storage. Loads no torch."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy

from pruneas.errors import RunError
from pruneas.run.folder import read_json
from pruneas.search.storage import address
from pruneas.search.study import STUDY


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
    if not (folder / "study.db").is_file():
        raise RunError(f"{target}: holds no study.db; give the folder of a run whose search has begun")
    return address(folder / "study.db"), STUDY
