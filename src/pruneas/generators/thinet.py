"""ThiNet [Luo2017]: channels go that the next layer misses least; it makes up for them by weighing the others.

A row is one output of the next layer, of a random filter at a random place of a training image: the sum over input
channels c of x_c, what its kernel makes of channel c. Greedily, the channel goes whose joining the removed ones leaves
their sum smallest, in squares over all rows; then the next layer's slices of the channels that stay are scaled so that
they add up to the output as nearly as they can. Both follow from the Gram matrix of the rows, which is all that is
kept of them: it grows with the channels, not with the images.

Departures: widths are uniform scaling's, solved from the budget (the paper sets rates by hand and leaves some layers
whole). All rows are taken from the base network in one pass, so that a layer does not see what is lost before it; the
paper takes them layer by layer and trains in between. Where several layers read a group, they choose with all their
rows together, and each is scaled by its own. Outputs of a layer that reads several groups (concatenated) are made up
for group by group. Directions that the rows do not show keep a scale of one. What counts as a next layer, and what is
done without one: see `readers`.

[Luo2017] ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression, arXiv 1707.06342
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from pruneas.generators.l1 import norms
from pruneas.generators.method import Generated, Method, Task
from pruneas.generators.ranking import Ranking, Scores, filter_scores
from pruneas.generators.readers import (
    BATCH,
    captured,
    kernels,
    notes_on,
    position_of,
    random_places,
    readers_of,
    rows,
    windows,
    with_tensor,
)
from pruneas.structure.build import inherit
from pruneas.structure.groups import Group

IMAGES = 5000
Gram = npt.NDArray[np.float64]
"""Sums over rows of x_c * x_d, for channels c and d of a group. Shape (width, width)."""


def generate(task: Task) -> Generated:
    """Choose channels by what their readers make of them, and scale what is left of the readers' weights."""
    assert task.state is not None
    structure, grams = task.structure, reader_grams(task)
    scores = {group.name: _scores(task, group, grams[group.name]) for group in structure.groups}
    ranking = Ranking(scores=scores, scope="layer")
    widths, keep = task.walk(ranking)
    state = dict(task.state)
    for group in structure.groups:
        for name, gram in grams[group.name].items():
            of_index = np.append(scales(gram, keep[group.name]), 1.0)[position_of(structure, group, name)]
            weight = state[name]
            factors = torch.from_numpy(of_index).to(weight).reshape(-1, *(1,) * (weight.ndim - 2))
            state = with_tensor(structure, state, name, weight * factors)
    unread = [name for name in task.changing if not _together(grams[name]).any()]
    state = inherit(structure, state, keep)
    return Generated(widths=widths, keep=keep, ranking=ranking, state=state, notes=notes_on(unread))


def reader_grams(task: Task) -> dict[str, dict[str, Gram]]:
    """The Gram matrix of each group's rows in each of the weights that read it, by group and weight."""
    network = task.network().to(task.device).eval()
    generator = torch.Generator().manual_seed(task.seed)
    groups = {group.name: group for group in task.structure.groups if group.name in task.changing}
    readers = {name: readers_of(task.structure, group, network) for name, group in groups.items()}
    grams: dict[str, dict[str, Gram]] = {group.name: {} for group in task.structure.groups}
    modules = {module: weight for each in readers.values() for weight, held in each.items() for module in held}
    for images, _ in task.some_images(int(task.option("images", IMAGES)), BATCH):
        for module, inputs in captured(network, modules, images).items():
            weight = modules[module]
            reading = [group for name, group in groups.items() if weight in readers[name]]
            for given in inputs:
                contributions = _contributions(network.get_submodule(module), given, generator)
                for group in reading:
                    gram = _gram(contributions, position_of(task.structure, group, weight), group.width)
                    grams[group.name][weight] = grams[group.name].get(weight, 0.0) + gram
    return grams


def removal_order(gram: Gram) -> list[int]:
    """Channels in the order in which they go: the next one leaves the sum of all that are gone smallest."""
    order: list[int] = []
    of_sum = np.zeros(len(gram))  # the inner products of every channel with the sum of those that are gone
    left = np.ones(len(gram), dtype=np.bool_)
    while left.any():
        grows = np.where(left, np.diag(gram) + 2 * of_sum, np.inf)  # by how much the square of that sum does
        order.append(int(grows.argmin()))
        left[order[-1]] = False
        of_sum += gram[:, order[-1]]
    return order


def scales(gram: Gram, kept: Sequence[int]) -> npt.NDArray[np.float64]:
    """What to multiply each kept channel by, so that they add up to the sum of all; 1 for the others. Shape (width,).

    Least squares for the difference from 1, of which the smallest where several are as good.
    """
    found = np.ones(len(gram))
    stays = np.isin(np.arange(len(gram)), kept)
    found[stays] += np.linalg.lstsq(gram[stays][:, stays], gram[stays][:, ~stays].sum(1), rcond=1e-10)[0]
    return found


def _scores(task: Task, group: Group, grams: Mapping[str, Gram]) -> Scores:
    """When each channel goes, or its filters' L1 norm where no reader says anything. Shape (width,)."""
    gram = _together(grams)
    if not gram.any():
        return filter_scores(task.structure, group, task.state or {}, norms)
    scores = np.empty(group.width)
    scores[removal_order(gram)] = np.arange(group.width)
    return scores


def _together(grams: Mapping[str, Gram]) -> Gram:
    """The Gram matrix of all rows in all readers: zero where there are none."""
    return sum(grams.values(), start=np.zeros((1, 1)))


def _contributions(module: torch.nn.Module, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The terms x_c of the module's outputs, of random filters at random places. Shape (rows, inputs of a filter)."""
    view, filters = windows(module, inputs), kernels(module)
    seen = rows(view, module, random_places(view, module, generator))
    chosen = torch.randint(len(filters), (len(seen),), generator=generator).to(seen.device)
    part = chosen * seen.shape[1] // len(filters)
    return (seen[torch.arange(len(seen), device=seen.device), part] * filters[chosen]).sum(-1)


def _gram(contributions: torch.Tensor, position: npt.NDArray[np.int64], width: int) -> Gram:
    mine = torch.from_numpy(np.flatnonzero(position >= 0)).to(contributions.device)
    channel = torch.from_numpy(position[position >= 0]).to(contributions.device)
    of_channel = contributions.new_zeros(len(contributions), width)
    of_channel.index_add_(1, channel, contributions[:, mine])
    gram: Gram = (of_channel.T @ of_channel).cpu().numpy()
    return gram


METHOD = Method(
    name="thinet",
    summary="what the next layer misses least goes, scaled to make up; uniform scaling's widths (Luo 2017)",
    needs=frozenset({"weights", "data"}),
    generate=generate,
    options=frozenset({"images"}),
    uniform_widths=True,
)
