"""Random architectures of many families, taken away in every format and read back in a fresh process."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pruneas.architecture import Architecture, Input, Reference
from pruneas.errors import ExportError, NetworkError, RunError
from pruneas.export import FORMATS, export, graphs
from pruneas.export import files as exporting
from pruneas.networks import make
from pruneas.structure.build import build_widths, describe, structure_of

TEN = {
    "torchvision:alexnet": "3x64x64",
    "torchvision:vgg11_bn": "3x32x32",
    "torchvision:resnet18": "3x64x64",
    "torchvision:squeezenet1_1": "3x64x64",
    "torchvision:densenet121": "3x64x64",
    "torchvision:googlenet(init_weights=False)": "3x64x64",
    "torchvision:mobilenet_v2": "3x64x64",
    "torchvision:mobilenet_v3_small": "3x64x64",
    "torchvision:shufflenet_v2_x0_5": "3x64x64",
    "torchvision:mnasnet0_5": "3x64x64",
    "torchvision:efficientnet_b0": "3x64x64",
    "torchvision:regnet_y_400mf": "3x64x64",
    "torchvision:convnext_tiny": "3x64x64",
}
TIMM = ("timm:resnet18", "timm:mobilenetv3_small_100", "timm:convnext_atto", "timm:efficientnet_lite0")
SMALL, SIZE = "pruneas:resnet20(width=0.25)", "3x16x16"


def random_architecture(reference: str, size: str, folder: Path) -> tuple[Path, Path]:
    """An architecture file of random widths, and weights for it that leave nothing zero, as after a training."""
    network, inputs = Reference.parse(reference), (Input.parse(size),)
    structure = structure_of(make(network), network, inputs)
    draws = np.random.default_rng(zlib.crc32(reference.encode()))
    widths = {
        name: width if name in structure.frozen else int(draws.integers(max(1, width // 2), width + 1))
        for name, width in structure.widths.items()
    }
    built = build_widths(structure, widths, seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        for module in built.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.json").write_text(describe(structure, widths).to_json(), encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in built.state_dict().items()}, folder / "net.safetensors")
    return folder / "net.json", folder / "net.safetensors"


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Path, Path, list[Path]]:
    """Architecture, weights, and what all formats and the card gave."""
    folder = tmp_path_factory.mktemp("small")
    architecture, weights = random_architecture(SMALL, SIZE, folder)
    return architecture, weights, export(architecture, list(FORMATS), folder / "out", weights=weights, with_card=True)


def test_every_format_survives_the_round_trip(small):
    _, _, paths = small
    names = ["architecture.json", "model-card.md", "network.onnx", "network.pt", "network.pt2", "network.py"]
    assert [path.name for path in paths] == [*names, "weights.safetensors"]
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(path.name for path in paths)


def test_channel_shuffles_survive_it_too(tmp_path):
    architecture, weights = random_architecture("torchvision:shufflenet_v2_x0_5(num_classes=7)", "3x32x32", tmp_path)
    assert len(export(architecture, list(FORMATS), tmp_path / "out", weights=weights)) == len(FORMATS) + 1


ALONE = """
import importlib, runpy, sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pruneas", "fvcore", "safetensors", "optuna"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refused())
import torch
network = runpy.run_path(sys.argv[1])["load"]()
x = torch.load(sys.argv[2], weights_only=True)
with torch.no_grad():
    torch.save(network(x), sys.argv[3])
"""


def test_the_python_file_works_where_pruneas_is_not_installed(small, tmp_path):
    architecture, weights, paths = small
    x = torch.randn(4, *Architecture.load(architecture).inputs[0].shape)
    torch.save(x, tmp_path / "x.pt")
    file = next(path for path in paths if path.name == "network.py")
    command = [sys.executable, "-W", "ignore", "-c", ALONE, str(file), str(tmp_path / "x.pt"), str(tmp_path / "y.pt")]
    subprocess.run(command, check=True, cwd=tmp_path)
    network = exporting._taken(architecture, weights, ()).network
    with torch.no_grad():
        torch.testing.assert_close(torch.load(tmp_path / "y.pt", weights_only=True), network(x))
    text = file.read_text(encoding="utf-8")
    for name, width in Architecture.load(architecture).widths.items():
        assert any(line.split()[:1] == [name] and line.split()[-1] == str(width) for line in text.splitlines())


def test_the_card_says_how_fast_it_is_and_that_nothing_is_known_of_its_finding(small):
    _, weights, paths = small
    text = next(path for path in paths if path.name == "model-card.md").read_text(encoding="utf-8")
    assert "The architecture file alone was exported: it does not say how." in text
    rows = [line for line in text.splitlines() if line.startswith(("| PyTorch", "| onnxruntime"))]
    at_least = [("PyTorch", "1"), ("PyTorch", "64"), ("onnxruntime", "1"), ("onnxruntime", "64")]
    assert {(row.split()[1].strip(","), row.split(" | ")[1]) for row in rows} >= set(at_least)
    assert f"as they were given ({weights.name})" in text


@pytest.mark.parametrize(
    "name",
    [
        "python",
        "onnx",
        "json",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("torch-export", "safetensors")),
    ],
)
def test_an_export_that_is_another_network_fails_and_leaves_nothing(small, tmp_path, monkeypatch, name):
    architecture, weights, _ = small
    honest = FORMATS[name]

    def crooked(taken, counted, folder):
        with torch.no_grad():
            if name == "json":  # holds no weights: a width is another
                first = next(iter(taken.architecture.widths))
                widths = {**taken.architecture.widths, first: 1}
                path = folder / "architecture.json"
                path.write_text(json.dumps({**json.loads(taken.architecture.to_json()), "widths": widths}))
                return path
            parameters = list(taken.network.parameters())
            parameters[0][0, 0, 0, 0] += 1.0
            path = honest(taken, counted, folder)
            parameters[0][0, 0, 0, 0] -= 1.0
        return path

    monkeypatch.setattr(exporting, "FORMATS", {name: crooked})
    with pytest.raises(ExportError, match=rf"--format {name}: read back, .*Nothing was written"):
        export(architecture, [name], tmp_path / "out", weights=weights)
    assert list((tmp_path / "out").iterdir()) == []


def test_without_weights_what_is_exported_says_so(small, tmp_path):
    architecture, _, _ = small
    paths = export(architecture, ["json", "python"], tmp_path)
    assert [path.name for path in paths] == ["architecture.json", "network.pt", "network.py"]
    text = " ".join(paths[-1].read_text(encoding="utf-8").split())
    assert "freshly initialised by the network's own factory, seed 0: not trained" in text


def test_what_a_file_says_of_itself_is_text_in_the_source_and_never_code(small, tmp_path):
    architecture, _, _ = small
    data = json.loads(architecture.read_text(encoding="utf-8"))
    data["provider"] = 'a\\"""\nraise SystemExit("ran")\n"""'
    (tmp_path / "net.json").write_text(json.dumps(data), encoding="utf-8")
    file = export(tmp_path / "net.json", ["python"], tmp_path / "out")[-1]
    assert "SystemExit" in ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))


def test_weights_of_another_network_are_refused(small, tmp_path):
    architecture, _, _ = small
    save_file({"nothing": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(NetworkError, match="does not fit the network"):
        export(architecture, ["safetensors"], tmp_path / "out", weights=tmp_path / "other.safetensors")


def test_a_missing_extra_is_told_before_anything_is_made(small, tmp_path, monkeypatch):
    monkeypatch.setattr(graphs, "EXTRA", {"onnx": ("no_such_package",)})
    with pytest.raises(RunError, match=r"no_such_package is not installed: pip install 'pruneas\[onnx\]'"):
        export(small[0], ["json", "onnx"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "reference",
    ["timm:test_resnet", *(pytest.param(name, marks=pytest.mark.slow) for name in TIMM)],
)
def test_networks_of_timm_are_written_down_as_source(reference, tmp_path):
    pytest.importorskip("timm")
    architecture, weights = random_architecture(reference, "3x64x64", tmp_path)
    paths = export(architecture, ["python"], tmp_path / "out", weights=weights)
    assert [path.name for path in paths] == ["network.pt", "network.py"]
    text = paths[1].read_text(encoding="utf-8")
    assert "timm.create_model" not in text and "class " in text


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("reference", TEN)
def test_families_of_torchvision_survive_every_format(reference, tmp_path):
    architecture, weights = random_architecture(reference, TEN[reference], tmp_path)
    paths = export(architecture, list(FORMATS), tmp_path / "out", weights=weights)
    assert len(paths) == len(FORMATS) + 1  # Python source has its weights beside it
