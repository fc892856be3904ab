"""A whole search with limits of memory and latency at once."""

import json
from dataclasses import replace

import pytest

import pruneas
from pruneas.architecture import Budget
from pruneas.cost import latency_table
from pruneas.cost.limits import Limits
from pruneas.cost.memory import peak_memory, price_memory
from pruneas.networks import make
from pruneas.run.report import read_run
from pruneas.search.records import Anchor, read_trials
from pruneas.search.storage import address, connect
from pruneas.search.study import open_study
from pruneas.structure.build import describe
from tests.nets import image
from tests.tiny import Givens, led, space_file


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("limited")
    space = space_file(folder)
    return pruneas.search(budget="memory=0.75+latency=1", space=space, run=folder / "run"), space


def test_every_arm_keeps_every_limit(limited):
    result, _ = limited
    limits = result.record.limits
    assert list(limits) == ["memory", "latency"]
    base = pruneas.Architecture.load(result.folder / "best" / "architecture.json")
    used = []
    for arm in result.record.arms:
        built = pruneas.Architecture(
            network=base.network,
            provider=base.provider,
            inputs=base.inputs,
            structure=base.structure,
            widths=arm.widths,
        ).build()
        if arm.role != "base":
            used.append(peak_memory(built, image(*result.record.input)))
            assert used[-1] <= limits["memory"]
    assert max(used) > 0.8 * limits["memory"]
    told = [note for note in result.record.notes if note.startswith("latency of ") and "by the table, limit" in note]
    finalists = {path.name.partition("-")[0] for path in (result.folder / "selection").glob("*.json")}
    timed = {timing.name for timing in read_run(result.folder).latency.timings}
    assert {"base", "uniform", result.record.winner} <= timed
    assert len(told) == len(timed - {"base"}) >= len(finalists)


def test_the_trials_say_what_they_cost(limited):
    result, _ = limited
    trials = open_study(connect(address(result.folder / "study.db"))).get_trials()
    assert len(trials) == len(read_trials(result.folder))
    for trial in trials:
        memory, milliseconds = trial.user_attrs["peak memory, bytes"], trial.user_attrs["latency, ms by the table"]
        used = max(memory / result.record.limits["memory"], milliseconds * 10**9 / result.record.limits["latency"])
        assert trial.user_attrs["share of the budget"] == pytest.approx(used, abs=1e-5)
        assert 0 < used <= 1


def test_a_run_that_goes_on_keeps_its_table(limited, monkeypatch):
    result, space = limited
    before = json.loads((result.folder / "run.json").read_text())["latency_table"]

    def measured(*_, **__):
        raise AssertionError("the table was measured again")

    monkeypatch.setattr(latency_table, "measured", measured)
    trials = result.record.num_trials + 1
    longer = pruneas.search(
        budget="latency=1+memory=0.75", space=space, run=result.folder, overrides={"search.trials": trials}
    )
    assert json.loads((longer.folder / "run.json").read_text())["latency_table"] == before
    assert longer.record.limits == result.record.limits


def test_proposals_without_branches_keep_a_limit_of_memory(tmp_path):
    givens = Givens.of("pruneas:resnet20(width=0.25, channels=1)")
    priced = price_memory(givens.structure, make(givens.structure.network), givens.model, givens.legal)
    model = replace(givens.model, memory=priced)
    limits = Limits.of(Budget.parse("memory=0.6"), model, givens.legal)
    givens = Givens(givens.structure, model, givens.legal, limits)
    names = [block.name for block in givens.structure.blocks]
    widths = givens.model.mapping(givens.uniform)
    anchors = {"uniform": givens.uniform, "sss": Anchor(widths=widths, removed=tuple(names[:2]))}
    found = led(givens.search(tmp_path, anchors=anchors, searches_blocks=True, num_trials=14))
    trials = open_study(connect(address(tmp_path / "study.db"))).get_trials()
    shares = [trial.user_attrs["share of the budget"] for trial in trials]
    assert sum(bool(record.removed) for record in found[2:]) > 3
    assert max(shares) <= 1 and min(shares[2:]) > 0.8
    for record in found[2:6]:
        built = describe(givens.structure, record.widths, record.removed).build()
        assert peak_memory(built, givens.structure.inputs) <= limits.most["memory"]
