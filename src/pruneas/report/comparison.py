"""The result of a comparison as plain values, JSON in and out. Accuracies are shares in [0, 1].

FLOPs are counted as fvcore does: a multiply-add is one, for one input. A training's FLOPs are three times those of its
images: one pass forward, and one backward of twice the cost.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pruneas.report.records import DataRecord, Tested, read_value

SCHEMA = 1

Role = Literal["base", "uniform", "random", "generator", "transferred", "found"]
Arm = Literal["unpruned", "fine-tuned", "scratch-e", "scratch-b", "ticket"]
Bases = Literal["each", "once"]
Word = Literal["better", "worse", "no difference seen", "the same", "cannot be told"]
Question = Literal[
    "to uniform", "scratch-b to fine-tuned", "ticket to scratch-e", "here to transferred", "random to uniform"
]

SHOWN: Mapping[Word, str] = {
    "better": "better",
    "worse": "worse",
    "no difference seen": "none seen",
    "the same": "same nets",
    "cannot be told": "unknown",
}
"""What a comparison shows, short enough for a column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeRecord:
    """What trainings took, the mean of a seed."""

    images: float
    flops: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRecord(Tested):
    """An architecture at a budget, trained by one of the arms, once a seed.

    `name` is a generator's, 'base' or 'found'. `masked`: the base's widths with single weights masked, whose cost is
    what the masks leave and never to be ranked with that of widths. `flops` and `params` are means over the seeds'
    architectures. `rates` are the fine-tuning rates (shares of the peak) that validation chose, `epochs` those of each
    seed's training. `own` is the compute of the arm, with all rates that were tried, `before` what it took to know the
    architecture, and the weights where it inherits some: the base network's training and the generator's, or the
    search. `same_as` is the key of an earlier row that has the very same trainings.
    """

    key: str
    name: str
    role: Role
    budget: str | None
    arm: Arm
    masked: bool
    flops: float
    flops_share: float
    params: float
    seeds: tuple[int, ...]
    test_accuracies: tuple[float, ...]
    validation_accuracies: tuple[float, ...]
    epochs: tuple[int, ...]
    rates: tuple[float, ...] | None
    own: ComputeRecord
    before: ComputeRecord
    test_sampling_error: float
    same_as: str | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.seeds), len(self.test_accuracies), len(self.validation_accuracies), len(self.epochs)}
        if lengths == {0} or len(lengths) > 1:
            raise ValueError(f"{self.key}: must have as many accuracies and epochs as seeds, and one at least")

    @property
    def label(self) -> str:
        """What the architecture is called where widths and masks meet."""
        return f"{self.name} (masks)" if self.masked else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastRecord:
    """The mean test accuracy of a row minus that of its control, with its simultaneous interval and what it shows.

    `row` and `control` are keys of rows. Without a spread to measure against, the numbers are None.
    """

    question: Question
    row: str
    control: str
    difference: float | None
    interval: tuple[float, float] | None
    word: Word
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionRecord:
    """A family of contrasts whose intervals hold all at once.

    `num_contrasts` are those with numbers; `smallest_detectable` is the least difference in accuracy that some of them
    could have shown.
    """

    name: Question
    text: str
    num_contrasts: int
    smallest_detectable: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureRecord:
    """What a generator gave at a budget, from one base network: `base` is its number, from 0.

    `flops` and `params` are those that masks leave, where `masked`.
    """

    name: str
    role: Role
    budget: str
    base: int
    masked: bool
    widths: Mapping[str, int]
    removed: tuple[str, ...]
    flops: int
    params: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRecord:
    """A point of a curve: means over the seeds."""

    budget: str | None
    flops: float
    params: float
    accuracy: float
    std: float | None
    seeds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveRecord:
    """Accuracy against FLOPs and parameters over the budgets, in the order of the FLOPs [Liu2019, figure 3]."""

    name: str
    arm: Arm
    masked: bool
    points: tuple[PointRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WidthsRecord:
    """Mean and sample standard deviation (None of one) of each group's width over base networks [Liu2019, table 7]."""

    name: str
    budget: str
    bases: int
    mean: Mapping[str, float]
    std: Mapping[str, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepMapRecord:
    """The share of kernels of a stage and size that keep each place, mean over base networks [Liu2019, figure 4].

    `stage` 0 has the largest feature maps. `rows` are the kernel's, from top to bottom.
    """

    name: str
    budget: str
    stage: int
    bases: int
    rows: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsRecord:
    """How the convolutions' weights of a row's first training are distributed [Liu2019, appendix F].

    `counts` are of equal bins from -`limit` to `limit`; weights beyond are in the outermost. Masked ones are left out.
    """

    row: str
    limit: float
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRecord:
    """Everything a comparison says.

    `asked` is what the command asked for. `bases` is 'each' where every seed has a base network of its own, from which
    the generators begin anew, and 'once' where all begin from one. `cap` is Scratch-B's, None without one. `verdict`
    are sentences. `pooled_std` is the spread of seeds that intervals are made of, over all rows but those of random
    widths (whose spread may be that of widths, too), with `freedom` degrees of freedom. `num_reused` of the
    `num_trainings` were taken over from other runs. `seconds` are those of all sessions.
    """

    schema: int = SCHEMA
    network: str
    input: tuple[int, ...]
    data: DataRecord
    base_widths: Mapping[str, int]
    base_flops: int
    base_params: int
    asked: Mapping[str, str]
    budgets: Mapping[str, Mapping[str, int]]
    bases: Bases
    epochs: int
    cap: float | None
    rows: tuple[RowRecord, ...]
    contrasts: tuple[ContrastRecord, ...]
    questions: tuple[QuestionRecord, ...]
    verdict: tuple[str, ...]
    confidence: float
    pooled_std: float | None
    freedom: int
    architectures: tuple[ArchitectureRecord, ...]
    curves: tuple[CurveRecord, ...]
    widths: tuple[WidthsRecord, ...]
    keep_maps: tuple[KeepMapRecord, ...]
    weights: tuple[WeightsRecord, ...]
    num_trainings: int
    num_reused: int
    seconds: float
    hardware: str
    versions: Mapping[str, str]
    command: str
    seed: int
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        keys = [row.key for row in self.rows]
        if len(set(keys)) < len(keys):
            raise ValueError(f"rows must have different keys, got {keys}")
        named = {key for each in self.contrasts for key in (each.row, each.control)}
        named |= {each.row for each in self.weights} | {row.same_as for row in self.rows if row.same_as is not None}
        if strange := sorted(named - set(keys)):
            raise ValueError(f"every row that is named must be there, {strange[0]!r} is not")

    def row(self, key: str) -> RowRecord:
        return next(row for row in self.rows if row.key == key)

    def contrast(self, question: Question, row: str) -> ContrastRecord | None:
        """What a question says of a row, if it is asked of it."""
        return next((each for each in self.contrasts if (each.question, each.row) == (question, row)), None)

    def to_uniform(self, row: str) -> ContrastRecord | None:
        """How a row does against uniform scaling, if it is held against that."""
        return self.contrast("to uniform", row) or self.contrast("random to uniform", row)

    @property
    def uniform_text(self) -> str:
        """What of uniform scaling the rows are held against, as the end of a sentence; '' where none is."""
        questions: tuple[Question, ...] = ("to uniform", "random to uniform")
        return "; ".join(each.text for each in self.questions if each.name in questions)

    def to_json(self) -> str:
        """JSON with each row's `mean` and `std` beside what `from_json` needs."""
        data = dataclasses.asdict(self)
        for written, row in zip(data["rows"], self.rows, strict=True):
            written |= {"mean": row.mean, "std": row.std}
        return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ComparisonRecord:
        """Read what `to_json` wrote.

        Raises ValueError naming the first field that is missing, unknown or of the wrong type.
        """
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError(f"must be a JSON object, found {type(data).__name__}")
        if data.get("schema") != SCHEMA:
            raise ValueError(f"schema: must be {SCHEMA}, the version this pruneas reads, found {data.get('schema')!r}")
        if isinstance(data.get("rows"), list):
            derived = {"mean", "std"}  # they follow from the accuracies
            rows = [r if not isinstance(r, dict) else {k: r[k] for k in r.keys() - derived} for r in data["rows"]]
            data = data | {"rows": rows}
        return read_value(cls, data, "comparison")  # type: ignore[no-any-return]
