"""What a text names: a network, an architecture file or preset, or a search space, and so which network at which input.

No torch until torchvision or timm is asked for a network's usual input, so that what is wrong is answered at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pruneas.architecture import Architecture, Input, Inputs, Reference
from pruneas.catalogue import LARGE_IMAGES
from pruneas.config import Space, shipped_spaces
from pruneas.errors import NetworkError
from pruneas.preset import PREFIX
from pruneas.trust import package_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A network and its inputs; `widths` are the rules of the search space that named it.

    A network that a file of somebody else named is not `trusted`.
    """

    network: Reference
    inputs: Inputs
    widths: Mapping[str, Any] = field(default_factory=dict)
    trusted: bool = True

    @classmethod
    def of(cls, text: str, inputs: Sequence[Input] = (), *, trust: str | Collection[str] = ()) -> Subject:
        """What `text` names; `inputs`, where given, hold instead of those that come with it. An architecture file may
        name factories of the packages in `trust`, beside those that everybody has.

        A network's own input, where none is given: 3x32x32 for pruneas' zoo (whose `channels` counts), but 3x224x224
        for its networks of large images; what torchvision's and timm's are used with. Raises an InputError for what is
        none of the three, and where no input is known.
        """
        shipped = shipped_spaces()
        is_file = Path(text).suffix in (".json", ".toml") and ":" not in Path(text).name
        if is_file and text not in shipped and not Path(text).is_file():
            raise NetworkError(f"{text}: there is no such file")
        if text.startswith(PREFIX) or (is_file and Path(text).suffix == ".json"):
            architecture = Architecture.load(text, trust=trust)
            architecture.check_trust()
            return cls(
                network=architecture.network,
                inputs=tuple(inputs) or architecture.inputs,
                trusted=package_of(architecture.network.name) in architecture.trust,
            )
        if is_file or text in shipped:
            space = Space.load(text)
            network = Reference.parse(space.network.reference)
            widths = space.widths.model_dump()
            return cls(network=network, inputs=tuple(inputs) or (Input(space.network.input),), widths=widths)
        if ":" not in text:
            raise NetworkError(
                f"{text!r} names nothing: give a network such as 'torchvision:resnet50', 'pruneas:vgg16(width=0.25)' "
                "or 'package.module:factory', an architecture file (.json) or preset (preset:NAME), or a search space "
                f"({', '.join(shipped)}, or a .toml file)"
            )
        network = Reference.parse(text)
        return cls(network=network, inputs=tuple(inputs) or usual_inputs(network))


def usual_inputs(network: Reference) -> Inputs:
    """The input of a zoo's networks. Raises NetworkError for other networks, whose inputs nobody knows."""
    zoo, _, name = network.name.partition(":")
    if zoo == "pruneas":
        channels = network.arguments.get("channels", 3)
        side = 224 if name in LARGE_IMAGES else 32
        return (Input((channels if isinstance(channels, int) and channels > 0 else 3, side, side)),)
    if zoo in ("torchvision", "timm"):
        from pruneas.networks import usual_shape  # these know their networks' own, and bring torch

        return (Input(usual_shape(network)),)
    raise NetworkError(
        f"network {network}: its input must be given, its sizes without the batch: --input 3x224x224, or --input "
        "128:int64 for indices, once for each argument of its forward; in Python inputs=['3x224x224']"
    )
