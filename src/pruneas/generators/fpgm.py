"""Filter pruning via the geometric median [He2019]: filters that are nearest to all others of their layer go.

What such a filter does, the others can stand in for; its norm does not matter.

Departures: the paper prunes the same share of every layer, softly, while training; and its code can mix the criterion
with the norm. Here the trained base is ranked once, by this criterion alone; scores are divided by their layer's mean
and compared over the whole network, or within layers with the option `layer`. In a residual stream the convolutions
that write to it vote with equal weight.

[He2019] Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration, arXiv 1811.00250
"""

import torch

from pruneas.generators.method import Generated, Method, Task
from pruneas.generators.ranking import Ranking, filter_scores


def generate(task: Task) -> Generated:
    """Rank channels by how far the filters that produce them are from the others, and walk to the budget."""
    assert task.state is not None
    state = task.state
    scores = {group.name: filter_scores(task.structure, group, state, distances) for group in task.structure.groups}
    ranking = Ranking(scores=scores, scope="layer" if task.option("layer", 0) else "network")
    widths, keep = task.walk(ranking)
    return Generated(widths=widths, keep=keep, ranking=ranking)


def distances(filters: torch.Tensor) -> torch.Tensor:
    """Sum of each filter's Euclidean distances to all of its layer [He2019, eq. 5].

    The geometric median makes it smallest. (filters, weights each) -> (filters,).
    """
    return torch.cdist(filters, filters).sum(1)


METHOD = Method(
    name="fpgm",
    summary="distances to the other filters of a layer, compared over the whole network (He 2019)",
    needs=frozenset({"weights"}),
    generate=generate,
    options=frozenset({"layer"}),
)
