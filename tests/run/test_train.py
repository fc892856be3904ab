"""Architectures trained from scratch: the paper's two arms, their seeds, and what is left in the folder."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from safetensors.torch import load_file

from pruneas.architecture import Input, Reference
from pruneas.config import Space
from pruneas.errors import ArchitectureError, RunError
from pruneas.progress import Silent
from pruneas.run.train import train
from pruneas.structure.build import analyse, describe
from tests.tiny import ANSI_FREE, NETWORK, space_file


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


def test_masked_architectures_are_refused_rather_than_trained_without_their_masks(tmp_path, architecture):
    with pytest.raises(ArchitectureError, match="must be without masks, found aaaaaaaa; those are trained in Python"):
        trained(tmp_path, replace(architecture, mask="a" * 64))


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
