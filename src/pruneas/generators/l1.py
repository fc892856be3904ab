"""L1-norm filter pruning [Li2017]: filters with small weights go.

Departure: the paper prunes a hand-set share of each layer. As an architecture generator that is uniform scaling, so
scores are divided by their layer's mean and compared over the whole network; the share of each layer follows. In a
residual stream the convolutions that write to it vote with equal weight.

[Li2017] Pruning Filters for Efficient ConvNets, arXiv 1608.08710
"""

import torch

from pruneas.generators.method import Generated, Method, Task
from pruneas.generators.ranking import Ranking, Scores, member_scores
from pruneas.structure.groups import Group, Member


def generate(task: Task) -> Generated:
    """Rank channels by the L1 norms of the filters that produce them, and walk to the budget."""
    assert task.state is not None
    ranking = Ranking(scores={group.name: _scores(task, group) for group in task.structure.groups}, scope="network")
    widths, keep = task.walk(ranking)
    return Generated(widths=widths, keep=keep, ranking=ranking)


def _scores(task: Task, group: Group) -> Scores:
    state = task.state or {}

    def norms(member: Member) -> torch.Tensor:
        """Sum of |w| of each filter [Li2017, section 3.1]. Shape (filters,)."""
        weight = state[member.parameter].abs().float().transpose(0, member.dim)
        return weight.reshape(len(weight), -1).sum(1)

    # Filters that produce the channels speak first. Where none does (a learned vector), what goes along with them;
    # depthwise filters and hand-made scales are such, too. Readers come last.
    learned = [member for member in group.members if member.parameter in task.structure.learned]
    by_role = {role: [member for member in learned if member.role == role] for role in ("out", "along", "in")}
    members = next(members for members in by_role.values() if members)
    scores = member_scores(task.structure, group, members, norms, normalise=True)
    return scores / max(float(scores.mean()), 1e-12)


METHOD = Method(
    name="l1",
    summary="L1 norms of the trained filters, compared over the whole network (Li 2017)",
    needs=frozenset({"weights"}),
    generate=generate,
)
