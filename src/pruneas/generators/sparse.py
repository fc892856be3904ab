"""Masks of convolution weights: the least important ones of the whole network go until the budget fits.

What remains of each layer is also read as widths. A layer of which a share d of the weights is left holds as many as
one that reads and writes sqrt(d) of the channels. So a group's width is its base's times the geometric mean of sqrt(d)
over the convolutions that write, read or filter its channels, d being the density among the weights of those channels;
that shape is projected onto the budget. (Solving for the widths whose layers hold exactly what the masks leave is no
choice: in a chain of layers such widths swing from group to group.)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from pruneas.cost.masked import uses
from pruneas.cost.projection import Shape
from pruneas.generators.method import Generated, Task
from pruneas.structure.groups import Group, Structure
from pruneas.structure.masks import Masks

Importance = Mapping[str, npt.NDArray[np.floating]]
"""For convolution weights by name the importance of each element: larger stays."""


def convolutions(structure: Structure) -> list[str]:
    """The names of the weights of convolutions, in the order in which they run.

    Those that are made of others (standardised ones) are none: a mask on what they are made of is none on them.
    """
    return list(dict.fromkeys(o.weight for o in structure.operations if o.weight is not None))


def sparse(task: Task, importance: Importance) -> Generated:
    """The masks that leave what the budget allows, or without the share of all weights; and their widths.

    Every layer keeps at least its most important weight. Where a budget is below what nothing masks (normalisation,
    linear layers), or limits nothing that masks change (memory, latency), there are no masks, and the widths are
    uniform scaling's.
    """
    masks = cut(task, importance)
    if masks is None:
        why = "leaves less than what nothing masks costs" if task.limits.counted else "limits nothing that masks change"
        return Generated(
            widths=task.uniform(), notes=(f"no masks: the budget {why}; its widths are uniform scaling's",)
        )
    return Generated(widths=task.project(shape_of(task.structure, masks)), masks=masks)


def cut(task: Task, importance: Importance) -> dict[str, torch.Tensor] | None:
    """One threshold for all weights. Equal ones go in the order of layers and positions."""
    names = list(importance)
    values = np.concatenate([importance[name].ravel() for name in names] or [np.zeros(0)])
    sizes = np.array([importance[name].size for name in names], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    spared = [start + int(importance[name].argmax()) for start, name in zip(starts, names, strict=True)]
    keep = np.ones(len(values), dtype=np.bool_)
    if task.share is not None:
        # The paper's: everything up to and with the value at this position goes.
        position = min(int(len(values) * task.share), len(values) - 1)
        keep = values > np.partition(values, position)[position]
        keep[spared] = True
    else:
        order = np.argsort(values, kind="stable")
        order = order[~np.isin(order, spared)]
        each = uses(task.structure)
        number = 0
        for quantity, most in task.limits.counted.items():
            price = np.repeat([each[name] if quantity == "flops" else 1 for name in names], sizes)
            saved = np.cumsum(price[order])
            excess = task.model.base_cost(quantity) - most
            if excess > 0:
                number = max(number, int(np.searchsorted(saved, excess)) + 1)  # the fewest that save the excess
        if number > len(order) or not task.limits.counted:
            return None
        keep[order[:number]] = False
    parts = np.split(keep, starts[1:])
    return {
        name: torch.from_numpy(part.reshape(importance[name].shape).copy())
        for name, part in zip(names, parts, strict=True)
    }


def shape_of(structure: Structure, masks: Masks) -> Shape:
    """What masks leave, as widths: the rule above. Groups that no masked weight belongs to count as whole. (groups,)"""
    counts = {name: mask.numpy() for name, mask in masks.items()}
    return np.array(
        [group.width * _share(structure, index, group, counts) for index, group in enumerate(structure.groups)]
    )


def _share(structure: Structure, index: int, group: Group, masks: Mapping[str, npt.NDArray[np.bool_]]) -> float:
    logs = []
    for member in group.members:
        if member.parameter in masks:
            mask = masks[member.parameter]
            mine = structure.layouts[member.parameter, member.dim].groups == index
            part = np.compress(mine, mask, axis=member.dim)
            logs.append(np.log(max(1, int(part.sum())) / part.size))
    return float(np.exp(np.mean(logs) / 2)) if logs else 1.0
