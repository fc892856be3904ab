"""Which batch-norm scales speak for which channels."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruneas.structure.groups import Member, Structure


def batch_norm_scales(structure: Structure, network: nn.Module) -> dict[str, dict[Member, str]]:
    """For every group its members that a batch norm scales, each with the name of the scale.

    That is the member itself where it is a scale; where it is a channel selection, the scale of the batch norm whose
    output it selects from: what it drops there, nobody else reads [Liu2017, section 3].
    """
    scales = {
        f"{name}.weight" for name, each in network.named_modules() if isinstance(each, _BatchNorm) and each.affine
    }
    named = {name: f"{source}.weight" for name, source in structure.selections.items()}
    return {
        group.name: {
            member: scale
            for member in group.members
            if (scale := named.get(member.parameter, member.parameter)) in scales
        }
        for group in structure.groups
    }
