"""Stages, and designs by what pruned networks keep of each: by hand, from one network to another, and refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from pruneas.architecture import Architecture, Reference
from pruneas.cost.limits import Limits
from pruneas.cost.masked import masked_cost
from pruneas.cost.model import CostModel
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.errors import ArchitectureError, StructureError
from pruneas.generators import METHODS, Task
from pruneas.generators.guided import stage_shares
from pruneas.generators.guided_sparsity import keep_maps
from pruneas.generators.sparse import convolutions
from pruneas.generators.stages import group_stages, num_stages, weight_stages
from pruneas.structure.build import analyse, build_widths, describe
from pruneas.structure.groups import Structure
from tests.nets import image, structure_of

Tasks = Callable[..., Task]
STAGES_OF_VGG = {16: [0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4], 19: [0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4]}


@cache
def structure(network: str, side: int = 32) -> Structure:
    return analyse(Reference.parse(network), image(3, side, side))


def task_for(found: Structure, most: int | None = None, **given: object) -> Task:
    model = CostModel.of(found, build_widths(found, found.widths, seed=0))
    rules = WidthRules(minimum=0.0)
    most = model.base.flops if most is None else most
    return Task(
        structure=found, model=model, legal=LegalWidths.of(found, rules), limits=Limits({"flops": most}), seed=0,
        **given,
    )  # fmt: skip


def architecture(found: Structure, widths: list[int]) -> Architecture:
    return describe(found, dict(zip(found.widths, widths, strict=True)))


@pytest.mark.parametrize("depth", [16, 19])
def test_vgg_has_the_papers_stages(depth: int) -> None:
    found = structure(f"pruneas:vgg{depth}(width=0.25)")
    assert list(group_stages(found).values()) == list(weight_stages(found).values()) == STAGES_OF_VGG[depth]
    assert num_stages(found) == 5


@pytest.mark.parametrize("name", ["vgg16", "resnet20", "mobilenet_v2", "googlenet", "Upsampled", "SqueezeExcite"])
def test_maps_are_those_that_the_network_puts_out(name: str) -> None:
    """Hooks on a real pass say the same as the trace, of every convolution."""
    found = structure_of(name)
    network = build_widths(found, found.widths, seed=0).eval()
    seen: dict[str, tuple[int, ...]] = {}
    for layer, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(
                lambda _, __, out, layer=layer: seen.update({f"{layer}.weight": tuple(out.shape[2:])})
            )
    network(torch.zeros(1, *found.inputs[0].shape))
    assert {o.weight: o.map_size for o in found.operations if o.kind == "conv"} == seen


def test_groups_are_of_the_stage_of_what_produces_them_first() -> None:
    resnet = structure_of("resnet20")
    stages = group_stages(resnet)
    assert stages["conv"] == stages["blocks.2.conv1"] == 0  # the stream begins at the stem
    assert stages["blocks.3.conv1"] == stages["blocks.3.conv2"] == 1
    assert stages["blocks.8.conv1"] == 2
    assert group_stages(structure_of("Flat")) == {"a.0": 0, "hidden": -1}
    assert group_stages(structure_of("SqueezeExcite")) == {"stem.0": 0, "reduce": 1}


VGG16 = [16, 16, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 128]
SLIMMED = [10, 14, 30, 32, 60, 50, 40, 64, 40, 22, 16, 20, 30]


def means(widths: list[int], base: list[int], stages: list[int]) -> list[float]:
    """The average kept share of each stage, by hand."""
    return [
        float(np.mean([w / b for w, b, s in zip(widths, base, stages, strict=True) if s == stage]))
        for stage in range(5)
    ]


def test_a_stage_gets_its_average_width() -> None:
    found = structure("pruneas:vgg16(width=0.25)")
    given = task_for(found, sources=(architecture(found, SLIMMED),))
    # (10 + 14) / 2 = 12 of 16, 31 of 32, 50 of 64, 42 of 128, 22 of 128
    assert stage_shares(given) == pytest.approx({0: 12 / 16, 1: 31 / 32, 2: 50 / 64, 3: 42 / 128, 4: 22 / 128})
    design = [12, 12, 31, 31, 50, 50, 50, 42, 42, 42, 22, 22, 22]
    most = int(given.model.flops(np.array(design)))
    assert METHODS["guided"](replace(given, limits=Limits({"flops": most}))).widths.tolist() == design
    fewer = METHODS["guided"](replace(given, limits=Limits({"flops": most * 3 // 4}))).widths
    assert fewer == pytest.approx(0.75**0.5 * np.array(design), abs=1.0)  # the same shape, within a step


def test_vgg16s_stages_make_a_vgg19() -> None:
    """Transferred: from ten classes at 32 x 32 to a hundred; stage widths apply unchanged, whatever the depth."""
    source = structure("pruneas:vgg16(width=0.25)")
    target = structure("pruneas:vgg19(width=0.25, classes=100)")
    given = task_for(target, sources=(architecture(source, SLIMMED),))
    design = [12, 12, 31, 31, *[50] * 4, *[42] * 4, *[22] * 4]
    most = int(given.model.flops(np.array(design)))
    assert METHODS["guided"](replace(given, limits=Limits({"flops": most}))).widths.tolist() == design


def test_stages_are_matched_by_their_order_whatever_the_size_of_the_input() -> None:
    source, target = structure("pruneas:vgg16(width=0.25)", 64), structure("pruneas:vgg19(width=0.5)")
    given = task_for(target, sources=(architecture(source, SLIMMED),))
    design = [24, 24, 62, 62, *[100] * 4, *[84] * 4, *[44] * 4]  # shares: twice the base's width, twice the width
    assert (
        METHODS["guided"](
            replace(given, limits=Limits({"flops": int(given.model.flops(np.array(design)))}))
        ).widths.tolist()
        == design
    )


def test_several_sources_are_averaged() -> None:
    found = structure("pruneas:vgg16(width=0.25)")
    other = [8, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    given = task_for(found, sources=(architecture(found, SLIMMED), architecture(found, other)))
    expected = np.mean([means(w, VGG16, STAGES_OF_VGG[16]) for w in (SLIMMED, other)], axis=0)
    assert list(stage_shares(given).values()) == pytest.approx(expected.tolist())


def test_groups_lost_with_a_branch_are_left_out_of_the_average() -> None:
    found = structure("pruneas:resnet20", 16)
    widths = {name: width // 2 for name, width in found.widths.items()} | {"blocks.1.conv1": 1}
    given = task_for(found, sources=(describe(found, widths, ["blocks.1"]),))
    assert stage_shares(given) == pytest.approx({0: 0.5, 1: 0.5, 2: 0.5})


def test_sources_with_other_stages_are_refused() -> None:
    found = structure("pruneas:vgg16(width=0.25)")
    source = structure("pruneas:resnet20", 16)
    given = task_for(found, sources=(architecture(source, list(source.widths.values())),))
    for method in ("guided", "guided-sparsity"):
        with pytest.raises(StructureError, match=r"maps have 5 sizes, those of the source pruneas:resnet20 3: nothing"):
            METHODS[method](given)


def test_sources_whose_network_has_changed_are_refused() -> None:
    found = structure("pruneas:vgg16(width=0.25)")
    source = replace(architecture(structure("pruneas:vgg19(width=0.25)"), [1] * 16), structure="0" * 16)
    with pytest.raises(ArchitectureError, match="it was made with pruneas"):
        METHODS["guided"](task_for(found, sources=(source,)))


def test_stages_that_no_source_knows_are_refused() -> None:
    source, found = structure_of("Chain"), structure_of("Flat")
    given = task_for(found, sources=(architecture(source, [5, 7]),))
    with pytest.raises(StructureError, match="generator guided: no source has groups in the stage of hidden"):
        METHODS["guided"](given)


# Guided sparsification ------------------------------------------------------------------------------------------------

HASH = "a" * 64


def with_masks(found: Structure, masks: Mapping[str, torch.Tensor], name: str = HASH) -> Architecture:
    return replace(architecture(found, list(found.widths.values())), mask=name)


def whole(found: Structure) -> dict[str, torch.Tensor]:
    return {name: torch.ones(found.shapes[name]) > 0 for name in convolutions(found)}


def test_maps_are_the_share_of_a_stages_kernels_that_keep_each_place(task: Tasks) -> None:
    """Chain: 15 kernels in the first layer, 35 in the second, all of one stage."""
    found = task("Chain").structure
    masks = whole(found)
    masks["a.0.weight"][:, :, 1, 1] = False  # 35 of 50 keep the middle
    masks["b.0.weight"][:, :4, 0, :] = False  # 7 * 4 of 50 lack the upper row
    masks["b.0.weight"][0, 4, 2, 2] = False
    given = replace(task("Chain"), sources=(with_masks(found, masks),), masks={HASH: masks})
    expected = np.array([[22, 22, 22], [50, 35, 50], [50, 50, 49]]) / 50
    assert {key: value.tolist() for key, value in keep_maps(given).items()} == {(0, (3, 3)): expected.tolist()}
    nothing = {name: torch.zeros_like(mask) for name, mask in masks.items()}
    sources = (with_masks(found, masks), with_masks(found, nothing, "b" * 64))
    two = replace(given, sources=sources, masks={HASH: masks, "b" * 64: nothing})
    assert keep_maps(two)[0, (3, 3)].tolist() == (expected / 2).tolist()


def crosses(found: Structure) -> dict[str, torch.Tensor]:
    """Kernels of which stage 0 keeps the middle column, others the cross, each with a probability of its stage."""
    generator = torch.Generator().manual_seed(3)
    masks = {}
    for name, stage in weight_stages(found).items():
        mask = torch.rand(found.shapes[name], generator=generator) < 0.9 / (1 + stage)
        mask[:, :, :, [0, 2]] = False
        if stage:
            mask |= torch.rand(mask.shape, generator=generator) < torch.tensor([[0, 0, 0], [0.4, 0, 0.4], [0, 0, 0]])
        masks[name] = mask
    return masks


@pytest.mark.parametrize("target", ["pruneas:vgg16(width=0.25)", "pruneas:vgg19(width=0.25, classes=100)"])
def test_drawn_masks_have_the_maps_of_their_sources(target: str) -> None:
    """At a budget of as much as the maps keep: places that sources never keep are not kept, others as often."""
    source, found = structure("pruneas:vgg16(width=0.25)"), structure(target)
    masks = crosses(source)
    given = task_for(found, sources=(with_masks(source, masks),), masks={HASH: masks})
    maps = keep_maps(given)
    # The expected cost of masks of these maps, by hand: dense FLOPs of each layer times the mean of its stage's map.
    most = given.model.base.flops
    stages = weight_stages(found)
    for operation in found.operations:
        if operation.kind == "conv":
            kept = maps[stages[operation.weight], (3, 3)].mean()
            places = int(np.prod(operation.map_size))
            most -= int((1 - kept) * places * np.prod(found.shapes[operation.weight]))
    drawn = METHODS["guided-sparsity"](replace(given, limits=Limits({"flops": most})))
    assert drawn.masks is not None
    again = replace(given, sources=(with_masks(found, drawn.masks),), masks={HASH: drawn.masks})
    for key, probable in keep_maps(again).items():
        num_kernels = sum(int(np.prod(found.shapes[name][:2])) for name, stage in stages.items() if stage == key[0])
        spread = 4 * np.sqrt(probable * (1 - probable) / num_kernels) + 0.01
        assert (np.abs(probable - maps[key]) <= spread).all()
        assert (probable[maps[key] == 0] < 0.01).all()  # a layer's most lasting weight stays, whatever the map


def test_budgets_scale_the_probabilities_alike() -> None:
    found = structure("pruneas:vgg16(width=0.25)")
    masks = crosses(found)
    given = task_for(found, sources=(with_masks(found, masks),), masks={HASH: masks})
    nested: dict[str, torch.Tensor] | None = None
    for share in (0.05, 0.1, 0.3):
        drawn = METHODS["guided-sparsity"](
            replace(given, limits=Limits({"flops": int(share * given.model.base.flops)}))
        )
        assert drawn.masks is not None
        assert masked_cost(found, given.model, drawn.masks, "flops") == pytest.approx(
            share * given.model.base.flops, rel=1e-3
        )
        if nested is not None:  # the same draw: what stays at a small budget stays at a larger one
            assert all((drawn.masks[name] | ~mask).all() for name, mask in nested.items())
        nested = dict(drawn.masks)
    other = METHODS["guided-sparsity"](
        replace(given, limits=Limits({"flops": int(0.3 * given.model.base.flops)}), seed=1)
    )
    assert other.masks is not None and nested is not None
    assert any(not torch.equal(other.masks[name], mask) for name, mask in nested.items())


def test_kernels_that_sources_do_not_have_count_as_whole() -> None:
    """Depthwise's point-wise convolution, from a source with 3 x 3 kernels alone."""
    source, found = structure_of("Chain"), structure_of("Depthwise")
    masks = {name: torch.zeros_like(mask) for name, mask in whole(source).items()}
    given = task_for(found, sources=(with_masks(source, masks),), masks={HASH: masks})
    drawn = METHODS["guided-sparsity"](replace(given, limits=Limits({"flops": given.model.base.flops - 143 * 100})))
    assert drawn.masks is not None
    assert drawn.masks["point.0.weight"].all()
    assert sum(int((~mask).sum()) for mask in drawn.masks.values()) == 100


def test_sources_must_have_masks(task: Tasks) -> None:
    given = replace(task("Chain"), masks={})
    with pytest.raises(
        StructureError, match=r"guided-sparsity needs sources with masks; that of tests\.nets:Chain has none"
    ):
        METHODS["guided-sparsity"](given)
