"""One candidate of a search, as it is kept in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SEARCH = "search"
"""The origin of a candidate whose widths Optuna proposed; an anchor's origin is its generator's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """A finished trial. `accuracy` is on the validation images, None where it failed; `copied_from` is the earlier
    trial with the same widths, whose training this one shares."""

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

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "widths": dict(self.widths), "curve": list(self.curve)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrialRecord:
        return cls(**{**data, "curve": tuple(data["curve"])})
