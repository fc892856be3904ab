"""All that a report of a run shows, finished or not, as plain values."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pruneas.report.records import LatencyRecord, NetworkRecord, ResultRecord
from pruneas.search.importance import Importance
from pruneas.search.records import SEARCH, TrialRecord, num_trained


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRecord:
    """The architecture of a generator, and what it took."""

    method: str
    widths: Mapping[str, int]
    removed: tuple[str, ...]
    flops: int
    params: int
    images: int
    seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveRecord:
    """One training of a finalist. `accuracies`: on validation images, by epoch. `stage` is 'selection' or 'test'."""

    name: str
    stage: str
    seed: int
    accuracies: tuple[tuple[int, float], ...]
    images: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeRecord:
    """What a stage took: `images` counts every image each time it was trained on."""

    stage: str
    trainings: int
    images: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecords:
    """`result` is None until the run is finished, `network` and `latency` where a run kept none.

    `left_out`: generators that could not work, with the reason. `importances` are empty where there are too few trials
    for any. `folder` is as it was given.
    """

    folder: str
    network_reference: str
    input: tuple[int, ...]
    data: str
    budget: str
    limits: Mapping[str, int]
    asked_trials: int
    sampler: str
    epochs: int
    finalists: int
    seeds: int
    command: str
    seed: int
    hardware: str
    versions: Mapping[str, str]
    seconds: float
    failure: str | None
    result: ResultRecord | None
    network: NetworkRecord | None
    latency: LatencyRecord | None
    proposals: tuple[ProposalRecord, ...]
    left_out: Mapping[str, str]
    trials: tuple[TrialRecord, ...]
    curves: tuple[CurveRecord, ...]
    importances: tuple[Importance, ...]
    base_training: CurveRecord | None

    @property
    def base_widths(self) -> Mapping[str, int]:
        """Empty where nothing of the run says them."""
        known = self.result.base_widths if self.result is not None else None
        return known or (self.network.widths if self.network is not None else {})

    @property
    def trained(self) -> list[TrialRecord]:
        """The candidates that have an accuracy of their own, from a training that went to its end."""
        return [trial for trial in self.trials if trial.is_measured]

    @property
    def stopped(self) -> list[TrialRecord]:
        """The candidates whose training was stopped early: their accuracies are extrapolated."""
        return [trial for trial in self.trials if trial.extrapolation is not None and trial.copied_from is None]

    @property
    def failed(self) -> list[TrialRecord]:
        return [trial for trial in self.trials if trial.failure is not None and trial.copied_from is None]

    @property
    def num_trained(self) -> int:
        """What counts of the asked trials: trained, or failed at it."""
        return num_trained(self.trials)

    @property
    def headline(self) -> str:
        """How far a run has come that is not finished, or what it failed with."""
        if self.failure is not None:
            return f"Failed: {self.failure.rstrip('.')}."
        if not self.trials:
            return "Not finished: no candidate has been trained yet."
        if not self.trained:
            return f"Not finished, and no candidate could be trained: all {len(self.failed)} that were tried failed."
        left = "the finalists are being compared" if self.curves else "no finalist has been trained"
        return f"Not finished, so there is no verdict: {self.num_trained} of {self.asked_trials} candidates, {left}."

    @property
    def stages(self) -> list[tuple[str, str]]:
        """What there is of each stage."""
        num = {stage: sum(curve.stage == stage for curve in self.curves) for stage in ("selection", "test")}
        return [
            ("generators", f"{len(self.proposals)} have given an architecture"),
            ("candidates", f"{self.num_trained} of {self.asked_trials} done, {len(self.failed)} of them failed"),
            *((stage, f"{trained} training{'s' * (trained != 1)} done") for stage, trained in num.items()),
        ]

    @property
    def going_on(self) -> str:
        """Its command without the flag that would begin anew."""
        if "--fresh" not in self.command:
            return self.command
        return shlex.join(part for part in shlex.split(self.command) if part != "--fresh")

    @property
    def compute(self) -> list[ComputeRecord]:
        """By stage, those in which nothing was trained left out."""
        stages: dict[str, Sequence[CurveRecord | ProposalRecord | TrialRecord]] = {
            "base network": [] if self.base_training is None else [self.base_training],
            "generators": self.proposals,
            "search": [trial for trial in self.trials if trial.copied_from is None],
            **{name: [curve for curve in self.curves if curve.stage == name] for name in ("selection", "test")},
        }
        return [
            ComputeRecord(
                stage=name,
                trainings=sum(each.images > 0 for each in records),
                images=sum(each.images for each in records),
                seconds=sum(each.seconds for each in records),
            )
            for name, records in stages.items()
            if records
        ]


def trial_name(trial: TrialRecord) -> str:
    """What a candidate is called: its number, or the generator whose widths it has."""
    return f"search #{trial.number}" if trial.origin == SEARCH else trial.origin
