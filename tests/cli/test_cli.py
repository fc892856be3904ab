import errno
import json
import os
import re
import socket
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from pruneas.cli import app
from pruneas.cli.failures import command_again, system_failure, told
from pruneas.errors import RunError, SpaceError, TrainingError
from pruneas.preset import presets
from pruneas.search.storage import address, connect
from pruneas.search.study import open_study
from tests.tiny import children_seconds


def pruneas(*arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "pruneas", *arguments], capture_output=True, text=True, timeout=60, **more
    )  # fmt: skip


def invoke(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_importing_the_command_line_loads_nothing_heavy():
    code = "import sys, pruneas.cli; print([m for m in ('torch', 'optuna', 'numpy', 'scipy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["search", "--help"], 0), (["search", "--trials", "0"], 2), (["search", "--tirals", "3"], 2),
     (["search", "--space", "digitz"], 2), (["search", "--data", "folder:/nowhere"], 2),
     (["inspect", "--help"], 0), (["inspect", "resnet50"], 2)],
)  # fmt: skip
def test_help_and_mistakes_are_answered_at_once(arguments, code):
    pruneas("--help")  # once, so that what is timed does not wait for the disk
    began = children_seconds()
    found = pruneas(*arguments)
    assert children_seconds() - began < 1.0  # of the processor, which a busy machine changes little; 0.3 s when quiet
    assert found.returncode == code
    assert "Traceback" not in found.stderr


def test_every_command_is_listed():
    text = invoke("--help").stdout
    for name in ("search", "inspect", "report", "export", "dashboard", "spaces", "presets"):
        assert name in text


def test_presets_lists_each_with_what_it_is():
    found = invoke("presets")
    assert found.exit_code == 0
    assert len(found.stdout.splitlines()) == len(presets())
    assert re.search(r"^preset:vgg16-a +VGG-16 for CIFAR.*Li 2017", found.stdout, re.MULTILINE)


def test_spaces_lists_each_with_its_first_line():
    found = invoke("spaces")
    assert found.exit_code == 0
    assert "digits                 A small network on scikit-learn's 1,797 digits" in found.stdout


def test_all_mistakes_in_flags_come_at_once_on_stderr():
    found = invoke("search", "--trials", "0", "--budget", "2", "--device", "gpu", "--sampler", "best")
    assert found.exit_code == 2
    assert found.stdout == ""
    lines = found.stderr.splitlines()
    assert lines[0] == "pruneas: 4 things are wrong:"
    assert [line.split()[0] for line in lines[1:]] == ["--budget:", "--device:", "--sampler:", "--trials:"]
    assert lines[4] == "  --trials: must be an integer of at least 1, got 0"


def test_what_is_missing_on_the_disk_is_told_before_torch_is_loaded(tmp_path):
    found = invoke("search", "--data", f"folder:{tmp_path}/no", "--weights", f"{tmp_path}/no.pth")
    assert found.exit_code == 2
    assert f"--data: there is no folder '{tmp_path}/no'; it must hold train/ and test/ or val/" in found.stderr
    assert f"--weights: there is no file '{tmp_path}/no.pth'" in found.stderr


def test_a_comparison_of_a_run_takes_the_runs_own_settings():
    found = invoke("compare", "runs/x", "--space", "digits", "--epochs", "3", "--device", "cpu")
    assert found.exit_code == 2
    assert found.stderr.splitlines() == [
        "pruneas: 2 things are wrong:",
        "  --space: must be left out: the run's own is taken",
        "  --epochs: must be left out: the run's own is taken",
    ]
    assert invoke("compare", "runs/x").stderr == "pruneas: runs/x: there is no such run\n"


def test_arms_and_generators_of_a_comparison_are_known_before_torch_is_loaded():
    found = invoke("compare", "--arms", "scratch-x", "--generators", "l2")
    assert (found.exit_code, found.stdout) == (2, "")
    assert "--generators: there is no generator called 'l2'" in found.stderr
    found = invoke("compare", "--arms", "scratch-x", "--generators", "l1")
    assert "there is no arm called 'scratch-x'; there are unpruned, fine-tuned, scratch-e, " in found.stderr


def test_a_shape_that_is_none_is_told():
    found = invoke("search", "--input", "3,x")
    assert found.exit_code == 2
    assert found.stderr == "pruneas: --input: must be a list of sizes of at least 1, such as [3, 32, 32], got '3,x'\n"


def test_a_dashboard_needs_a_run(tmp_path):
    found = invoke("dashboard", str(tmp_path / "no"))
    assert found.exit_code == 2
    assert found.stderr.startswith(
        f"pruneas: {tmp_path}/no: there is no such folder; give the folder of a run, such as "
    )
    found = invoke("dashboard", str(tmp_path))
    assert found.exit_code == 2
    assert f"{tmp_path}: holds no study.db" in found.stderr


def test_a_dashboard_says_that_its_port_is_taken(tmp_path):
    open_study(connect(address(tmp_path / "study.db")))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = pruneas("dashboard", str(tmp_path), "--port", str(port))
    assert found.returncode == 2
    assert found.stderr.splitlines()[-1].startswith(f"pruneas: cannot listen on 127.0.0.1, port {port}: ")
    assert "choose another one with --port" in found.stderr


def run_failing(error):
    small = typer.Typer(pretty_exceptions_enable=False)

    @small.command()
    @told
    def fail() -> None:
        raise error

    return CliRunner().invoke(small, [])


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (RunError("runs/x: is in use"), 2, "pruneas: runs/x: is in use\n"),
        (TrainingError("the loss became nan"), 1, "pruneas: the loss became nan\n"),
        (SpaceError(["a: b"]), 2, "pruneas: a: b\n"),
        (SpaceError(["a: b", "c: d"]), 2, "pruneas: 2 things are wrong:\n  a: b\n  c: d\n"),
    ],
)
def test_failures_are_a_sentence_and_an_exit_code(error, code, text):
    found = run_failing(error)
    assert (found.exit_code, found.stdout, found.stderr) == (code, "", text)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM])
def test_what_the_system_refuses_is_told_without_a_traceback(code):
    found = run_failing(OSError(code, os.strerror(code), "runs/x/study.db"))
    assert found.exit_code == 1
    assert found.stderr.startswith("pruneas: runs/x/study.db: ")


def test_a_full_disk_is_recognised_under_other_errors():
    try:
        try:
            raise RuntimeError("(sqlite3.OperationalError) database or disk is full")
        except RuntimeError as error:
            raise ValueError("storage") from error
    except ValueError as error:
        assert (system_failure(error) or "").startswith("the disk is full")
    assert system_failure(ValueError("a mistake of ours")) is None


def test_a_mistake_of_ours_keeps_its_traceback():
    assert isinstance(run_failing(KeyError("x")).exception, KeyError)


def test_an_interrupt_says_how_to_go_on(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pruneas", "search", "--fresh", "--data", "folder:my images"])
    found = run_failing(KeyboardInterrupt())
    assert found.exit_code == 130
    assert found.stderr.splitlines()[-2:] == [
        "pruneas: interrupted, nothing that was finished is lost. To go on:",
        "  pruneas search --data 'folder:my images'",
    ]
    assert "--fresh" not in command_again()


def test_a_reader_that_has_gone_is_no_drama():
    with subprocess.Popen(
        [sys.executable, "-m", "pruneas", "spaces"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        process.wait(timeout=60)
        assert process.stderr.read() == ""


def test_the_result_goes_to_stdout_as_a_report_or_as_json(tmp_path, capsys):
    from pruneas.cli.search import print_result
    from pruneas.report.records import ArmRecord, DataRecord, ResultRecord

    arm = ArmRecord(
        name="uniform",
        origin="uniform",
        role="uniform",
        widths={"a": 2},
        flops=10,
        flops_share=0.5,
        params=5,
        seeds=(1, 2),
        test_accuracies=(0.5, 0.6),
        validation_accuracies=(0.5, 0.6),
        difference=None,
        interval=None,
        seconds=1.0,
    )
    made_up = ResultRecord(
        network="pruneas:vgg11",
        input=(1, 8, 8),
        data=DataRecord(name="made up", fingerprint="", training=1, validation=1, test=1),
        budget="0.5",
        limits={"flops": 10},
        base_widths={"a": 4},
        base_flops=20,
        base_params=10,
        arms=(arm,),
        winner="uniform",
        verdict="A made-up verdict.",
        smallest_detectable=None,
        test_sampling_error=0.1,
        confidence=0.95,
        num_trials=1,
        num_distinct=1,
        seconds=1.0,
        hardware="imaginary",
        versions={},
        command="",
        seed=0,
        trial_epochs=1,
        epochs=1,
    )
    print_result(made_up, tmp_path, as_json=True)
    data = json.loads(capsys.readouterr().out)
    assert data.pop("run") == str(tmp_path)
    assert ResultRecord.from_json(json.dumps(data)) == made_up
    print_result(made_up, tmp_path, as_json=False)
    out = capsys.readouterr().out
    assert "A made-up verdict." in out
    assert out.splitlines()[-1] == f"run: {tmp_path}"
