"""Trainings that go wrong in processes of their own: what is recorded, and that the search goes on."""

import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from pruneas.errors import DataError
from pruneas.progress import Silent
from pruneas.search.records import read_trials
from pruneas.search.study import open_study
from pruneas.training import DataSource, Pool, Recipe
from tests.tiny import Givens
from tests.training.test_memory import TOO_MUCH

DIGITS = DataSource(source="digits", shape=(1, 8, 8), training=60, validation=40)
RECIPE = Recipe(epochs=1, batch_size=20, crop=1, flip=False)


class Watch(Silent):
    """Kills the training called `victim` when it tells something."""

    def __init__(self, victim=None):
        self.victim, self.notes = victim, []

    def training(self, label, *_):
        if label == self.victim:
            [child] = [child for child in multiprocessing.active_children() if child.name == label]
            os.kill(child.pid, signal.SIGKILL)

    def note(self, text):
        self.notes.append(text)


def searched(givens, folder, watch, **changes):
    search = givens.search(folder, **{"data": DIGITS, "recipe": RECIPE, "num_trials": 3, **changes})
    with Pool(workers=2, threads=1) as pool:
        return search.run(pool, watch, lambda images: None)


def test_a_training_that_is_killed_is_a_failed_trial_and_the_search_goes_on(givens, tmp_path):
    watch = Watch(victim="trial 1")
    # Its first epoch has it killed, long before the others are done.
    found = searched(givens, tmp_path, watch, recipe=replace(RECIPE, epochs=100), num_trials=3)
    assert [record.failure for record in found] == [None, "was killed by signal 9, SIGKILL (out of memory?)", None]
    assert [record.accuracy is None for record in found] == [False, True, False]
    assert read_trials(tmp_path) == found
    states = [trial.state.name for trial in open_study(tmp_path / "study.db").get_trials()]
    assert states == ["COMPLETE", "FAIL", "COMPLETE"]
    assert watch.notes == ["trial 1 failed: was killed by signal 9, SIGKILL (out of memory?)"]


def test_trainings_that_diverge_are_failed_trials(givens, tmp_path):
    found = searched(givens, tmp_path, Watch(), recipe=replace(RECIPE, epochs=2, learning_rate=1e30), num_trials=2)
    assert len(found) == 2
    for record in found:
        assert record.accuracy is None
        assert "the training loss must be finite, got" in record.failure


class Hungry(nn.Module):
    """Needs more memory than there is for more than 10 images at a time, and for any if it is `narrow`."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3)
        self.last = nn.Linear(6 * 36, 10)

    def forward(self, x):
        if self.training and len(x) > (0 if self.first.out_channels < 3 else 10):
            torch.empty(TOO_MUCH)
        return self.last(self.first(x).relu().flatten(1))


def test_memory_that_runs_out_is_a_note_or_a_failed_trial(tmp_path):
    givens = Givens.of("tests.search.test_outcomes:Hungry", budget="0.8")
    anchors = {"uniform": givens.model.vector({"first": 4}), "l1": givens.model.vector({"first": 2})}
    watch = Watch()
    wide, narrow = searched(givens, tmp_path, watch, anchors=anchors, num_trials=2)
    assert wide.accuracy is not None
    [note] = wide.notes
    assert note.startswith("memory ran out: from epoch 1 on, batches of 20 images were computed 10 at a time; ")
    assert narrow.accuracy is None
    assert "memory of cpu ran out with 8 images at a time, and fewer are not tried" in narrow.failure
    assert f"trial 0: {note}" in watch.notes
    assert read_trials(tmp_path) == [wide, narrow]


def test_an_image_that_is_damaged_meanwhile_ends_the_search_and_is_named(givens, tmp_path):
    from PIL import Image

    for split, name, count in (("train", "a", 8), ("train", "b", 8), ("test", "a", 1), ("test", "b", 1)):
        (tmp_path / "pictures" / split / name).mkdir(parents=True)
        for i in range(count):
            Image.new("L", (8, 8), 10 * i).save(tmp_path / "pictures" / split / name / f"{i}.png")
    source = replace(DIGITS, source=f"folder:{tmp_path / 'pictures'}", training=None, validation=4, memory=0)
    source.load()
    damaged = tmp_path / "pictures" / "train" / "a" / "3.png"
    before = damaged.stat()
    damaged.write_bytes(b"\0" * before.st_size)
    os.utime(damaged, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a bad sector does: nothing else has changed
    with pytest.raises(DataError, match=r"train/a/3.png: must be an image that can be decoded"):
        searched(givens, tmp_path, Watch(), data=source, recipe=replace(RECIPE, batch_size=4))
