"""Searches at several budgets in one command."""

import json
import os
import shutil
import subprocess
import time

import optuna
import pytest

import pruneas
from pruneas.progress import Silent
from pruneas.report.front import FrontRecord
from pruneas.report.records import ResultRecord
from pruneas.run.compare import compare, of_run
from pruneas.run.place import places_of
from pruneas.search.records import read_trials
from pruneas.search.storage import connect
from pruneas.search.worker import AHEAD, JOINED, OVER
from tests.tiny import ANSI_FREE, command, space_file
from tests.tiny import pruneas as cli

SWEEP = ["search", "--space", "tiny.toml", "--budgets", "0.3,0.6", "--run", "sweep", "--trials", "4"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of a sweep and what it said; a worker has joined it, before the first search began."""
    folder = tmp_path_factory.mktemp("sweep")
    space_file(folder)
    log = (folder / "sweep.log").open("w")
    process = subprocess.Popen(
        command(*SWEEP), cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | ANSI_FREE
    )
    try:
        while process.poll() is None and not (folder / "sweep" / "sweep.json").exists():
            time.sleep(0.1)
        joined = cli("worker", "sweep", "--workers", "1", cwd=folder)
        output, _ = process.communicate(timeout=240)
    finally:
        process.kill()
        log.close()
    told = (folder / "sweep.log").read_text()
    assert process.returncode == 0, told
    assert joined.returncode == 0, joined.stderr
    return folder, subprocess.CompletedProcess(SWEEP, 0, output, told), joined


def test_a_worker_joins_searches_as_they_begin_and_ends_with_the_last(swept):
    folder, _, joined = swept
    # Searches as small as these may be over between two looks; test_joining.py has one that waits.
    over = joined.stdout.splitlines()[-1]
    assert over in ("over: 0.3, 0.6", "over: 0.3", "over: 0.6", "over: nothing is left to do")
    places = places_of(str(folder / "sweep"))
    assert list(places) == ["0.3", "0.6"]
    for budget, (url, study) in places.items():
        storage = connect(url)
        attributes = optuna.load_study(study_name=study, storage=storage).user_attrs
        storage.engine.dispose()
        assert (attributes[OVER], attributes[AHEAD]) == (True, False)
        assert (JOINED in attributes) or budget not in over
    again = cli("worker", "sweep", cwd=folder)
    assert (again.returncode, again.stdout) == (0, "over: nothing is left to do\n"), again.stderr


def test_there_is_a_run_a_budget_and_one_base_network_and_set_of_generators(swept):
    folder, found, _ = swept
    common, runs = folder / "sweep" / "common", [folder / "sweep" / name for name in ("0.3", "0.6")]
    for run in runs:
        record = ResultRecord.from_json((run / "result.json").read_text())
        assert record.budget == run.name
        assert len(read_trials(run)) >= 4
        assert (run / "study.db").exists()
        assert all(arm.flops <= record.limits["flops"] for arm in record.arms if arm.role != "base")
        for method in ("uniform", "l1"):
            own = json.loads((run / "generators" / f"{method}.json").read_text())
            assert own == json.loads((common / "generators" / f"{method}@{run.name}.json").read_text())
    bases = [(run / "base" / "weights.safetensors").read_bytes() for run in (common, *runs)]
    assert bases[0] == bases[1] == bases[2]
    assert found.stderr.count("base network") == 1, "trained once"
    arms = [ResultRecord.from_json((run / "result.json").read_text()).by_role("base") for run in runs]
    assert arms[0] == arms[1], "tested once"


def test_the_front_is_in_the_result_and_the_report(swept):
    folder, found, _ = swept
    front = FrontRecord.from_json((folder / "sweep" / "front.json").read_text())
    assert [point.budget for point in front.points] == ["0.3", "0.6"]
    assert front.points[0].flops < front.points[1].flops < front.base_flops
    assert "sweep" in found.stdout.splitlines()[-1]
    given = {"run": folder / "sweep", "overrides": {"search.trials": 4}}
    assert pruneas.sweep([0.3, 0.6], folder / "tiny.toml", **given).front == front  # finished: it is only read
    again = cli("report", "sweep", cwd=folder)
    assert again.stdout == found.stdout
    data = json.loads(cli("report", "sweep", "--json", cwd=folder).stdout)
    assert [point["budget"] for point in data["front"]["points"]] == ["0.3", "0.6"]
    assert [result["budget"] for result in data["results"]] == ["0.3", "0.6"]
    refused = cli("report", "sweep", "--html", cwd=folder)
    assert refused.returncode == 2
    assert "each with a page of its own; give one of sweep/0.3, sweep/0.6" in " ".join(refused.stderr.split())


def test_a_run_of_a_sweep_is_compared_with_all_arms_of_a_method_that_trains(swept, tmp_path):
    run = tmp_path / "sweep" / "0.6"
    shutil.copytree(swept[0] / "sweep" / "0.6", run)
    question = of_run(run, {}, generators=("slimming",), arms=("fine-tuned", "scratch-e", "ticket"), num_seeds=1)
    found = compare(question, command="pruneas compare", observer=Silent()).record
    assert {row.arm for row in found.rows if row.name == "slimming"} == {"fine-tuned", "scratch-e", "ticket"}
    fine_tuned = found.row("slimming at 0.6, fine-tuned")
    assert fine_tuned.before.images > 0
    refused = cli("dashboard", "sweep", cwd=swept[0])
    assert "each with a study of its own; give one of sweep/0.3, sweep/0.6" in " ".join(refused.stderr.split())
    refused = cli("compare", "sweep", cwd=swept[0])
    assert refused.returncode == 2
    assert "sweep: holds several runs; give one of sweep/0.3, sweep/0.6" in " ".join(refused.stderr.split())


@pytest.mark.slow
def test_the_same_command_again_prints_the_finished_front_and_more_trials_extend_it(swept):
    folder, found, _ = swept
    assert cli(*SWEEP, cwd=folder).stdout == found.stdout
    more = cli(*SWEEP[:-1], "5", cwd=folder)
    assert more.returncode == 0, more.stderr
    assert "base network" not in more.stderr


@pytest.mark.parametrize(
    ("budgets", "complaint"),
    [
        (["--budgets", "0.3,7"], "--budgets: budget '7': must be a share"),
        (["--budgets", "0.3,0.30"], "--budgets: must name each budget once, got '0.30' more than once"),
        (["--budgets", "0.3", "--budget", "0.5"], "--budgets: must not be given beside --budget"),
        (["--budgets", "0.3,20FLOPs"], "budget 20FLOPs cannot be met"),
    ],
)
def test_wrong_budgets_are_refused_before_anything_is_trained(tmp_path, budgets, complaint):
    space_file(tmp_path)
    found = cli("search", "--space", "tiny.toml", *budgets, cwd=tmp_path)
    assert found.returncode == 2
    assert complaint in found.stderr
    assert not list(tmp_path.glob("runs/*/*/base/*"))
