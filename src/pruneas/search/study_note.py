"""What Optuna Dashboard shows of a whole study: a note with pictures, which are artifacts beside the study."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna_dashboard import save_note
from optuna_dashboard.artifact import get_artifact_path

NOTED = "report"
"""The study's attribute that says what its note was made of."""


def leave_note(
    study: optuna.Study, artifacts: Path, pictures: Mapping[str, str], note: Callable[[Mapping[str, str]], str]
) -> bool:
    """Upload SVG files, by title, and write the note, which gets the address of each. Returns whether it was new.

    Given again, nothing is written unless something has changed; whoever edits the note keeps his own until then.
    """
    made_of = hashlib.sha256(json.dumps([note({}), *pictures.items()]).encode()).hexdigest()[:16]
    if study.user_attrs.get(NOTED) == made_of:
        return False
    artifacts.mkdir(exist_ok=True)
    store = FileSystemArtifactStore(str(artifacts))
    addresses = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, picture in pictures.items():
            path = Path(folder) / f"{title.lower().replace(':', '').replace(' ', '-')}.svg"
            path.write_text(picture, encoding="utf-8")
            name = upload_artifact(
                artifact_store=store, file_path=str(path), study_or_trial=study, mimetype="image/svg+xml"
            )
            addresses[title] = get_artifact_path(study, name)
    save_note(study, note(addresses))
    study.set_user_attr(NOTED, made_of)
    return True
