"""Where images come from: scikit-learn's digits, torchvision's CIFAR readers, folders of image files.

Every reader gives `Parts`: what is there for training, for testing and, if the source itself says so, for validation.
Splitting and choosing is `data.py`'s. Images are decoded once, to the asked channels and size, and cached on disk;
where they would not fit in memory, only the digest of their pixels is, and they are decoded whenever they are used.
"""

import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray
from PIL import Image

from pruneas.errors import DataError
from pruneas.training.cache import DIGEST_BYTES, FORMAT_VERSION, cached_array, content_digest, digest
from pruneas.training.decode import Shape, Undecoded, decode, fitted

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
DECODE_BLOCK = 256  # images decoded and written at a time

OnProgress = Callable[[int, int], None]
_File = tuple[str, int, int]  # path inside the data set, bytes, time of the last change in ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """`pixels` uint8 (n, c, h, w), maybe memory-mapped; `labels` int64 (n,); `digest` of the decoded pixels."""

    pixels: NDArray[np.uint8] | Undecoded
    labels: NDArray[np.int64]
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a source holds; `validation` is None where the source does not set it apart, `test` where it has none."""

    train: Part
    validation: Part | None
    test: Part | None
    classes: tuple[str, ...]


def read_digits(shape: Shape) -> Parts:
    """scikit-learn's 1,797 digits of 8 x 8 pixels; it has no test part of its own."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]  # 0..16 -> 0..255
    if shape != (1, 8, 8):
        pixels = np.stack([fitted(Image.fromarray(image[0]), shape) for image in pixels])
    labels = bunch.target.astype(np.int64)
    train = Part(pixels=pixels, labels=labels, digest=content_digest([pixels]))
    return Parts(train=train, validation=None, test=None, classes=tuple(map(str, range(10))))


def read_cifar(
    name: str, root: str, shape: Shape, *, download: bool, limit: float, on_progress: OnProgress | None = None
) -> Parts:
    """CIFAR-10 or -100 as torchvision's readers find them under `root` ('': the user's cache folder).

    Images that have more than `limit` bytes in all are not kept at this shape, but made of the original ones when used.

    Raises:
        DataError: the files are not there, not whole, or cannot be downloaded.
    """
    import torchvision

    reader = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
    folder = Path(root).expanduser() if root else platformdirs.user_cache_path("pruneas") / name
    files = folder / reader.base_folder
    if not files.is_dir():
        if not download:
            raise DataError(
                f"{name}: {files} must hold the data set's python version, but there is no such folder. Download it"
                f" with --download, or unpack {reader.filename} into {folder}."
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            reader(str(folder), download=True)
        except (OSError, RuntimeError) as err:
            raise DataError(
                f"{name}: {reader.url} must be downloadable to {folder}, but: {err}. Download it by other means and"
                f" unpack it into {folder}."
            ) from err

    def whole(train: bool) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old pickles make newer numpys warn
                return reader(str(folder), train=train)
        except Exception as err:
            raise DataError(
                f"{name}: {files} must hold the whole data set, but: {err}. Remove the folder and download it again"
                f" with --download, or unpack {reader.filename} into {folder}."
            ) from err

    fingerprint = _fingerprint(sorted(_files(str(files), "")))
    sizes = {True: 50_000, False: 10_000}
    original = (3, 32, 32)
    fits = sum(sizes.values()) * math.prod(shape) <= limit or shape == original
    advance = _counted(sum(sizes.values()), on_progress)

    def part(train: bool) -> Part:
        def originals() -> Iterator[NDArray[np.uint8]]:
            yield whole(train).data.transpose(0, 3, 1, 2)  # from (n, 32, 32, 3)

        def pixels() -> Iterator[NDArray[np.uint8]]:
            images = whole(train).data
            for start in range(0, len(images), DECODE_BLOCK):
                block = images[start : start + DECODE_BLOCK]
                advance(len(block))
                if shape == original:
                    yield block.transpose(0, 3, 1, 2)
                else:
                    yield np.stack([fitted(Image.fromarray(image), shape) for image in block])

        def labels() -> Iterator[NDArray[np.int64]]:
            yield np.asarray(whole(train).targets, dtype=np.int64)

        count = sizes[train]
        split = "train" if train else "test"
        place = digest(name, str(files.resolve()), split, "labels")
        targets = cached_array(place, fingerprint, shape=(count,), dtype="int64", make=labels)
        place = digest(name, str(files.resolve()), split, shape)
        if fits:
            array = cached_array(place, fingerprint, shape=(count, *shape), dtype="uint8", make=pixels)
            return Part(pixels=array.array, labels=np.array(targets.array), digest=array.digest)
        at_hand = digest(name, str(files.resolve()), split, original)
        array = cached_array(at_hand, fingerprint, shape=(count, *original), dtype="uint8", make=originals)
        undecoded = Undecoded(array.array, shape)
        return Part(pixels=undecoded, labels=np.array(targets.array), digest=_cached_digest(place, fingerprint, pixels))

    num_classes = 10 if name == "cifar10" else 100
    classes = CIFAR10_CLASSES if name == "cifar10" else tuple(map(str, range(num_classes)))
    return Parts(train=part(True), validation=None, test=part(False), classes=classes)


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def read_folder(root: str, shape: Shape, *, limit: float, on_progress: OnProgress | None = None) -> Parts:
    """A folder with train/ and test/ or val/, and in each one folder a class. A lone val/ is the test part.

    Images that have more than `limit` bytes in all stay files. They are decoded once all the same, which finds damaged
    ones before a training does, and gives the digest that they would have in memory.

    Raises:
        DataError: something of that is missing, or a file is not an image.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder}: must be a folder with train/ and test/ or val/, but there is no such folder.")
    found = {name: folder / name for name in ("train", "val", "test") if (folder / name).is_dir()}
    if "train" not in found:
        raise DataError(f"{folder}: must have a folder train/ with one folder a class, found {_listed(folder)}.")
    if len(found) == 1:
        raise DataError(
            f"{folder}: must have a folder test/ or val/ beside train/, found {_listed(folder)}. Move some images of"
            " each class there: a search needs images that no training saw."
        )
    files = {name: _class_files(path) for name, path in found.items()}
    classes = tuple(files["train"])
    for name, path in found.items():
        if tuple(files[name]) != classes:
            missing, extra = sorted(set(classes) - set(files[name])), sorted(set(files[name]) - set(classes))
            raise DataError(
                f"{path}: must have the classes of {found['train']}"
                + (f"; missing: {', '.join(missing)}" if missing else "")
                + (f"; not in train/: {', '.join(extra)}" if extra else "")
                + ". Make the class folders agree."
            )
    total = sum(len(paths) for split in files.values() for paths in split.values())
    fits = total * math.prod(shape) <= limit
    advance = _counted(total, on_progress)
    parts = {}
    for name, by_class in files.items():
        listing = [file for class_files in by_class.values() for file in class_files]
        labels = np.repeat(np.arange(len(classes)), [len(class_files) for class_files in by_class.values()])
        pixels, pixels_digest = _decoded(found[name], listing, shape, advance, fits)
        parts[name] = Part(pixels=pixels, labels=labels.astype(np.int64), digest=pixels_digest)
    if "test" in parts:
        return Parts(train=parts["train"], validation=parts.get("val"), test=parts["test"], classes=classes)
    return Parts(train=parts["train"], validation=None, test=parts["val"], classes=classes)


def _class_files(split: Path) -> dict[str, list[_File]]:
    """The image files of each class folder, both in order of name."""
    folders = sorted(entry.name for entry in os.scandir(split) if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise DataError(f"{split}: must have one folder a class, found {_listed(split)}.")
    if len(folders) == 1:
        raise DataError(f"{split}: must have at least two classes, found only {folders[0]}.")
    files = {name: sorted(_files(str(split), name, IMAGE_EXTENSIONS)) for name in folders}
    for name, found in files.items():
        if not found:
            raise DataError(
                f"{split / name}: a class folder must hold images ({' '.join(IMAGE_EXTENSIONS)}), found"
                f" {_listed(split / name)}. Add images or remove the folder."
            )
    return files


def _files(root: str, below: str, extensions: tuple[str, ...] = ("",)) -> Iterator[_File]:
    """The files under root/below whose names end so. Strings and scandir: every worker lists the whole data set."""
    for entry in os.scandir(os.path.join(root, below)):
        name = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir():
            yield from _files(root, name, extensions)
        elif entry.name.lower().endswith(extensions):
            stat = entry.stat()
            yield name, stat.st_size, stat.st_mtime_ns


def _decoded(
    split: Path, files: Sequence[_File], shape: Shape, advance: Callable[[int], None], fits: bool
) -> tuple[NDArray[np.uint8] | Undecoded, bytes]:
    """All images of a split and their digest, from the cache or decoded by as many threads as there are cores."""

    def blocks() -> Iterator[NDArray[np.uint8]]:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:  # PIL decodes without the interpreter lock
            for start in range(0, len(files), DECODE_BLOCK):
                paths = [split / name for name, _, _ in files[start : start + DECODE_BLOCK]]
                block = list(threads.map(lambda path: decode(path, shape), paths))
                advance(len(block))
                yield np.stack(block)

    place, fingerprint = digest("folder", str(split.resolve()), shape), _fingerprint(files)
    if fits:
        array = cached_array(place, fingerprint, shape=(len(files), *shape), dtype="uint8", make=blocks)
        return array.array, array.digest
    undecoded = Undecoded([split / name for name, _, _ in files], shape)
    return undecoded, _cached_digest(place, fingerprint, blocks)


def _cached_digest(place: str, fingerprint: str, blocks: Callable[[], Iterator[NDArray[np.uint8]]]) -> bytes:
    """The digest of an array that is made block by block and not kept."""

    def make() -> Iterator[NDArray[np.uint8]]:
        yield np.frombuffer(content_digest(blocks()), dtype=np.uint8)

    found = cached_array(digest(place, "digest"), fingerprint, shape=(DIGEST_BYTES,), dtype="uint8", make=make)
    return bytes(found.array)


def _counted(total: int, on_progress: OnProgress | None) -> Callable[[int], None]:
    """A function that is told of each few images done, and tells how many are."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if on_progress is not None:
            on_progress(done, total)

    return advance


def _fingerprint(files: Sequence[_File]) -> str:
    """Changes when a file is added, removed, renamed, written to or touched."""
    return digest(FORMAT_VERSION, files)


def _listed(folder: Path) -> str:
    """What is in a folder, in a few words."""
    names = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(folder))
    return (", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")) or "nothing"
