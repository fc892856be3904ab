"""Whole comparisons on the tiny space: rows, resuming, what is taken over, transfer, what is refused."""

import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import pruneas
from pruneas.architecture import Input, Reference
from pruneas.cli import app
from pruneas.config import Space
from pruneas.errors import RunError, SpaceError, StructureError, TrainingError
from pruneas.networks import make
from pruneas.progress import Silent
from pruneas.report.comparison import ComparisonRecord
from pruneas.run.compare import Asked, compare, load_comparison, of_run, of_space, transferred
from pruneas.run.comparison_state import read_state
from pruneas.run.report import write_report
from pruneas.structure.build import analyse, describe
from pruneas.structure.masks import read_masks
from tests.report.test_run_page import Page
from tests.tiny import NETWORK, space_file, stopped
from tests.tiny import pruneas as pruneas_command

FAST = {"recipe.epochs": 1, "data.training": 60, "data.validation": 40}


@dataclass(frozen=True)
class Compared:
    """A comparison in `folder`, in a folder of runs of its own."""

    folder: Path
    record: ComparisonRecord

    @property
    def trainings(self):
        return {path.name: path.stat().st_mtime_ns for path in (self.folder / "trainings").glob("*.json")}


def asked(folder, generators=("l1", "magnitude"), **others):
    space = Space.load(space_file(folder), {**FAST, "generators.methods": list(generators)})
    return of_space(space, **{"budgets": ["0.5"], "generators": generators, "num_seeds": 2, **others})


def given(question, folder):
    return compare(question, folder=folder, command="test", observer=Silent())


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """All arms but Scratch-B, of widths and of masks, with a design from another network brought along."""
    home = tmp_path_factory.mktemp("compared")
    deeper = Reference.parse('pruneas:vgg(layout=[5, 5, 7, "M", 11], channels=1)')
    structure = analyse(deeper, (Input((1, 8, 8)),))
    file = home / "design.json"
    file.write_text(describe(structure, {n: max(1, w // 2) for n, w in structure.widths.items()}).to_json())
    arms = ("unpruned", "fine-tuned", "scratch-e", "ticket", "random")
    question = asked(home, arms=arms, **transferred([file]))
    result = given(question, home / "runs" / "one")
    return Compared(folder=result.folder, record=result.record)


def test_every_arm_that_can_be_is_trained_with_every_seed(compared):
    record = compared.record
    found = {(row.name, row.arm, row.masked): len(row.seeds) for row in record.rows}
    assert set(found.values()) == {2}
    widths = [("uniform", "scratch-e"), ("random", "scratch-e"), ("l1", "fine-tuned"), ("l1", "scratch-e")]
    widths += [("l1", "ticket"), ("magnitude", "scratch-e"), ("guided", "scratch-e"), ("base", "unpruned")]
    masks = [("uniform-sparsity", "scratch-e"), ("magnitude", "fine-tuned")]
    masks += [("magnitude", "scratch-e"), ("magnitude", "ticket")]
    assert found.keys() == {(*pair, False) for pair in widths} | {(*pair, True) for pair in masks}
    assert all(row.flops <= record.budgets["0.5"]["flops"] for row in record.rows if row.budget is not None)
    assert any("magnitude at 0.5, fine-tuned: left out: the method does not say which" in note for note in record.notes)
    assert (record.bases, len({a.base for a in record.architectures})) == ("each", 2)


def test_compute_stands_beside_every_row(compared):
    record = compared.record
    images = {(row.name, row.arm, row.masked): row.own.images for row in record.rows}
    assert images["l1", "scratch-e", False] == images["base", "unpruned", False] == 60
    assert images["l1", "fine-tuned", False] == 3 * 60  # three rates
    before = {(row.name, row.masked): row.before.images for row in record.rows}
    assert before["l1", False] == before["magnitude", True] == 60  # the base network
    assert before["uniform", False] == before["random", False] == before["base", False] == 0
    own = record.row("l1 at 0.5, scratch-e")
    assert own.own.flops == 3 * own.flops * 60


def test_the_result_is_values_in_a_file(compared):
    text = (compared.folder / "comparison.json").read_text()
    assert ComparisonRecord.from_json(text) == compared.record
    assert load_comparison(compared.folder).record == compared.record
    assert {curve.name for curve in compared.record.curves} >= {"l1", "uniform", "base"}
    (map_,) = [m for m in compared.record.keep_maps if (m.name, m.stage) == ("magnitude", 0)]
    assert len(map_.rows) == 3 and all(0 <= share <= 1 for row in map_.rows for share in row)
    drawn = {each.row: sum(each.counts) for each in compared.record.weights}
    assert drawn["unpruned"] == 5 * 9 + 5 * 7 * 9 + 7 * 11 * 9
    assert drawn["magnitude (masks) at 0.5, ticket"] < drawn["unpruned"]
    widths = next(each for each in compared.record.widths if each.name == "l1")
    mine = [a.widths["features.0"] for a in compared.record.architectures if (a.name, a.masked) == ("l1", False)]
    assert widths.bases == 2 and widths.mean["features.0"] == sum(mine) / 2


def test_it_ends_with_its_page(compared):
    page = Page((compared.folder / "report.html").read_text(encoding="utf-8"))
    record = compared.record
    assert all(sentence in page.words for sentence in record.verdict)
    assert page.figures["Scratch-e, widths: accuracy against FLOPs"] == 6  # all but masks
    assert (
        page.figures["Compute at 0.5"] + page.figures["Compute at 0.5, masks"] == len(record.rows) + 1
    )  # the base network twice
    cells = [len(each.rows) * len(each.rows[0]) for each in record.keep_maps if each.name == "magnitude"]
    assert page.figures["Kept places of kernels: magnitude at 0.5"] == sum(cells) > 0
    assert page.figures["Weights of magnitude at 0.5, masks"] == 1 + 3
    assert page.loaded == []
    state = read_state(compared.folder)
    assert state.is_finished and not state.short_rows
    assert state.num_done == len(state.asked_trainings) == record.num_trainings
    assert state.num_bases == 2
    given = {(each.name, each.budget, each.base) for each in record.architectures}
    assert state.num_generated == sum(1 for name, _, _ in given if name not in ("guided", "found"))


def test_the_command_shows_it_again_and_writes_its_page(compared, tmp_path):
    out = tmp_path / "page.html"
    told = CliRunner().invoke(app, ["report", str(compared.folder), "--html", "-o", str(out)])
    assert (told.exit_code, told.stdout.strip()) == (0, str(out))
    assert out.read_text(encoding="utf-8") == (compared.folder / "report.html").read_text(encoding="utf-8")
    told = CliRunner().invoke(app, ["report", str(compared.folder), "--json"])
    assert json.loads(told.stdout)["verdict"] == list(compared.record.verdict)
    told = CliRunner().invoke(app, ["report", str(compared.folder)])
    assert f"page: {compared.folder / 'report.html'}\ncomparison: {compared.folder}" in told.stdout


def test_without_its_result_it_has_a_page_that_says_so(compared, tmp_path):
    folder = shutil.copytree(compared.folder, tmp_path / "copy")
    (folder / "comparison.json").unlink()
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    num = compared.record.num_trainings
    assert f"Not finished, so there is no verdict: {num} of {num} trainings are done." in page.words
    assert page.figures == {}
    told = CliRunner().invoke(app, ["report", str(folder)])
    assert told.exit_code == 0 and told.stdout.rstrip().endswith(f"comparison: {folder}")
    assert f"{num} of {num} trainings are done." in told.stdout and "goes on where it was:" in told.stdout
    assert all(f"{row.key} " in told.stdout for row in compared.record.rows)
    for path in list((folder / "trainings").glob("*.json"))[:2]:
        path.unlink()
    (folder / "progress.json").unlink()  # as in comparisons of earlier versions
    assert f"no verdict: {num - 2} trainings are done." in Page(write_report(folder).read_text()).words
    with pytest.raises(RunError, match="holds no finished comparison"):
        load_comparison(folder)
    assert CliRunner().invoke(app, ["report", str(folder), "--json"]).exit_code != 0  # there are no values yet
    (folder / "progress.json").write_text("{}")
    with pytest.raises(
        RunError, match=r"progress\.json: is not what a comparison keeps there \(ValueError: progress: as"
    ):
        write_report(folder)


def test_the_terminal_tells_the_result_of_an_earlier_command_from_what_was_asked_last(compared, tmp_path):
    folder = shutil.copytree(compared.folder, tmp_path / "copy")
    progress = json.loads((folder / "progress.json").read_text())
    (folder / "progress.json").write_text(json.dumps({**progress, "asked": {**progress["asked"], "seeds": "9"}}))
    told = CliRunner().invoke(app, ["report", str(folder)]).stdout
    assert "Not finished" in told and told.index("Not finished") < told.index("The result of an earlier command:")
    assert "accuracy, %" in told.partition("The result of an earlier command:")[2]


def test_one_that_failed_has_a_page_that_says_why(tmp_path):
    space = Space.load(space_file(tmp_path), {**FAST, "generators.methods": ["l1"], "recipe.learning_rate": 1e30})
    question = of_space(space, budgets=["0.5"], num_seeds=1, arms=("unpruned", "scratch-e"))
    folder = tmp_path / "runs" / "failing"
    with pytest.raises(TrainingError, match="the training loss must be finite") as failure:
        given(question, folder)
    state = read_state(folder)
    assert state.failure == str(failure.value) and state.num_bases == 0
    words = Page((folder / "report.html").read_text(encoding="utf-8")).words
    assert "Failed: training a base network failed" in words and "0 trained" in words


def test_a_design_that_cannot_be_transferred_is_told_before_anything_is_trained(tmp_path):
    structure = analyse(Reference.parse("pruneas:vgg(layout=[5], channels=1)"), (Input((1, 8, 8)),))
    file = tmp_path / "design.json"
    file.write_text(describe(structure, structure.widths).to_json())  # of one stage, where two are needed
    folder = tmp_path / "runs" / "failing"
    with pytest.raises(StructureError, match="nothing can be transferred from stage to stage") as failure:
        given(asked(tmp_path, generators=("l1",), arms=("scratch-e",), **transferred([file])), folder)
    assert list((folder / "trainings").glob("*.json")) == list(folder.glob("bases/*/base/*")) == []
    assert f"Failed: {failure.value}." in Page((folder / "report.html").read_text(encoding="utf-8")).words


def test_of_given_weights_it_is_said_what_is_not_known_and_random_widths_are_drawn_once(tmp_path):
    torch.manual_seed(0)
    torch.save(make(Reference.parse(NETWORK)).state_dict(), tmp_path / "net.pt")
    methods = {"generators.methods": ["l1"], "network.weights": str(tmp_path / "net.pt")}
    space = Space.load(space_file(tmp_path), FAST | methods)
    question = of_space(space, budgets=["0.5"], num_seeds=2, arms=("unpruned", "fine-tuned", "scratch-e", "random"))
    record = given(question, tmp_path / "runs" / "given").record
    assert record.bases == "once" and record.row("l1 at 0.5, fine-tuned").before.images == 0
    notes = " ".join(record.notes)
    assert "what it took to train them is not in the compute of any row" in notes
    assert "unpruned: trained anew by the recipe" in notes
    assert len([each for each in record.architectures if each.name == "random"]) == 1
    assert "once for all seeds" in next(each.text for each in record.questions if each.name == "random to uniform")


def test_masks_are_held_in_every_arm(compared):
    masks = read_masks(compared.folder / "bases/0/generators/magnitude@0.5.masked.architecture.mask.safetensors")
    held = 0
    for path in (compared.folder / "trainings").glob("*.safetensors"):
        state = load_file(path)
        if all(state[name].shape == mask.shape for name, mask in masks.items()):
            held += all(torch.equal(state[name] != 0, mask) for name, mask in masks.items())
    assert held == 3 + 1 + 1  # three rates of fine-tuning, Scratch-E, the ticket: of the first seed


def test_given_again_it_is_only_read_and_without_its_result_nothing_is_trained(compared):
    before = compared.trainings
    question = Asked(
        space=Space.load(compared.folder / "space.toml"), generators=("l1",), budgets=("0.5",), num_seeds=2,
        arms=("unpruned", "scratch-e"),
    )  # fmt: skip
    kept = (compared.folder / "comparison.json").read_text()
    again = given(question, compared.folder)
    assert [row.key for row in again.record.rows] == ["unpruned", "uniform at 0.5, scratch-e", "l1 at 0.5, scratch-e"]
    assert again.record.row("l1 at 0.5, scratch-e") == compared.record.row("l1 at 0.5, scratch-e")
    assert given(question, compared.folder).record == again.record
    (compared.folder / "comparison.json").write_text(kept)
    assert compared.trainings == before


def test_another_comparison_beside_it_takes_over_what_is_the_same(compared):
    question = asked(compared.folder.parents[1], generators=("l1",), arms=("unpruned", "scratch-e"))
    found = given(question, compared.folder.parent / "two").record
    assert (found.num_trainings, found.num_reused) == (6, 6)
    assert found.row("unpruned").test_accuracies == compared.record.row("unpruned").test_accuracies


def test_a_run_is_compared_without_training_anything_again(finished, tmp_path):
    copy = finished.copied(tmp_path)
    question = of_run(copy.folder, {}, arms=("unpruned", "scratch-e"))
    assert question.folder == copy.folder / "comparison"
    found = given(question, None).record
    assert found.num_reused == found.num_trainings
    result = pruneas.load(copy.folder).record
    winner = next(row for row in found.rows if row.role == "found")
    assert winner.test_accuracies == result.arm(result.winner).test_accuracies
    assert found.row("unpruned").test_accuracies == result.arm("base").test_accuracies
    assert winner.before.images > sum(row.own.images for row in found.rows) / len(found.rows)  # the whole search
    assert found.bases == "once" and any("all seeds share one base network" in note for note in found.notes)
    assert pruneas.load(copy.folder).record == result
    assert '<a href="comparison/report.html">' in (copy.folder / "report.html").read_text(encoding="utf-8")


def test_what_cannot_be_compared_is_refused_at_once(tmp_path):
    with pytest.raises(SpaceError) as caught:
        asked(tmp_path, generators=("l1",), arms=("ticket", "scratch-x"), cap=0.5)
    assert [text.partition(":")[0] for text in caught.value.complaints] == ["--arms", "--arms", "--cap"]
    with pytest.raises(SpaceError, match="'guided' learns from other architectures; give those with --transfer"):
        asked(tmp_path, generators=("guided",))
    with pytest.raises(RunError, match="holds no finished comparison"):
        load_comparison(tmp_path)
    with pytest.raises(RunError):
        of_run(tmp_path / "nothing", {})


def test_the_folder_goes_by_the_space_so_that_more_can_be_asked(tmp_path):
    names = {
        asked(tmp_path, generators=g, budgets=b, num_seeds=n).folder
        for g, b, n in ((("l1",), ["0.5"], 2), (("slimming",), ["0.3", "0.5"], 5))
    }
    assert len(names) == 1 and names.pop().name.startswith("tiny-compare-")


@pytest.mark.slow
def test_a_killed_comparison_goes_on_where_it_was(tmp_path):
    command = ["compare", "--space", "tiny.toml", "--generators", "l1", "--budget", "0.5", "--seeds", "2", "--quiet"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"  # apart, so that neither takes over from the other
    for home in (whole, killed):
        home.mkdir()
        space_file(home)
    assert pruneas_command(*command, "--run", "runs/one", cwd=whole, timeout=900).returncode == 0
    kills = 0
    while stopped([*command, "--run", "runs/one"], cwd=killed, after=8 + 4 * kills, how=signal.SIGKILL)[0] != 0:
        kills += 1
        assert kills < 40

    def timeless(home):
        rows = json.loads((home / "runs/one/comparison.json").read_text())["rows"]
        return [(row["key"], row["test_accuracies"], row["own"]["images"]) for row in rows]

    assert kills > 0 and timeless(killed) == timeless(whole)
