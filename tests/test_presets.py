"""The presets: up to date with the networks they name, and of the published sizes."""

import json
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import pruneas
from pruneas.architecture import Architecture
from pruneas.cost.count import count
from pruneas.errors import ArchitectureError
from pruneas.structure.build import build_widths
from pruneas.structure.replay import uninitialised
from pruneas.subject import Subject
from tests.presets import FOLDER, RESNET50_2X, TARGETS, structure_of


@dataclass(frozen=True)
class Figures:
    """Learned parameters, multiply-adds of convolutions and linear layers, and fvcore's total, which counts batch norm
    and adaptive pooling as well. `as_printed`: what papers and the digest of their code print of the first two; where
    that is a ratio, how many multiply-adds of the whole network there are to one of these."""

    params: int
    products: int
    total: int
    as_printed: tuple[str | None, str | float]


FIGURES = {
    "vgg16-a": Figures(5_397_034, 206_279_680, 206_738_432, ("5.397 M", "206.28 M")),
    "resnet56-a": Figures(773_336, 112_435_840, 113_449_472, ("0.77 M", "112.44 M")),
    "resnet56-b": Figures(735_712, 90_907_264, 91_790_848, ("0.74 M", "90.91 M")),
    "resnet110-a": Figures(1_688_522, 212_779_648, 214_602_368, ("1.69 M", "212.78 M")),
    "resnet110-b": Figures(1_168_424, 155_124_352, 156_790_400, ("1.17 M", "155.12 M")),
    "resnet34-a": Figures(20_151_764, 3_100_184_576, 3_107_191_968, ("20.15 M", "3100.2 M")),
    "resnet34-b": Figures(19_469_372, 2_782_269_440, 2_788_966_368, ("19.47 M", "2782.3 M")),
    "vgg-conv": Figures(131_452_552, 4_791_205_888, 4_791_230_976, ("131.45 M", "9.58 G FLOPs")),
    "vgg-gap": Figures(8_322_696, 4_668_084_224, 4_668_184_576, ("8.32 M", "9.34 G FLOPs")),
    "vgg-tiny": Figures(1_325_368, 1_004_578_816, 1_004_628_992, ("1.325 M", "2.01 G FLOPs")),
    "resnet50-30": Figures(8_669_158, 1_166_283_835, 1_183_991_357, ("8.67 M", 3.48)),
    "resnet50-50": Figures(12_385_704, 1_822_031_872, 1_841_073_664, ("12.39 M", 2.24)),
    "resnet50-70": Figures(16_949_086, 2_601_392_356, 2_621_706_776, ("16.95 M", 1.569)),
    "vgg16-5x": Figures(130_879_294, 3_515_283_520, 3_515_308_608, ("130.88 M", 4.40)),
    "resnet50-2x": Figures(19_697_424, 2_730_129_076, 2_751_307_072, (None, 1.495)),
    # The digest's 25.36 M are those of a ResNet-50 without pre-activation, its 14.29 and 14.94 M hold the running
    # statistics of batch norm, as MXNet's files do: see `test_parameters_of_blocks_that_are_left`.
    "resnet41": Figures(25_351_080, 3_472_621_568, 3_486_721_024, (None, "3.473 G")),
    "resnet32": Figures(14_261_928, 2_817_523_712, 2_832_225_280, (None, "2.818 G")),
    "resnet26": Figures(14_915_496, 2_278_031_360, 2_288_819_200, (None, "2.278 G")),
}
RESNET50 = 4_089_184_256
WHOLE = {
    "torchvision:vgg16": 15_470_264_320,
    "pruneas:resnet50(downsample_bias=True)": RESNET50,
    "pruneas:resnet50(downsample_bias=True, selection=True)": RESNET50,
}


def printed(value: int, as_in: str) -> str:
    """A number with the unit and the decimals of another one; 'FLOPs' are two a multiply-add."""
    number, unit, *twice = as_in.split()
    decimals = len(number.partition(".")[2])
    scaled = value * (2 if twice else 1) / {"M": 1e6, "G": 1e9}[unit]
    return " ".join([f"{scaled:.{decimals}f}", unit, *twice])


def built(name: str) -> nn.Module:
    architecture = Architecture.load(f"preset:{name}")
    with uninitialised():
        structure = structure_of(TARGETS[name].network)
        return build_widths(structure, architecture.widths, architecture.removed, architecture.selections)


@pytest.mark.parametrize("name", TARGETS)
def test_files_are_what_the_script_writes(name: str) -> None:
    """Where this fails, a network's structure has changed: `python -m tests.presets` writes the files anew."""
    written, found = (
        json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")),
        json.loads(TARGETS[name].to_json()),
    )
    for text in (written, found):
        del text["architecture"]["provider"]  # the version of torchvision is the machine's
    assert written == found


@pytest.mark.parametrize("name", TARGETS)
def test_presets_have_the_published_sizes(name: str) -> None:
    figures = FIGURES[name]
    found = count(built(name), Architecture.load(f"preset:{name}").inputs)
    assert (found.params, found.by_kind["conv"] + found.by_kind["linear"], found.flops) == (
        figures.params,
        figures.products,
        figures.total,
    )
    params, products = figures.as_printed
    assert params is None or printed(found.params, params) == params
    if isinstance(products, str):
        assert printed(figures.products, products) == products
    else:  # a ratio of FLOPs that hold batch norm and ReLU, too, which differ by less than a hundredth
        assert WHOLE[TARGETS[name].network] / figures.products == pytest.approx(products, rel=0.01)


def test_parameters_of_blocks_that_are_left() -> None:
    """14.29 M and 14.94 M with the running statistics of batch norm, as the digest has them and MXNet stores them."""
    for name, stored in (("resnet32", "14.29 M"), ("resnet26", "14.94 M")):
        statistics = sum(buffer.numel() for key, buffer in built(name).named_buffers() if "running" in key)
        assert printed(FIGURES[name].params + statistics, stored) == stored


def test_every_file_is_of_the_script() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(TARGETS)
    assert pruneas.presets() == {name: TARGETS[name].summary for name in sorted(TARGETS)}
    assert all("\n" not in summary and len(summary) < 120 for summary in pruneas.presets().values())


def test_presets_are_built_like_any_architecture() -> None:
    network = Architecture.load("preset:vgg16-a").build(seed=0)
    assert network.features[0].out_channels == 32
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_2x_network_reads_the_channels_of_the_released_one() -> None:
    """The first and last of the 16 filters of filter.pkl: 35 of 64 channels, and 1,147 of 2,048."""
    selections = Architecture.load("preset:resnet50-2x").selections
    assert [len(kept) for kept in selections.values()] == [read for read, *_ in RESNET50_2X]
    assert selections["layer1.0.select"][:4] == (0, 4, 9, 10) and selections["layer4.2.select"][:4] == (0, 4, 5, 6)
    network = Architecture.load("preset:resnet50-2x").build()
    assert tuple(network.layer3[5].select.index.tolist()) == selections["layer3.5.select"]
    params = 9408 + 128 + 2048 * 1000 + 1000  # the stem, its batch norm and the classifier
    for (read, one, two), out in zip(RESNET50_2X, [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3, strict=True):
        params += read * one + 9 * one * two + two * out + 2 * (one + two + out)
    params += sum(into * out + out + 2 * out for into, out in ((64, 256), (256, 512), (512, 1024), (1024, 2048)))
    assert params == FIGURES["resnet50-2x"].params


def test_presets_name_their_network() -> None:
    found = Subject.of("preset:resnet34-a")
    assert str(found.network) == "torchvision:resnet34"
    assert [str(each) for each in found.inputs] == ["3x224x224"]


def test_unknown_presets_are_told_with_near_names() -> None:
    with pytest.raises(
        ArchitectureError, match=r"^preset:vgg16a: there is no preset called 'vgg16a'; did you mean vgg"
    ):
        Architecture.load("preset:vgg16a")
    with pytest.raises(ArchitectureError, match=r"there are resnet110-a, resnet110-b, .*vgg16-a$"):
        Subject.of("preset:xyzzy")
