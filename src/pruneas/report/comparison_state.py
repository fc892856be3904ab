"""A comparison at any time, as plain values: what was asked for, how far it is, and its result if there is one."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from pruneas.report.comparison import ComparisonRecord
from pruneas.report.records import read_value


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTrainings:
    """The trainings of a row, for each seed the identities of those of all fine-tuning rates."""

    key: str
    trainings: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressRecord:
    """What the last command asked for. `rows` are empty until the architectures are known.

    `asked` is as in `ComparisonRecord`. `notes` are what it has told until now.
    """

    asked: Mapping[str, str]
    rows: tuple[RowTrainings, ...]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ProgressRecord:
        """Read what `to_json` wrote. Raises ValueError naming the first field that is wrong."""
        return read_value(cls, json.loads(text), "progress")  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonState:
    """`result` is that of the last command that was finished, `progress` is of the last one that was given.

    `accuracies`: on validation images, of every training that is done, by its identity. `num_generated` architectures
    have been given by generators, from `num_bases` trained base networks; `left_out` are generators that could not
    work, with the reason. `folder` is as it was given.
    """

    folder: str
    network: str
    input: tuple[int, ...]
    data: str
    recipe: Mapping[str, str]
    command: str
    seed: int
    hardware: str
    versions: Mapping[str, str]
    seconds: float
    failure: str | None
    result: ComparisonRecord | None
    progress: ProgressRecord | None
    accuracies: Mapping[str, float]
    num_bases: int
    num_generated: int
    left_out: Mapping[str, str]

    @property
    def is_finished(self) -> bool:
        """Whether the result is what the last command asked for."""
        return self.result is not None and (self.progress is None or self.result.asked == self.progress.asked)

    @property
    def asked_trainings(self) -> set[str]:
        """What the last command's rows need, each once; empty as long as they are not known."""
        rows = () if self.progress is None else self.progress.rows
        return {identity for row in rows for seed in row.trainings for identity in seed}

    @property
    def num_done(self) -> int:
        """How many of them are done."""
        return len(self.asked_trainings & self.accuracies.keys())

    @property
    def headline(self) -> str:
        """How far the last command has come, of one that is not finished."""
        if self.failure is not None:
            return f"Failed: {self.failure.rstrip('.')}."
        num = len(self.accuracies)  # of how many, is not known before the architectures are
        told = f"{num} training{' is' if num == 1 else 's are'} done"
        if asked := self.asked_trainings:
            told = f"{self.num_done} of {len(asked)} trainings are done"
        return f"Not finished, so there is no verdict: {told}."

    @property
    def stages(self) -> list[tuple[str, str]]:
        """What there is of each stage, and what was left out."""
        asked = self.asked_trainings
        return [
            ("base networks", f"{self.num_bases} trained"),
            ("generators", f"{self.num_generated} architectures given"),
            *([("trainings", f"{self.num_done} of {len(asked)} done")] if asked else []),
            *((f"generator {name}", f"left out: {failure}") for name, failure in self.left_out.items()),
        ]

    def num_seeds_done(self, row: RowTrainings) -> int:
        """The seeds of which there is a training at least."""
        return sum(any(identity in self.accuracies for identity in seed) for seed in row.trainings)

    def num_missing(self, row: RowTrainings) -> int:
        """The trainings that are still to be done, of fine-tuning those of all rates."""
        return len({identity for seed in row.trainings for identity in seed} - self.accuracies.keys())

    def accuracy(self, row: RowTrainings) -> float | None:
        """The mean validation accuracy of a row's seeds so far, of fine-tuning that of the best rate."""
        best = [
            max(found)
            for seed in row.trainings
            if (found := [self.accuracies[identity] for identity in seed if identity in self.accuracies])
        ]
        return statistics.fmean(best) if best else None

    @property
    def short_rows(self) -> dict[str, tuple[int, int]]:
        """Of a finished comparison the rows that lack seeds, because trainings failed: how many there are, of how
        many."""
        rows = () if self.progress is None else self.progress.rows
        counts = {row.key: (self.num_seeds_done(row), len(row.trainings)) for row in rows}
        return {key: (done, asked) for key, (done, asked) in counts.items() if done < asked}
