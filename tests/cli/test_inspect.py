"""The command that looks at a network: what it prints where, and what it says of what is wrong."""

import json
import subprocess
import sys

import pytest

from pruneas.report.inspection import Inspection
from tests.cli.test_cli import invoke, pruneas


def test_it_prints_the_overview():
    found = invoke("inspect", "tests.nets:Chain", "--input", "3x11x13")
    assert found.exit_code == 0
    assert found.stderr == ""
    assert found.stdout.startswith("tests.nets:Chain   tests (no version), input 3x11x13, traced and tried in ")
    assert "2, all of which can change" in found.stdout
    assert max(map(len, found.stdout.splitlines())) <= 80


def test_flags_unfold_the_tables():
    folded = invoke("inspect", "digits").stdout
    both = invoke("inspect", "digits", "--groups", "--layers").stdout
    assert len(both.splitlines()) > len(folded.splitlines())
    assert "features.{0,3}" in folded
    assert "features.{0,3}" not in both


def test_json_is_alone_on_stdout_whatever_the_network_prints(tmp_path, monkeypatch):
    (tmp_path / "talking.py").write_text(
        "from torch import nn\n\n"
        "def make():\n"
        "    print('made')\n"
        "    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 2, 3), nn.Flatten())\n",
        encoding="utf-8",
    )
    found = pruneas("inspect", "talking:make", "--input", "3x5x5", "--json", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "made" in found.stderr
    data = json.loads(found.stdout)
    assert data["schema"] == 1
    assert set(data) == set(Inspection.__dataclass_fields__)
    assert [group["name"] for group in data["groups"]] == ["0"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["resnet50"], "pruneas: 'resnet50' names nothing: give a network such as"),
        (["torchvision:resnet5"], "pruneas: network torchvision:resnet5: there is no network called 'resnet5'"),
        (["tests.nets:Chain"], "pruneas: network tests.nets:Chain: its input must be given"),
        (["tests.nets:Chain", "--input", "3x"], "pruneas: input '3x': must be the sizes of one input"),
        (["tests.nets:Chain", "--input", "4x11x13"], "pruneas: network tests.nets:Chain at input 4x11x13: the network"),
        (["tests.nets:Chain", "--input", "3x11x13", "--input", "5"],
         "pruneas: network tests.nets:Chain at input 3x11x13, 5: its forward(x) must take as many arguments"),
        (["nowhere.json"], "pruneas: nowhere.json: there is no such file"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_exit_code_2(arguments, text):
    found = invoke("inspect", *arguments)
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith(text)
    assert len(found.stderr.splitlines()) == 1


def test_what_can_be_seen_to_be_wrong_is_told_before_torch_is_loaded():
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from pruneas.cli import app\n"
        "for words in (['resnet50'], ['a:b', '--input', 'x'], ['a:b'], ['no.json']):\n"
        "    assert CliRunner().invoke(app, ['inspect', *words]).exit_code == 2\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
