"""L1-norm filter pruning [Li2017]: filters with small weights go.

Departure: the paper prunes a hand-set share of each layer. As an architecture generator that is uniform scaling, so
scores are divided by their layer's mean and compared over the whole network; the share of each layer follows. Option
`layer` compares within layers, as the paper does. In a residual stream the convolutions that write to it vote with
equal weight.

[Li2017] Pruning Filters for Efficient ConvNets, arXiv 1608.08710
"""

import torch

from pruneas.generators.method import Generated, Method, Task
from pruneas.generators.ranking import Ranking, filter_scores


def generate(task: Task) -> Generated:
    """Rank channels by the L1 norms of the filters that produce them, and walk to the budget."""
    assert task.state is not None
    state = task.state
    scores = {group.name: filter_scores(task.structure, group, state, norms) for group in task.structure.groups}
    ranking = Ranking(scores=scores, scope="layer" if task.option("layer", 0) else "network")
    widths, keep = task.walk(ranking)
    return Generated(widths=widths, keep=keep, ranking=ranking)


def norms(filters: torch.Tensor) -> torch.Tensor:
    """Sum of |w| of each filter [Li2017, section 3.1]. (filters, weights each) -> (filters,)."""
    return filters.abs().sum(1)


METHOD = Method(
    name="l1",
    summary="L1 norms of the trained filters, compared over the whole network (Li 2017)",
    needs=frozenset({"weights"}),
    generate=generate,
    options=frozenset({"layer"}),
)
