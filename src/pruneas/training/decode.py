"""From image files to pixels of one shape, and images that are kept as files because their pixels would fill memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from pruneas.errors import DataError

MODES = {1: "L", 3: "RGB"}
BATCHES_AHEAD = 2

Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Undecoded:
    """Images that are decoded each time they are used.

    Attributes:
        originals: paths of image files, or uint8 (n, c, h, w) at another size, memory-mapped.
        image: (channels, height, width) that every image is converted, resized and cut to.
    """

    originals: Sequence[Path] | NDArray[np.uint8]
    image: Shape

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """What the tensor of all images would have."""
        return len(self.originals), *self.image

    def one(self, index: int) -> NDArray[np.uint8]:
        """uint8 (c, h, w)."""
        original = self.originals[index]
        if isinstance(original, Path):
            return decode(original, self.image)
        return fitted(Image.fromarray(original.transpose(1, 2, 0)), self.image)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """uint8 (k, c, h, w): what the tensor of all images would give for these positions, int64 (k,); dim is 0."""
        assert dim == 0
        return torch.from_numpy(np.stack([self.one(i) for i in index.tolist()]))

    def batches(self, parts: Iterable[Tensor], *, threads: int, pinned: bool) -> Iterator[Tensor]:
        """uint8 (k, c, h, w) for each int64 (k,), in order, in pinned memory where asked.

        Threads decode ahead of what is read, a bounded number of batches. PIL works without the interpreter lock; other
        than a DataLoader's processes, threads need no shared memory (containers often have 64 MB), no fork of a process
        that has threads, and no copies, and what they raise keeps its text.
        """
        waiting: deque[list[Future[NDArray[np.uint8]]]] = deque()
        pool = ThreadPoolExecutor(threads)

        def next_batch() -> Tensor:
            decoded = waiting.popleft()
            batch = torch.empty((len(decoded), *self.image), dtype=torch.uint8, pin_memory=pinned)
            for place, image in zip(batch.numpy(), decoded, strict=True):
                place[:] = image.result()
            return batch

        try:
            for part in parts:
                waiting.append([pool.submit(self.one, i) for i in part.tolist()])
                if len(waiting) > BATCHES_AHEAD:
                    yield next_batch()
            while waiting:
                yield next_batch()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def num_decoders(device: torch.device) -> int:
    """How many threads decode for one training: its own share of the cores, or all of them where a GPU trains."""
    if device.type == "cpu":
        return torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))  # torchrun's: how many trainings' parts are here


def decode(path: Path, shape: Shape) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                # PIL would clip these to 255, and nobody would notice.
                raise DataError(
                    f"{path}: must have 8 bits a channel, found pixel mode {image.mode}. Convert the images first."
                )
            return fitted(image, shape)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as err:
        raise DataError(f"{path}: must be an image that can be decoded, but: {err}. Repair or remove it.") from err


def fitted(image: Image.Image, shape: Shape) -> NDArray[np.uint8]:
    """uint8 (c, h, w): converted, resized until it just covers (h, w), and cut to its centre."""
    channels, height, width = shape
    image = image.convert(MODES[channels])
    if image.size != (width, height):
        scale = max(width / image.width, height / image.height)
        size = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BILINEAR)
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        image = image.crop((left, top, left + width, top + height))
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
