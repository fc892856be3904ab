"""What state networks are taken away in: weights that are shared, and weights that masks leave out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pruneas.architecture import Architecture, Input, Reference
from pruneas.errors import ArchitectureError, ExportError, NetworkError
from pruneas.export import export, files
from pruneas.export.graphs import write_torch_export
from pruneas.structure.build import analyse, describe
from pruneas.structure.masks import mask_path, write_masks

SHARED = """
from torch import nn

def net():
    a, b, c = nn.Conv2d(1, 5, 3), nn.Conv2d(5, 5, 3, padding=1), nn.Conv2d(5, 5, 3, padding=1)
    c.weight = b.weight
    return nn.Sequential(a, nn.ReLU(), b, nn.ReLU(), c, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


def test_weights_that_layers_share_are_written_under_each_name(tmp_path, monkeypatch):
    (tmp_path / "sharing_networks.py").write_text(SHARED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)  # where the process that reads it back looks, too
    network = Reference("sharing_networks:net", {})
    structure = analyse(network, (Input((1, 8, 8)),))
    architecture = describe(structure, structure.widths)
    (tmp_path / "net.json").write_text(architecture.to_json())
    state = architecture.trusting("sharing_networks").build(seed=3).state_dict()
    torch.save(state, tmp_path / "net.pt")
    formats = ["json", "safetensors"]
    export(tmp_path / "net.json", formats, tmp_path, weights=tmp_path / "net.pt", trust="sharing_networks")
    written = load_file(tmp_path / "weights.safetensors")
    assert written.keys() == state.keys() >= {"2.weight", "4.weight"}
    assert torch.equal(written["2.weight"], written["4.weight"]) and torch.equal(written["2.weight"], state["2.weight"])


class OneApart(nn.Module):
    """Gives something else for a batch of one, which no graph says."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x) * (1 + (torch.ones_like(x[:, 0, 0, 0]).sum() == 1))


def test_a_graph_that_is_another_network_for_one_image_is_refused(tmp_path, monkeypatch):
    structure = analyse(Reference.parse("pruneas:vgg(layout=[5], channels=1)"), (Input((1, 8, 8)),))
    (tmp_path / "net.json").write_text(describe(structure, structure.widths).to_json())

    def crooked(taken, counted, folder):
        return write_torch_export(OneApart(taken.network), taken.architecture.inputs, folder / "network.pt2")

    monkeypatch.setattr(files, "FORMATS", {"torch-export": crooked})
    with pytest.raises(ExportError, match=r"--format torch-export: read back, its outputs must be .* \(batch 1\)"):
        export(tmp_path / "net.json", ["torch-export"], tmp_path / "out")


@pytest.fixture
def masked(tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """A masked architecture's file, and its masks."""
    structure = analyse(Reference.parse('pruneas:vgg(layout=[5, "M", 7], channels=1)'), (Input((1, 8, 8)),))
    architecture = describe(structure, structure.widths)
    torch.manual_seed(0)
    shapes = {name: each.shape for name, each in architecture.build(seed=0).named_parameters() if each.ndim == 4}
    masks = {name: torch.rand(shape) < 0.25 for name, shape in shapes.items()}
    sha256 = write_masks(masks, mask_path(tmp_path / "net.json"))
    (tmp_path / "net.json").write_text(replace(architecture, mask=sha256).to_json())
    return tmp_path / "net.json", masks


def test_a_masked_architecture_without_weights_is_initialised_with_its_masks_on(masked, tmp_path):
    path, masks = masked
    paths = export(path, ["json", "python"], tmp_path / "out")
    assert mask_path(tmp_path / "out" / "architecture.json") in paths
    text = " ".join((tmp_path / "out" / "network.py").read_text().split())
    assert "Single weights are masked: zero where the architecture's mask says so." in text
    state = torch.load(tmp_path / "out" / "network.pt", weights_only=True)
    assert all(torch.equal(state[name] != 0, mask) for name, mask in masks.items())


def test_weights_that_a_mask_leaves_out_must_be_zero(masked, tmp_path):
    path, masks = masked
    state = {name: each.detach() for name, each in Architecture.load(path).build(seed=0).state_dict().items()}
    save_file(state, tmp_path / "all.safetensors")
    name = next(iter(masks))
    count = f"{int((~masks[name]).sum()):,}"
    with pytest.raises(NetworkError, match=rf"all\.safetensors: .* must be zero; {name} has {count} that are not"):
        export(path, ["safetensors"], tmp_path / "out", weights=tmp_path / "all.safetensors")
    save_file({key: each * masks.get(key, 1) for key, each in state.items()}, tmp_path / "held.safetensors")
    (written,) = export(path, ["safetensors"], tmp_path / "out", weights=tmp_path / "held.safetensors")
    assert torch.equal(load_file(written)[name] != 0, masks[name])


def test_a_masked_architecture_needs_its_masks(masked, tmp_path):
    path, _ = masked
    mask_path(path).unlink()
    with pytest.raises(ArchitectureError, match=r"net\.mask\.safetensors: cannot be read"):
        export(path, ["python"], tmp_path / "out")
