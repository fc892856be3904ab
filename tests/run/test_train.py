"""Architectures trained from scratch: the paper's two arms, their seeds, and what is left in the folder."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from pruneas.architecture import Architecture, Input, Reference
from pruneas.config import Space
from pruneas.cost.count import count
from pruneas.errors import ArchitectureError, RunError
from pruneas.progress import Silent
from pruneas.run.train import train
from pruneas.structure.build import analyse, describe
from pruneas.structure.masks import mask_path, read_masks, write_masks
from tests.tiny import ANSI_FREE, NETWORK, pruneas, space_file


@pytest.fixture(scope="module")
def architecture():
    structure = analyse(Reference.parse(NETWORK), (Input((1, 8, 8)),))
    return describe(structure, {name: max(1, width // 2) for name, width in structure.widths.items()})


def trained(folder, architecture, **others):
    space = Space.load(space_file(folder))
    return train(space, architecture, run=folder / "run", command="test", observer=Silent(), **others)


def test_more_seeds_add_to_those_that_are_there(tmp_path, architecture):
    one = trained(tmp_path, architecture)
    assert (one.arm, one.epochs, one.std) == ("scratch-e", 2, None)
    three = trained(tmp_path, architecture, num_seeds=3)
    assert three.seeds[:1] == one.seeds and three.accuracies[:1] == one.accuracies
    assert three.std is not None
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    assert record["test_accuracies"] == list(three.accuracies)
    network = architecture.build()
    network.load_state_dict(load_file(three.weights))


def test_scratch_b_trains_for_the_base_networks_compute(tmp_path, architecture):
    found = trained(tmp_path, architecture, arm="scratch-b", cap=100.0)
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    assert found.epochs == int(2 * record["base_flops"] / record["flops"]) > 4
    with pytest.raises(RunError, match="the arm changed since the run began"):
        trained(tmp_path, architecture)


def test_what_is_selected_is_what_is_trained(tmp_path):
    reference = Reference.parse("pruneas:preresnet110(width=0.0625, channels=1, selection=True)")
    structure = analyse(reference, (Input((1, 8, 8)),))
    widths = {name: max(1, width - 1) for name, width in structure.widths.items()}
    keep = {name: list(range(structure.widths[name] - width, structure.widths[name])) for name, width in widths.items()}
    found = trained(tmp_path, describe(structure, widths, keep=keep))
    state = load_file(found.weights)
    assert state["select.index"].tolist() == keep["select"] == list(range(1, 16))


def test_an_architecture_of_another_structure_is_refused(tmp_path, architecture):
    from dataclasses import replace

    with pytest.raises(ArchitectureError, match=r"whose network had structure 0000; .* here gives"):
        trained(tmp_path, replace(architecture, structure="0000"))


@pytest.fixture
def masked(tmp_path):
    """The file of the whole network's architecture with three quarters of a convolution's weights masked."""
    structure = analyse(Reference.parse(NETWORK), (Input((1, 8, 8)),))
    file = tmp_path / "net.masked.architecture.json"
    kept = torch.rand(7, 5, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.25
    found = describe(structure, structure.widths)
    file.write_text(replace(found, mask=write_masks({"features.3.weight": kept}, mask_path(file))).to_json())
    return file


def test_masks_are_held_and_what_they_leave_is_told_apart_from_the_cost(tmp_path, masked):
    architecture, masks = Architecture.load(masked), mask_path(masked)
    one = trained(tmp_path, architecture, masks=masks)
    (kept,) = read_masks(masks).values()
    gone = int((~kept).sum())
    base = count(architecture.build(), architecture.inputs)
    assert (one.flops, one.params) == (base.flops, base.params)
    assert (one.masked_flops, one.masked_params) == (base.flops - 8 * 8 * gone, base.params - gone)
    assert torch.equal(load_file(one.weights)["features.3.weight"] != 0, kept)
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    assert (record["flops"], record["masked_flops"], record["masked_params"]) == (
        base.flops, one.masked_flops, one.masked_params,
    )  # fmt: skip
    (first,) = (tmp_path / "run" / "test").glob("*.json")
    made = first.stat().st_mtime_ns
    two = trained(tmp_path, architecture, masks=masks, num_seeds=2)
    assert (two.accuracies[0], len(two.accuracies)) == (one.accuracies[0], 2)
    assert first.stat().st_mtime_ns == made and len(list(first.parent.glob("*.json"))) == 2
    kept_beside = Architecture.load(tmp_path / "run" / "architecture.json").mask
    assert read_masks(tmp_path / "run" / "architecture.mask.safetensors", kept_beside).keys() == {"features.3.weight"}


def test_the_command_finds_the_masks_beside_the_file_and_scratch_b_reckons_with_what_they_leave(tmp_path, masked):
    space_file(tmp_path)
    told = pruneas("train", masked.name, "--space", "tiny.toml", "--run", "run", "--arm", "scratch-b", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    assert record["epochs"] == int(2 * record["flops"] / record["masked_flops"]) > 2
    assert re.search(r"^masked cost: .* FLOPs \(\d+\.\d % of the network's\), .* not to be ranked", told.stdout, re.M)
    mask_path(masked).unlink()
    told = pruneas("train", masked.name, "--space", "tiny.toml", "--run", "other", cwd=tmp_path)
    assert told.returncode == 2 and "net.masked.architecture.mask.safetensors: cannot be read" in told.stderr
    assert not (tmp_path / "other").exists()


def test_masks_that_are_not_the_architectures_are_refused_before_a_folder_is_made(tmp_path, masked, architecture):
    whole, masks = Architecture.load(masked), mask_path(masked)
    others = mask_path(tmp_path / "others.json")

    def refused(complaint, architecture, masks):
        with pytest.raises(ArchitectureError, match=complaint):
            trained(tmp_path, architecture, masks=masks)

    refused("it names masks, but none were given", whole, None)
    refused("masks were given, but it names none", replace(whole, mask=None), masks)
    refused("must be the mask file with SHA-256 aaaa", replace(whole, mask="a" * 64), masks)
    refused("but it has other widths than that, too", replace(architecture, mask=whole.mask), masks)
    for name, shape, complaint in (
        ("features.3.weight", (7, 5, 1, 1), r"mask of 'features.3.weight', \(7, 5, 1, 1\): the network has one of"),
        ("classifier.weight", (10, 11), "must be of weights of convolutions, found one of 'classifier.weight'"),
    ):
        digest = write_masks({name: torch.ones(shape) > 0}, others)
        refused(complaint, replace(whole, mask=digest), others)
    assert not (tmp_path / "run").exists()


def by_torchrun(cwd, *arguments):
    command = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "--",
        "pruneas",
        *arguments,
    ]
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=280, env=os.environ | ANSI_FREE
    )


@pytest.mark.slow
def test_torchrun_spreads_a_training_and_the_same_command_prints_its_result_again(tmp_path, architecture):
    space_file(tmp_path)
    (tmp_path / "arch.json").write_text(architecture.to_json())
    arguments = ["train", "arch.json", "--space", "tiny.toml", "--run", "run", "--seeds", "2", "--device", "cpu"]
    first = by_torchrun(tmp_path, *arguments)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("scratch-e, 2 epochs: test accuracy") == 1  # the first process alone talks
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    assert (record["processes"], len(record["test_accuracies"])) == (2, 2)
    assert any("trained by 2 processes" in note for note in record["notes"])
    load_file(tmp_path / "run" / "weights.safetensors")
    assert not list((tmp_path / "run" / "test").glob("*checkpoint*"))
    again = by_torchrun(tmp_path, *arguments)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    wrong = by_torchrun(tmp_path, "train", "no.json", "--space", "tiny.toml")
    assert wrong.returncode != 0
