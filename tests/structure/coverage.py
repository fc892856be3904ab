"""How much of a network can change, and whether all that is said of it holds.

`coverage.json` lists the networks that were tried. An entry is measured by

    python -m tests.structure.coverage 'torchvision:resnet18' 3x64x64 convolutional
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from pruneas.architecture import Input, Inputs, Reference
from pruneas.cost.count import count
from pruneas.cost.model import CostModel
from pruneas.networks import make, tensors_of
from pruneas.structure.build import build_widths, structure_of
from pruneas.structure.confirm import confirmed
from pruneas.structure.dye import OUTPUT
from pruneas.structure.groups import UNUSED, Structure

LIST = Path(__file__).with_name("coverage.json")
Kind = Literal["convolutional", "attention", "hybrid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A network that was tried: `share` is the least of its channels that must be able to change, `why` it is low."""

    network: str
    input: str
    kind: Kind
    groups: int
    share: float
    why: str = ""

    @property
    def reference(self) -> Reference:
        return Reference.parse(self.network)

    @property
    def inputs(self) -> Inputs:
        return tuple(Input.parse(text) for text in self.input.split(" "))


def entries() -> list[Entry]:
    return [Entry(**entry) for entry in json.loads(LIST.read_text(encoding="utf-8"))]


def share(structure: Structure) -> float:
    """How many output channels of weights can change, of those that are not the network's output or never run.

    Weights are parameters of two dimensions or more, their output channels the first.
    """
    free = [index for index, group in enumerate(structure.groups) if group.name not in structure.frozen]
    weights = {name for name in structure.learned if len(structure.shapes.get(name, ())) > 1}
    changing = sum(int(np.isin(structure.layouts[name, 0].groups, free).sum()) for name in weights)
    every = sum(structure.shapes[name][0] for name in weights)
    given = sum(
        f.size for f in structure.fixed if f.parameter in weights and f.dim == 0 and f.reason in (OUTPUT, UNUSED)
    )
    return changing / max(1, every - given)


def random_widths(structure: Structure, seed: int) -> dict[str, int]:
    """For every group that is free a width from a quarter of the base's up, at least two: one has no dyes."""
    rng = np.random.default_rng(seed)
    return {
        name: width if name in structure.frozen else int(rng.integers(max(2, -(-width // 4)), max(2, width) + 1))
        for name, width in structure.widths.items()
    }


def hold(reference: Reference, inputs: Inputs, *, seed: int) -> Structure:
    """Trace, confirm and price a network, then build a random architecture of it and hold it to all of that.

    Raises AssertionError, or the error of what fails.
    """
    network = make(reference)
    structure = confirmed(structure_of(network, reference, inputs))
    model = CostModel.of(structure, network)
    base = count(network, inputs)
    assert int(model.flops(model.base_widths)) == base.flops == sum(base.by_kind.values())
    del network  # the largest take gigabytes

    widths = random_widths(structure, seed)
    built = build_widths(structure, widths, seed=seed)
    recounted = count(built, inputs)
    vector = model.vector(widths)
    assert (int(model.flops(vector)), int(model.params(vector))) == (recounted.flops, recounted.params)
    assert structure_of(built, reference, inputs).widths == widths

    both_ways(built, inputs)
    return structure


def both_ways(network: torch.nn.Module, inputs: Inputs) -> None:
    """One pass forward and backward in training mode, on a batch of two: everything that is learned gets a gradient."""
    generator = torch.Generator().manual_seed(0)
    batch = [
        torch.randn(2, *each.shape, generator=generator)
        if each.dtype == "float32"
        else torch.randint(2, (2, *each.shape), generator=generator)
        for each in inputs
    ]
    outputs = tensors_of(network.train()(*batch))
    torch.stack([tensor.square().sum() for tensor in outputs if tensor.requires_grad]).sum().backward()
    grads = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert len(grads) > 0


if __name__ == "__main__":
    network, size, kind = sys.argv[1:]
    torch.set_num_threads(1)
    found = hold(Reference.parse(network), tuple(Input.parse(text) for text in size.split(" ")), seed=0)
    measured = np.floor(share(found) * 100) / 100
    print(json.dumps({"network": network, "input": size, "kind": kind, "groups": len(found.groups), "share": measured}))
