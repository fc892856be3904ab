"""A comparison at any time, from what its folder holds: no network is made and nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pruneas.config import Space
from pruneas.report.comparison_state import ComparisonState, ProgressRecord
from pruneas.run.compare import BASES, COMPARISON, PROGRESS, TRAININGS, load_comparison
from pruneas.run.folder import SPACE, made, read_json


def is_comparison(folder: Path) -> bool:
    """Whether a comparison was begun in that folder."""
    return (folder / COMPARISON).exists() or (folder / BASES).is_dir()


def read_state(folder: Path) -> ComparisonState:
    """Everything that a comparison's folder says. Raises RunError where a file of it cannot be read."""
    facts = read_json(folder / "run.json")
    space = Space.load(folder / SPACE, spelling={})
    progress = folder / PROGRESS
    failures = [read_json(path) for path in sorted(folder.glob(f"{BASES}/*/generators/*.failure.json"))]
    return ComparisonState(
        folder=str(folder),
        network=space.network.reference,
        input=tuple(space.network.input),
        data=space.data.source,
        recipe={name.replace("_", " "): _written(value) for name, value in space.recipe.model_dump().items()},
        command=str(facts["command"]),
        seed=space.compute.seed,
        hardware=str(facts["hardware"]),
        versions=facts["versions"],
        seconds=float(facts["seconds"]),
        failure=facts.get("failure"),
        result=load_comparison(folder).record if (folder / COMPARISON).exists() else None,
        progress=made(_progress, progress, "comparison") if progress.exists() else None,
        accuracies={
            path.stem: made(_accuracy, path, "comparison")
            for path in sorted((folder / TRAININGS).glob("*.json"))
            if path.name != "origins.json"
        },
        num_bases=len(list(folder.glob(f"{BASES}/*/base/record.json"))),
        num_generated=len(list(folder.glob(f"{BASES}/*/generators/*@*[!d].architecture.json"))),
        left_out={str(each["method"]): str(each["failure"]) for each in failures},
    )


def _written(value: Any) -> str:
    """A setting as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _progress(path: Path) -> ProgressRecord:
    return ProgressRecord.from_json(path.read_text(encoding="utf-8"))


def _accuracy(path: Path) -> float:
    return float(json.loads(path.read_text(encoding="utf-8"))["validation_accuracy"])
