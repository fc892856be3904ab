import pytest

from pruneas.errors import RunError
from pruneas.generators import METHODS
from pruneas.search.propose import GeneratorRecord, Proposal, propose
from pruneas.search.train import save_weights
from pruneas.structure.build import build_widths
from pruneas.training import DataSource, Recipe


def proposed(givens, method, tmp_path=None, **options):
    weights = None
    if tmp_path is not None:
        weights = tmp_path / "base.safetensors"
        save_weights(build_widths(givens.structure, givens.structure.widths, seed=0), weights)
    told = []
    proposal = Proposal(
        method=method,
        structure=givens.structure,
        model=givens.model,
        legal=givens.legal,
        most=givens.most,
        quantity="flops",
        data=DataSource(source="digits", shape=(1, 8, 8), training=60, validation=40, seed=0, download=False),
        recipe=Recipe(epochs=2, batch_size=20, crop=1, flip=False),
        seed=0,
        device="cpu",
        weights=weights,
        options=options,
    )
    return propose(told.append, proposal=proposal), told


def test_uniform_scaling_trains_nothing(givens):
    record, told = proposed(givens, "uniform")
    assert list(record.widths.values()) == givens.uniform.tolist()
    assert (record.images, told) == (0, [])


def test_l1_reads_the_weights_and_keeps_as_many_channels_as_its_widths_say(givens, tmp_path):
    record, told = proposed(givens, "l1", tmp_path)
    assert {name: len(kept) for name, kept in record.keep.items()} == record.widths
    assert record.flops <= givens.most
    assert (record.images, told) == (0, [])


def test_slimming_meters_what_it_trains(givens):
    record, told = proposed(givens, "slimming")
    assert record.images == 120
    assert [(epoch.epoch, epoch.images) for epoch in told] == [(1, 60), (2, 60)]
    assert record.flops <= givens.most


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.needs & {"data", "training"}])
def test_compute_is_recorded(givens, tmp_path, method):
    record, _ = proposed(givens, method, tmp_path)
    assert record.images >= 60 and record.seconds > 0
    assert record.flops <= givens.most


def test_no_more_images_are_read_than_are_asked_for(givens, tmp_path):
    record, _ = proposed(givens, "taylor", tmp_path, images=20)
    assert record.images == 32  # one batch


def test_a_record_is_read_back_or_refused(givens, tmp_path):
    from pruneas.files import write_json

    record, _ = proposed(givens, "uniform")
    path = tmp_path / "uniform.json"
    write_json(path, record.to_json())
    assert GeneratorRecord.read(path) == record
    for content in (path.read_text()[:30], "[1]", '{"method": "uniform"}'):
        path.write_text(content)
        with pytest.raises(RunError, match=r"uniform\.json: is not a generator's record .*; delete it and give"):
            GeneratorRecord.read(path)
