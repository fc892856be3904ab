"""Mask files, and networks that are initialised and trained with masks on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pruneas.architecture import Architecture
from pruneas.errors import ArchitectureError
from pruneas.structure.build import describe
from pruneas.structure.masks import hold, initialise_masked, mask_path, read_masks, write_masks
from pruneas.training import DataSource, Recipe, fit
from tests.nets import structure_of


def masks_of(network: nn.Module, share: float = 0.25) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        name: torch.rand(weight.shape, generator=generator) < share
        for name, weight in network.named_parameters()
        if weight.ndim == 4
    }


def test_an_architecture_finds_its_masks_again(tmp_path: Path) -> None:
    structure = structure_of("Chain")
    masks = masks_of(describe(structure, structure.widths).build(seed=0))
    path = tmp_path / "net.json"
    assert mask_path(path) == tmp_path / "net.mask.safetensors"
    sha256 = write_masks(masks, mask_path(path))
    path.write_text(replace(describe(structure, structure.widths), mask=sha256).to_json())
    again = Architecture.load(path)
    assert again.mask == sha256
    found = read_masks(mask_path(path), again.mask)
    assert found.keys() == masks.keys() == {"a.0.weight", "b.0.weight"}
    assert all(torch.equal(found[name], mask) for name, mask in masks.items())
    assert write_masks(dict(reversed(masks.items())), tmp_path / "other") == sha256  # whatever the order


def test_architectures_without_masks_are_written_as_ever() -> None:
    structure = structure_of("Chain")
    text = describe(structure, structure.widths).to_json()
    assert "mask" not in text
    assert Architecture.from_json(text).mask is None
    with pytest.raises(ArchitectureError, match="mask: must be a SHA-256 in hexadecimal digits, found 'abc'"):
        Architecture.from_json(text[:-2] + ', "mask": "abc"}')


def test_files_that_were_changed_or_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.mask.safetensors"
    with pytest.raises(ArchitectureError, match=r"net\.mask\.safetensors: cannot be read: "):
        read_masks(path, "0" * 64)
    sha256 = write_masks({"a": torch.tensor([True, False])}, path)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(
        ArchitectureError, match=f"must be the mask file with SHA-256 {sha256}, found .*: it was changed"
    ):
        read_masks(path, sha256)
    other = write_masks({"a": torch.tensor([True, True])}, path)
    assert other != sha256
    save_file({"a": torch.ones(2)}, path)
    import hashlib

    with pytest.raises(ArchitectureError, match="must hold boolean tensors; a is not"):
        read_masks(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_masked_weights_are_drawn_for_as_many_as_are_left() -> None:
    """n = 64 * 9 / 4 = 144 weights are left for each input channel: a standard deviation of sqrt(2 / 144)."""
    network = nn.Sequential(nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64))
    mask = torch.zeros(64, 32, 3, 3, dtype=torch.bool)
    mask[::4] = True
    bias = network[0].bias.detach().clone()
    initialise_masked(network, {"0.weight": mask}, seed=1)
    weight = network[0].weight.detach()
    assert (weight[~mask] == 0).all() and (weight[mask] != 0).all()
    assert weight[mask].std().item() == pytest.approx((2 / 144) ** 0.5, rel=0.03)
    assert abs(weight[mask].mean().item()) < 0.01
    assert torch.equal(network[0].bias, bias)
    again = nn.Sequential(nn.Conv2d(32, 64, 3))
    initialise_masked(again, {"0.weight": mask}, seed=1)
    assert torch.equal(again[0].weight, network[0].weight)


@pytest.mark.parametrize(("name", "found"), [("1.weight", "no such weight"), ("0.weight", r"one of \(5, 3, 3, 3\)")])
def test_masks_of_another_network_are_refused(name: str, found: str) -> None:
    with pytest.raises(ArchitectureError, match=rf"mask of '{name}', \(5, 2, 3, 3\): the network has {found}"):
        initialise_masked(nn.Sequential(nn.Conv2d(3, 5, 3)), {name: torch.ones(5, 2, 3, 3) > 0}, seed=0)


def test_steps_with_masks_held_are_steps_with_masked_gradients() -> None:
    torch.manual_seed(0)
    held, masked = nn.Conv2d(3, 5, 3), nn.Conv2d(3, 5, 3)
    masks = {"weight": masks_of(held)["weight"]}
    initialise_masked(held, masks, seed=0)
    masked.load_state_dict(held.state_dict())
    optimisers = [
        torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
        for net in (held, masked)
    ]
    after_step = hold(masks)
    for step in range(5):
        images = torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(step))
        for network, optimiser in zip((held, masked), optimisers, strict=True):
            optimiser.zero_grad()
            network(images).square().mean().backward()
            if network is masked:
                network.weight.grad *= masks["weight"]
            optimiser.step()
        after_step(held)
    assert (held.weight[~masks["weight"]] == 0).all()
    torch.testing.assert_close(held.weight, masked.weight)


def test_a_masked_network_is_trained_from_scratch() -> None:
    data = DataSource(source="digits", shape=(1, 8, 8), training=512, validation=0.2).load()
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
    masks = masks_of(network)
    initialise_masked(network, masks, seed=0)
    recipe = Recipe(epochs=4, batch_size=64, learning_rate=0.1, crop=1, flip=False, precision="float32")
    result = fit(network, data, recipe, seed=0, after_step=hold(masks))
    assert result.epochs[-1].validation_accuracy > 0.6  # chance is 0.1
    for name, mask in masks.items():
        weight = network.get_parameter(name)
        assert (weight[~mask] == 0).all() and (weight[mask] != 0).all()
