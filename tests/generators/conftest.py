"""Tasks for generators: tiny networks, a trained state that is drawn by lot, and a training that takes no time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn

from pruneas.architecture import Budget
from pruneas.cost.projection import limit
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.generators import Task
from pruneas.generators.method import Penalty
from pruneas.structure.build import build_widths
from pruneas.training import FitResult
from tests.nets import model_of, structure_of


def fake_train(network: nn.Module, *, penalty: Penalty | None = None) -> FitResult:
    """Twenty steps along the penalty, and batch-norm scales drawn by a seed of their own before."""
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
    return FitResult(epochs=(), seconds=0.0, images=0, precision="float32")


def make_task(
    name: str, budget: str = "0.5", rules: WidthRules | None = None, options: Mapping[str, Any] | None = None
) -> Task:
    structure, model = structure_of(name), model_of(name)
    legal = LegalWidths.of(structure, rules or WidthRules())
    wanted = Budget.parse(budget)
    state = build_widths(structure, structure.widths, seed=3).state_dict()
    return Task(
        structure=structure,
        model=model,
        legal=legal,
        most=limit(model, legal, wanted),
        quantity=wanted.quantity,
        seed=4,
        state=state,
        train=fake_train,
        total_learning_rate=10.0,
        options=options or {},
    )


@pytest.fixture
def task() -> Callable[..., Task]:
    return make_task
