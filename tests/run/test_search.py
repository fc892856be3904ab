"""Whole runs through the command line, as a user gives it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import pruneas
from pruneas.architecture import Architecture
from pruneas.cli import app
from pruneas.cost.count import count
from pruneas.networks.weights import read_weights
from pruneas.report.records import ResultRecord
from pruneas.search.records import read_trials
from pruneas.search.storage import address, connect
from pruneas.search.study import open_study
from pruneas.training import DataSource, evaluate
from tests.nets import image
from tests.tiny import children_seconds, command, outcome_of, space_file, stopped
from tests.tiny import pruneas as cli

SEARCH = ["search", "--space", "tiny.toml", "--run", "run"]


# A finished run -----------------------------------------------------------------------------------------------------


def test_stdout_is_the_result_alone_and_stderr_the_progress(finished):
    data = json.loads(finished.stdout)
    assert data.pop("run") == "run"
    assert ResultRecord.from_json(json.dumps(data)) == pruneas.load(finished.folder).record
    stages = [line.partition(":")[0] for line in finished.stderr.splitlines()]
    expected = ["start", "network", "data", "generators", "search", "selection", "test"]
    assert [stage for stage in stages if stage in expected] == expected
    assert "Warning" not in finished.stderr
    assert "trained uniform\n" not in finished.stderr  # it trains nothing


def test_every_arm_costs_what_is_said_and_is_inside_the_budget(finished):
    record = pruneas.load(finished.folder).record
    shape = Architecture.load(finished.folder / "best" / "architecture.json")
    assert {arm.role for arm in record.arms} >= {"base", "uniform", "generator"}
    for arm in record.arms:
        network = Architecture(
            network=shape.network, provider=shape.provider, inputs=shape.inputs, structure=shape.structure,
            widths=arm.widths,
        ).build()  # fmt: skip
        found = count(network, image(*record.input))
        assert (found.flops, found.params) == (arm.flops, arm.params)
        assert arm.flops <= record.limits["flops"] or arm.role == "base"
    assert record.limits["flops"] == record.base_flops // 2


def test_the_records_of_the_trials_are_the_study(finished):
    trials = open_study(connect(address(finished.folder / "study.db"))).get_trials()
    records = read_trials(finished.folder)
    assert [trial.value for trial in trials] == [record.accuracy for record in records]
    for trial, record in zip(trials, records, strict=True):
        assert trial.user_attrs["FLOPs"] == record.flops <= pruneas.load(finished.folder).record.limits["flops"]
        assert trial.user_attrs["widths"] == " ".join(map(str, record.widths.values()))


def test_the_generators_architectures_rebuild(finished):
    paths = sorted((finished.folder / "generators").glob("*.architecture.json"))
    assert [path.name.partition(".")[0] for path in paths] == ["l1", "slimming", "uniform"]
    for path in paths:
        architecture = Architecture.load(path)
        record = json.loads(path.with_name(f"{path.name.partition('.')[0]}.json").read_text())
        assert dict(architecture.widths) == record["widths"]
        assert count(architecture.build(), architecture.inputs).flops == record["flops"]


def test_the_best_weights_give_the_accuracy_that_is_recorded(finished):
    result = pruneas.load(finished.folder)
    winner = result.record.arm(result.record.winner)
    about = json.loads((finished.folder / "best" / "weights.json").read_text())
    assert about["name"] == winner.name
    network = result.architecture.build()
    network.load_state_dict(read_weights(finished.folder / "best" / "weights.safetensors"))
    data = DataSource(source="digits", shape=(1, 8, 8), training=200, validation=100, seed=0, download=False).load()
    mean, std = about["normalisation"]["mean"], about["normalisation"]["std"]
    precision = json.loads(next((finished.folder / "test").glob("*.json")).read_text())["precision"]
    score = evaluate(network, data.test, mean=tuple(mean), std=tuple(std), device="cpu", precision=precision)
    assert score.accuracy == pytest.approx(winner.test_accuracies[winner.seeds.index(about["seed"])], abs=1e-9)
    # By hand, in float32: the recorded number may differ by the rounding of bfloat16 alone.
    images = (data.test.images.float() / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        right = (network.eval()(images).argmax(1) == data.test.labels).float().mean().item()
    assert right == pytest.approx(score.accuracy, abs=0.02)


def test_a_finished_run_is_printed_at_once_and_nothing_is_touched(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*") if path.is_file()}
    began = children_seconds()
    found = finished.again("--json")
    assert children_seconds() - began < 2  # of the processor; 0.4 s: torch is not loaded
    assert (found.returncode, found.stdout, found.stderr) == (0, finished.stdout, "")
    assert before == {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*") if path.is_file()}
    report = cli("report", "run", "--json", cwd=finished.cwd)
    assert report.stdout == finished.stdout


def test_the_same_run_is_found_from_python(finished):
    code = (
        "import sys, pruneas; r = pruneas.search(space='tiny.toml', run='run', budget=0.5); print(r); "
        "print(len(r.trials)); print('torch' in sys.modules); pruneas.search(space='tiny.toml', run='run')"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=finished.cwd, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == [
        json.loads(finished.stdout)["verdict"], str(len(read_trials(finished.folder))), "False"
    ]  # fmt: skip


def test_a_folder_of_other_settings_is_refused_with_the_difference(finished):
    found = finished.again("--seeds", "3", "--epochs", "3")
    assert found.returncode == 2
    assert "finalists.seeds: 2 there, 3 now; recipe.epochs: 2 there, 3 now" in found.stderr
    assert "Give another --run, or --fresh to delete it and begin anew" in found.stderr


def test_a_folder_of_something_else_is_refused(tmp_path, monkeypatch):
    space_file(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, [*SEARCH, "--fresh"])
    assert found.exit_code == 2
    assert "run: must be a run's folder or an empty one, found thesis.tex; give another --run" in found.stderr
    assert (tmp_path / "run" / "thesis.tex").read_text() == "mine"


# Interrupted, killed, extended, damaged -----------------------------------------------------------------------------


def goes_on_after(cwd, stops):
    """The tiny search, stopped so often (after seconds, by a signal) and then left to end."""
    space_file(cwd)
    for after, how in stops:
        code, stderr = stopped(SEARCH, cwd=cwd, after=after, how=how)
        if code == 0:
            break
        if how == signal.SIGINT:
            assert code == 130, stderr
            assert stderr.splitlines()[-2:] == [
                "pruneas: interrupted, nothing that was finished is lost. To go on:",
                "  pruneas search --space tiny.toml --run run",
            ]
            assert "Traceback" not in stderr
        else:
            assert code == -how
    found = cli(*SEARCH, cwd=cwd)
    assert found.returncode == 0, found.stderr
    assert list((cwd / "run").rglob("*.tmp")) == []
    return outcome_of(cwd / "run")


def test_interrupted_and_killed_it_goes_on_to_the_same_result(finished, tmp_path):
    stops = [(7.0, signal.SIGKILL), (9.0, signal.SIGINT), (11.0, signal.SIGKILL)]
    assert goes_on_after(tmp_path, stops) == outcome_of(finished.folder)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_fifteen_times_it_goes_on_to_the_same_result(finished, tmp_path):
    seconds = random.Random(0)
    stops = [(seconds.uniform(3, 9), signal.SIGKILL) for _ in range(15)]
    assert goes_on_after(tmp_path, stops) == outcome_of(finished.folder)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_two_fresh_runs_of_equal_settings_are_equal(tmp_path, workers):
    space_file(tmp_path)
    outcomes = []
    for _ in range(2):
        found = cli(*SEARCH, "--fresh", "--workers", workers, cwd=tmp_path)
        assert found.returncode == 0, found.stderr
        outcomes.append(outcome_of(tmp_path / "run"))
    assert outcomes[0] == outcomes[1]


def test_a_finished_run_is_only_read_with_other_workers_and_looked_at_on_images_of_another_place(finished, tmp_path):
    run = finished.copied(tmp_path)
    before = outcome_of(run.folder)
    again = run.again("--workers", "2")
    assert (again.returncode, again.stderr) == (0, ""), again.stderr
    (tmp_path / "images" / "train" / "a").mkdir(parents=True)
    other = run.again("--data", f"folder:{tmp_path / 'images'}")
    assert other.returncode == 2
    assert outcome_of(run.folder) == before


def test_more_trials_extend_a_run_and_say_that_the_test_set_was_read_again(finished, tmp_path):
    run = finished.copied(tmp_path)
    before = outcome_of(run.folder)
    # A better candidate that will be the winner of the extended run: the earlier winner's reading then shows.
    for path in (run.folder / "test").glob("*.json"):
        stranger = path.with_name(f"{'0' * 12}-{path.stem.partition('-')[2]}.json")
        shutil.copyfile(path, stranger)
    found = run.again("--trials", "7")
    assert found.returncode == 0, found.stderr
    after = outcome_of(run.folder)
    assert {name: after[name] for name in before if name.startswith("trials")} == {
        name: before[name] for name in before if name.startswith("trials")
    }
    record = pruneas.load(run.folder).record
    assert (record.num_trials, record.asked_trials) == (7, 7)
    assert any(note.startswith("the test set was read before, for ") for note in record.notes)


def test_a_result_that_is_cut_off_is_told_and_made_anew(finished, tmp_path):
    run = finished.copied(tmp_path)
    path = run.folder / "result.json"
    path.write_text(path.read_text()[:700])
    for found in (run.again(), cli("report", "run", cwd=run.cwd)):  # torch is not loaded for these
        assert found.returncode == 2
        assert "run/result.json: cannot be read: " in found.stderr
        assert "Delete it and give the search's command again" in found.stderr
    path.unlink()
    assert run.again().returncode == 0
    assert outcome_of(run.folder) == outcome_of(finished.folder)


@pytest.mark.slow
def test_a_study_that_is_garbage_is_told_and_made_anew(finished, tmp_path):
    run = finished.copied(tmp_path)
    (run.folder / "result.json").unlink()
    for path in run.folder.glob("study.db*"):
        path.write_bytes(b"garbage" * 1000)
    found = run.again()
    assert found.returncode == 2
    assert "run/study.db: cannot be read as an Optuna study" in found.stderr
    for path in run.folder.glob("study.db*"):
        path.unlink()
    assert run.again().returncode == 0
    assert outcome_of(run.folder) == outcome_of(finished.folder)


def test_two_processes_do_not_work_in_one_run(tmp_path):
    space_file(tmp_path)
    with subprocess.Popen(
        command(*SEARCH), cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as first:
        for line in first.stderr:
            if line.startswith("data"):
                break
        os.kill(first.pid, signal.SIGSTOP)  # lest it is done before the second has loaded torch
        second = cli(*SEARCH, cwd=tmp_path)
        os.killpg(first.pid, signal.SIGKILL)
    assert second.returncode == 2
    assert f"run: process {first.pid} works in this run; wait for it, or give another --run" in second.stderr


# What a user can give wrong -----------------------------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Gives the command in this process, which has torch loaded, and returns what it says on stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    space_file(tmp_path)

    def give(*flags):
        found = CliRunner().invoke(app, [*SEARCH, *flags])
        assert (found.exit_code, found.stdout) == (2, ""), found.output
        assert isinstance(found.exception, SystemExit)
        assert not (tmp_path / "run").exists()  # the next try is not told of a run with other settings
        return found.stderr

    return give


@pytest.mark.parametrize("budget", ["0", "2", "abc", "-1", "nan"])
def test_a_budget_that_is_none(refused, budget):
    assert "--budget: must be a share of the base network's FLOPs in (0, 1]" in refused(f"--budget={budget}")


def test_a_budget_below_the_narrowest_network(refused, tmp_path):
    assert "the narrowest legal network has 1,610 FLOPs of the base network's 36,302 FLOPs" in refused(
        "--budget", "0.01"
    )


def test_a_network_that_is_not_there(refused, tmp_path):
    assert "did you mean vgg19, vgg16, vgg11?" in refused("--network", "pruneas:vgg17")


def test_a_factory_that_raises(refused, tmp_path):
    (tmp_path / "mynet.py").write_text("def factory(classes=10):\n    raise RuntimeError('no weights here')\n")
    found = refused("--network", "mynet:factory")
    assert "network mynet:factory: its factory raised RuntimeError: no weights here" in found


def test_a_network_with_fewer_outputs_than_there_are_classes(refused, tmp_path):
    found = refused("--network", 'pruneas:vgg(layout=[5, "M", 7], channels=1, classes=9)')
    assert "has 10 classes, the network" in found
    assert "(classes=10)" in found


def test_a_space_in_which_everything_is_frozen(refused, tmp_path):
    assert "widths: nothing to search" in refused("--freeze", "*", "--budget", "1")


def test_a_generator_that_does_not_exist_is_told_before_torch_is_loaded(refused, tmp_path):
    found = refused("--generators", "uniform,slimmin")
    assert found == "pruneas: --generators: there is no generator called 'slimmin'; did you mean 'slimming'?\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(refused, tmp_path):
    assert "compute.device: 'cuda' is not there; torch sees 0 GPUs" in refused("--device", "cuda")


def image_folder(root, classes=("cat", "dog"), images=6):
    for part in ("train", "test"):
        for index, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for number in range(images):
                Image.new("L", (8, 8), 40 * index + number).save(root / part / name / f"{number}.png")
    return root


def test_image_folders_that_cannot_be_used(refused, tmp_path):
    flags = ["--data", f"folder:{tmp_path / 'images'}"]
    (tmp_path / "images").mkdir()
    assert "must have a folder train/" in refused(*flags)
    image_folder(tmp_path / "images", classes=["cat"])
    assert "must have at least two classes, found only cat" in refused(*flags)
    shutil.rmtree(tmp_path / "images")
    image_folder(tmp_path / "images")
    (tmp_path / "images" / "train" / "dog" / "3.png").write_bytes(b"no image")
    assert "train/dog/3.png: must be an image that can be decoded" in refused(*flags)


class Code:
    def __reduce__(self):
        return (os.system, ("touch pwned",))


def test_weights_that_are_not_this_network_s(refused, tmp_path):
    import pickle

    torch.save({"features.0.weight": torch.zeros(5, 1, 3, 3)}, tmp_path / "other.pth")
    assert "does not fit the network: " in refused("--weights", "other.pth")
    torch.save({"state_dict": Code()}, tmp_path / "code.pth")
    assert "holds more than tensors, which could run code when loaded" in refused("--weights", "code.pth")
    (tmp_path / "code2.pth").write_bytes(pickle.dumps(Code(), protocol=2))
    refused("--weights", "code2.pth")
    assert not (tmp_path / "pwned").exists()
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    assert "cannot be read as weights" in refused("--weights", "cut.safetensors")


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space_file(tmp_path)
    (tmp_path / "taken").write_text("a file")
    for place, text in (("taken", "must be a folder, found a file"), ("/proc/run", "/proc/run: cannot be written")):
        found = CliRunner().invoke(app, ["search", "--space", "tiny.toml", "--run", place])
        assert found.exit_code == 2
        assert text in found.stderr
        assert isinstance(found.exception, SystemExit)


# Disks and trainings that fail --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_on_a_full_disk_it_stops_with_a_sentence_and_goes_on_later(finished, tmp_path):
    space_file(tmp_path)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("cannot mount")
    try:
        flags = ["search", "--space", "tiny.toml", "--run", "disk/run"]
        found = cli(*flags, cwd=tmp_path)
        assert found.returncode in (1, 2)
        assert "Traceback" not in found.stderr
        assert "No space left" in found.stderr or "disk is full" in found.stderr
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        found = cli(*flags, cwd=tmp_path)
        assert found.returncode == 0, found.stderr
        assert outcome_of(disk / "run") == outcome_of(finished.folder)
    finally:
        subprocess.run(["umount", str(disk)], check=False)


FAILING = """
from torch import nn


class Picky(nn.Module):
    \"\"\"Cannot be run at odd widths; diverges where the second layer is narrow.\"\"\"

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 6, 3, padding=1)
        self.b = nn.Conv2d(6, 8, 3, padding=1)
        self.c = nn.Linear(8, 10)

    def forward(self, x):
        x = self.b(self.a(x).relu())
        if self.training and self.b.out_channels < 6:
            raise RuntimeError("too narrow to train")
        return self.c(x.relu().mean((2, 3)))


def factory():
    return Picky()
"""


@pytest.mark.slow
def test_trainings_that_fail_are_recorded_and_the_run_goes_on(tmp_path):
    (tmp_path / "mynet.py").write_text(FAILING)
    space_file(tmp_path)
    found = cli(*SEARCH, "--network", "mynet:factory", "--budget", "0.6", "--trials", "8", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    records = read_trials(tmp_path / "run")
    failed = [record for record in records if record.failure is not None]
    assert failed
    assert all("too narrow to train" in record.failure for record in failed)
    assert any("generator slimming left out" in note for note in pruneas.load(tmp_path / "run").record.notes)
