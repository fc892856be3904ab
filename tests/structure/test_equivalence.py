"""Well-known networks cut to random channels, some blocks taken out, compute what the silenced original does.

In single precision, as they are used. Only with batch norm or none: what other normalisations average over changes.
"""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruneas.architecture import Reference
from pruneas.networks import make
from pruneas.structure.build import build_widths, inherit, structure_of
from tests.nets import image, random_keep, random_widths
from tests.structure.equivalence import calibrated, lively, silenced

TOLERANCE = 1e-4
"""Of the output's scale: how far it moves from image to image."""


@dataclass(frozen=True)
class Outputs:
    """Of the silenced base and of the small network: shapes (images, classes)."""

    expected: torch.Tensor
    found: torch.Tensor

    @property
    def scale(self) -> torch.Tensor:
        return (self.expected - self.expected.mean(0)).abs().max()


def outputs(network: str, side: int, seed: int, *, remove: bool = False) -> Outputs:
    """`remove` takes out a random half of the blocks that can be. Elastic groups, whose channels cannot be told apart,
    stay as they are."""
    torch.manual_seed(seed)
    reference = Reference.parse(network)
    base = make(reference)
    structure = structure_of(base, reference, image(3, side, side))
    widths = random_widths(structure, seed) | {group.name: group.width for group in structure.groups if group.elastic}
    keep = random_keep(structure, widths, seed + 1)
    names = np.array([block.name for block in structure.blocks])
    removed = set(
        np.random.default_rng(seed + 2).permutation(names)[: (len(names) + 1) // 2].tolist() if remove else ()
    )
    # Statistics of what the silenced network computes, each then moved, so that none is what it would have been.
    images = torch.randn(8, 3, side, side, generator=torch.Generator().manual_seed(seed + 3))
    quiet = calibrated(silenced(lively(copy.deepcopy(base), seed + 4), structure, keep, removed), images)
    statistics = moved(quiet, seed + 5)
    for network in (lively(base, seed + 4), quiet):
        for name, tensor in statistics.items():
            network.get_buffer(name).copy_(tensor)
    left = {name: width for name, width in widths.items() if name not in structure.without(removed)}
    small = build_widths(structure, left, removed, seed=seed).eval()
    small.load_state_dict(inherit(structure, base.state_dict(), keep, removed))
    with torch.no_grad():
        return Outputs(quiet(images[:3]), small(images[:3]))


def moved(network: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """The statistics of its batch norms, variances times 0.5 to 2 and means moved by as much as a deviation."""
    generator = torch.Generator().manual_seed(seed)
    statistics = {}
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm):
            spread = module.running_var.sqrt()
            statistics[f"{name}.running_mean"] = module.running_mean + spread * torch.empty_like(spread).uniform_(
                -1, 1, generator=generator
            )
            statistics[f"{name}.running_var"] = module.running_var * torch.empty_like(spread).uniform_(
                0.5, 2, generator=generator
            )
    return statistics


def check(outputs: Outputs) -> None:
    assert torch.isfinite(outputs.expected).all()
    assert outputs.scale > 0.01 * outputs.expected.abs().max()  # something of the images came through
    assert (outputs.found - outputs.expected).abs().max() <= TOLERANCE * outputs.scale


NETWORKS = {
    "torchvision:resnet18": 64,
    "torchvision:resnet50": 64,
    "torchvision:resnext50_32x4d": 64,
    "torchvision:mobilenet_v2": 64,
    "torchvision:mobilenet_v3_small": 64,
    "torchvision:mnasnet0_5": 64,
    "torchvision:regnet_y_400mf": 64,
    "torchvision:efficientnet_b0": 64,
    "pruneas:resnet56": 32,
    "torchvision:densenet121": 64,
    "torchvision:vgg11_bn": 64,
    "torchvision:googlenet(init_weights=False)": 64,
    "torchvision:inception_v3(init_weights=False)": 299,
    "torchvision:squeezenet1_1": 64,
    "torchvision:shufflenet_v2_x1_0": 64,
    "pruneas:vgg16": 32,
}
"""With the side of the images to try it with."""
WITH_BLOCKS = list(NETWORKS)[:9]


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x1_0", "mnasnet0_5"])
def test_small_networks_cut_compute_what_they_did(name: str) -> None:
    check(outputs(f"torchvision:{name}", 64, seed=0))


def test_a_small_network_without_some_blocks_computes_what_it_did() -> None:
    check(outputs("torchvision:mobilenet_v3_small", 64, seed=5, remove=True))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [10, 20])
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_cut_compute_what_they_did(network: str, seed: int) -> None:
    check(outputs(network, NETWORKS[network], seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [10, 20])
@pytest.mark.parametrize("network", WITH_BLOCKS)
def test_networks_without_some_blocks_compute_what_they_did(network: str, seed: int) -> None:
    check(outputs(network, NETWORKS[network], seed, remove=True))
