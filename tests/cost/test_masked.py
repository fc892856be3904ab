"""Masked FLOPs: by hand, and against fvcore's count of each layer times the share of its weights that is left."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from pruneas.cost.masked import masked_cost, uses
from pruneas.structure.build import build_widths
from tests.nets import INPUT, NETS, PLACES, ZOO, model_of, structure_of


def test_convolutions_use_their_weights_so_often() -> None:
    assert uses(structure_of("Chain")) == {"a.0.weight": PLACES, "b.0.weight": PLACES}
    assert uses(structure_of("Shared")) == {
        "stem.0.weight": PLACES, "again.0.weight": 2 * PLACES, "a.weight": 2 * PLACES,
    }  # fmt: skip
    # Depthwise, and transposed: counted by the places it reads.
    assert uses(structure_of("Depthwise"))["twice.0.weight"] == PLACES
    assert uses(structure_of("Upsampled"))["up.weight"] == PLACES
    assert uses(structure_of("Functional")) == {"kernel": PLACES, "second": PLACES}


def test_masks_of_other_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"masks must be of weights of convolutions, got one of 'fc\.weight'"):
        masked_cost(structure_of("Chain"), model_of("Chain"), {"fc.weight": torch.ones(2, 7) > 0}, "flops")


def test_masks_take_off_uses_times_zeros() -> None:
    structure, model = structure_of("Chain"), model_of("Chain")
    mask = torch.ones(5, 3, 3, 3, dtype=torch.bool)
    mask[2] = False
    mask[0, 0, 0] = False
    masks = {"a.0.weight": mask}
    assert masked_cost(structure, model, masks, "flops") == model.base.flops - 30 * PLACES
    assert masked_cost(structure, model, masks, "params") == model.base.params - 30
    assert masked_cost(structure, model, {}, "flops") == model.base.flops


@pytest.mark.parametrize(
    "name", ["Residual", "Dense", "Depthwise", "Grouped", "Flat", "Upsampled", "resnet20", "mobilenet_v2"]
)
def test_it_is_fvcores_count_by_layer_times_density(name: str) -> None:
    structure, model = structure_of(name), model_of(name)
    network = build_widths(structure, structure.widths, seed=0).eval()
    rng = np.random.default_rng(0)
    layers = {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)}
    masks = {f"{n}.weight": torch.from_numpy(rng.random(m.weight.shape) < 0.3) for n, m in layers.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

        shape = INPUT[0].shape if name in NETS else (3, ZOO[name][1], ZOO[name][1])
        analysis = FlopCountAnalysis(network, torch.zeros(1, *shape))
        by_module = analysis.unsupported_ops_warnings(False).tracer_warnings("none").by_module()
    expected = float(model.base.flops)
    for layer in layers:
        expected -= by_module[layer] * (1.0 - masks[f"{layer}.weight"].double().mean().item())
    assert masked_cost(structure, model, masks, "flops") == pytest.approx(expected, rel=1e-12)
    left = sum(int(mask.sum()) for mask in masks.values())
    others = sum(p.numel() for n, p in network.named_parameters() if n not in masks)
    assert masked_cost(structure, model, masks, "params") == left + others
