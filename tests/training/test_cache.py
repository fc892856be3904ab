import os
import shutil
import time
from collections import namedtuple

import numpy as np
import pytest

from pruneas.errors import DataError
from pruneas.training.cache import cached_array, content_digest

SHAPE = (5, 3, 2)
ARRAY = np.arange(30, dtype=np.uint8).reshape(SHAPE)


class Maker:
    """Gives the array in two blocks, and counts how often it was asked."""

    def __init__(self, array=ARRAY):
        self.array, self.times = array, 0

    def __call__(self):
        self.times += 1
        yield self.array[:3]
        yield self.array[3:]


def get(make, fingerprint="f", place="p"):
    return cached_array(place, fingerprint, shape=SHAPE, dtype="uint8", make=make)


def test_an_array_is_made_once_and_then_mapped(cache):
    make = Maker()
    first, second = get(make), get(make)
    assert make.times == 1
    assert isinstance(second.array, np.memmap)
    assert np.array_equal(second.array, ARRAY)
    assert first.digest == second.digest == content_digest([ARRAY])
    assert [file.name for file in cache.iterdir()] == ["p-f.npy"]


def test_another_fingerprint_replaces_the_array_of_its_place_only(cache):
    get(Maker(), place="q")
    get(Maker())
    assert np.array_equal(get(Maker(ARRAY + 1), fingerprint="g").array, ARRAY + 1)
    assert sorted(file.name for file in cache.iterdir()) == ["p-g.npy", "q-f.npy"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, 20),
        lambda path: os.truncate(path, 140),
        lambda path: os.truncate(path, path.stat().st_size - 1),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(b"x" * path.stat().st_size),
        lambda path: np.save(path, ARRAY[:4]),
    ],
    ids=["header cut", "array cut", "digest cut", "empty", "not an array", "another shape"],
)
def test_a_damaged_file_is_made_again(cache, damage):
    get(Maker())
    damage(cache / "p-f.npy")
    make = Maker()
    assert np.array_equal(get(make).array, ARRAY)
    assert make.times == 1


def test_a_mapped_array_outlives_its_replacement():
    old = get(Maker())
    get(Maker(ARRAY + 1), fingerprint="g")
    assert np.array_equal(old.array, ARRAY)


def test_writing_to_a_mapped_array_does_not_reach_the_file():
    get(Maker()).array[:] = 7
    assert np.array_equal(get(Maker()).array, ARRAY)


def test_too_little_disk_is_an_error_before_anything_is_made(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 29))
    make = Maker()
    with pytest.raises(DataError, match=r"the decoded images need 0 MB, but 0 MB are free. Free some space"):
        get(make)
    assert make.times == 0


def test_a_full_disk_is_an_error_and_leaves_nothing(cache):
    def make():
        yield ARRAY[:3]
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"cannot be written there \(No space left on device\)"):
        get(make)
    assert list(cache.iterdir()) == []


def test_a_cache_folder_that_cannot_be_is_an_error(cache):
    cache.parent.parent.mkdir()
    cache.parent.write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"cannot be written there .*move the cache \(XDG_CACHE_HOME\)"):
        get(Maker())


def test_left_overs_of_killed_processes_are_removed_but_not_those_of_living_ones(cache):
    cache.mkdir(parents=True)
    old, new = cache / "x.1.tmp", cache / "y.2.tmp"
    old.touch()
    new.touch()
    os.utime(old, times=(time.time() - 2 * 24 * 3600,) * 2)
    get(Maker())
    assert not old.exists()
    assert new.exists()
