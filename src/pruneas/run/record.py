"""From what was trained to the result's record: arms, differences to uniform scaling, and the verdict."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pruneas.architecture import Quantity
from pruneas.compare.fidelity import rank_correlation
from pruneas.compare.finalists import Entrant
from pruneas.compare.statistics import CONFIDENCE, Difference, against_control, sampling_error, verdict
from pruneas.cost.layers import layer_flops, layer_params
from pruneas.export.timing import Timed, place, time_networks
from pruneas.networks import provider
from pruneas.report.records import (
    ArmRecord,
    DataRecord,
    FidelityRecord,
    FixedRecord,
    LatencyRecord,
    NetworkRecord,
    ResultRecord,
    Role,
)
from pruneas.report.run import trial_name
from pruneas.run.machine import hardware, versions
from pruneas.run.setting import Setting
from pruneas.search.records import SEARCH, TrialRecord, num_trained
from pruneas.search.train import TrainingRecord
from pruneas.structure.build import build_widths


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """An architecture of the final comparison, with its trainings that read the test set (one at least)."""

    entrant: Entrant
    role: Role
    records: Sequence[TrainingRecord]

    @property
    def key(self) -> str:
        """Equal for equal architectures."""
        return self.entrant.fingerprint

    @property
    def test_accuracies(self) -> list[float]:
        return [record.tested for record in self.records]


def result_record(
    setting: Setting,
    arms: Mapping[str, Arm],
    winner: Entrant,
    trials: Sequence[TrialRecord],
    *,
    selected: Mapping[str, Sequence[TrainingRecord]],
    command: str,
    seconds: float,
    notes: Sequence[str],
) -> ResultRecord:
    """The record of a finished run. `arms`, by name, hold uniform scaling and the winner; `selected` are the full
    trainings that the winner was chosen from, by the same names."""
    differences = _differences(arms)
    searched = next((name for name, arm in arms.items() if arm.entrant.origin == SEARCH), None)
    seeds = {name: len(arm.records) for name, arm in arms.items()}
    sentence = verdict(winner.name, searched, differences, seeds)
    shown = differences.get(winner.name) or next(iter(differences.values()), None)
    space, data = setting.space, setting.data
    return ResultRecord(
        network=str(setting.structure.network),
        input=setting.structure.inputs[0].shape,
        data=data_record(setting),
        budget=str(setting.budget),
        limits=setting.limits.to_json(),
        base_widths=setting.structure.widths,
        base_flops=setting.model.base.flops,
        base_params=setting.model.base.params,
        arms=tuple(_arm(setting, arm, differences.get(name)) for name, arm in arms.items()),
        winner=winner.name,
        verdict=sentence,
        smallest_detectable=None if shown is None else shown.detectable,
        test_sampling_error=sampling_error(statistics.fmean(arms[winner.name].test_accuracies), len(data.test)),
        confidence=CONFIDENCE,
        asked_trials=space.search.trials,
        num_trials=num_trained(trials),
        num_distinct=sum(trial.copied_from is None and trial.accuracy is not None for trial in trials),
        num_stopped=sum(trial.copied_from is None and trial.extrapolation is not None for trial in trials),
        seconds=seconds,
        hardware=hardware(setting.device, setting.workers, space.compute.threads),
        versions=versions(),
        command=command,
        seed=space.compute.seed,
        trial_epochs=setting.trial_recipe.epochs,
        epochs=setting.recipe.epochs,
        notes=tuple(notes),
        fidelity=_fidelity(arms, selected, trials),
    )


def data_record(setting: Setting) -> DataRecord:
    """What is told of a run's images."""
    data = setting.data
    return DataRecord(
        name=setting.space.data.source,
        fingerprint=data.fingerprint,
        training=len(data.train),
        validation=len(data.validation),
        test=len(data.test),
    )


def _fidelity(
    arms: Mapping[str, Arm], selected: Mapping[str, Sequence[TrainingRecord]], trials: Sequence[TrialRecord]
) -> FidelityRecord | None:
    """Trials held against full trainings: of the finalists, and of the generators' architectures among the arms.

    Validation accuracies on both sides, each architecture once.
    """
    full = {name: arm.records for name, arm in arms.items() if arm.role != "base"} | dict(selected)
    short: dict[str, TrialRecord] = {}
    for trial in trials:
        if trial.is_measured:
            short[trial_name(trial)] = trial
    names = [name for name in full if name in short]
    found = rank_correlation(
        [short[name].accuracy or 0.0 for name in names],
        [statistics.fmean(record.validation_accuracy for record in full[name]) for name in names],
        confidence=CONFIDENCE,
    )
    if found is None:
        return None
    return FidelityRecord(architectures=found.num, correlation=found.value, low=found.low, high=found.high)


def network_record(setting: Setting) -> NetworkRecord:
    """What a run knows of its base network before anything is trained."""
    structure, model, legal = setting.structure, setting.model, setting.legal
    stay = [name for name, low, high in zip(model.groups, legal.lowest, legal.highest, strict=True) if low == high]
    return NetworkRecord(
        network=str(structure.network),
        provider=provider(structure.network),
        widths=structure.widths,
        flops=model.base.flops,
        params=model.base.params,
        layer_flops=layer_flops(structure, model.base_widths),
        layer_params=layer_params(structure, model.base_widths),
        kept={name: structure.frozen.get(name, "the search space's [widths] leave it no other") for name in stay},
        fixed=tuple(FixedRecord(parameter=f.parameter, size=f.size, reason=f.reason) for f in structure.fixed),
        unremovable=dict(structure.unremovable),
        uncounted=dict(model.base.uncounted),
    )


def latency_record(setting: Setting, entrants: Sequence[Entrant]) -> LatencyRecord:
    """Time these networks in turn, the base network among them."""
    structure, base = setting.structure, setting.model.base.flops
    networks = {
        each.name: Timed(
            network=build_widths(structure, each.widths, each.removed, each.selections, seed=0),
            flops_share=_cost(setting, each, "flops") / base,
        )
        for each in entrants
    }
    return time_networks(networks, structure.inputs, device=setting.device)


def latency_notes(setting: Setting, entrants: Sequence[Entrant], latency: LatencyRecord) -> list[str]:
    """What networks inside a limit of latency took when they were measured, beside what the table said."""
    most, notes = setting.limits.most["latency"], []
    where = place(setting.device)
    for entrant in entrants:
        timing = next((t for t in latency.timings if (t.name, t.where, t.batch) == (entrant.name, where, 1)), None)
        if timing is not None and entrant.name != "base":
            notes.append(
                f"latency of {entrant.name}: {timing.median:.3g} ms measured ({timing.low:.3g} to {timing.high:.3g}), "
                f"{_cost(setting, entrant, 'latency') / 10**9:.3g} ms by the table, limit {most / 10**9:.3g} ms"
                + ("; above the limit as measured" if timing.median * 10**9 > most else "")
            )
    return notes


def _cost(setting: Setting, entrant: Entrant, quantity: Quantity) -> int:
    model = setting.model.without(setting.structure, entrant.removed)
    return int(model.cost(model.vector(entrant.widths), quantity))


def _differences(arms: Mapping[str, Arm]) -> dict[str, Difference]:
    """Each arm's difference to uniform scaling. Equal widths are one sample: those of uniform scaling have none.

    The base network is larger than the budget: it tells how much seeds scatter, and is not compared.
    """
    uniform = arms["uniform"]
    first: dict[str, str] = {}
    for name, arm in arms.items():
        if arm.role != "base":
            first.setdefault(arm.key, name)
    names = [name for key, name in first.items() if key != uniform.key]
    base = [arm.test_accuracies for arm in arms.values() if arm.role == "base" and arm.key not in first]
    compared = {name: arms[name].test_accuracies for name in names}
    found = against_control(uniform.test_accuracies, compared, pooled_only=base)
    return {name: found[first[arm.key]] for name, arm in arms.items() if arm.role != "base" and first[arm.key] in found}


def _arm(setting: Setting, arm: Arm, difference: Difference | None) -> ArmRecord:
    entrant, records = arm.entrant, arm.records
    widths = setting.model.vector(entrant.widths)
    return ArmRecord(
        name=entrant.name,
        origin=entrant.origin,
        role=arm.role,
        widths=dict(entrant.widths),
        removed=entrant.removed,
        flops=records[0].flops,
        flops_share=records[0].flops / setting.model.base.flops,
        params=records[0].params,
        seeds=tuple(record.seed for record in records),
        test_accuracies=tuple(arm.test_accuracies),
        validation_accuracies=tuple(record.validation_accuracy for record in records),
        difference=None if difference is None else difference.value,
        interval=None if difference is None else (difference.low, difference.high),
        seconds=sum(record.seconds for record in records),
        layer_flops=layer_flops(setting.structure, widths, entrant.removed),
        layer_params=layer_params(setting.structure, widths, entrant.removed),
    )
