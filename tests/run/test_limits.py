"""A whole search with limits of memory and latency at once."""

import json

import pytest

import pruneas
from pruneas.cost import latency_table
from pruneas.cost.memory import peak_memory
from pruneas.search.records import read_trials
from pruneas.search.storage import address, connect
from pruneas.search.study import open_study
from tests.nets import image
from tests.tiny import space_file


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
    assert any(
        note.startswith("latency of uniform: ") and "by the table, limit" in note for note in result.record.notes
    )


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
