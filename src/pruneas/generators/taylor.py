"""First-order Taylor pruning [Molchanov2019]: channels go whose absence changes the loss least.

Let a gate multiply a channel wherever it is read. To first order, closing the gate changes the loss by minus the gate's
gradient, and that is the sum of weight * gradient over all weights that read the channel; none has to be measured
channel by channel. The score is the square of that sum, batch by batch, averaged over batches of training images.

The base runs in evaluation mode: that is the network whose channels are taken out, its running statistics stay as they
are, and behind batch norm in training mode a filter's own weight * gradient adds up to zero whatever it is worth.

Departures: the paper's gates sit behind the batch norm of the layer that produces a channel, here where it is read, so
that a channel which several layers write, or read, counts once and whole; channels that nothing learned reads have
their gate at what produces them. The paper prunes a few channels at a time and trains in between; here the base is
ranked once. Scores are changes of the loss, so layers compare as they are, as in the paper.

[Molchanov2019] Importance Estimation for Neural Network Pruning, arXiv 1906.10771
"""

import numpy as np
import torch
import torch.nn.functional as F

from pruneas.generators.method import Generated, Method, Task
from pruneas.generators.ranking import Ranking, Scores, member_sums, producers
from pruneas.structure.groups import Group, Member, Structure
from pruneas.training import own_logits

IMAGES = 5000
BATCH = 32


def generate(task: Task) -> Generated:
    """Rank channels by the squared change of the loss that their gates' gradients foretell, and walk to the budget."""
    ranking = Ranking(scores=gate_scores(task), scope="network")
    widths, keep = task.walk(ranking)
    return Generated(widths=widths, keep=keep, ranking=ranking)


def gate_scores(task: Task) -> dict[str, Scores]:
    """Mean over batches of the squared gradient of each channel's gate [Molchanov2019, eq. 8], by group."""
    network = task.network().to(task.device).eval().requires_grad_()
    parameters = dict(network.named_parameters())
    gates = {group.name: _gates(task.structure, group) for group in task.structure.groups}

    def products(member: Member) -> torch.Tensor:
        """Sum of weight * gradient of each index of the member's dimension. Shape (size,)."""
        parameter = parameters[member.parameter]
        if parameter.grad is None:  # read in training mode alone
            return torch.zeros(parameter.shape[member.dim])
        product = (parameter.detach() * parameter.grad).transpose(0, member.dim)
        return product.reshape(len(product), -1).double().sum(1)

    totals = {group.name: np.zeros(group.width) for group in task.structure.groups}
    batches = 0
    for images, labels in task.some_images(int(task.option("images", IMAGES)), BATCH):
        network.zero_grad()
        F.cross_entropy(own_logits(network(images)), labels).backward()  # type: ignore[no-untyped-call]
        for group in task.structure.groups:
            totals[group.name] += member_sums(task.structure, group, gates[group.name], products) ** 2
        batches += 1
    return {name: total / batches for name, total in totals.items()}


def _gates(structure: Structure, group: Group) -> list[Member]:
    """The members whose weights a group's gates multiply: all that read it, for they are its only ways out."""
    readers = [member for member in group.members if member.role == "in" and member.parameter in structure.learned]
    return readers or producers(structure, group)


METHOD = Method(
    name="taylor",
    summary="first-order change of the loss without a channel, over the whole network (Molchanov 2019)",
    needs=frozenset({"weights", "data"}),
    generate=generate,
    options=frozenset({"images"}),
)
