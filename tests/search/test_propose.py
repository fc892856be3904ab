from types import SimpleNamespace

import pytest

from pruneas.architecture import Reference
from pruneas.cost.limits import Limits
from pruneas.cost.model import CostModel
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.errors import RunError
from pruneas.generators import METHODS
from pruneas.search.propose import GeneratorRecord, Proposal, Target, propose
from pruneas.search.train import save_weights
from pruneas.structure.build import analyse, build_widths
from pruneas.training import DataSource, Recipe
from tests.nets import image


def proposed(givens, method, tmp_path=None, **options):
    weights = None
    if tmp_path is not None:
        weights = tmp_path / "base.safetensors"
        save_weights(build_widths(givens.structure, givens.structure.widths, seed=0), weights)
    told = []
    targets = {"": Target(limits=givens.limits)}
    proposal = proposal_of(givens, method, targets=targets, weights=weights, options=options)
    return propose(told.append, proposal=proposal)[""], told


def proposal_of(givens, method, *, targets, weights=None, options=None):
    return Proposal(
        method=method,
        targets=targets,
        structure=givens.structure,
        model=givens.model,
        legal=givens.legal,
        data=DataSource(source="digits", shape=(1, 8, 8), training=60, validation=40, seed=0, download=False),
        recipe=Recipe(epochs=2, batch_size=20, crop=1, flip=False),
        seed=0,
        device="cpu",
        weights=weights,
        options=options or {},
    )


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
    assert [progress.epoch for progress in told if progress.accuracy is not None] == [1, 2]
    assert sum(progress.images for progress in told) == 120
    assert record.flops <= givens.most


METERED = [name for name, each in METHODS.items() if each.needs & {"data", "training"} and "blocks" not in each.needs]
"""The methods that see images and can work on a network without residual blocks."""


@pytest.mark.parametrize("method", METERED)
def test_compute_is_recorded(givens, tmp_path, method):
    givens = with_blocks() if "blocks" in METHODS[method].needs else givens
    record, _ = proposed(givens, method, tmp_path)
    assert record.images >= 60 and record.seconds > 0
    assert record.flops <= givens.most


def with_blocks():
    structure = analyse(Reference.parse("pruneas:resnet20(width=0.25, channels=1)"), image(1, 8, 8))
    model = CostModel.of(structure, build_widths(structure, structure.widths))
    legal = LegalWidths.of(structure, WidthRules())
    return SimpleNamespace(
        structure=structure, model=model, legal=legal, limits=Limits({"flops": model.base.flops // 2})
    )


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


def test_a_ranking_is_made_once_for_all_targets(givens):
    targets = {
        "narrow": Target(limits=givens.limits),
        "wide": Target(limits=Limits({"flops": givens.model.base.flops})),
        "share": Target(limits=Limits({"flops": givens.model.base.flops}), share=0.3),
    }
    told = []
    records = propose(told.append, proposal=proposal_of(givens, "slimming", targets=targets))
    assert len(told) == 2  # the epochs of one training
    assert {name: record.images for name, record in records.items()} == dict.fromkeys(targets, 120)
    assert list(records["wide"].widths.values()) == givens.model.base_widths.tolist()
    total = int(givens.model.base_widths.sum())
    assert sum(records["share"].widths.values()) == total - int(total * 0.3) - 1
    assert records["narrow"].scores == records["wide"].scores
