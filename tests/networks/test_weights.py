"""Weights of others: read without running anything, and fitted with every complaint."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import mnasnet0_5

from pruneas.errors import NetworkError
from pruneas.networks.weights import fit_to, read_weights

STATE = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}


class Touch:
    """Pickled, a command that runs when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


def same(found: dict) -> bool:
    return list(found) == list(STATE) and all(torch.equal(found[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
    ],
)
def test_torch_files_are_read_bare_and_wrapped(wrap, tmp_path: Path) -> None:
    torch.save(wrap(STATE), tmp_path / "w.pth")
    assert same(read_weights(tmp_path / "w.pth"))


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    found = read_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    for name, write in (
        ("zip.pth", torch.save),
        ("bare.pth", lambda value, path: path.write_bytes(pickle.dumps(value))),
    ):
        write({"weight": Touch(tmp_path / "harm")}, tmp_path / name)
        with pytest.raises(NetworkError, match=rf"{name}: .*torch\.save\(network\.state_dict\(\), path\)"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 100, b"hello, world", b"PK\x03\x04 torn", b"\x80\x02}q\x00."]
)  # the last: an empty pickle
def test_damaged_files_are_network_errors(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(NetworkError, match=rf"w{suffix}: "):
        read_weights(path)


@pytest.mark.parametrize("torn", [10, 200, 600])
def test_files_that_end_too_soon_are_network_errors(torn: int, tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "whole.pth")
    (tmp_path / "torn.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:-torn])
    with pytest.raises(NetworkError, match=r"torn\.pth: "):
        read_weights(tmp_path / "torn.pth")


def test_missing_files_are_network_errors(tmp_path: Path) -> None:
    for suffix in (".pth", ".safetensors"):
        with pytest.raises(NetworkError, match=f"nowhere{suffix}: cannot be read as weights: .*No such file"):
            read_weights(tmp_path / f"nowhere{suffix}")


@pytest.mark.parametrize("value", [[1, 2], {"weight": 3}, torch.ones(2)])
def test_what_is_no_state_is_refused(value: object, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "w.pth")
    with pytest.raises(NetworkError, match="must hold a state: a dictionary of tensors by parameter name"):
        read_weights(tmp_path / "w.pth")


def test_states_that_fit_are_loaded() -> None:
    network = nn.Linear(3, 2)
    fit_to(network, STATE, "w.pth")
    assert torch.equal(network.weight, STATE["weight"])


def test_states_without_versions_are_loaded_into_networks_that_ask_for_one() -> None:
    network = mnasnet0_5()
    fit_to(network, dict(mnasnet0_5().state_dict()), "w.pth")


def test_states_that_do_not_fit_are_complained_about_at_once() -> None:
    network = nn.Linear(3, 2)
    before = network.weight.clone()
    with pytest.raises(NetworkError) as caught:
        fit_to(network, {"weight": torch.ones(3, 2), "gamma": torch.ones(1)}, "w.pth")
    assert str(caught.value) == (
        "w.pth: does not fit the network: bias is missing; gamma is not in the network; "
        "weight has shape (3, 2), the network's has (2, 3)"
    )
    assert torch.equal(network.weight, before)
    with pytest.raises(NetworkError, match=r"3 is not in the network and 3 more$"):
        fit_to(network, {**STATE, **{str(k): torch.ones(1) for k in range(7)}}, "w.pth")
