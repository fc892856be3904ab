"""One candidate of a search, as it is kept in the run folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pruneas.errors import RunError
from pruneas.search.stopping import Extrapolation

SEARCH = "search"
"""The origin of a candidate whose widths Optuna proposed; an anchor's origin is its generator's name."""

PLAN, PLANNED, STOPPED = "plan", "planned", "stopped early"
"""Attributes of the study, what somebody who joins has to know; and of a trial, its record as it was planned; and the
extrapolation that is its value, where its training was stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """An architecture that a search begins with: widths of all groups, blocks whose branches are taken out, and what
    channel selections take where that is not the first channels."""

    widths: Mapping[str, int]
    removed: tuple[str, ...] = ()
    selections: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Anchor:
        selections = {group: tuple(kept) for group, kept in data["selections"].items()}
        return cls(widths=data["widths"], removed=tuple(data["removed"]), selections=selections)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """A finished trial. `accuracy` is on the validation images, None where it failed; `copied_from` is the earlier
    trial of the same architecture, whose training this one shares; `parameters` are the numbers that the sampler gave.
    `removed` and `selections` are as an `Anchor`'s. `notes`: what else than the recipe its numbers depend on.
    `extrapolation`: of a training that was stopped early; `accuracy` is then what it says, `loss` None, and `curve`
    ends where the training did."""

    number: int
    origin: str
    widths: Mapping[str, int]
    flops: int
    params: int
    seed: int
    accuracy: float | None
    loss: float | None
    curve: tuple[float, ...]
    seconds: float
    images: int
    copied_from: int | None = None
    failure: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    selections: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    extrapolation: Extrapolation | None = None

    @property
    def is_measured(self) -> bool:
        """Whether its accuracy is that of a training of its own, which went to its end."""
        return self.accuracy is not None and self.copied_from is None and self.extrapolation is None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "widths": dict(self.widths), "curve": list(self.curve), "notes": list(self.notes)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrialRecord:
        return cls(
            **{
                **data,
                "curve": tuple(data["curve"]),
                "notes": tuple(data.get("notes", ())),
                "removed": tuple(data.get("removed", ())),
                "selections": {group: tuple(kept) for group, kept in data.get("selections", {}).items()},
                "extrapolation": Extrapolation.from_json(data.get("extrapolation")),
            }
        )


def task_of(number: int) -> str:
    """The name of a trial among the leases, and of its training."""
    return f"trial {number}"


def trial_path(run: Path, number: int) -> Path:
    """Where a run folder keeps the record of a trial."""
    return run / "trials" / f"{number:05}.json"


def read_trials(run: Path) -> list[TrialRecord]:
    """The finished trials of a run folder, in order. Raises RunError for a file that cannot be read."""
    records = []
    for path in sorted((run / "trials").glob("*.json")):
        try:
            records.append(TrialRecord.from_json(json.loads(path.read_text(encoding="utf-8"))))
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            raise RunError(
                f"{path}: is not a trial's record ({error}); delete it and give the command again: it is written again "
                "from the study"
            ) from error
    return records


def num_trained(records: Iterable[TrialRecord]) -> int:
    """How many of the trials were trained, or failed at it, rather than copied: what the asked number counts."""
    return sum(record.copied_from is None for record in records)


def best_candidates(records: Iterable[TrialRecord], count: int) -> list[TrialRecord]:
    """The candidates of highest validation accuracy, ties by lower loss, then by number; extrapolated ones are none."""
    measured = [record for record in records if record.is_measured]
    return sorted(measured, key=lambda r: (-(r.accuracy or 0.0), r.loss or 0.0, r.number))[:count]
