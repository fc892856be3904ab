"""Architecture files from a stranger: what is refused, in which words, before anything is run or allocated."""

from __future__ import annotations

import copy
import json
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruneas.architecture import Architecture, Reference
from pruneas.errors import ArchitectureError, NetworkError, PruneasError
from pruneas.networks import make
from pruneas.networks.bounded import TooLarge, bounded
from pruneas.structure.build import analyse, describe
from pruneas.trust import check, consent, consented
from tests.nets import NETS, image, structure_of
from tests.tiny import NETWORK

TINY = Reference.parse(NETWORK)


@pytest.fixture(scope="module")
def file() -> dict:
    """A small architecture's file, as data."""
    structure = analyse(TINY, image(1, 8, 8))
    return json.loads(describe(structure, structure.widths).to_json())


def hostile(file: dict, **changes) -> Architecture:
    return Architecture.from_json(json.dumps({**file, **changes}))


@pytest.mark.parametrize(
    "arguments",
    [
        {"weights": "DEFAULT"},
        {"weights_backbone": "IMAGENET1K_V1"},
        {"pretrained": True},
        {"pretrained_cfg": {"file": "x"}},
        {"pretrained_strict": 1},
        {"checkpoint_path": "x.pth"},
        {"cache_dir": "x"},
        {"hf_hub_id": "x"},
        {"inner": [{"url": "x"}]},
    ],
)
def test_arguments_that_load_something_are_refused(file, arguments):
    with pytest.raises(ArchitectureError, match="would load weights or files; a network is made freshly initialised"):
        hostile(file, network="torchvision:resnet18", arguments=arguments).build()


@pytest.mark.parametrize("value", ["http://host/x", "../../etc", "C:\\x", "hf-hub:me/x", "x" * 101])
def test_texts_that_are_addresses_are_refused(file, value):
    with pytest.raises(ArchitectureError, match="must be a plain word, no address or path"):
        hostile(file, network="timm:resnet18", arguments={"act_layer": value}).build()


def test_arguments_that_only_say_no_are_allowed():
    check("timm:resnet18", {"pretrained": False, "weights": None, "drop_path_rate": 0.1}, [], (), place="a")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"arguments": {"layout": [10**7], "channels": 1}}, "must be at most 1,000,000, found 10000000"),
        ({"arguments": {"layout": [10**6, 10**6], "channels": 1}}, "more than 4,294,967,296 bytes"),
        ({"inputs": ["3x100000x100000"]}, "must have at most 16,777,216 elements each, found 3x100000x100000"),
        ({"widths": {"features.0": 2**31 - 1}}, "width must be in 1..5, found 2147483647"),
        ({"widths": {"nowhere": 3}}, "unknown group 'nowhere'"),
        ({"structure": "0" * 16}, "whose network had structure 0000000000000000"),
        ({"removed": ["features"]}, "block 'features' cannot be removed"),
        ({"selections": {"features.0": [0]}}, "no channel selection puts out features.0"),
        ({"network": "torchvision:hub"}, "there is no network called 'hub'"),
        ({"network": "timm:hf_hub"}, "there is no network called 'hf_hub'"),
        ({"network": "pruneas:make"}, "there is no network called 'make'"),
    ],
)
def test_files_that_ask_for_too_much_or_for_other_networks_are_refused(file, changes, complaint):
    if "timm" in changes.get("network", ""):
        pytest.importorskip("timm")
    with pytest.raises((ArchitectureError, NetworkError), match=complaint):
        hostile(file, **changes).build()


def test_registries_are_asked_by_their_own_name_alone(file):
    """'torchvision.datasets:CIFAR10' begins like a registry and is none of its networks."""
    for name in ("torchvision.datasets:CIFAR10", "timm.models:load_checkpoint", "pruneas.run:load"):
        with pytest.raises(ArchitectureError, match="building it would run code of the package"):
            hostile(file, network=name, arguments={}).build()


def test_a_factory_of_another_package_runs_only_where_it_is_trusted(tmp_path, monkeypatch):
    (tmp_path / "strangepkg.py").write_text(
        "from pathlib import Path\nPath('ran').touch()\nfrom tests.nets import Chain as net\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    reference = NETS["Chain"].reference
    text = describe(structure_of("Chain"), structure_of("Chain").widths).to_json()
    architecture = Architecture.from_json(text.replace(reference.name, "strangepkg:net"))
    with pytest.raises(ArchitectureError, match=r"would run code of the package 'strangepkg'.*--trust strangepkg"):
        architecture.build()
    assert not Path("ran").exists()
    assert architecture.build(trust="strangepkg")
    assert Path("ran").exists()
    sys.modules.pop("strangepkg")


def test_trust_in_one_package_is_not_trust_in_another(file):
    with pytest.raises(ArchitectureError, match="--trust mypkg"):
        hostile(file, network="mypkg:net").build(trust=["mypk", "mypkg.models", "other"])


def test_a_runs_consent_holds_for_its_own_files_where_it_was_given(tmp_path):
    run = tmp_path / "run"
    (run / "best").mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"trust": consent("mypkg.models:net", run)}), encoding="utf-8")
    assert consented(run / "best" / "architecture.json") == {"mypkg"}
    assert consented(run / "architecture.json") == {"mypkg"}
    assert consented(tmp_path / "architecture.json") == frozenset()
    run.rename(tmp_path / "sent")
    assert consented(tmp_path / "sent" / "best" / "architecture.json") == frozenset()


@pytest.mark.parametrize("text", ["", "[]", '{"trust": 1}', '{"trust": {"folder": 1}}', "[" * 100_000])
def test_damaged_runs_consent_to_nothing(tmp_path, text):
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    assert consented(tmp_path / "architecture.json") == frozenset()


def test_a_run_keeps_its_users_consent(finished):
    assert Architecture.load(finished.folder / "best" / "architecture.json").trust == {"pruneas"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"schema": 1, "schema": 1}', "a name stands twice in one object"),
        ('{"schema": NaN}', "NaN is no number"),
        ('{"schema": 1e999}', "1e999 is no number"),
        ('{"schema": -Infinity}', "-Infinity is no number"),
        ('{"schema": 1, "widths": ' + "[" * 50 + "]" * 50 + "}", "nested more than 16 levels deep"),
        ('{"schema": 1, "provider": "\\ud800"}', "surrogates not allowed"),
        ('{"schema": 1, "\\udfff": 1}', "surrogates not allowed"),
    ],
)
def test_texts_that_are_no_sound_json_are_refused(text, complaint):
    with pytest.raises(ArchitectureError, match=f"is not JSON: .*{complaint}"):
        Architecture.from_json(text)


def test_files_that_are_too_long_are_not_read(tmp_path):
    path = tmp_path / "long.json"
    with path.open("wb") as file:
        file.truncate(2**33)  # sparse: it takes no room on the disk
    with pytest.raises(ArchitectureError, match="must have at most 8,388,608 bytes"):
        Architecture.load(path)


def test_many_small_tensors_are_too_many():
    with pytest.raises(NetworkError, match=r"TooLarge: more than .* 50,000 tensors"):
        make(Reference("pruneas:vgg", {"layout": [1] * 20_000}), trusted=False)
    import torch

    with bounded(), pytest.raises(TooLarge):
        torch.empty(2**40)


def test_what_is_made_from_small_tensors_is_counted_before_it_takes_memory_and_as_long_as_it_is_there(monkeypatch):
    import torch

    monkeypatch.setattr("pruneas.networks.bounded.MOST_BYTES", 2**20)
    with bounded() as mode:
        row = torch.arange(400)
        for _ in range(5):  # 640 kB each time, and none is kept
            row[:400].view(-1, 1).expand(400, 400).sum(1, dtype=torch.int64)
            assert (row[None, :200] - row[:, None]).shape == (400, 200)
        kept = row[None, :200] - row[:, None]
        known = mode._bytes
        kept.add_(1).view(-1).t().detach()  # in place, and views of it
        assert mode._bytes == known
        with pytest.raises(TooLarge, match="more than 1,048,576 bytes at a time"):
            row[None] - row[:, None]
        with pytest.raises(TooLarge):
            row[None, :200] - row[:, None]  # beside the one that is kept


def test_a_limit_changes_no_network():
    import torch

    def state(trusted):
        torch.manual_seed(3)
        return make(Reference("torchvision:shufflenet_v2_x0_5", {}), trusted=trusted).state_dict()

    assert all(torch.equal(*each) for each in zip(state(True).values(), state(False).values(), strict=True))


def test_networks_that_index_many_positions_at_once_are_too_large():
    pytest.importorskip("timm")
    sizes = {"img_size": 680, "window_size": 170, "embed_dim": 8, "depths": [1], "num_heads": [1]}
    with pytest.raises(NetworkError, match="TooLarge: more than 4,294,967,296 bytes"):
        make(Reference("timm:swin_tiny_patch4_window7_224", sizes), trusted=False)


JUNK = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just([]) | st.just({})
    | st.sampled_from([2**31, -1, 0, "a:b", "3x8x8", ["1x8x8"], {"features.0": 3}, {"x": {"y": [1]}}])
)  # fmt: skip


def mutated(file: dict, draws: random.Random, junk: object) -> str:
    """The file's text with one value replaced or one key dropped anywhere in it, and perhaps a character too."""
    data = copy.deepcopy(file)
    at, key = data, draws.choice(list(data))
    while isinstance(at[key], dict | list) and at[key] and draws.random() < 0.6:
        at = at[key]
        key = draws.choice(list(at)) if isinstance(at, dict) else draws.randrange(len(at))
    if draws.random() < 0.3:
        del at[key]
    else:
        at[key] = junk
    text = json.dumps(data)
    if draws.random() < 0.5:
        place = draws.randrange(len(text))
        text = text[:place] + draws.choice(['"', "{", "]", ",", "9", "\\", "e", "\u0661"]) + text[place + 1 :]
    return text


@given(draws=st.randoms(use_true_random=False), junk=JUNK)
@settings(max_examples=300, deadline=None)
def test_mutations_of_a_file_are_an_architecture_or_an_architecture_error(file, draws, junk):
    try:
        found = Architecture.from_json(mutated(file, draws, junk))
    except ArchitectureError:
        return
    assert Architecture.from_json(found.to_json()) == found


@given(draws=st.randoms(use_true_random=False), junk=JUNK)
@settings(max_examples=40, deadline=None)
def test_mutations_of_a_file_build_or_are_an_error_of_ours(file, draws, junk):
    try:
        Architecture.from_json(mutated(file, draws, junk)).build(seed=0)
    except PruneasError:
        pass
