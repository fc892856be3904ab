"""Images that are decoded when they are used must be, bit for bit, those that are decoded once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pruneas.errors import DataError
from pruneas.training import DataSource, Recipe, evaluate, fit, in_order
from pruneas.training.decode import Undecoded, num_decoders
from tests.training.test_fit import net, same

RECIPE = Recipe(epochs=2, batch_size=13, learning_rate=0.1, crop=2, cutout=2)


@pytest.fixture
def folder(tmp_path):
    """Three classes of noise, 20 to 30 pixels wide: 47 training and 9 test images."""
    root, rng = tmp_path / "pictures", np.random.default_rng(0)
    for split, count in (("train", 47), ("test", 9)):
        for i in range(count):
            path = root / split / "abc"[i % 3] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (*rng.integers(20, 30, 2), 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    return root


def source(folder, **changes):
    return DataSource(**{"source": f"folder:{folder}", "shape": (3, 7, 11), "validation": 8} | changes)


def test_what_does_not_fit_in_memory_stays_files_and_nothing_else_changes(folder):
    held, streamed = source(folder, memory=56 * 231).load(), source(folder, memory=56 * 231 - 1).load()
    assert isinstance(held.train.store, torch.Tensor)
    assert isinstance(streamed.train.store, Undecoded)
    assert (held.fingerprint, held.mean, held.std) == (streamed.fingerprint, streamed.mean, streamed.std)
    for name in ("train", "validation", "test"):
        ours, theirs = getattr(held, name), getattr(streamed, name)
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
        assert ours.size == theirs.size


def test_a_training_on_files_is_the_training_on_pixels(folder):
    held, streamed = source(folder).load(), source(folder, memory=0).load()
    ours, theirs = net(), net()
    expected, found = fit(ours, held, RECIPE, seed=3), fit(theirs, streamed, RECIPE, seed=3)
    assert same(ours, theirs)
    assert [replace(e, seconds=0.0) for e in expected.epochs] == [replace(e, seconds=0.0) for e in found.epochs]
    moments = {"mean": held.mean, "std": held.std}
    assert evaluate(ours, held.test, **moments) == evaluate(theirs, streamed.test, **moments)
    for (a, b), (c, d) in zip(in_order(held, 7, seed=1), in_order(streamed, 7, seed=1), strict=True):
        assert torch.equal(a, c) and torch.equal(b, d)


def test_cifar_at_another_size_is_made_of_its_own_pixels(tmp_path, monkeypatch):
    import torchvision

    class Few:
        """Stands in for torchvision's reader: 50,000 and 10,000 images of which few differ."""

        base_folder, filename = "few", "few.tar.gz"

        def __init__(self, root, train):
            rng = np.random.default_rng(int(train))
            count = 50_000 if train else 10_000
            self.data = np.resize(rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), (count, 32, 32, 3))
            self.targets = [i % 10 for i in range(count)]

    (tmp_path / "few").mkdir()
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Few)
    told = []
    given = DataSource(source=f"cifar10:{tmp_path}", shape=(1, 3, 5), training=30, validation=10)
    streamed = replace(given, memory=0).load(lambda done, total: told.append((done, total)))
    assert told[-1] == (60_000, 60_000)
    held = given.load()
    assert isinstance(streamed.train.store, Undecoded)
    assert torch.equal(held.train.images, streamed.train.images)
    assert held.fingerprint == streamed.fingerprint


def test_a_damaged_file_is_noticed_at_the_first_load_and_named(folder):
    (folder / "train" / "b" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"train/b/1.png: must be an image that can be decoded"):
        source(folder, memory=0).load()


def test_a_file_that_is_damaged_while_it_is_trained_on_is_named(folder):
    data = source(folder, memory=0).load()
    (folder / "train" / "b" / "1.png").unlink()
    with pytest.raises(DataError, match=r"train/b/1.png: must be an image that can be decoded"):
        fit(net(), data, RECIPE, seed=3)


def test_everything_is_decoded_once_at_first_and_told(folder):
    told = []
    source(folder, memory=0).load(lambda done, total: told.append((done, total)))
    assert told == [(47, 56), (56, 56)]
    source(folder, memory=0).load(lambda done, total: told.append((done, total)))
    assert len(told) == 2


def test_reading_stops_when_nobody_reads(folder):
    store = source(folder, memory=0).load().train.store
    parts = list(torch.arange(40).split(4))
    batches = store.batches(parts, threads=1, pinned=False)
    assert torch.equal(next(batches), store.index_select(0, parts[0]))
    batches.close()
    with pytest.raises(StopIteration):
        next(batches)


def test_a_training_on_a_cpu_decodes_with_its_own_threads():
    assert num_decoders(torch.device("cpu")) == torch.get_num_threads()
    assert num_decoders(torch.device("cuda")) >= 1
