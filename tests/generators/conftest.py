"""Tasks for generators: tiny networks, a trained state that is drawn by lot, and a training that takes no time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from pruneas.architecture import Budget
from pruneas.cost.limits import Limits
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.generators import Task
from pruneas.generators.method import Images, Penalty
from pruneas.generators.sparse import convolutions
from pruneas.structure.build import build_widths, describe
from pruneas.structure.groups import Structure
from pruneas.training import EpochRecord, FitResult, Recipe
from tests.nets import model_of, random_widths, structure_of

RECIPE = Recipe(epochs=2, batch_size=2, learning_rate=1.0, schedule="constant", warmup=0.0)
MASK = "0" * 64
NUM_IMAGES = 10  # so the learning rates of all steps sum to 10


def fake_train(
    network: nn.Module,
    *,
    penalty: Penalty | None = None,
    after_step: Callable[[nn.Module], None] | None = None,
    after_epoch: Callable[[EpochRecord], None] | None = None,
) -> FitResult:
    """Twenty steps along the penalty, and batch-norm scales drawn by a seed of their own before; then the callbacks."""
    generator = torch.Generator().manual_seed(9)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1 and name.endswith("weight"):
            parameter.data.uniform_(0.01, 1.0, generator=generator)
    for _ in range(20 if penalty else 0):
        network.zero_grad()
        penalty(network).backward()
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.data -= parameter.grad
    for epoch in range(1, RECIPE.epochs + 1):
        for _ in range(NUM_IMAGES // RECIPE.batch_size if after_step else 0):
            after_step(network)
        if after_epoch is not None:
            after_epoch(
                EpochRecord(
                    epoch=epoch,
                    train_loss=1.0,
                    validation_accuracy=0.5,
                    validation_loss=1.0,
                    learning_rate=1.0,
                    seconds=0.0,
                )
            )
    return FitResult(epochs=(), seconds=0.0, images=0, precision="float32")


def images_for(structure: Structure) -> Images:
    """Eight images by lot, in the network's own shape, with labels of two classes."""
    generator = torch.Generator().manual_seed(11)
    images = torch.randn(8, *structure.inputs[0].shape, generator=generator)
    labels = torch.arange(8) % 2

    def each(batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield from zip(images.split(batch_size), labels.split(batch_size), strict=True)

    return each


def random_masks(structure: Structure, seed: int) -> dict[str, torch.Tensor]:
    """Of every weight of a convolution about a third, by lot."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(structure.shapes[name], generator=generator) < 1 / 3 for name in convolutions(structure)}


def make_task(
    name: str, budget: str = "0.5", rules: WidthRules | None = None, options: Mapping[str, Any] | None = None
) -> Task:
    structure, model = structure_of(name), model_of(name)
    legal = LegalWidths.of(structure, rules or WidthRules())
    state = build_widths(structure, structure.widths, seed=3).state_dict()
    return Task(
        structure=structure,
        model=model,
        legal=legal,
        limits=Limits.of(Budget.parse(budget), model, legal),
        seed=4,
        state=state,
        images=images_for(structure),
        train=fake_train,
        recipe=RECIPE,
        num_images=NUM_IMAGES,
        sources=(replace(describe(structure, random_widths(structure, seed=5)), mask=MASK),),
        masks={MASK: random_masks(structure, seed=6)},
        options=options or {},
    )


@pytest.fixture
def task() -> Callable[..., Task]:
    return make_task
