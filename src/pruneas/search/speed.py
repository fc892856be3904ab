"""How fast a network trains on this machine, from a few steps: what a run's time is estimated from before it begins."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from pruneas.search.train import Report, Training, check_counts
from pruneas.structure.build import build_widths
from pruneas.training import EpochRecord, fit
from pruneas.training.data import DataSet, Images

BATCHES, EPOCHS = 6, 3
"""Steps of an epoch, and epochs: the first one, in which everything is loaded, is not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Seconds that a training takes for each image trained on, its part of the validation included, and beside that."""

    seconds_per_image: float
    beside: float

    @classmethod
    def mean(cls, speeds: Sequence[Speed]) -> Speed:
        return cls(
            seconds_per_image=statistics.fmean(speed.seconds_per_image for speed in speeds),
            beside=statistics.fmean(speed.beside for speed in speeds),
        )

    def seconds(self, images: float, trainings: float) -> float:
        """What so many images take in so many trainings, one after another."""
        return images * self.seconds_per_image + trainings * self.beside


def images_measured(batch_size: int) -> int:
    """How many images `measure` trains on, at most."""
    return BATCHES * EPOCHS * batch_size


def measure(report: Report, *, training: Training) -> Speed:
    """Train on the first images for a few steps. Runs in a child process, and leaves nothing behind."""
    began = time.perf_counter()
    network = build_widths(training.structure, training.widths, seed=training.seed)
    check_counts(network, training)
    data = _part(training.data.load(), BATCHES * training.recipe.batch_size)
    beside = time.perf_counter() - began
    ends: list[float] = []

    def after_epoch(_: EpochRecord) -> None:
        ends.append(time.perf_counter())

    recipe = replace(training.recipe, epochs=EPOCHS)
    result = fit(
        network, data, recipe, seed=training.seed, device=training.device, after_epoch=after_epoch, compile="off"
    )
    per_epoch = result.images / EPOCHS
    return Speed(seconds_per_image=(ends[-1] - ends[0]) / ((EPOCHS - 1) * per_epoch), beside=beside)


def _part(data: DataSet, num_images: int) -> DataSet:
    """The first training images, and validation images in proportion."""
    share = min(1.0, num_images / len(data.train))
    return replace(
        data, train=_first(data.train, num_images), validation=_first(data.validation, len(data.validation) * share)
    )


def _first(images: Images, num: float) -> Images:
    """The first of the images, in their order; one at least."""
    num = max(1, round(min(num, len(images))))
    rows = torch.arange(num) if images.rows is None else images.rows[:num]
    return replace(images, labels=images.labels[:num], rows=rows)
