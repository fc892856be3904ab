"""One method's architectures: the files, the base network they share, and what is refused."""

import json

import pytest

from pruneas.architecture import Architecture
from pruneas.config import Space
from pruneas.cost.count import count
from pruneas.errors import RunError
from pruneas.progress import Silent
from pruneas.run.generate import generate
from pruneas.structure.masks import initialise_masked, read_masks
from tests.tiny import space_file


def given(folder, method, **others):
    return generate(
        Space.load(space_file(folder)), method, run=folder / "run", command="test", observer=Silent(), **others
    )


def test_several_targets_share_one_base_network_and_cost_what_they_may(tmp_path):
    found = given(tmp_path, "l1", budgets=["0.7", "params=0.5"], shares=[0.25], out=tmp_path / "out" / "a.json")
    assert {name: path.name for name, path in found.items()} == {
        "0.7": "a-0.7.json",
        "params=0.5": "a-params-0.5.json",
        "share=0.25": "a-share-0.25.json",
    }
    base = tmp_path / "run" / "base" / "weights.safetensors"
    trained = base.stat().st_mtime_ns
    architectures = {name: Architecture.load(path) for name, path in found.items()}
    record = json.loads((tmp_path / "run" / "generators" / "l1@0.7.json").read_text())
    counted = count(architectures["0.7"].build(), architectures["0.7"].inputs)
    assert counted.flops == record["flops"]
    assert dict(architectures["0.7"].widths) == record["widths"]
    again = given(tmp_path, "l1", budgets=["0.7", "0.6"])
    assert Architecture.load(again["0.7"]) == architectures["0.7"]
    assert given(tmp_path, "slimming", budgets=["0.7"]).keys() == {"0.7"}
    assert base.stat().st_mtime_ns == trained


def test_masks_are_given_beside_the_widths_and_learned_from(tmp_path):
    out = tmp_path / "out" / "net.json"
    assert given(tmp_path, "magnitude", budgets=["0.5"], out=out) == {"0.5": out}
    widths, masked = Architecture.load(out), Architecture.load(tmp_path / "out" / "net.masked.json")
    assert widths.mask is None and masked.mask is not None
    file = tmp_path / "out" / "net.masked.mask.safetensors"
    masks = read_masks(file, masked.mask)
    network = masked.build()
    initialise_masked(network, masks, seed=0)  # they are of this network
    record = json.loads((tmp_path / "run" / "generators" / "magnitude@0.5.json").read_text())
    base, left = count(network, masked.inputs), sum(int(mask.sum()) for mask in masks.values())
    assert record["masked_params"] == base.params - sum(mask.numel() for mask in masks.values()) + left
    assert record["masked_flops"] <= base.flops // 2 < base.flops
    learned = {"sources": [masked], "masks": {masked.mask: file}, "out": tmp_path / "guided.json"}
    given(tmp_path, "guided-sparsity", budgets=["0.5"], **learned)
    assert Architecture.load(tmp_path / "guided.masked.json").mask not in (None, masked.mask)
    given(tmp_path, "guided", budgets=["0.5"], sources=[widths], out=tmp_path / "widths.json")
    assert Architecture.load(tmp_path / "widths.json").build()


def test_one_target_is_written_under_the_name_that_was_given(tmp_path):
    found = given(tmp_path, "uniform", budgets=["0.5"], out=tmp_path / "arch.json")
    assert found == {"0.5": tmp_path / "arch.json"}
    assert Architecture.load(tmp_path / "arch.json").build()


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunError, match="give another file with --out"):
        given(tmp_path, "uniform", budgets=["0.5"], out=tmp_path / "taken" / "arch.json")


def test_options_and_sources_have_a_folder_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = Space.load(space_file(tmp_path))
    pulled = Space.load(space_file(tmp_path), {"generators.options": {"slimming": {"pull": 0.9}}})
    for space in (plain, pulled):
        generate(space, "slimming", budgets=["0.7"], command="test", observer=Silent())
    assert len(list((tmp_path / "runs").iterdir())) == 2
    generate(plain, "uniform", budgets=["0.7"], command="test", observer=Silent())
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_other_sources_in_the_same_folder_give_another_answer(tmp_path):
    first = given(tmp_path, "l1", budgets=["0.7"], out=tmp_path / "a.json")["0.7"]
    second = given(tmp_path, "random", budgets=["0.5"], out=tmp_path / "b.json")["0.5"]
    record = tmp_path / "run" / "generators" / "guided@0.6.json"

    def learned(source):
        given(tmp_path, "guided", budgets=["0.6"], sources=[Architecture.load(source)])
        return record.read_bytes()

    found = learned(first)
    made = record.stat().st_mtime_ns
    assert learned(first) == found and record.stat().st_mtime_ns == made
    assert learned(second) != found
