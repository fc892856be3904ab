"""A recipe: everything about a training but the network, the data and the seed.

Schedules are functions of the progress of the whole training, from 0 to 1, so a recipe means the same for any number
of images. The peak learning rate, the momentum and the weight decay are those of `torch.optim.SGD`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

PRECISIONS = ("auto", "float32", "bfloat16")


def one_cycle(progress: float, recipe: Recipe) -> float:
    """Linear down to 0 at the end."""
    return (1.0 - progress) / (1.0 - recipe.warmup)


def cosine(progress: float, recipe: Recipe) -> float:
    """Half a cosine down to 0 at the end [Loshchilov2017, arXiv 1608.03983]."""
    return (1.0 + math.cos(math.pi * (progress - recipe.warmup) / (1.0 - recipe.warmup))) / 2.0


def step(progress: float, recipe: Recipe) -> float:
    """Times `decay` at each of the `milestones`, as the papers on pruning train."""
    return float(recipe.decay ** sum(progress >= milestone for milestone in recipe.milestones))


def constant(progress: float, recipe: Recipe) -> float:
    """Always 1. What fine-tuning uses."""
    return 1.0


SCHEDULES: dict[str, Callable[[float, Recipe], float]] = {
    "one-cycle": one_cycle,
    "cosine": cosine,
    "step": step,
    "constant": constant,
}
"""Shares of the peak rate after the warm-up, as functions of the progress of the whole training, from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train. `learning_rate` is the peak; `warmup` the share of the training it takes to reach it, linearly.

    `milestones` and `decay` are the step schedule's, milestones as shares of the training. `max_norm` clips the norm of
    all gradients together; 0: no clipping. `average` is the decay of an exponential moving average of the weights, one
    step a batch, which is what is validated and kept; 0: none. `crop` is how many black pixels are put around an image
    before it is cropped to its size at random; 0: no crop. `cutout` is the side of a square that is blanked in each
    image [DeVries2017, arXiv 1708.04552]; 0: none.
    `precision` 'auto' means bfloat16 where that is known to be faster, see `training.resolve_precision`.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 0.15
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    warmup: float = 0.25
    schedule: Literal["one-cycle", "cosine", "step", "constant"] = "one-cycle"
    milestones: tuple[float, ...] = (0.5, 0.75)
    decay: float = 0.1
    label_smoothing: float = 0.1
    max_norm: float = 0.0
    average: float = 0.0
    crop: int = 4
    flip: bool = True
    cutout: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))

        def check(holds: bool, name: str, must: str) -> None:
            if not holds:
                raise ValueError(f"recipe: {name} must be {must}, got {getattr(self, name)!r}")

        check(self.epochs >= 1, "epochs", "at least 1")
        check(self.batch_size >= 2, "batch_size", "at least 2 (batch norm cannot train on one image)")
        check(0.0 < self.learning_rate < float("inf"), "learning_rate", "positive")
        check(0.0 <= self.momentum < 1.0, "momentum", "in [0, 1)")
        check(not self.nesterov or self.momentum > 0.0, "nesterov", "False where momentum is 0")
        check(0.0 <= self.weight_decay < float("inf"), "weight_decay", "at least 0")
        check(0.0 <= self.warmup < 1.0, "warmup", "in [0, 1)")
        check(self.schedule in SCHEDULES, "schedule", f"one of {', '.join(SCHEDULES)}")
        check(0.0 <= self.label_smoothing < 1.0, "label_smoothing", "in [0, 1)")
        check(self.crop >= 0, "crop", "at least 0")
        check(self.cutout >= 0, "cutout", "at least 0")
        check(0.0 <= self.max_norm < float("inf"), "max_norm", "at least 0")
        check(0.0 <= self.average < 1.0, "average", "in [0, 1)")
        check(0.0 < self.decay <= 1.0, "decay", "in (0, 1]")
        check(all(0.0 < milestone < 1.0 for milestone in self.milestones), "milestones", "in (0, 1)")
        check(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}")

    def factor(self, progress: float) -> float:
        """Share of the peak learning rate when `progress`, in [0, 1], of the training is done."""
        return progress / self.warmup if progress < self.warmup else SCHEDULES[self.schedule](progress, self)

    def steps_per_epoch(self, num_images: int) -> int:
        """Optimiser steps an epoch: the last incomplete batch is left out, unless it would be the only one."""
        return max(1, num_images // self.batch_size)

    def learning_rate_at(self, step: int, num_images: int) -> float:
        """The learning rate of one step, counted from 0: the schedule half-way through that step."""
        return self.learning_rate * self.factor((step + 0.5) / (self.epochs * self.steps_per_epoch(num_images)))

    def total_learning_rate(self, num_images: int) -> float:
        """The sum of the learning rate over all steps: a measure of how far this training can move a weight."""
        steps = self.epochs * self.steps_per_epoch(num_images)
        return sum(self.learning_rate_at(step, num_images) for step in range(steps))

    def scratch_e(self) -> Recipe:
        """The arm Scratch-E: a small network trained for as many epochs as the large one [Liu2019, section 3]."""
        return self

    def scratch_b(self, flops_ratio: float, *, cap: float = math.inf) -> Recipe:
        """The arm Scratch-B: a small network trained with the large one's compute [Liu2019, section 3].

        `flops_ratio` is the large network's FLOPs over the small one's; epochs grow by it, at most by `cap` (2 on
        ImageNet). Schedules, being functions of the progress, stretch with them.
        """
        if not flops_ratio >= 1.0:
            raise ValueError(f"flops_ratio must be at least 1, the large network's over the small one's: {flops_ratio}")
        return replace(self, epochs=int(self.epochs * min(flops_ratio, cap)))

    def fine_tune(self, *, rate: float = 0.01, epochs: float = 0.25) -> Recipe:
        """The arm that keeps the large network's weights: a constant `rate` of the peak for a share of the epochs.

        The paper fine-tunes CIFAR networks for 40 of 160 epochs at the last of the rates that trained them, 0.001 of
        0.1.
        """
        return replace(
            self,
            schedule="constant",
            warmup=0.0,
            learning_rate=self.learning_rate * rate,
            epochs=max(1, round(self.epochs * epochs)),
        )
