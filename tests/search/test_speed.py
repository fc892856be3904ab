import time

import pytest

from pruneas.search.speed import BATCHES, EPOCHS, Speed, images_measured, measure
from pruneas.search.train import Training, train
from pruneas.training import DataSource, Recipe


@pytest.fixture
def training(givens):
    source = DataSource(source="digits", shape=(1, 8, 8), training=1000, validation=200, seed=0, download=False)
    widths = givens.uniform
    return Training(
        structure=givens.structure,
        widths=givens.model.mapping(widths),
        flops=int(givens.model.flops(widths)),
        params=int(givens.model.params(widths)),
        data=source,
        recipe=Recipe(epochs=8, batch_size=20, crop=1),
        seed=0,
        device="cpu",
    )


def test_what_a_few_steps_take_tells_what_a_training_takes(training):
    train(lambda message: None, training=training)  # the first one also warms up the process
    for _ in range(3):
        began = time.perf_counter()
        record = train(lambda message: None, training=training)
        took = time.perf_counter() - began
        speed = measure(lambda message: None, training=training)
        # Wide, and thrice, for machines that are busy now and not then; on an idle one it is within a few per cent.
        if took / 4 < speed.seconds(record.images, 1) < 4 * took:
            return
    raise AssertionError((took, speed))


def test_no_more_is_trained_on_than_is_said(training, monkeypatch):
    seen = []
    fit = measure.__globals__["fit"]

    def counted(network, data, recipe, **more):
        seen.append((len(data.train), len(data.validation), recipe.epochs))
        return fit(network, data, recipe, **more)

    monkeypatch.setitem(measure.__globals__, "fit", counted)
    measure(lambda message: None, training=training)
    assert seen == [(BATCHES * 20, BATCHES * 20 * 200 // 1000, EPOCHS)]
    assert images_measured(20) == BATCHES * 20 * EPOCHS


def test_seconds_by_hand():
    speed = Speed.mean([Speed(seconds_per_image=0.01, beside=1.0), Speed(seconds_per_image=0.03, beside=3.0)])
    assert speed.seconds(100, 2) == pytest.approx(100 * 0.02 + 2 * 2.0)
