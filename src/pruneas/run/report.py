"""The page of a run or a comparison, from what its folder holds: no network is made and nothing is trained, so it can
be looked at while it works, or where its network and images are not."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from pruneas.config import Space
from pruneas.errors import PruneasError, RunError
from pruneas.files import write_text
from pruneas.progress import Observer
from pruneas.report.comparison_page import comparison_page
from pruneas.report.records import LatencyRecord, NetworkRecord, ResultRecord
from pruneas.report.run import CurveRecord, ProposalRecord, RunRecords, trial_name
from pruneas.report.run_page import run_page
from pruneas.run.comparison_state import is_comparison, read_state
from pruneas.run.folder import COMPARED, LATENCY, NETWORK, REPORT, RESULT, SPACE, made, read_json
from pruneas.run.ledger import Ledger
from pruneas.run.result import load
from pruneas.run.sweep import is_sweep, load_sweep
from pruneas.search.importance import importances
from pruneas.search.records import read_trials


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a run or a comparison, finished or not, to `out` or its folder's `report.html`; returns where
    it is.

    Raises RunError where the folder holds neither, or a file of it cannot be read.
    """
    path = out if out is not None else folder / REPORT
    if is_sweep(folder):
        runs = ", ".join(str(result.folder) for result in load_sweep(folder).results)
        raise RunError(f"{folder}: holds searches at several budgets, each with a page of its own; give one of {runs}")
    if is_comparison(folder):
        page = comparison_page(read_state(folder))
    else:
        compared = folder / COMPARED / REPORT
        beside = path.parent.resolve()
        page = run_page(
            read_run(folder), comparison=os.path.relpath(compared.resolve(), beside) if compared.exists() else None
        )
    try:
        write_text(path, page)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}; give another file with --out") from error
    return path


@contextlib.contextmanager
def reported(folder: Path, ledger: Ledger, observer: Observer) -> Iterator[None]:
    """Write the page of a run or a comparison before the work in the block and after it, so that there is one however
    the work ends, and says why it failed. Only after work that went well may a page that cannot be written be an error.
    """

    def attempt() -> None:
        try:
            write_report(folder)
        except PruneasError as error:
            observer.note(f"there is no page of how far it is: {error}")

    attempt()
    try:
        yield
    except BaseException as error:
        if isinstance(error, PruneasError):
            with contextlib.suppress(OSError):  # of a full disk, which is what the error may be about
                ledger.save(failure=str(error))
        attempt()
        raise
    write_report(folder)


def note_study(folder: Path) -> bool:
    """Leave a finished run's verdict, table and figures in its study, for Optuna Dashboard; returns whether they were
    new. The pictures go to the folder's `artifacts/`. Raises RunError as `write_report` does."""
    if not (folder / RESULT).exists():
        return False
    # Imported here, because they bring Optuna and its dashboard, which a page does not need.
    import optuna

    from pruneas.report.notes import study_note, study_pictures
    from pruneas.run.place import place_of
    from pruneas.search.storage import connect
    from pruneas.search.study_note import leave_note

    run = read_run(folder)
    url, name = place_of(str(folder))
    storage = connect(url, create=False)
    try:
        study = optuna.load_study(study_name=name, storage=storage)
        return leave_note(study, folder / "artifacts", study_pictures(run), partial(study_note, run))
    finally:
        storage.engine.dispose()


def read_run(folder: Path) -> RunRecords:
    """Everything that a run's folder says. Raises RunError as `write_report` does."""
    if not folder.is_dir():
        raise RunError(f"{folder}: there is no such run")
    facts = read_json(folder / "run.json")
    if not (folder / NETWORK).exists() and not (folder / "study.db").exists():  # which runs of earlier versions have
        raise RunError(
            f"{folder}: must be the folder of a search or a comparison, as printed at the end of one; there is neither "
            "in it"
        )
    space = Space.load(folder / SPACE, spelling={})
    result = load(folder).record if (folder / RESULT).exists() else None
    trials = tuple(read_trials(folder))
    proposals = tuple(
        made(_proposal, path)
        for path in sorted((folder / "generators").glob("*.json"))
        if not path.name.endswith((".architecture.json", ".failure.json"))
    )
    names = _names(result, proposals, [(trial_name(trial), trial.widths, trial.flops) for trial in trials])
    base = folder / "base" / "record.json"
    return RunRecords(
        folder=str(folder),
        network_reference=space.network.reference,
        input=tuple(space.network.input),
        data=space.data.source,
        budget=str(space.budget),
        limits=facts.get("limits", {}),  # runs of earlier versions have none
        asked_trials=space.search.trials,
        sampler=space.search.sampler,
        epochs=space.recipe.epochs,
        finalists=space.finalists.count,
        seeds=space.finalists.seeds,
        command=str(facts["command"]),
        seed=space.compute.seed,
        hardware=str(facts["hardware"]),
        versions=facts["versions"],
        seconds=float(facts["seconds"]),
        failure=facts.get("failure"),
        result=result,
        network=made(_network, folder / NETWORK) if (folder / NETWORK).exists() else None,
        latency=made(_latency, folder / LATENCY) if result is not None and (folder / LATENCY).exists() else None,
        proposals=tuple(sorted(proposals, key=lambda each: _place(each.method, space.generators.methods))),
        left_out={
            data["method"]: str(data["failure"])
            for data in map(read_json, sorted((folder / "generators").glob("*.failure.json")))
        },
        trials=trials,
        curves=tuple(
            made(lambda path: _curve(path, names), path)
            for stage in ("selection", "test")
            for path in sorted((folder / stage).glob("*.json"))
        ),
        importances=tuple(importances(trials, seed=space.compute.seed)),
        base_training=made(lambda path: _curve(path, {}), base) if base.exists() else None,
    )


Key = tuple[tuple[tuple[str, int], ...], int]
"""Widths and FLOPs: blocks that are taken out show in the FLOPs."""


def _names(
    result: ResultRecord | None, proposals: tuple[ProposalRecord, ...], others: list[tuple[str, Mapping[str, int], int]]
) -> dict[Key, str]:
    """What architectures are called; of equal ones, as the result does, then after the generator."""
    known = [] if result is None else [(arm.name, arm.widths, arm.flops) for arm in result.arms]
    known += [(each.method, each.widths, each.flops) for each in proposals] + others
    return {_key(widths, flops): name for name, widths, flops in reversed(known)}


def _key(widths: Mapping[str, int], flops: int) -> Key:
    return tuple(widths.items()), flops


def _place(method: str, methods: tuple[str, ...]) -> tuple[int, str]:
    """The order in which generators were asked for."""
    return (methods.index(method) if method in methods else len(methods)), method


def _network(path: Path) -> NetworkRecord:
    return NetworkRecord.from_json(path.read_text(encoding="utf-8"))


def _latency(path: Path) -> LatencyRecord:
    return LatencyRecord.from_json(path.read_text(encoding="utf-8"))


def _proposal(path: Path) -> ProposalRecord:
    data = json.loads(path.read_text(encoding="utf-8"))
    return ProposalRecord(
        method=data["method"],
        widths=data["widths"],
        removed=tuple(data["removed"]),
        flops=data["flops"],
        params=data["params"],
        images=data["images"],
        seconds=data["seconds"],
        notes=tuple(data.get("notes", ())),
    )


def _curve(path: Path, names: Mapping[Key, str]) -> CurveRecord:
    data = json.loads(path.read_text(encoding="utf-8"))
    return CurveRecord(
        name=names.get(_key(data["widths"], data["flops"]), path.stem.partition("-")[0]),
        stage=path.parent.name,
        seed=data["seed"],
        accuracies=tuple((int(epoch["epoch"]), float(epoch["validation_accuracy"])) for epoch in data["epochs"]),
        images=data["images"],
        seconds=data["seconds"],
    )
