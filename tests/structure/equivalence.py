"""A network that keeps all its channels and blocks, but in which nobody reads those that a smaller one has dropped."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruneas.structure.groups import Structure


def lively(network: nn.Module, seed: int) -> nn.Module:
    """In evaluation mode, with batch norms that shift and scale every channel differently."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


def calibrated(network: nn.Module, images: torch.Tensor) -> nn.Module:
    """The same network in evaluation mode, with the batch norms' statistics those of these images.

    Without that, signals die out over many layers, and what comes out is the same for all images.
    """
    norms = [module for module in network.eval().modules() if isinstance(module, _BatchNorm)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        network(images)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.eval()
        norm.momentum = momentum
    return network


def silenced(
    network: nn.Module, structure: Structure, keep: Mapping[str, Sequence[int]], removed: Collection[str] = ()
) -> nn.Module:
    """The same network where no weight reads a dropped channel, and removed blocks' branches, which have to end in a
    batch norm, add zeros."""
    parameters = dict(network.named_parameters())
    for index, group in enumerate(structure.groups):
        dropped = torch.ones(group.width, dtype=torch.bool)
        dropped[list(keep[group.name])] = False
        for member in group.members:
            if member.role == "in":
                layout = structure.layouts[member.parameter, member.dim]
                mine = torch.from_numpy(layout.groups == index)
                gone = mine.clone()
                gone[mine] = dropped[torch.from_numpy(layout.positions)[mine]]
                parameters[member.parameter].data.transpose(0, member.dim)[gone] = 0.0
    for block in structure.blocks:
        if block.name in removed:
            norms = [name for name, module in network.named_modules() if isinstance(module, _BatchNorm)]
            last = [name for name in norms if f"{name}.weight" in block.parameters][-1]
            nn.init.zeros_(parameters[f"{last}.weight"])
            nn.init.zeros_(parameters[f"{last}.bias"])
    return network
