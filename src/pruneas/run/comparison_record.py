"""From a comparison's trainings to its record: rows, what they show, curves, widths, kept places, weights."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from pruneas.compare.arms import PASSES, RATES
from pruneas.compare.describe import histogram, mean_maps, weights_left, width_moments
from pruneas.compare.statistics import CONFIDENCE, sampling_error
from pruneas.compare.trainings import Trainings, best_of
from pruneas.errors import TrainingError
from pruneas.report.comparison import (
    ArchitectureRecord,
    Bases,
    ComparisonRecord,
    ComputeRecord,
    CurveRecord,
    KeepMapRecord,
    PointRecord,
    RowRecord,
    WeightsRecord,
    WidthsRecord,
)
from pruneas.run.conclusions import conclude
from pruneas.run.machine import hardware, versions
from pruneas.run.record import data_record
from pruneas.search.train import TrainingRecord

if TYPE_CHECKING:
    from pruneas.run.comparison import Comparison, Entry, Row

SEEN = 0.999
"""The share of weights that the bins of their distribution reach to."""


def comparison_record(comparison: Comparison, rows: Sequence[Row], *, seconds: float) -> ComparisonRecord:
    """The record of a comparison whose trainings are done. Rows that have none of them are left out.

    Raises TrainingError where nothing could be trained.
    """
    setting, asked, trainings = comparison.s, comparison.asked, comparison.trainings
    made = _rows(rows, trainings, setting.model.base.flops, len(setting.data.test))
    if not made:
        raise TrainingError(f"nothing could be trained; {comparison.notes[-1]}")
    bases: Bases = "each" if comparison.num_bases > 1 else "once"
    conclusions = conclude(made, bases=bases)
    entries = _entries(rows)
    identities = {identity for row in rows for chosen in row.trained for identity in chosen.values()}
    space = setting.space
    return ComparisonRecord(
        network=str(setting.structure.network),
        input=setting.structure.inputs[0].shape,
        data=data_record(setting),
        base_widths=setting.structure.widths,
        base_flops=setting.model.base.flops,
        base_params=setting.model.base.params,
        asked=asked.to_json(),
        budgets={name: target.limits.to_json() for name, target in comparison.targets.items()},
        bases=bases,
        epochs=setting.recipe.epochs,
        cap=None if math.isinf(comparison.arms.cap) else comparison.arms.cap,
        rows=tuple(made),
        contrasts=conclusions.contrasts,
        questions=conclusions.questions,
        verdict=conclusions.verdict,
        confidence=CONFIDENCE,
        pooled_std=conclusions.pooled_std,
        freedom=conclusions.freedom,
        architectures=tuple(_architecture(entry) for entry in entries),
        curves=tuple(_curves(made)),
        widths=tuple(_widths(entries)),
        keep_maps=tuple(_keep_maps(comparison, entries)),
        weights=tuple(_weights(comparison, rows, made)),
        num_trainings=len(identities),
        num_reused=len(identities & trainings.origins.keys()),
        seconds=seconds,
        hardware=hardware(setting.device, setting.workers, space.compute.threads),
        versions=versions(),
        command=comparison.command,
        seed=space.compute.seed,
        notes=(*comparison.notes, *_how(comparison)),
    )


def _how(comparison: Comparison) -> Iterator[str]:
    """What was decided that others may have decided otherwise."""
    if comparison.num_bases > 1:
        yield "every seed has a base network of its own: its unpruned arm, and what the methods begin from"
    else:
        yield "all seeds share one base network and what the methods made of it: how much those scatter is not seen"
    arms = comparison.asked.arms
    if comparison.s.given is not None:
        yield "the base network's weights were given: what it took to train them is not in the compute of any row"
        if "unpruned" in arms:
            yield "unpruned: trained anew by the recipe; the accuracy of the weights that were given is not measured"
    if "fine-tuned" in arms:
        rates = ", ".join(f"{rate:g}" for rate in RATES)
        yield (
            f"fine-tuned: a constant rate for a quarter of the epochs, the best of {rates} times the peak by "
            "validation, for each seed; the compute is that of all of them"
        )
    if "scratch-b" in arms:
        cap = comparison.arms.cap
        least = "" if math.isinf(cap) else f", at most {cap:g} times the epochs"
        yield f"scratch-b: as many FLOPs as the base network's training{least}"
    if comparison.transferred is not None:
        yield "transferred: what it took to find the design elsewhere is not in its compute"


# Rows ----------------------------------------------------------------------------------------------------------------


def _rows(rows: Sequence[Row], trainings: Trainings, base_flops: int, num_test: int) -> list[RowRecord]:
    made: list[RowRecord] = []
    first: dict[tuple[tuple[str, ...], ...], str] = {}
    for row in rows:
        known = [
            (entry, chosen, {rate: record for rate, i in chosen.items() if (record := trainings.record(i)) is not None})
            for entry, chosen in zip(row.entries, row.trained, strict=True)
        ]
        known = [(entry, chosen, records) for entry, chosen, records in known if records]
        if not known:
            continue
        same = tuple(tuple(chosen.values()) for _, chosen, _ in known)
        made.append(_row(row, [(entry, records) for entry, _, records in known], base_flops, num_test, first.get(same)))
        first.setdefault(same, row.key)
    return made


def _row(
    row: Row,
    trained: Sequence[tuple[Entry, Mapping[float | None, TrainingRecord]]],
    base_flops: int,
    num_test: int,
    same_as: str | None,
) -> RowRecord:
    chosen: list[tuple[float | None, TrainingRecord]] = []
    for _, records in trained:
        pairs = list(records.items())
        chosen.append(pairs[best_of([record for _, record in pairs])])
    accuracies = tuple(record.tested for _, record in chosen)
    flops = [entry.candidate.flops for entry, _ in trained]
    own = [
        ComputeRecord(
            images=float(sum(record.images for record in records.values())),
            flops=float(sum(PASSES * entry.candidate.flops * record.images for record in records.values())),
            seconds=sum(record.seconds for record in records.values()),
        )
        for entry, records in trained
    ]
    return RowRecord(
        key=row.key,
        name=row.name,
        role=row.role,
        budget=row.budget,
        arm=row.arm,
        masked=row.masked,
        flops=statistics.fmean(flops),
        flops_share=statistics.fmean(flops) / base_flops,
        params=statistics.fmean(entry.candidate.params for entry, _ in trained),
        seeds=tuple(record.seed for _, record in chosen),
        test_accuracies=accuracies,
        validation_accuracies=tuple(record.validation_accuracy for _, record in chosen),
        epochs=tuple(len(record.epochs) for _, record in chosen),
        rates=tuple(rate for rate, _ in chosen if rate is not None) if row.arm == "fine-tuned" else None,
        own=_mean(own),
        before=_mean([entry.before for entry, _ in trained]),
        test_sampling_error=sampling_error(statistics.fmean(accuracies), num_test),
        same_as=same_as,
    )


def _mean(spent: Sequence[ComputeRecord]) -> ComputeRecord:
    return ComputeRecord(
        images=statistics.fmean(each.images for each in spent),
        flops=statistics.fmean(each.flops for each in spent),
        seconds=statistics.fmean(each.seconds for each in spent),
    )


def _curves(rows: Sequence[RowRecord]) -> Iterator[CurveRecord]:
    for name, arm, masked in dict.fromkeys((row.name, row.arm, row.masked) for row in rows):
        points = [
            PointRecord(
                budget=row.budget,
                flops=row.flops,
                params=row.params,
                accuracy=row.mean,
                std=row.std,
                seeds=len(row.seeds),
            )
            for row in rows
            if (row.name, row.arm, row.masked) == (name, arm, masked)
        ]
        points.sort(key=lambda point: point.flops)
        yield CurveRecord(name=name, arm=arm, masked=masked, points=tuple(points))


# What they look like -------------------------------------------------------------------------------------------------


def _entries(rows: Sequence[Row]) -> list[Entry]:
    """Every pruned architecture once for each base network, in the order of the table."""
    found = {
        (entry.name, entry.budget, entry.masked, entry.base): entry
        for row in rows
        for entry in row.entries
        if entry.budget is not None
    }
    return list(found.values())


def _architecture(entry: Entry) -> ArchitectureRecord:
    return ArchitectureRecord(
        name=entry.name,
        role=entry.role,
        budget=entry.budget or "",
        base=entry.base,
        masked=entry.masked,
        widths=dict(entry.candidate.widths),
        removed=entry.candidate.removed,
        flops=entry.candidate.flops,
        params=entry.candidate.params,
    )


def _widths(entries: Sequence[Entry]) -> Iterator[WidthsRecord]:
    for (name, budget), mine in _by_budget([entry for entry in entries if not entry.masked]).items():
        mean, std = width_moments([entry.candidate.widths for entry in mine])
        yield WidthsRecord(name=name, budget=budget, bases=len(mine), mean=mean, std=std)


def _keep_maps(comparison: Comparison, entries: Sequence[Entry]) -> Iterator[KeepMapRecord]:
    for (name, budget), mine in _by_budget([entry for entry in entries if entry.masked]).items():
        files = [entry.candidate.masks for entry in mine if entry.candidate.masks is not None]
        for (stage, _), shares in sorted(mean_maps(comparison.s.structure, files).items()):
            if shares.ndim == 2:
                rows = tuple(tuple(map(float, row)) for row in shares)
                yield KeepMapRecord(name=name, budget=budget, stage=stage, bases=len(files), rows=rows)


def _by_budget(entries: Sequence[Entry]) -> dict[tuple[str, str], list[Entry]]:
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        found.setdefault((entry.name, entry.budget or ""), []).append(entry)
    return found


def _weights(comparison: Comparison, rows: Sequence[Row], made: Sequence[RowRecord]) -> Iterator[WeightsRecord]:
    """Of each row's first training that has left its weights, all in the same bins."""
    structure, trainings = comparison.s.structure, comparison.trainings
    found: dict[str, torch.Tensor] = {}
    told = {row.key for row in made if row.same_as is None}
    for row in rows:
        records = {rate: trainings.record(identity) for rate, identity in row.trained[0].items()}
        done = [(rate, record) for rate, record in records.items() if record is not None]
        if row.key not in told or not done:
            continue
        rate, _ = done[best_of([record for _, record in done])]
        path = trainings.weights(row.trained[0][rate])
        if path.exists():
            found[row.key] = weights_left(structure, path, row.entries[0].candidate.masks)
    if not found:
        return
    sizes = torch.cat([weights.abs() for weights in found.values()]).sort().values
    limit = float(sizes[min(len(sizes) - 1, int(SEEN * len(sizes)))])
    for key, weights in found.items():
        yield WeightsRecord(row=key, limit=limit, counts=histogram(weights, limit))
