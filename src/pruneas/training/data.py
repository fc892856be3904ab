"""Data sets for a search: training, validation and test images, split once and the same way every time.

A `DataSource` is a small value that says what to load; it travels to other processes and each loads it for itself,
sharing the memory-mapped pixels. Validation drives a search; the test part is for its end and never
depends on a seed. Images that do not fit in memory are decoded whenever they are used, and are the same then: a
training on them has the same numbers.
"""

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pruneas.errors import DataError
from pruneas.training.cache import cached_array, digest
from pruneas.training.decode import MODES, Shape, Undecoded, num_decoders
from pruneas.training.sources import OnProgress, Part, Parts, read_cifar, read_digits, read_folder

DEFAULT_VALIDATION = 0.15
DIGITS_TEST_SHARE = 0.25
DIGITS_TEST_SEED = 0
MOMENTS_PIXELS = 2**26  # mean and std come from about this many numbers at most, of evenly spaced training images


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Images:
    """Labelled images, maybe a selection of a larger store that is memory-mapped and never copied as a whole.

    Attributes:
        store: uint8 (m, c, h, w), or files of images where that would not fit in memory.
        labels: int64 (n,), of the selected images.
        rows: int64 (n,), which images of the store are meant; None for all, in order.
    """

    store: Tensor | Undecoded
    labels: Tensor
    rows: Tensor | None = None

    def __post_init__(self) -> None:
        if isinstance(self.store, Tensor) and (self.store.dtype != torch.uint8 or self.store.dim() != 4):
            raise ValueError(f"store must be uint8 (m, c, h, w), got {self.store.dtype} {tuple(self.store.shape)}")
        if self.labels.dtype != torch.int64:
            raise ValueError(f"labels must be int64, got {self.labels.dtype}")
        if len(self.labels) != (self.store.shape[0] if self.rows is None else len(self.rows)):
            raise ValueError("there must be one label an image")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.store.shape[2], self.store.shape[3]

    @property
    def images(self) -> Tensor:
        """All of them, uint8 (n, c, h, w). Copies where this is a selection: prefer `batches` for large data."""
        if self.rows is None and isinstance(self.store, Tensor):
            return self.store
        return self.take(torch.arange(len(self)))

    def take(self, index: Tensor) -> Tensor:
        """uint8 (k, c, h, w): a copy of the images at these positions, int64 (k,)."""
        return self.store.index_select(0, index if self.rows is None else self.rows[index])

    def batches(self, parts: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
        """The images at each of these positions, int64 (k,), one after the other: uint8 (k, c, h, w) on `device`."""
        if isinstance(self.store, Tensor):
            for part in parts:
                yield self.take(part).to(device, non_blocking=True)
            return
        rows = parts if self.rows is None else [self.rows[part] for part in parts]
        pinned = device.type == "cuda"
        for images in self.store.batches(rows, threads=num_decoders(device), pinned=pinned):
            yield images.to(device, non_blocking=pinned)

    def first(self, count: int) -> "Images":
        """The first `count` images, without copying pixels."""
        rows = torch.arange(len(self.labels)) if self.rows is None else self.rows
        return Images(store=self.store, labels=self.labels[:count], rows=rows[:count])

    def on(self, device: torch.device | str) -> "Images":
        """These images in the memory of a CUDA device if a quarter of what is free holds them; else themselves."""
        device = torch.device(device)
        if device.type != "cuda" or isinstance(self.store, Undecoded):
            return self
        free, _ = torch.cuda.mem_get_info(device)
        if len(self) * math.prod(self.store.shape[1:]) > free // 4:
            return self
        return Images(store=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataSet:
    """The three parts, which share no image.

    `mean` and `std` are per channel, of the training part's pixels between 0 and 1. `fingerprint` stands for all
    pixels, labels and the split: two data sets with the same one train and measure alike, on whatever machine.
    """

    train: Images
    validation: Images
    test: Images
    classes: tuple[str, ...]
    fingerprint: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """What to load, as a value.

    Attributes:
        source: 'digits', 'cifar10', 'cifar100', either with ':ROOT', or 'folder:PATH'.
        shape: (channels, height, width); channels 1 or 3. Images of another size are resized and cut.
        training: how many training images to use, each class in proportion; None: all that are left.
        validation: how many to hold out, or which share, in (0, 1), of the training and validation images together.
            Where a folder's val/ is validation, all of it is used, or as many as a number says. None: 0.15.
        seed: of the split between training and validation.
        download: whether CIFAR may be downloaded if it is not there.
        memory: images that have more bytes than this, decoded, are decoded each time they are used. None: a quarter of
            the machine's memory. Results do not depend on it.
    """

    source: str
    shape: Shape
    training: int | None = None
    validation: int | float | None = None
    seed: int = 0
    download: bool = False
    memory: int | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or self.shape[0] not in MODES or min(self.shape) < 1:
            raise ValueError(f"shape must be (channels, height, width) with 1 or 3 channels, got {self.shape}")
        if self.training is not None and self.training < 1:
            raise ValueError(f"training must be at least 1 image, got {self.training}")
        if isinstance(self.validation, float):
            if not 0.0 < self.validation < 1.0:
                raise ValueError(f"validation must be a share in (0, 1) or a number of images, got {self.validation}")
        elif self.validation is not None and self.validation < 1:
            raise ValueError(f"validation must be at least 1 image, got {self.validation}")

    def load(self, on_progress: OnProgress | None = None) -> DataSet:
        """Loads and splits. `on_progress(done, total)` is told of images decoded, which happens the first time only.

        Raises:
            DataError: the images are missing, cannot be read, or are too few for what is asked.
        """
        parts = self._with_test(self._read(on_progress))
        rng = np.random.default_rng(self.seed)
        everything = np.arange(len(parts.train.labels))
        if parts.validation is None:
            held_out = parts.train
            num_validation = self._num_validation(len(everything))
            self._check_count(len(everything), num_validation)
            validation_rows, left = self._stratified(
                parts.train.labels, everything, num_validation, rng, parts.classes, spare=1
            )
        else:
            held_out, left = parts.validation, everything
            validation_rows = np.arange(len(held_out.labels))
            self._check_count(len(left), 0)
            if isinstance(self.validation, int):
                if self.validation > len(validation_rows):
                    raise DataError(
                        f"{self.source}: {self.validation} validation images were asked for, but val/ has "
                        f"{len(validation_rows)}."
                    )
                validation_rows, _ = self._stratified(
                    held_out.labels, validation_rows, self.validation, rng, parts.classes, spare=0
                )
        training_rows = left
        if self.training is not None and self.training < len(left):
            training_rows, _ = self._stratified(parts.train.labels, left, self.training, rng, parts.classes, spare=0)
        assert parts.test is not None
        train = _images(parts.train, training_rows)
        fingerprint = _fingerprint(parts, training_rows, validation_rows)
        mean, std = self._moments(train, fingerprint)
        return DataSet(
            train=train,
            validation=_images(held_out, validation_rows),
            test=_images(parts.test, None),
            classes=parts.classes,
            fingerprint=fingerprint,
            mean=mean,
            std=std,
        )

    def _read(self, on_progress: OnProgress | None) -> Parts:
        name, _, place = self.source.partition(":")
        limit = _quarter_of_memory() if self.memory is None else self.memory
        if name == "digits" and not place:
            return read_digits(self.shape)
        if name in ("cifar10", "cifar100"):
            return read_cifar(name, place, self.shape, download=self.download, limit=limit, on_progress=on_progress)
        if name == "folder" and place:
            return read_folder(place, self.shape, limit=limit, on_progress=on_progress)
        raise DataError(
            f"data source: must be digits, cifar10[:ROOT], cifar100[:ROOT] or folder:PATH, got {self.source!r}."
        )

    def _moments(self, train: Images, fingerprint: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Those of the training part, from the cache; digits are in no cache."""
        if self.source == "digits":
            return _moments(train)
        split = (self.training, self.validation, self.seed)
        found = cached_array(
            digest("moments", self.source, self.shape, *split),
            fingerprint,
            shape=(2, self.shape[0]),
            dtype="float64",
            make=lambda: [np.array(_moments(train))],
        )
        mean, std = found.array.tolist()
        return tuple(mean), tuple(std)

    def _with_test(self, parts: Parts) -> Parts:
        """Sets a test part apart where the source has none, always the same one."""
        if parts.test is not None:
            return parts
        pool, labels = np.arange(len(parts.train.labels)), parts.train.labels
        rng = np.random.default_rng(DIGITS_TEST_SEED)
        test, train = self._stratified(labels, pool, round(DIGITS_TEST_SHARE * len(pool)), rng, parts.classes, spare=1)
        return Parts(
            train=_chosen(parts.train, train),
            validation=parts.validation,
            test=_chosen(parts.train, test),
            classes=parts.classes,
        )

    def _num_validation(self, available: int) -> int:
        if isinstance(self.validation, int):
            return self.validation
        share = DEFAULT_VALIDATION if self.validation is None else self.validation
        if self.training is None:
            return round(share * available)
        return round(self.training * share / (1 - share))  # a share of what is used, not of what lies around

    def _check_count(self, available: int, num_validation: int) -> None:
        asked = (self.training or 0) + num_validation
        if asked > available:
            raise DataError(
                f"{self.source}: {self.training or 0} training and {num_validation} validation images were asked for,"
                f" but there are {available} to train and validate on. Ask for fewer."
            )

    def _stratified(
        self,
        labels: NDArray[np.int64],
        rows: NDArray[np.int64],
        count: int,
        rng: np.random.Generator,
        classes: tuple[str, ...],
        *,
        spare: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`count` of the rows, chosen at random, each class in proportion and none left out; and the other rows.

        At least `spare` images of each class are among the others.
        """
        by_class = [rows[labels[rows] == label] for label in range(len(classes))]
        if count < len(classes):
            raise DataError(f"{self.source}: {count} images cannot show all {len(classes)} classes. Ask for more.")
        for name, members in zip(classes, by_class, strict=True):
            if len(members) < 1 + spare:
                raise DataError(
                    f"{self.source}: class {name} must have at least {1 + spare} images to divide, found"
                    f" {len(members)}. Add images or remove the class."
                )
        limits = [len(members) - spare for members in by_class]
        if count > sum(limits):
            raise DataError(
                f"{self.source}: {count} of {len(rows)} images would leave less than {spare} of some class. Ask for"
                " fewer."
            )
        quotas = _quotas([count * len(members) / len(rows) for members in by_class], limits, count)
        orders = [rng.permutation(members) for members in by_class]
        chosen = [order[:quota] for order, quota in zip(orders, quotas, strict=True)]
        others = [order[quota:] for order, quota in zip(orders, quotas, strict=True)]
        return np.sort(np.concatenate(chosen)), np.sort(np.concatenate(others))


def _quotas(shares: list[float], limits: list[int], count: int) -> list[int]:
    """Whole numbers next to the shares, from 1 to their limits, that add up to `count`; the limits must allow it."""
    quotas = [min(max(1, int(share)), limit) for share, limit in zip(shares, limits, strict=True)]
    while sum(quotas) != count:
        step = 1 if sum(quotas) < count else -1
        movable = [i for i, quota in enumerate(quotas) if (quota < limits[i] if step > 0 else quota > 1)]
        quotas[max(movable, key=lambda i: step * (shares[i] - quotas[i]))] += step
    return quotas


def _quarter_of_memory() -> float:
    """Of this machine's, in bytes. Where the system does not tell, all is mapped from the disk, which works, too."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 4
    except (AttributeError, OSError, ValueError):
        return math.inf


def _chosen(part: Part, rows: NDArray[np.int64]) -> Part:
    assert isinstance(part.pixels, np.ndarray)  # digits alone have no test part
    return Part(pixels=part.pixels[rows], labels=part.labels[rows], digest=part.digest)


def _images(part: Part, rows: NDArray[np.int64] | None) -> Images:
    store = part.pixels if isinstance(part.pixels, Undecoded) else torch.from_numpy(part.pixels)
    if rows is None or len(rows) == len(part.labels):
        return Images(store=store, labels=torch.from_numpy(part.labels))
    return Images(store=store, labels=torch.from_numpy(part.labels[rows]), rows=torch.from_numpy(rows))


def _moments(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, pixels between 0 and 1; whole numbers are summed, so exactly."""
    channels, pixels_each = images.store.shape[1], math.prod(images.store.shape[1:])
    stride = max(1, len(images) * pixels_each // MOMENTS_PIXELS)
    positions = torch.arange(0, len(images), stride)
    count, sums, squares = 0, torch.zeros(channels, dtype=torch.int64), torch.zeros(channels, dtype=torch.int64)
    parts = torch.split(positions, max(1, 2**21 // pixels_each))
    for batch in images.batches(parts, torch.device("cpu")):
        pixels = batch.to(torch.int32)
        count += pixels.numel() // channels
        sums += pixels.sum((0, 2, 3))
        squares += pixels.square().sum((0, 2, 3))
    mean = sums.double() / count
    std = (squares.double() / count - mean.square()).clamp_min(0.0).sqrt()
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def _fingerprint(parts: Parts, training_rows: NDArray[np.int64], validation_rows: NDArray[np.int64]) -> str:
    hasher = hashlib.blake2b(repr(parts.classes).encode(), digest_size=16)
    for part in (parts.train, parts.validation, parts.test):
        if part is not None:
            hasher.update(repr(part.pixels.shape).encode() + part.digest)
            hasher.update(part.labels.tobytes())
    for rows in (training_rows, validation_rows):
        hasher.update(len(rows).to_bytes(8, "big") + rows.tobytes())
    return hasher.hexdigest()
