"""From the written form to a network, or to an error that helps."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from pruneas.architecture import Reference
from pruneas.errors import NetworkError
from pruneas.networks import NETWORKS, make, provider

MODULE = """
import torch
from torch import nn

class Space:
    tiny = staticmethod(lambda width=5: nn.Linear(3, width))

def none():
    return 5

def broken():
    raise RuntimeError("no good")

number = 3
"""


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the folder where the command is run; its name."""
    (tmp_path / "my_networks.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)
    return "my_networks"


def complaint(name: str, **arguments: object) -> str:
    with pytest.raises(NetworkError) as caught:
        make(Reference(name, arguments))
    return str(caught.value)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_the_table_takes_small_images(name: str) -> None:
    arguments = {"vgg": {"layout": [5, "M", 7]}, "resnet50": {}}.get(name, {"width": 0.125})
    network = make(Reference(f"pruneas:{name}", {**arguments, "classes": 7})).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_torchvisions_networks_go_by_their_names() -> None:
    network = make(Reference("torchvision:squeezenet1_1", {"num_classes": 7}))
    assert network.classifier[1].out_channels == 7
    assert provider(Reference("torchvision:resnet18", {})).startswith("torchvision 0.")


def test_timms_networks_go_by_their_names_with_or_without_a_tag() -> None:
    pytest.importorskip("timm")
    network = make(Reference("timm:test_resnet", {"num_classes": 7}))
    assert network.fc.out_features == 7
    assert provider(Reference("timm:test_resnet.r160_in1k", {})).startswith("timm ")
    assert isinstance(make(Reference.parse("timm:test_resnet.r160_in1k(pretrained=False)")), nn.Module)
    assert "there is no network called 'resnet_50'; did you mean" in complaint("timm:resnet_50")
    assert "timm knows no tag 'mine' of resnet50" in complaint("timm:resnet50.mine")


def test_weights_of_timms_own_are_refused() -> None:
    pytest.importorskip("timm")
    assert "pretrained: a network is made freshly initialised" in complaint("timm:test_resnet", pretrained=True)
    assert "checkpoint_path: a network is made" in complaint("timm:test_resnet", checkpoint_path="weights.pth")


def test_without_timm_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert complaint("timm:resnet18").endswith("timm is not installed: pip install 'pruneas[timm]'")


def test_a_module_beside_the_data_is_found(beside: str) -> None:
    network = make(Reference(f"{beside}:Space.tiny", {"width": 7}))
    assert isinstance(network, nn.Linear) and network.out_features == 7
    assert provider(Reference(f"{beside}:Space.tiny", {})) == "my_networks (no version)"


def test_near_names_are_offered() -> None:
    assert "there is no network called 'resnet65'; did you mean resnet56" in complaint("pruneas:resnet65")
    assert "did you mean resnet50" in complaint("torchvision:resnet_50")
    assert "there are densenet40, densenet_bc100, preresnet110" in complaint("pruneas:xyzzy")


def test_what_is_missing_is_named(beside: str) -> None:
    assert "there is no module 'nowhere' here or among the installed packages" in complaint("nowhere.at.all:net")
    assert "module 'my_networks' has nothing called 'large'" in complaint(f"{beside}:large")
    assert "'number' must be callable, found int" in complaint(f"{beside}:number")
    assert "'nn' is a module; modules stand before the colon" in complaint(
        f"{beside}:torch.nn.Linear".replace("torch.", "")
    )
    assert "must return a torch.nn.Module, it returned int" in complaint(f"{beside}:none")


def test_errors_of_the_factory_come_with_its_line(beside: str) -> None:
    assert "its factory raised RuntimeError: no good (" in complaint(f"{beside}:broken")
    assert complaint(f"{beside}:broken").endswith("my_networks.py:12)")


def test_errors_of_an_import_come_with_its_line(tmp_path: Path, beside: str) -> None:
    (tmp_path / "torn_networks.py").write_text("1 / 0\n")
    text = complaint("torn_networks:net")
    assert "importing 'torn_networks' raised ZeroDivisionError: division by zero" in text
    assert text.endswith("torn_networks.py:1)")
