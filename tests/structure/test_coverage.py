"""The networks that were tried (`coverage.json`) still come out as they did."""

import importlib.util

import pytest
import torch

from tests.structure.coverage import Entry, entries, hold, share

QUICK = {
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:squeezenet1_1",
    "torchvision:mobilenet_v3_small",
    "timm:test_convnext",
    "timm:test_nfnet",
    "timm:test_mambaout",
    "timm:test_efficientnet_evos",
    "timm:resnest14d",
}
"""A few small ones of different kinds, which the ordinary suite tries."""

NOT_CONVOLUTIONAL = set(
    "beit cait coat convit crossvit davit deepseek_vit deit efficientvim eva gcvit gemma4_vit hiera hieradet_sam2 "
    "levit mlp_mixer mvitv2 naflexvit nest pit qwen3_vit sequencer swin_transformer_v2 swin_transformer_v2_cr tnt "
    "twins vision_transformer_hybrid vision_transformer_relpos vision_transformer_sam vitamin volo xcit".split()
)
"""timm's families of transformers, mixers and state spaces, whose convolutions only cut patches or serve attention."""


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def check(entry: Entry) -> None:
    if entry.network.startswith("timm:") and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    structure = hold(entry.reference, entry.inputs, seed=0)
    assert share(structure) >= entry.share
    assert len(structure.groups) == entry.groups


@pytest.mark.parametrize("entry", [entry for entry in entries() if entry.network in QUICK], ids=lambda e: e.network)
def test_a_few_networks_change_as_much_as_they_did(entry: Entry) -> None:
    check(entry)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("entry", [entry for entry in entries() if entry.network not in QUICK], ids=lambda e: e.network)
def test_every_network_changes_as_much_as_it_did(entry: Entry) -> None:
    check(entry)


def test_the_list_says_what_it_must() -> None:
    listed = entries()
    assert len({entry.network for entry in listed}) == len(listed)
    assert QUICK <= {entry.network for entry in listed}
    for entry in listed:
        assert entry.share == round(entry.share, 2) <= 1
        assert entry.kind in ("convolutional", "attention", "hybrid")
        assert entry.why or entry.share >= 0.9, f"{entry.network}: why is so little of it free?"
    short = {entry.network for entry in listed if entry.kind == "convolutional" and entry.share < 0.9}
    assert short == {"timm:tf_efficientnet_cc_b0_4e"}


def test_every_network_of_torchvisions_classification_list_was_tried() -> None:
    from torchvision import models

    tried = {entry.reference.name for entry in entries()}
    assert {f"torchvision:{name}" for name in models.list_models(module=models)} <= tried


def test_a_network_of_every_family_of_timms_that_has_convolutions_was_tried() -> None:
    timm = pytest.importorskip("timm")
    tried = {entry.reference.name.removeprefix("timm:") for entry in entries()}
    families = {}
    for module in timm.list_modules():
        families[module] = set(timm.list_models(module=module))
    assert {module for module, names in families.items() if names and not names & tried} == NOT_CONVOLUTIONAL
