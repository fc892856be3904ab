"""Decoded images on disk, as memory-mapped arrays that all processes of a machine share.

Every array is one .npy file in the user's cache folder, with 32 bytes after it: the digest of its contents. It is
written to a temporary name and renamed, so a file under its final name is whole. Its name holds the place (what the
array is of) and the fingerprint of the files it was made from; making an array for a place removes the place's older
ones. Two processes that make the same array at the same time do the work twice and are both right.
"""

import hashlib
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from pruneas.errors import DataError

FORMAT_VERSION = 1
DIGEST_BYTES = 32
STALE_SECONDS = 24 * 3600.0  # a temporary file older than this was left by a killed process


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedArray:
    """`array` is memory-mapped, copy-on-write: pages are read when used and shared until someone writes to them."""

    array: NDArray[Any]
    digest: bytes


def cache_folder() -> Path:
    """Where decoded images are kept; on Linux, XDG_CACHE_HOME moves it."""
    return platformdirs.user_cache_path("pruneas") / "images"


def digest(*parts: object) -> str:
    """A short name for values: 16 hexadecimal digits of the hash of their `repr`."""
    return hashlib.blake2b("\n".join(map(repr, parts)).encode(), digest_size=8).hexdigest()


def content_digest(blocks: Iterable[NDArray[Any]]) -> bytes:
    """The digest `cached_array` stores, of an array given in consecutive blocks."""
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for block in blocks:
        hasher.update(_bytes(block))
    return hasher.digest()


def cached_array(
    place: str,
    fingerprint: str,
    *,
    shape: tuple[int, ...],
    dtype: str,
    make: Callable[[], Iterable[NDArray[Any]]],
) -> CachedArray:
    """The array of this place and fingerprint from the cache; made, block by block along its first axis, if not there.

    A file that is not whole or not of this shape and type is made again.

    Raises:
        DataError: the cache cannot be written; also whatever `make` raises.
    """
    path = cache_folder() / f"{place}-{fingerprint}.npy"
    cached = _open(path, shape, np.dtype(dtype))
    if cached is not None:
        return cached
    _write(path, shape, np.dtype(dtype), make)
    for other in path.parent.glob(f"{place}-*.npy"):
        if other != path:
            other.unlink(missing_ok=True)
    cached = _open(path, shape, np.dtype(dtype))
    if cached is None:
        raise DataError(f"{path}: was written but cannot be read back. Check the disk.")
    return cached


def _open(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> CachedArray | None:
    """The array in the file; None where there is none, or not a whole one of this shape and type."""
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
        if array.shape != shape or array.dtype != dtype:
            return None
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) != array.offset + array.nbytes + DIGEST_BYTES:
                return None
            file.seek(-DIGEST_BYTES, os.SEEK_END)
            return CachedArray(array=array, digest=file.read())
    except (OSError, ValueError, EOFError):
        return None


def _write(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], make: Callable[[], Iterable[NDArray[Any]]]
) -> None:
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_overs(path.parent)
        needed, free = math.prod(shape) * dtype.itemsize, shutil.disk_usage(path.parent).free
        if needed > free:
            raise DataError(
                f"{path.parent}: the decoded images need {_megabytes(needed)}, but {_megabytes(free)} are free. Free"
                " some space, use fewer or smaller images, or move the cache (XDG_CACHE_HOME)."
            )
        hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
        # Plain writes: on a full disk they fail with an error, where writing through a memory map is a deadly SIGBUS.
        with temporary.open("wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for block in make():
                content = _bytes(block.astype(dtype, copy=False))
                hasher.update(content)
                file.write(content)
            file.write(hasher.digest())
        temporary.replace(path)
    except OSError as err:
        raise DataError(
            f"{path.parent}: the decoded images cannot be written there ({err.strerror or err}). Make it writable, free"
            " some space, or move the cache (XDG_CACHE_HOME)."
        ) from err
    finally:
        try:
            temporary.unlink(missing_ok=True)
        except OSError:
            pass  # a read-only or vanished folder: the error above says it


def _remove_left_overs(folder: Path) -> None:
    for file in folder.glob("*.tmp"):
        try:
            if time.time() - file.stat().st_mtime > STALE_SECONDS:
                file.unlink(missing_ok=True)
        except OSError:
            continue


def _bytes(block: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(block).reshape(-1).view(np.uint8).data


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.0f} MB"
