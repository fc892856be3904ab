"""Random widths inside the budget: what a generator has to beat besides uniform scaling.

Every group draws a share evenly from 0 to 1. A channel's score is its group's share times the group's width, divided
by the channel's place in a random order: whatever the threshold, widths are then proportional to share * base width,
capped at the base's, and the channels that the fine-tuned arm inherits are a random choice.
"""

import numpy as np

from pruneas.generators.method import Generated, Method, Task
from pruneas.generators.ranking import Ranking


def generate(task: Task) -> Generated:
    """Draw a share for each group and an order of its channels by the task's seed, and walk to the budget."""
    rng = np.random.default_rng(task.seed)
    shares = rng.uniform(size=len(task.structure.groups))
    scores = {
        group.name: share * group.width / (1.0 + rng.permutation(group.width))
        for group, share in zip(task.structure.groups, shares, strict=True)
    }
    ranking = Ranking(scores=scores, scope="network")
    widths, keep = task.walk(ranking)
    return Generated(widths=widths, keep=keep, ranking=ranking)


METHOD = Method(
    name="random",
    summary="random widths and channels: a baseline",
    needs=frozenset(),
    generate=generate,
)
