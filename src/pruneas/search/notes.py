"""What Optuna Dashboard shows beside numbers: a note for each trial, with its widths drawn, in Markdown.

The dashboard writes them, not the search: so they cost a training nothing, and trials of any worker get theirs. A trial
has its note once it is finished, and whoever edits it keeps his own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from optuna_dashboard import save_note

from pruneas.search.leases import Leases
from pruneas.search.records import PLAN, PLANNED, SEARCH, STOPPED, TrialRecord, task_of
from pruneas.search.stopping import Extrapolation
from pruneas.search.study import opened

BAR = 24
"""Characters of the widest bar."""
NOTED = "dashboard:{}:note_ver"
"""How Optuna Dashboard calls what it keeps of a trial's note, by the trial's id."""


def write_notes(storage: optuna.storages.RDBStorage) -> int:
    """Write the notes that are missing, of all searches in a storage. Returns how many.

    A study whose notes cannot be written, as it is another version's or was deleted this moment, keeps no other from
    having its own: what went wrong is raised afterwards.
    """
    count, errors = 0, []
    for study in optuna.get_all_study_summaries(storage):
        plan = study.user_attrs.get(PLAN)
        if plan is not None and "base" in plan:
            try:
                count += _write(optuna.load_study(study_name=study.study_name, storage=storage), plan, storage)
            except Exception as error:
                errors.append(error)
    if errors:
        raise errors[0]
    return count


def _write(study: optuna.Study, plan: Mapping[str, Any], storage: optuna.storages.RDBStorage) -> int:
    known = storage.get_study_system_attrs(study._study_id)
    owners = Leases(engine=storage.engine, study=study.study_name, owner="", seconds=0).holds()
    missing = [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and PLANNED in trial.user_attrs and NOTED.format(trial._trial_id) not in known
    ]
    for trial in missing:
        hold = owners.get(task_of(trial.number))
        save_note(opened(study, trial), note(trial, plan, None if hold is None else hold.owner))
    return len(missing)


def note(trial: FrozenTrial, plan: Mapping[str, Any], owner: str | None) -> str:
    """A trial in Markdown. `plan`: the search's, with the base network's widths, FLOPs and parameters."""
    record, base = TrialRecord.from_json(trial.user_attrs[PLANNED]), plan["base"]
    kind = "proposed by the sampler" if record.origin == SEARCH else f"what {record.origin} gave"
    result = "failed" if trial.value is None else f"{trial.value:.2%} on the validation images"
    if (early := Extrapolation.from_json(trial.user_attrs.get(STOPPED))) is not None:
        interval = f"prediction interval {early.low:.2%} to {early.high:.2%}"
        result = f"about {result}, extrapolated: stopped after epoch {early.epoch} ({interval})"
    rows = [
        f"| {group} | {width} | {base['widths'][group]} | {_bar(width, base['widths'])}{_gap(width, base, group)} |"
        for group, width in record.widths.items()
    ]
    share, used = record.flops / base["flops"], trial.user_attrs.get("share of the budget", 0)
    by = "" if owner is None else f" · by {owner.rpartition('#')[0]}"
    facts = [
        f"**{result}** · {kind}",
        f"{record.flops:,} FLOPs, {share:.1%} of the base's · {used:.1%} of the budget · {record.params:,} parameters",
        f"Arm: from scratch, epochs: {plan['epochs']}, seed {record.seed}{by}",
    ]
    table = ["| group | width | base | █ kept, ░ removed, to scale |", "|---|---|---|---|", *rows]
    return "\n".join([f"### Trial {record.number}", "", "  \n".join(facts), "", *table])


def _bar(width: int, widths: Mapping[str, int]) -> str:
    return "█" * max(1, round(BAR * width / max(widths.values())))


def _gap(width: int, base: Mapping[str, Any], group: str) -> str:
    whole, kept = _bar(base["widths"][group], base["widths"]), _bar(width, base["widths"])
    return "░" * max(0, len(whole) - len(kept))
