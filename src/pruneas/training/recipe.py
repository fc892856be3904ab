"""A recipe: everything about a training but the network, the data and the seed.

Schedules are functions of the progress of the whole training, from 0 to 1, so a recipe means the same for any number
of images. The peak learning rate, the momentum and the weight decay are those of `torch.optim.SGD`.
"""

from collections.abc import Callable
from dataclasses import dataclass

PRECISIONS = ("auto", "float32", "bfloat16")


def one_cycle(progress: float, warmup: float) -> float:
    """Share of the peak rate: linear from 0 up to 1 at `warmup`, then linear down to 0 at the end."""
    return progress / warmup if progress < warmup else (1.0 - progress) / (1.0 - warmup)


def constant(progress: float, warmup: float) -> float:
    """Share of the peak rate: always 1; there is no warm-up. What fine-tuning uses."""
    return 1.0


SCHEDULES: dict[str, Callable[[float, float], float]] = {"one-cycle": one_cycle, "constant": constant}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train. `learning_rate` is the peak; `warmup` the share of the training it takes to reach it.

    `crop` is how many black pixels are put around an image before it is cropped to its size at random; 0: no crop.
    `precision` 'auto' means bfloat16 where that is known to be faster, see `fit.resolve_precision`.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 0.15
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    warmup: float = 0.25
    schedule: str = "one-cycle"
    label_smoothing: float = 0.1
    crop: int = 4
    flip: bool = True
    precision: str = "auto"

    def __post_init__(self) -> None:
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
        check(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}")

    def factor(self, progress: float) -> float:
        """Share of the peak learning rate when `progress`, in [0, 1], of the training is done."""
        return SCHEDULES[self.schedule](progress, self.warmup)

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
