"""The result of a search as plain values, JSON in and out. Accuracies are shares in [0, 1].

FLOPs are counted as fvcore does: a multiply-add is one, for one input.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

SCHEMA = 1

DISAGREES = 0.1
"""Shares of time and of FLOPs that differ by more are told."""

Role = Literal["base", "uniform", "generator", "winner", "searched"]


class Tested:
    """What has a test accuracy a seed."""

    __slots__ = ()
    test_accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean test accuracy over the seeds."""
        return statistics.fmean(self.test_accuracies)

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the test accuracy over the seeds; None with a single seed."""
        return statistics.stdev(self.test_accuracies) if len(self.test_accuracies) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRecord(Tested):
    """One architecture, trained from scratch once a seed with the full recipe.

    `origin` is where it comes from: a generator's name or 'search'; `removed` are blocks without their branch.
    `flops_share` is of the base network's. `difference` is the mean test accuracy minus uniform scaling's, None for
    uniform scaling itself and the base; `interval` holds it with the record's confidence. `seconds` is the time of all
    its trainings. `layer_flops` and `layer_params` say where its cost is, by layer (empty in records of before they
    were kept).
    """

    name: str
    origin: str
    role: Role
    widths: Mapping[str, int]
    removed: tuple[str, ...] = ()
    flops: int
    flops_share: float
    params: int
    seeds: tuple[int, ...]
    test_accuracies: tuple[float, ...]
    validation_accuracies: tuple[float, ...]
    difference: float | None
    interval: tuple[float, float] | None
    seconds: float
    layer_flops: Mapping[str, int] = field(default_factory=dict)
    layer_params: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError(f"{self.name}: must have at least one seed")
        if not len(self.seeds) == len(self.test_accuracies) == len(self.validation_accuracies):
            raise ValueError(
                f"{self.name}: must have one test and one validation accuracy a seed, got {len(self.test_accuracies)} "
                f"and {len(self.validation_accuracies)} for {len(self.seeds)} seeds"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecord:
    """The images that were used: the source's name, a hash of what was read, and the number in each part."""

    name: str
    fingerprint: str
    training: int
    validation: int
    test: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityRecord:
    """How a trial's short training ranks architectures: Spearman's correlation of its validation accuracy with the mean
    of full trainings, over `architectures` that had both, with the record's confidence. Most are the best of the
    search, which are harder to rank than any."""

    architectures: int
    correlation: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRecord:
    """Everything the final report says.

    `budget` is as it was given, `limits` what it comes to, by quantity. `winner` names an arm; `verdict` is the
    sentence about it. `smallest_detectable` is the least difference in accuracy that the seeds could have shown,
    `test_sampling_error` the standard deviation that comes of the test set's size alone. `epochs` are those of a
    finalist, `trial_epochs` of a trial; `seconds` is the whole run's time, over all its restarts. `num_trials` were
    trained of the `asked_trials` (None in records of before it was kept): fewer where nothing new was proposed any
    more. `fidelity` is None where too few architectures were trained in full, or it was not measured yet.
    `num_stopped` trials were stopped early.
    """

    schema: int = SCHEMA
    network: str
    input: tuple[int, ...]
    data: DataRecord
    budget: str
    limits: Mapping[str, int]
    base_widths: Mapping[str, int]
    base_flops: int
    base_params: int
    arms: tuple[ArmRecord, ...]
    winner: str
    verdict: str
    smallest_detectable: float | None
    test_sampling_error: float
    confidence: float
    num_trials: int
    num_distinct: int
    seconds: float
    hardware: str
    versions: Mapping[str, str]
    command: str
    seed: int
    trial_epochs: int
    epochs: int
    notes: tuple[str, ...] = ()
    asked_trials: int | None = None
    fidelity: FidelityRecord | None = None
    num_stopped: int = 0

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arms must have different names, got {names}")
        if self.winner not in names:
            raise ValueError(f"winner must be one of the arms {names}, got {self.winner!r}")

    def arm(self, name: str) -> ArmRecord:
        return next(arm for arm in self.arms if arm.name == name)

    def by_role(self, role: Role) -> ArmRecord | None:
        """The first arm of that role."""
        return next((arm for arm in self.arms if arm.role == role), None)

    def to_json(self) -> str:
        """JSON with each arm's `mean` and `std` beside what `from_json` needs."""
        data = dataclasses.asdict(self)
        for written, arm in zip(data["arms"], self.arms, strict=True):
            written |= {"mean": arm.mean, "std": arm.std}
        return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ResultRecord:
        """Read what `to_json` wrote.

        Raises ValueError naming the first field that is missing, unknown or of the wrong type.
        """
        data = _versioned(text)
        if "limit" in data:  # of before there could be several
            quantity = "params" if str(data.get("budget")).startswith("params") else "flops"
            data = {key: value for key, value in data.items() if key != "limit"} | {"limits": {quantity: data["limit"]}}
        if isinstance(data.get("arms"), list):
            derived = {"mean", "std"}  # they follow from the accuracies
            arms = [a if not isinstance(a, dict) else {k: a[k] for k in a.keys() - derived} for a in data["arms"]]
            data = data | {"arms": arms}
        return read_value(cls, data, "result")  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedRecord:
    """Indices of a parameter's dimension that cannot change, and why."""

    parameter: str
    size: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRecord:
    """The base network, and what of it a run may change.

    `kept` are the groups that keep their width, with the reason; `fixed` sizes that are no group's. `unremovable`:
    residual blocks that have to stay, with the reason. `uncounted`: operators fvcore has no formula for, with how often
    they run.
    """

    schema: int = SCHEMA
    network: str
    provider: str
    widths: Mapping[str, int]
    flops: int
    params: int
    layer_flops: Mapping[str, int]
    layer_params: Mapping[str, int]
    kept: Mapping[str, str]
    fixed: tuple[FixedRecord, ...]
    unremovable: Mapping[str, str]
    uncounted: Mapping[str, int]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. Raises ValueError naming the first field that is wrong."""
        return read_value(cls, _versioned(text), "network")  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingRecord:
    """How long one network takes for a batch: milliseconds, the median of all rounds and the quartiles around it.

    `where` is what it ran on, `flops_share` of the base network's.
    """

    name: str
    flops_share: float
    where: str
    batch: int
    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRecord:
    """Networks timed in turn, the base network ('base') among them; on a CPU with so many threads. `notes` say what
    could not be timed."""

    schema: int = SCHEMA
    threads: int
    timings: tuple[TimingRecord, ...]
    notes: tuple[str, ...] = ()

    def base_of(self, timing: TimingRecord) -> TimingRecord:
        """The base network's, at the same place and batch."""
        where = (timing.where, timing.batch)
        return next(each for each in self.timings if each.name == "base" and (each.where, each.batch) == where)

    def time_share(self, timing: TimingRecord) -> float:
        """Of the base network's median."""
        return timing.median / self.base_of(timing).median

    def disagrees(self, timing: TimingRecord) -> bool:
        """Whether the time is another share of the base network's than the FLOPs are, noise aside."""
        expected = timing.flops_share * self.base_of(timing).median
        differs = abs(self.time_share(timing) - timing.flops_share) > DISAGREES
        return differs and not timing.low <= expected <= timing.high

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. Raises ValueError naming the first field that is wrong."""
        return read_value(cls, _versioned(text), "latency")  # type: ignore[no-any-return]


def _versioned(text: str) -> dict[str, Any]:
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError(f"must be a JSON object, found {type(data).__name__}")
    if data.get("schema") != SCHEMA:
        raise ValueError(f"schema: must be {SCHEMA}, the version this pruneas reads, found {data.get('schema')!r}")
    return data


def read_value(kind: Any, value: Any, place: str) -> Any:
    """The value as that type; JSON's lists become tuples, its objects dataclasses. `place` begins complaints.

    Raises ValueError naming the first field that is missing, unknown or of the wrong type.
    """
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{place}: must be an object, found {_found(value)}")
        hints = get_type_hints(kind)
        absent = dataclasses.MISSING
        required = [f.name for f in dataclasses.fields(kind) if f.default is absent and f.default_factory is absent]
        if missing := [name for name in required if name not in value]:
            raise ValueError(f"{place}: {', '.join(missing)}: missing")
        if unknown := sorted(value.keys() - hints.keys()):
            raise ValueError(f"{place}: {', '.join(unknown)}: not a field")
        read = {name: read_value(hints[name], inner, f"{place}.{name}") for name, inner in value.items()}
        try:
            return kind(**read)  # type: ignore[operator]
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else read_value(inner, value, place)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{place}: must be one of {', '.join(map(repr, arguments))}, found {_found(value)}")
        return value
    if origin is tuple:
        if not isinstance(value, list) or (arguments[-1] is not Ellipsis and len(value) != len(arguments)):
            raise ValueError(f"{place}: must be a list, found {_found(value)}")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(read_value(k, v, f"{place}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is Mapping:
        if not isinstance(value, dict):
            raise ValueError(f"{place}: must be an object, found {_found(value)}")
        return {key: read_value(arguments[1], inner, f"{place}.{key}") for key, inner in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{place}: must be {kind.__name__}, found {_found(value)}")
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{place}: must be finite, found {value}")
    return value


def _found(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
