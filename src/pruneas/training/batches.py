"""The batches of a training, augmented, and those of one pass without any chance in it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pruneas.recipe import Recipe
from pruneas.training.augment import Normaliser, crop_and_flip, cut_out
from pruneas.training.data import DataSet
from pruneas.training.ranks import Ranks


class Batches:
    """The training batches of one epoch after the other, augmented; every decision comes from one generator.

    Where several processes train together, each has its part of every batch, with the decisions of the whole.
    """

    def __init__(
        self, data: DataSet, recipe: Recipe, *, seed: int, device: torch.device, ranks: Ranks = Ranks()
    ) -> None:
        self._images = data.train.on(device)
        self._recipe = recipe
        self._device = device
        self._ranks = ranks
        # Drawn on the CPU, an epoch at a time, so that decisions do not depend on the device.
        self.generator = torch.Generator().manual_seed(seed)
        self._normalise = Normaliser(data.mean, data.std, width=data.train.size[1], device=device)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(float32 (n, c, h, w), int64 (n,)) batches; an incomplete last one is left out unless it is the only one."""
        recipe, count = self._recipe, len(self._images)
        home = self._images.labels.device
        order = torch.randperm(count, generator=self.generator).to(home)
        corners = torch.randint(2 * recipe.crop + 1, (2, count), generator=self.generator).to(self._device)
        mirrored = (torch.rand(count, generator=self.generator) < 0.5).to(self._device)
        sides = self._images.size if recipe.cutout else ()
        centres = [torch.randint(side, (count,), generator=self.generator).to(self._device) for side in sides]
        size = min(recipe.batch_size, count)
        mine = self._ranks.part(size)
        slices = [slice(start + mine.start, start + mine.stop) for start in range(0, count - size + 1, size)]
        batches = self._images.batches([order[part] for part in slices], self._device)
        for part, images in zip(slices, batches, strict=True):
            labels = self._images.labels[order[part]].to(self._device, non_blocking=True)
            images = crop_and_flip(
                images, corners[0, part], corners[1, part], mirrored[part] if recipe.flip else None, recipe.crop
            )
            images = self._normalise(images)
            if recipe.cutout:
                images = cut_out(images, centres[0][part], centres[1][part], recipe.cutout)
            yield images, labels


def in_order(
    data: DataSet, batch_size: int, *, seed: int, device: torch.device | str = "cpu"
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every training image once, normalised and not augmented, in an order that the seed gives.

    Batches of (float32 (n, c, h, w), int64 (n,)), the last one perhaps smaller, on `device`.
    """
    device = torch.device(device)
    normalise = Normaliser(data.mean, data.std, width=data.train.size[1], device=device)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    parts = torch.split(order, batch_size)
    for part, pixels in zip(parts, data.train.batches(parts, device), strict=True):
        yield normalise(pixels), data.train.labels[part].to(device)
