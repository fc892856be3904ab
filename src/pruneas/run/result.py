"""The result of a finished run, read from its folder. Torch is loaded only when a network is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pruneas.architecture import Architecture
from pruneas.config import Space
from pruneas.errors import RunError
from pruneas.report.records import ResultRecord
from pruneas.run.folder import BEST, RESULT, is_answered
from pruneas.search.records import TrialRecord, read_trials


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """A finished run: its folder, its result as values, and the architecture it found."""

    folder: Path
    record: ResultRecord

    @property
    def architecture(self) -> Architecture:
        """The winner's architecture; `.build()` makes the network, freshly initialised."""
        return Architecture.load(self.folder / BEST / "architecture.json")

    @property
    def trials(self) -> list[TrialRecord]:
        """Every candidate of the search, in order."""
        return read_trials(self.folder)

    def __str__(self) -> str:
        return self.record.verdict


def load(folder: Path) -> SearchResult:
    """The result of a finished run. Raises RunError where there is none."""
    path = folder / RESULT
    if not folder.is_dir():
        raise RunError(f"{folder}: there is no such run")
    if not path.exists():
        raise RunError.without_result(folder)
    try:
        record = ResultRecord.from_json(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RunError(
            f"{path}: cannot be read: {error}. Delete it and give the search's command again: it is made anew from the "
            "run's records, nothing is trained twice"
        ) from error
    return SearchResult(folder=folder, record=record)


def finished(folder: Path, space: Space) -> SearchResult | None:
    """The result of the run in that folder, if it is one of these settings and has all the trials that are asked for.

    Raises RunError where the folder holds another run.
    """
    if not is_answered(folder, space) or not (folder / RESULT).exists():
        return None
    result = load(folder)
    asked = max(result.record.num_trials, result.record.asked_trials or 0)
    return result if asked >= space.search.trials else None
