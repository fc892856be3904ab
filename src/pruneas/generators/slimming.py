"""Network slimming [Liu2017]: train with an L1 penalty on batch-norm scales; channels with small scales go, everywhere.

What a penalty can take off a scale grows with lambda times the sum of the learning rate over all steps, here called its
*pull* (momentum 0.9 makes it ten times that): 0.66 in the paper's training of VGG (lambda 1e-4, 160 CIFAR epochs at
batch 64, rates 0.1, 0.01, 0.001), 0.066 in that of ResNets. With equal momentum a pull means the same for recipes of
any length, but a short training has fewer steps to resist it: on quarter-width VGG-16 and 12 epochs of 12,000 CIFAR-10
images a pull of 0.66 ended at chance, 0.2 at 68.5 % with the paper's shape (early layers kept, the last ones cut
hardest). So 0.2 is the default, and the spaces of the papers' length ask for the papers' own. Departures: a floor per
layer (the paper has none and lets layers collapse), and a budget in place of a share of all channels. Where shortcuts
share channels, the paper selects: `selection=True` of the zoo's PreResNets and DenseNets. In networks without, channels
of a shared stream are scored by the mean over the batch norms that see them.

[Liu2017] Learning Efficient Convolutional Networks through Network Slimming, arXiv 1708.06519
"""

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruneas.generators.method import Generated, Method, Task
from pruneas.generators.ranking import Ranking, Scores, member_scores
from pruneas.generators.scales import batch_norm_scales
from pruneas.structure.groups import Group, Member

PULL = 0.2
"""lambda times the sum of the learning rate over all steps."""


def generate(task: Task) -> Generated:
    """Train the base network with the penalty, rank channels by |gamma|, and walk to the budget."""
    assert task.train is not None and task.recipe is not None
    network = task.network()
    scales = batch_norm_scales(task.structure, network)
    strength = task.option("pull", PULL) / task.recipe.total_learning_rate(task.num_images)
    task.train(network, penalty=lambda trained: strength * scale_norm(trained))
    state = network.state_dict()

    def scores_of(group: Group) -> Scores:
        names = scales[group.name]

        def size(member: Member) -> torch.Tensor:
            values: torch.Tensor = state[names[member]].abs()
            return values[state[member.parameter]] if member.parameter in task.structure.selections else values

        if not names:
            return np.ones(group.width)  # cannot change, so it does not take part
        return member_scores(task.structure, group, list(names), size, normalise=False)

    scores = {group.name: scores_of(group) for group in task.structure.groups}
    ranking = Ranking(scores=scores, scope="network")
    widths, keep = task.walk(ranking)
    return Generated(widths=widths, keep=keep, ranking=ranking, trained=state)


def scale_norm(network: nn.Module) -> torch.Tensor:
    """Sum of |gamma| over all batch-norm scales; its gradient is the paper's sub-gradient, sign(gamma)."""
    scales = [
        module.weight.abs().sum() for module in network.modules() if isinstance(module, _BatchNorm) and module.affine
    ]
    return torch.stack(scales).sum()


METHOD = Method(
    name="slimming",
    summary="sparse training of batch-norm scales, one threshold for the whole network (Liu 2017)",
    needs=frozenset({"training", "batch norm"}),
    generate=generate,
    options=frozenset({"pull"}),
)
