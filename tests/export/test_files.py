import json
import runpy
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from pruneas.architecture import Architecture, Input, Reference
from pruneas.cost.count import count
from pruneas.errors import RunError
from pruneas.export import export, timing
from pruneas.export.timing import Timed, time_networks
from pruneas.networks import make
from pruneas.report.records import LatencyRecord, TimingRecord
from pruneas.run import load
from tests.nets import image


def test_a_run_is_exported_as_an_architecture_and_its_weights(finished, tmp_path):
    paths = export(finished.folder, ["json", "safetensors"], tmp_path)
    assert [path.name for path in paths] == ["architecture.json", "weights.safetensors"]
    record = load(finished.folder).record
    winner = record.arm(record.winner)
    network = Architecture.load(paths[0]).build()
    assert count(network, image(*record.input)).flops == winner.flops


def test_a_runs_card_and_source_say_how_it_was_found_and_how_to_use_it(finished, tmp_path):
    paths = export(finished.folder, ["python"], tmp_path, with_card=True)
    card, source = paths[0].read_text(encoding="utf-8"), paths[-1].read_text(encoding="utf-8")
    record = load(finished.folder).record
    winner = record.arm(record.winner)
    assert record.verdict in card and f"`{record.command}`" in card
    assert f"| **this network** | {winner.flops:,} | {winner.params:,} | {winner.mean:.2%} ±" in card
    assert "10 classes, in the order of the outputs: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9." in card
    namespace = runpy.run_path(str(paths[-1]))
    facts = json.loads((finished.folder / "best" / "weights.json").read_text(encoding="utf-8"))
    assert (namespace["MEAN"], namespace["STD"]) == (facts["normalisation"]["mean"], facts["normalisation"]["std"])
    assert namespace["CLASSES"] == facts["classes"]
    trained = load_file(finished.folder / "best" / "weights.safetensors")
    assert all(torch.equal(trained[name], tensor) for name, tensor in namespace["load"]().state_dict().items())
    assert f"of seed {facts['seed']}, trained on" in " ".join(source.split())


def test_times_that_are_another_share_than_the_flops_are_told():
    def timed(name, share, median, low, high):
        return TimingRecord(name=name, flops_share=share, where="here", batch=1, median=median, low=low, high=high)

    base = timed("base", 1.0, 10.0, 9.0, 11.0)
    slow, fast, noisy = (timed("this", 0.5, *times) for times in ((9.0, 8.1, 9.9), (5.0, 4.5, 5.5), (9.0, 4.0, 11.0)))
    found = LatencyRecord(threads=1, timings=(base, slow, fast, noisy))
    assert [found.disagrees(each) for each in (slow, fast, noisy)] == [True, False, False]


def test_networks_are_timed_with_pytorch_and_onnxruntime_and_what_cannot_be_is_told(monkeypatch):
    inputs = (Input((1, 8, 8)),)
    networks = {
        name: Timed(network=make(Reference.parse(f"pruneas:vgg(layout=[{width}], channels=1)")), flops_share=share)
        for name, width, share in (("base", 8, 1.0), ("this", 4, 0.5))
    }
    found = time_networks(networks, inputs)
    places = list(dict.fromkeys(each.where for each in found.timings))
    assert [each.startswith("onnxruntime") for each in places] == [False] * (len(places) - 1) + [True]
    assert len(found.timings) == 2 * 2 * len(places) and found.notes == ()
    monkeypatch.setattr(timing, "missing", lambda name: ["onnxscript"])

    def out_of_memory(network, inputs, *, batch, device):
        if batch > 1:
            raise torch.OutOfMemoryError
        return lambda: None

    monkeypatch.setattr(timing, "pass_of", out_of_memory)
    found = time_networks(networks, inputs)
    assert {each.batch for each in found.timings} == {1}
    assert "Not timed with onnxruntime: onnxscript is not installed." in found.notes
    assert any("Not timed at a batch of 64" in note for note in found.notes)


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
    with pytest.raises(RunError, match=r"--format: must be among json, python, .*, got 'onxx'"):
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
    assert not (tmp_path / "out").exists()
