import json
import subprocess
import sys

import pytest

from pruneas.architecture import Architecture
from pruneas.cost.count import count
from pruneas.errors import RunError
from pruneas.export import FORMATS, export
from pruneas.run import load
from tests.nets import image


def test_a_run_is_exported_as_an_architecture_and_its_weights(finished, tmp_path):
    paths = export(finished.folder, list(FORMATS), tmp_path)
    assert [path.name for path in paths] == ["architecture.json", "weights.safetensors"]
    record = load(finished.folder).record
    winner = record.arm(record.winner)
    network = Architecture.load(paths[0]).build()
    assert count(network, image(*record.input)).flops == winner.flops


def test_weights_load_with_torch_and_safetensors_alone(finished, tmp_path):
    paths = export(finished.folder, ["json", "safetensors"], tmp_path)
    widths = json.loads(paths[0].read_text())["widths"]
    a, b, c = widths.values()
    code = f"""
import safetensors.torch, torch
from torch import nn
state = safetensors.torch.load_file({str(paths[1])!r})
convolutions = [tuple(t.shape[:2]) for t in state.values() if t.ndim == 4]
assert convolutions == [({a}, 1), ({b}, {a}), ({c}, {b})], convolutions
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_an_architecture_file_alone_has_no_weights(finished, tmp_path):
    source = finished.folder / "generators" / "uniform.architecture.json"
    assert export(source, ["json"], tmp_path) == [tmp_path / "architecture.json"]
    with pytest.raises(RunError, match="an architecture file has none"):
        export(source, ["safetensors"], tmp_path)


def test_what_cannot_be_exported_is_told(finished, tmp_path):
    with pytest.raises(RunError, match="--format: must be among json, safetensors, got 'onxx'"):
        export(finished.folder, ["json", "onxx"], tmp_path)
    with pytest.raises(RunError, match="there is no such run or architecture file"):
        export(tmp_path / "no", ["json"], None)
    with pytest.raises(RunError, match="holds no finished run"):
        export(tmp_path, ["json"], None)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file: cannot be written"):
        export(finished.folder, ["json"], tmp_path / "file")


def test_weights_that_are_cut_off_are_told_and_not_exported(finished, tmp_path):
    run = finished.copied(tmp_path)
    path = run.folder / "best" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(RunError, match=r"weights\.safetensors: cannot be read .* Delete .*result\.json and give"):
        export(run.folder, ["safetensors"], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
