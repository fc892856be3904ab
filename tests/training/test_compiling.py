"""When a training is compiled, and that it is recorded."""

import shutil
from dataclasses import dataclass, replace

import pytest
import torch

from pruneas.errors import TrainingError
from pruneas.training import Recipe, compiling, fit
from tests.training.test_fit import net, same, weights

RECIPE = Recipe(epochs=4, batch_size=13, learning_rate=0.1, crop=2, precision="float32")


@dataclass
class Seen:
    seconds: float
    compiled: bool


@pytest.mark.parametrize(
    ("epochs", "num_epochs", "worth"),
    [
        ([], 100, False),
        ([Seen(60, False)], 11, False),  # ten minutes left
        ([Seen(60, False)], 12, True),
        ([Seen(60, False), Seen(90, True)], 12, True),
        ([Seen(60, False), Seen(90, True), Seen(50, True)], 12, True),  # 40 s of compiling, 10 s saved in 11 epochs
        ([Seen(60, False), Seen(90, True), Seen(57, True)], 12, False),  # 33 s of compiling, 3 s saved in 11 epochs
        ([Seen(60, False), Seen(90, True), Seen(57, True)], 13, True),
        ([Seen(60, False), Seen(90, True), Seen(70, True)], 1000, False),  # slower
        ([Seen(60, False), Seen(90, True), Seen(50, True), Seen(99, True)], 12, True),  # decided for good
        ([Seen(60, False), Seen(60, False)], 1000, False),  # it failed, or was decided against
        ([Seen(60, False), Seen(90, True), Seen(60, False)], 1000, False),
    ],
)
def test_compiling_is_tried_where_much_is_left_and_kept_where_it_pays(epochs, num_epochs, worth):
    assert compiling.is_worth_it(epochs, num_epochs) is worth


@pytest.fixture
def traced(monkeypatch):
    """torch.compile that only traces: what it computes is the same, and it needs no compiler."""
    compile_, modes = torch.compile, []

    def trace(model, mode):
        modes.append(mode)
        return compile_(model, backend="eager")

    monkeypatch.setattr(torch, "compile", trace)
    monkeypatch.setattr(compiling, "missing_tool", lambda device: None)
    yield modes
    torch._dynamo.reset()


def test_short_trainings_are_not_compiled(small, traced):
    assert not any(epoch.compiled for epoch in fit(net(), small, RECIPE, seed=3).epochs)
    assert traced == []


def test_what_is_compiled_is_recorded_and_does_the_same_where_it_goes_on(small, traced, tmp_path, monkeypatch):
    plain, always, found, stopped, resumed = net(), net(), net(), net(), net()
    fit(plain, small, RECIPE, seed=3, compile="off")
    assert [epoch.compiled for epoch in fit(always, small, RECIPE, seed=3, compile="on").epochs] == [True] * 4
    assert same(plain, always)  # as it is only traced here
    monkeypatch.setattr(compiling, "WORTH_SECONDS", 0.0)
    result = fit(found, small, RECIPE, seed=3)
    assert [epoch.compiled for epoch in result.epochs][:3] == [False, True, True]
    assert result.notes[0].startswith("compiled by torch.compile: epochs 2 to")

    class Stopped(Exception):
        pass

    def stop(record):
        if record.epoch == 3:
            raise Stopped

    with pytest.raises(Stopped):
        fit(stopped, small, RECIPE, seed=3, checkpoint=tmp_path / "c", after_epoch=stop)
    monkeypatch.setattr(compiling, "WORTH_SECONDS", 1e9)  # measured anew, nothing would be
    again = fit(resumed, small, RECIPE, seed=3, checkpoint=tmp_path / "c")
    assert [epoch.compiled for epoch in again.epochs][:3] == [False, True, True]
    assert same(found, resumed)


def test_where_compiling_fails_the_training_goes_on_without(small, monkeypatch):
    def fail(graph, inputs):
        raise RuntimeError("no such instruction")

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, mode: compile_(model, backend=fail))
    monkeypatch.setattr(compiling, "missing_tool", lambda device: None)
    monkeypatch.setattr(compiling, "WORTH_SECONDS", 0.0)
    plain, found = net(), net()
    fit(plain, small, RECIPE, seed=3, compile="off")
    result = fit(found, small, RECIPE, seed=3)
    torch._dynamo.reset()
    assert same(plain, found)
    assert not any(epoch.compiled for epoch in result.epochs)
    [note] = result.notes
    assert note.startswith("torch.compile failed, so nothing was compiled: ") and "no such instruction" in note


def test_without_a_compiler_nothing_is_compiled_and_on_is_an_error(small, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(compiling, "WORTH_SECONDS", 0.0)
    assert not any(epoch.compiled for epoch in fit(net(), small, RECIPE, seed=3).epochs)
    with pytest.raises(TrainingError, match=r"compile 'on' needs a C\+\+ compiler, and finds none. Install it, or"):
        fit(net(), small, RECIPE, seed=3, compile="on")
    with pytest.raises(ValueError, match="compile must be one of auto, on, off, got 'yes'"):
        fit(net(), small, RECIPE, seed=3, compile="yes")


@pytest.mark.slow
@pytest.mark.skipif(compiling.missing_tool(torch.device("cpu")) is not None, reason="there is no C++ compiler")
def test_a_compiled_training_is_the_plain_one_but_for_rounding(small):
    recipe = replace(RECIPE, epochs=2)
    plain, compiled = net(), net()
    fit(plain, small, recipe, seed=3, compile="off")
    fit(compiled, small, recipe, seed=3, compile="on")
    for a, b in zip(weights(plain), weights(compiled), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
