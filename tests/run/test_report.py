"""The page of real runs: a finished one, parts of it, and what is no run."""

import json
import shutil
from pathlib import Path

import optuna
import pytest
import torch
from typer.testing import CliRunner

import pruneas
from pruneas.cli import app
from pruneas.config import Space
from pruneas.cost.count import count
from pruneas.errors import RunError, TrainingError
from pruneas.progress import Silent
from pruneas.report.run_page import run_page
from pruneas.run.folder import read_json
from pruneas.run.ledger import Ledger
from pruneas.run.report import note_study, read_run, reported, write_report
from pruneas.run.search import search
from pruneas.search.storage import address, connect
from pruneas.search.study import STUDY
from tests.report.test_run_page import Page
from tests.tiny import space_file


def test_a_search_ends_with_its_page(finished):
    text = (finished.folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    run = read_run(finished.folder)
    assert run.result == pruneas.load(finished.folder).record
    assert page.words.count(run.result.verdict.partition(": ")[0]) >= 1
    assert page.figures["Accuracy against FLOPs"] == len(run.result.arms)
    trials = len(list((finished.folder / "trials").glob("*.json")))
    assert len(run.trials) == trials
    assert page.figures["Candidates: accuracy against FLOPs"] == len(run.trained) + 1
    seeds = len(list((finished.folder / "test").glob("*.json")))
    assert page.figures["Test: the final comparison"] == seeds
    assert page.figures["Selection: the best candidates"] == len(list((finished.folder / "selection").glob("*.json")))
    assert page.loaded == []


def test_what_it_says_of_the_network_adds_up(finished):
    run = read_run(finished.folder)
    assert sum(run.network.layer_flops.values()) == run.network.flops == run.result.base_flops
    assert sum(run.network.layer_params.values()) == run.network.params == run.result.base_params
    for arm in run.result.arms:
        assert sum(arm.layer_flops.values()) == arm.flops
        assert sum(arm.layer_params.values()) == arm.params
    assert {fixed.parameter for fixed in run.network.fixed} >= {"classifier.bias"}


def test_base_uniform_and_winner_are_timed(finished):
    run = read_run(finished.folder)
    names = {"base", "uniform", run.result.winner}
    assert {(t.name, t.batch) for t in run.latency.timings} >= {(name, batch) for name in names for batch in (1, 64)}
    for timing in run.latency.timings:
        assert 0 < timing.low <= timing.median <= timing.high
        assert timing.flops_share == run.result.arm(timing.name).flops_share


def test_every_training_is_named_after_its_arm(finished):
    run = read_run(finished.folder)
    names = {arm.name: len(arm.seeds) for arm in run.result.arms}
    tested = [curve.name for curve in run.curves if curve.stage == "test"]
    for name in tested:
        assert tested.count(name) == names[name]
    assert all(not name.isalnum() or name in names for name in tested)


def test_compute_is_that_of_the_records(finished):
    compute = {each.stage: each for each in read_run(finished.folder).compute}
    assert list(compute) == ["base network", "generators", "search", "selection", "test"]
    records = [json.loads(path.read_text()) for path in (finished.folder / "test").glob("*.json")]
    assert compute["test"].images == sum(record["images"] for record in records)
    assert compute["test"].trainings == len(records)


def test_the_snippet_rebuilds_the_winner_with_its_weights(finished):
    page = run_page(read_run(finished.folder))
    code = next(text for text in Page(page).text if text.startswith("import pruneas"))
    found = {}
    exec(code, found)
    network = found["network"]
    winner = pruneas.load(finished.folder).record
    assert count(network, found["architecture"].inputs).flops == winner.arm(winner.winner).flops
    with torch.no_grad():
        assert torch.isfinite(network.eval()(torch.zeros(1, 1, 8, 8))).all()


def test_the_command_writes_the_page_and_prints_where(finished, tmp_path):
    out = tmp_path / "page.html"
    found = CliRunner().invoke(app, ["report", str(finished.folder), "--html", "-o", str(out)])
    assert (found.exit_code, found.stdout.strip()) == (0, str(out))
    assert Page(out.read_text(encoding="utf-8")).figures["Accuracy against FLOPs"] >= 4
    for flags in (["--html", "--json"], ["-o", str(out)]):
        assert CliRunner().invoke(app, ["report", str(finished.folder), *flags]).exit_code == 2


def test_the_page_links_to_a_comparison_in_its_folder_from_wherever_it_is_written(finished, tmp_path):
    run = finished.copied(tmp_path).folder
    assert "<a href" not in write_report(run).read_text(encoding="utf-8")
    (run / "comparison").mkdir()
    (run / "comparison" / "report.html").write_text("", encoding="utf-8")
    assert '<a href="comparison/report.html">' in write_report(run).read_text(encoding="utf-8")
    elsewhere = write_report(run, tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<a href="copy/run/comparison/report.html">' in elsewhere


def test_the_study_gets_the_verdict_and_the_figures_once(finished, tmp_path):
    run = finished.copied(tmp_path).folder
    assert note_study(run)
    assert not note_study(run)
    storage = connect(address(run / "study.db"), create=False)
    study = optuna.load_study(study_name=STUDY, storage=storage)
    kept = storage.get_study_system_attrs(study._study_id)
    note = "".join(text for key, text in sorted(kept.items()) if key.startswith("dashboard:note_str"))
    assert note.startswith("### ") and "| uniform |" in note
    artifacts = optuna.artifacts.get_all_artifact_meta(study)
    assert {meta.mimetype for meta in artifacts} == {"image/svg+xml"}
    assert len(artifacts) == 6
    assert "accuracy-against-flops.svg" in {meta.filename for meta in artifacts}
    for meta in artifacts:
        assert meta.artifact_id in note
        assert (run / "artifacts" / meta.artifact_id).read_text(encoding="utf-8").startswith("<svg")
    storage.engine.dispose()
    (run / "result.json").unlink()
    assert not note_study(run)  # only what is finished has a verdict


@pytest.mark.parametrize("gone", [["result.json"], ["result.json", "test", "selection"], ["result.json", "trials"]])
def test_a_run_that_is_not_finished_has_a_page(finished, tmp_path, gone):
    run = finished.copied(tmp_path).folder
    for name in gone:
        if (run / name).is_dir():
            shutil.rmtree(run / name)
            (run / name).mkdir()
        else:
            (run / name).unlink()
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "Not finished" in page.words
    assert "Accuracy against FLOPs" not in page.figures
    assert ("Test: the final comparison" in page.figures) == ("test" not in gone)


def test_the_command_says_how_far_a_run_is_that_is_not_finished(finished, tmp_path):
    run = finished.copied(tmp_path).folder
    (run / "result.json").unlink()
    told = CliRunner().invoke(app, ["report", str(run)])
    state = read_run(run)
    assert told.exit_code == 0 and told.stdout.endswith(f"\nrun: {run}\n")
    words = " ".join(told.stdout.replace("│", " ").split())
    assert f"Not finished, so there is no verdict: {state.num_trained} of {state.asked_trials} candidates" in words
    tested = sum(curve.stage == "test" for curve in state.curves)
    assert f"test {tested} trainings done" in words and f"goes on where it was: {state.command}" in words
    assert CliRunner().invoke(app, ["report", str(run), "--json"]).exit_code != 0  # there are no values yet


@pytest.mark.parametrize(
    "end, headline", [(KeyboardInterrupt(), "No candidate has been trained yet"), (RunError("Why."), "Why.")]
)
def test_there_is_a_page_from_the_beginning_and_whatever_ends_the_run(finished, tmp_path, end, headline):
    run = finished.copied(tmp_path).folder
    page, facts = run / "report.html", read_json(run / "run.json")
    ledger = Ledger(run / "run.json", facts, {}, Silent())
    for gone in (page, run / "result.json"):
        gone.unlink()
    with pytest.raises(type(end)), reported(run, ledger, Silent()):
        assert "Not finished" in page.read_text(encoding="utf-8")
        shutil.rmtree(run / "trials")
        raise end
    assert headline in page.read_text(encoding="utf-8")
    Ledger(run / "run.json", facts, {}, Silent())  # the command is given again
    assert read_run(run).failure is None
    with pytest.raises(type(end)), reported(run, ledger, Silent()):
        (run / "network.json").write_text("[]")  # so that no page can be made
        raise end


def test_a_search_that_fails_has_a_page(tmp_path):
    space = Space.load(space_file(tmp_path), {"generators.methods": ["l1"], "recipe.learning_rate": 1e30})
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match="the training loss must be finite") as failure:
        search(space, run=run, fresh=False, download=False, command="test", observer=Silent())
    assert read_run(run).headline == f"Failed: {failure.value}"
    assert "The training loss must be finite" in Page((run / "report.html").read_text(encoding="utf-8")).words


def test_what_an_earlier_version_did_not_keep_is_missed_and_said(finished, tmp_path):
    run = finished.copied(tmp_path).folder
    (run / "network.json").unlink()
    assert "did not keep it" in Page(write_report(run).read_text(encoding="utf-8")).words


def test_what_is_no_search_is_refused(finished, tmp_path):
    with pytest.raises(RunError, match="there is no such run"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"run\.json: is missing; give the folder of a run"):
        write_report(tmp_path)
    run = finished.copied(tmp_path).folder
    (run / "network.json").write_text("[]")
    with pytest.raises(RunError, match=r"network\.json: is not what a run keeps there \(ValueError: must be a JSON"):
        write_report(run)
    (run / "network.json").unlink()
    with pytest.raises(RunError, match="cannot be written"):
        write_report(run, Path("/proc/nowhere/page.html"))


def test_other_work_than_a_search_has_no_such_page(finished, tmp_path):
    run = finished.copied(tmp_path).folder
    for name in ("network.json", "study.db"):
        (run / name).unlink()
    with pytest.raises(RunError, match="must be the folder of a search or a comparison, as printed"):
        write_report(run)
