"""Soft filter pruning [He2018]: at each epoch's end the weakest filters are set to zero, and may grow back.

The network is trained from scratch. Before the first epoch and after each, the last one included, the filters of
smallest L2 norm are zeroed in every layer, as many as the budget asks for; they get gradients like all others. What is
not zero at the end stays, with the weights it has then.

Departures: the share is uniform scaling's, solved from the budget. Channels that several layers write to (a residual
stream) are zeroed in all of them, by the mean of their norms after dividing each layer's by its mean; the paper ranks
each layer alone and needs additions by index. As in the paper, batch norm of zeroed filters is left alone, so they put
out a constant; it goes when they are taken out, and training the survivors on has to make up for it.

[He2018] Soft Filter Pruning for Accelerating Deep Convolutional Neural Networks, arXiv 1808.06866
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from pruneas.generators.method import Generated, Method, Task
from pruneas.generators.ranking import Ranking, filter_scores, producers
from pruneas.structure.build import Keep, inherit
from pruneas.structure.groups import Structure


def generate(task: Task) -> Generated:
    """Train the base network, zeroing its weakest filters each epoch; what is left at the end is the architecture."""
    assert task.train is not None
    network = task.network()
    rankings = [prune(task, network)]
    task.train(network, after_epoch=lambda _: rankings.append(prune(task, network)))
    ranking = rankings[-1]
    widths, keep = task.walk(ranking)
    state = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
    return Generated(widths=widths, keep=keep, ranking=ranking, state=inherit(task.structure, state, keep))


def prune(task: Task, network: nn.Module) -> Ranking:
    """Zero the filters of the channels that uniform scaling has no room for; the norms they were chosen by."""
    state = network.state_dict()
    scores = {group.name: filter_scores(task.structure, group, state, norms) for group in task.structure.groups}
    ranking = Ranking(scores=scores, scope="layer")
    _, keep = task.walk(ranking)
    zero(task.structure, network, keep)
    return ranking


def norms(filters: torch.Tensor) -> torch.Tensor:
    """The L2 norm of each filter [He2018, eq. 2]. (filters, weights each) -> (filters,)."""
    return filters.square().sum(1).sqrt()


@torch.no_grad()
def zero(structure: Structure, network: nn.Module, keep: Keep) -> None:
    """Set the filters that produce the other channels to zero."""
    for index, group in enumerate(structure.groups):
        for member in producers(structure, group):
            weight = network.get_parameter(member.parameter)
            layout = structure.layouts[member.parameter, member.dim]
            gone = (layout.groups == index) & ~np.isin(layout.positions, keep[group.name])
            weight.transpose(0, member.dim)[torch.from_numpy(gone).to(weight.device)] = 0.0


METHOD = Method(
    name="sfp",
    summary="training that zeroes the smallest filters each epoch; uniform scaling's widths (He 2018)",
    needs=frozenset({"training"}),
    generate=generate,
    uniform_widths=True,
)
