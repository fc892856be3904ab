"""Sparse structure selection [Huang2018]: a trained scale on every residual branch; branches whose scale is small go.

Each scale begins at 1, is not decayed, and multiplies the output of its branch. The objective is loss + gamma * sum of
the scales; they are moved by the paper's modified accelerated proximal gradient, which reaches exact zeros, with the
recipe's learning rate and momentum.

Strength: what the penalty can take off a scale is gamma times the sum of the learning rate over all steps (momentum 0.9
makes it ten times that): the pull of `slimming.py`. The released ResNet-50 has gamma 0.01 and a pull of 333, so there
the gradients decide alone. A short training does not get there, so the default gamma is the one whose pull is 1: on
half-width ResNet-20 and 16 epochs of 1,078 digits (gamma 0.078) two of seven scales ended at zero and none above 0.29,
at 98.9 % validation accuracy; a pull of 0.3 left 0.16 to 0.65 and no zero, 2 left one scale of seven and 96.7 %.
The option `gamma` sets the paper's own.

Departures: the paper's gamma decides how many branches go, here the budget does: in the order of their scales, those
that reached zero earlier first, the fewest that fit. Where taking out every branch is not enough, all widths are scaled
alike. Scales are of whole branches, not of the parts of a grouped convolution. Branches that no single module puts out
have no place to hang a scale on: they take no part and stay.

[Huang2018] Data-Driven Sparse Structure Selection for Deep Neural Networks, arXiv 1707.01213
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from pruneas.cost.projection import uniform
from pruneas.errors import StructureError
from pruneas.generators.method import Generated, Method, Task
from pruneas.structure.blocks import Block

PULL = 1.0
"""gamma times the sum of the learning rate over all steps, where `gamma` is not given."""


def generate(task: Task) -> Generated:
    """Train the base network with scales on its branches, and take branches out until the budget is met."""
    blocks = [block for block in task.structure.blocks if block.branch is not None]
    if not blocks:
        raise StructureError("generator sss needs a residual branch that one module puts out")
    order = np.array(blocks, dtype=object)[_order(*trained_scales(task, blocks))]
    if task.share is not None:
        return Generated(widths=task.legal.highest, removed=_names(task, order[: int(len(order) * task.share)]))
    for number in range(len(order) + 1):
        removed = _names(task, order[:number])
        model = task.model.without(task.structure, removed)
        if task.limits.fit(model, task.legal.highest):
            return Generated(widths=task.legal.highest, removed=removed)
    return Generated(widths=uniform(model, task.legal, task.limits), removed=removed)


def trained_scales(task: Task, blocks: list[Block]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The scale of each block's branch after training, and how many steps it was above zero. Shapes (blocks,)."""
    assert task.train is not None and task.recipe is not None
    recipe, num_images = task.recipe, task.num_images
    gamma = task.option("gamma", PULL / recipe.total_learning_rate(num_images))
    network = task.network()
    # Not parameters of the network: its optimiser would decay them and take steps of its own.
    scales = torch.ones(len(blocks), device=task.device, requires_grad=True)
    velocity = torch.zeros_like(scales, requires_grad=False)
    lived = torch.zeros(len(blocks), dtype=torch.int64, device=task.device)
    step = 0

    def scaled(index: int) -> None:
        def hook(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
            return output * scales[index]

        network.get_submodule(blocks[index].branch or "").register_forward_hook(hook)

    @torch.no_grad()
    def after_step(_: nn.Module) -> None:
        nonlocal velocity, step
        gradient = torch.zeros_like(scales) if scales.grad is None else scales.grad
        rate = recipe.learning_rate_at(step, num_images)
        moved, velocity = proximal_step(scales, velocity, gradient, rate=rate, gamma=gamma, momentum=recipe.momentum)
        scales.copy_(moved)
        scales.grad = None
        lived.add_(scales > 0)
        step += 1

    for index in range(len(blocks)):
        scaled(index)
    task.train(network, after_step=after_step)
    return scales.detach().double().cpu().numpy(), lived.cpu().numpy()


def proximal_step(
    scales: torch.Tensor,
    velocity: torch.Tensor,
    gradient: torch.Tensor,
    *,
    rate: float,
    gamma: float,
    momentum: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The next scales and velocity [Huang2018, section 3.3 and its released code]. All of shape (blocks,)."""
    z = F.softshrink(scales - rate * gradient, rate * gamma)
    velocity = z - scales + momentum * velocity
    return (z + momentum * velocity).clamp(min=0.0), velocity


def _order(scales: npt.NDArray[np.float64], lived: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """In which order blocks go: the smallest scale first, of equal ones the one that was zero for longest."""
    return np.lexsort((lived, scales))


def _names(task: Task, blocks: npt.NDArray[np.object_]) -> tuple[str, ...]:
    gone = {block.name for block in blocks}
    return tuple(block.name for block in task.structure.blocks if block.name in gone)


METHOD = Method(
    name="sss",
    summary="trained scales on residual branches; those with small scales are taken out (Huang 2018)",
    needs=frozenset({"training", "blocks"}),
    generate=generate,
    options=frozenset({"gamma"}),
)
