"""What the presets are made of, and the script that writes their files: `python -m tests.presets`.

Widths are those of [Liu2019], "Rethinking the Value of Network Pruning", arXiv 1810.05270, and of its released code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pruneas
from pruneas.architecture import Architecture, Reference, short_lists
from pruneas.structure.build import Keep, analyse, describe
from pruneas.structure.groups import Structure
from pruneas.subject import usual_inputs

FOLDER = Path(pruneas.__file__).parent / "presets"
Widths = Callable[[Structure], Mapping[str, int]]
"""From a network's structure to the widths of the groups that change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A published architecture: the network it prunes, the widths it leaves, and the blocks whose branches go.

    `keep` gives what its channel selections take, where it has some.
    """

    network: str
    summary: str
    source: str
    widths: Widths = lambda _: {}
    removed: tuple[str, ...] = ()
    keep: Callable[[], Keep] | None = None
    note: str = ""

    def architecture(self) -> Architecture:
        structure = structure_of(self.network)
        keep = None if self.keep is None else self.keep()
        return describe(structure, {**structure.widths, **self.widths(structure)}, self.removed, keep)

    def to_json(self) -> str:
        """The text of a preset's file."""
        said = {"summary": self.summary, "source": self.source, **({"note": self.note} if self.note else {})}
        text = json.dumps({**said, "architecture": json.loads(self.architecture().to_json())}, indent=2)
        return short_lists(text) + "\n"


@cache
def structure_of(network: str) -> Structure:
    reference = Reference.parse(network)
    return analyse(reference, usual_inputs(reference))


def in_order(*widths: int, pattern: str) -> Widths:
    """Widths of the groups whose whole name matches, in the network's order."""

    def find(structure: Structure) -> dict[str, int]:
        return dict(zip([name for name in structure.widths if re.fullmatch(pattern, name)], widths, strict=True))

    return find


def convolutions(*widths: int) -> Widths:
    """Widths of the 13 convolutions of VGG-16."""
    return in_order(*widths, pattern=r"features\.\d+")


def first_of_blocks(*stages: Sequence[int]) -> Widths:
    """Widths of the first convolution of every block. The second one adds to the stream, which stays."""
    return in_order(*(width for stage in stages for width in stage), pattern=r".*\.conv1")


def inner_of_bottlenecks(*stages: int) -> Widths:
    """Widths of the first two convolutions of every bottleneck of ResNet-50, one a stage."""
    repeated = [width for width, units in zip(stages, (3, 4, 6, 3), strict=True) for _ in range(2 * units)]
    return in_order(*repeated, pattern=r".*\.conv[12]")


def selecting_bottlenecks(*blocks: tuple[int, int, int]) -> Widths:
    """Widths of ResNet-50's bottlenecks: what the branch reads of the stream, and its first two convolutions."""
    names = [f"layer{stage}.{unit}" for stage, units in enumerate((3, 4, 6, 3), start=1) for unit in range(units)]
    layers = ("select", "conv1", "conv2")
    return lambda _: {
        f"{name}.{layer}": width
        for name, widths in zip(names, blocks, strict=True)
        for layer, width in zip(layers, widths, strict=True)
    }


def left_in_stages(*stages: tuple[int, bool]) -> tuple[str, ...]:
    """The blocks that are removed from ResNet-50 where (branches left, whether the first is among them) are given."""
    removed = []
    for stage, ((left, first), units) in enumerate(zip(stages, (3, 4, 6, 3), strict=True), start=1):
        stays = range(left) if first else range(1, left + 1)
        removed += [f"layer{stage}.{unit}" for unit in range(units) if unit not in stays]
    return tuple(removed)


L1 = "L1-norm filter pruning (Li 2017)"
CIFAR_VGG = "pruneas:vgg16(hidden=512, gamma=0.5)"
THINET_RESNET = "pruneas:resnet50(downsample_bias=True)"
SSS = "sparse structure selection (Huang 2018)"
ANY_BLOCK = "Which of the blocks behind the first of a stage survive does not change the size: here the foremost."

RESNET50_2X = (
    (35, 64, 55), (101, 51, 39), (97, 50, 37),
    (144, 128, 106), (205, 105, 72), (198, 105, 72), (288, 128, 110),
    (278, 256, 225), (418, 209, 147), (407, 204, 158), (423, 212, 155), (412, 211, 148), (595, 256, 213),
    (606, 512, 433), (1222, 512, 437), (1147, 512, 440),
)  # fmt: skip

TARGETS: Mapping[str, Target] = {
    "vgg16-a": Target(
        network=CIFAR_VGG,
        summary=f"VGG-16 for CIFAR, convolutions 1 and 8 to 13 halved: {L1}",
        source="Liu 2019, table 1; code: cifar/l1-norm-pruning/vggprune.py",
        widths=convolutions(32, 64, 128, 128, *[256] * 9),
    ),
    "resnet56-a": Target(
        network="pruneas:resnet56",
        summary=f"ResNet-56 for CIFAR, 10 % of the first convolution of most blocks: {L1}",
        source="Liu 2019, table 1; code: cifar/l1-norm-pruning/res56prune.py, 10/10/10 %, layers 16, 20, 38, 54 whole",
        widths=first_of_blocks([*[14] * 7, 16, 14], [32, *[28] * 8], [64, *[57] * 7, 64]),
    ),
    "resnet56-b": Target(
        network="pruneas:resnet56",
        summary=f"ResNet-56 for CIFAR, 60, 30 and 10 % of the first convolution of most blocks: {L1}",
        source="Liu 2019, table 1; code: cifar/l1-norm-pruning/res56prune.py, 60/30/10 %, layers 16, 18, 20, 34, 38, "
        "54 whole",
        widths=first_of_blocks([*[6] * 7, 16, 16], [32, *[22] * 6, 32, 22], [64, *[57] * 7, 64]),
    ),
    "resnet110-a": Target(
        network="pruneas:resnet110",
        summary=f"ResNet-110 for CIFAR, half of the first convolution of most blocks of the first stage: {L1}",
        source="Liu 2019, table 1; code: cifar/l1-norm-pruning/res110prune.py, 50/0/0 %, layer 36 whole",
        widths=first_of_blocks([*[8] * 17, 16], [32] * 18, [64] * 18),
    ),
    "resnet110-b": Target(
        network="pruneas:resnet110",
        summary=f"ResNet-110 for CIFAR, 50, 40 and 30 % of the first convolution of most blocks: {L1}",
        source="Liu 2019, table 1; code: cifar/l1-norm-pruning/res110prune.py, 50/40/30 %, layers 36, 38, 74 whole",
        widths=first_of_blocks([*[8] * 17, 16], [32, *[19] * 17], [64, *[44] * 17]),
    ),
    "resnet34-a": Target(
        network="torchvision:resnet34",
        summary=f"ResNet-34 for ImageNet, 30 % of the first convolution of many blocks: {L1}",
        source="Liu 2019, table 1; code: imagenet/l1-norm-pruning/prune.py, 30/30/30/0 %, layers 2, 8, 14, 16, 26, 28, "
        "30, 32 whole",
        widths=first_of_blocks([64, 44, 44], [128, 89, 89, 128], [256, *[179] * 4, 256], [512] * 3),
        note="Counted anew on the code's widths; Li 2017 print 19.9 M parameters and 3.08 G multiply-adds.",
    ),
    "resnet34-b": Target(
        network="torchvision:resnet34",
        summary=f"ResNet-34 for ImageNet, 50, 60 and 40 % of the first convolution of many blocks: {L1}",
        source="Liu 2019, table 1; code: imagenet/l1-norm-pruning/prune.py, 50/60/40/0 %, layers 2, 8, 14, 16, 26, 28, "
        "30, 32 whole",
        widths=first_of_blocks([64, 32, 32], [128, 51, 51, 128], [256, *[153] * 4, 256], [512] * 3),
        note="Counted anew on the code's widths; Li 2017 print 19.3 M parameters and 2.76 G multiply-adds.",
    ),
    "vgg-conv": Target(
        network="torchvision:vgg16",
        summary="VGG-16 for ImageNet, the first ten convolutions halved: ThiNet (Luo 2017)",
        source="Liu 2019, table 2; code: imagenet/thinet/models/thinetconv.py",
        widths=convolutions(32, 32, 64, 64, 128, 128, 128, 256, 256, 256, 512, 512, 512),
    ),
    "vgg-gap": Target(
        network="pruneas:vgg16_gap",
        summary="VGG-Conv with global average pooling in place of the large linear layers: ThiNet (Luo 2017)",
        source="Liu 2019, table 2; code: imagenet/thinet/models/thinetvgg.py",
        widths=convolutions(32, 32, 64, 64, 128, 128, 128, 256, 256, 256, 512, 512, 512),
    ),
    "vgg-tiny": Target(
        network="pruneas:vgg16_gap",
        summary="VGG-GAP narrowed to 1.3 M parameters: ThiNet (Luo 2017)",
        source="Liu 2019, table 2; code: imagenet/thinet/models/thinetvgg.py",
        widths=convolutions(16, 16, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 256),
    ),
    **{
        f"resnet50-{kept}": Target(
            network=THINET_RESNET,
            summary=f"ResNet-50 for ImageNet, {kept} % of the inner channels of every bottleneck: ThiNet (Luo 2017)",
            source="Liu 2019, table 2; code: imagenet/thinet/models/thinetresnet.py",
            widths=inner_of_bottlenecks(*stages),
            note="The code's shortcut convolutions have a bias, 3,840 parameters that torchvision's ResNet-50 lacks.",
        )
        for kept, stages in {30: (19, 38, 76, 153), 50: (32, 64, 128, 256), 70: (44, 89, 179, 358)}.items()
    },
    "vgg16-5x": Target(
        network="torchvision:vgg16",
        summary="VGG-16 for ImageNet, shallow convolutions cut hardest: channel pruning by regression (He 2017)",
        source="Liu 2019, table 3; code: imagenet/regression-pruning/models/vgg_5x.py",
        widths=convolutions(24, 22, 41, 51, 108, 89, 111, 184, 276, 228, 512, 512, 512),
        note="With the linear layers it costs 4.4 times less, not 5.",
    ),
    "resnet50-2x": Target(
        network="pruneas:resnet50(downsample_bias=True, selection=True)",
        summary="ResNet-50 for ImageNet, each branch reads a part of the stream: channel pruning (He 2017)",
        source="Liu 2019, table 3; code: imagenet/regression-pruning/models/resnet_2x.py and filter.pkl, which says "
        "which channels are read (MIT licence, Mingjie Sun 2018)",
        widths=selecting_bottlenecks(*RESNET50_2X),
        # Data of their own: the file holds what was read from filter.pkl, and keeps it.
        keep=lambda: Architecture.load("preset:resnet50-2x").selections,
        note="It costs 1.5 times less, not 2: the authors took the architecture of the model that He 2017 released.",
    ),
    "resnet41": Target(
        network="pruneas:preresnet50",
        summary=f"pre-activation ResNet-50 without the branches of its first stage: {SSS}",
        source="Liu 2019, table 5; code: imagenet/sparse-structure-selection/README.md, (0,F) (4,T) (6,T) (3,T)",
        removed=left_in_stages((0, False), (4, True), (6, True), (3, True)),
    ),
    "resnet32": Target(
        network="pruneas:preresnet50",
        summary=f"pre-activation ResNet-50 without six of its 16 branches: {SSS}",
        source="Liu 2019, table 5; code: imagenet/sparse-structure-selection/README.md, (1,F) (4,T) (4,T) (1,T)",
        removed=left_in_stages((1, False), (4, True), (4, True), (1, True)),
        note=f"{ANY_BLOCK} The 18.6 M parameters that Huang 2018 print do not fit the tuple; its 14.3 M, with the "
        "running statistics that MXNet stores as well, fit the released file of 55 MB.",
    ),
    "resnet26": Target(
        network="pruneas:preresnet50",
        summary=f"pre-activation ResNet-50 without eight of its 16 branches: {SSS}",
        source="Liu 2019, table 5; code: imagenet/sparse-structure-selection/README.md, (0,F) (2,F) (5,F) (1,T)",
        removed=left_in_stages((0, False), (2, False), (5, False), (1, True)),
        note=f"{ANY_BLOCK} Huang 2018 print 2.329 G multiply-adds, which (5,T) in the third stage would have; the "
        "tuple with (5,F) has 2.278 G. The tuple holds: its ratio to ResNet-50 gives the 179 Scratch-B epochs of the "
        "same README, and its 14.9 M parameters fit the released file of 57 MB.",
    ),
}


def write() -> None:
    for name, target in TARGETS.items():
        (FOLDER / f"{name}.json").write_text(target.to_json(), encoding="utf-8")


if __name__ == "__main__":
    write()
