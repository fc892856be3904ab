"""What an inspection says of networks whose answers are worked out by hand."""

import json

import pytest

from pruneas.architecture import Input
from pruneas.cost.model import CostModel
from pruneas.cost.widths import WidthRules
from pruneas.report.inspection import Inspection, inspect
from pruneas.structure.build import build_widths
from pruneas.subject import Subject
from tests.nets import CHAIN, INPUT, NETS, PLACES, model_of, structure_of


def inspection_of(name, rules=None):
    structure = structure_of(name)
    network = build_widths(structure, structure.widths, seed=0)
    return Inspection.of(structure, model_of(name), network, seconds=1.5, rules=rules)


def test_what_hangs_on_the_groups_of_a_chain():
    """image 3 -> [a] 5 -> [b] 7 -> mean -> fc 2: half of b's convolution hangs on what it reads, half on its output."""
    found = inspection_of("Chain")
    a, b = found.groups
    shared = 9 * 5 * 7 / 2
    assert a.flops_share == pytest.approx(PLACES * (9 * 3 * 5 + 2 * 5 + shared) / CHAIN.flops)
    assert b.flops_share == pytest.approx((PLACES * (shared + 2 * 7 + 7) + 7 * 2) / CHAIN.flops)
    assert a.params_share == pytest.approx((9 * 3 * 5 + 2 * 5 + shared) / CHAIN.params)
    assert b.params_share == pytest.approx((shared + 2 * 7 + 7 * 2) / CHAIN.params)
    assert found.rest.flops_share == 0
    assert found.rest.params_share == pytest.approx(2 / CHAIN.params)  # the bias of fc
    assert (a.name, a.width, a.written_by, a.read_by, a.along) == ("a.0", 5, ("a.0",), ("b.0",), ("a.1",))
    assert (b.name, b.width, b.written_by, b.read_by, b.along) == ("b.0", 7, ("b.0",), ("fc",), ("b.1",))


def test_a_stream_is_written_and_read_by_all_its_layers():
    stem, inner = inspection_of("Residual").groups
    assert (stem.written_by, stem.read_by, stem.along) == (("stem.0", "b.0"), ("a.0", "fc"), ("stem.1", "b.1"))
    assert (inner.written_by, inner.read_by) == (("a.0",), ("b.0",))


def test_a_size_of_several_groups_is_split_by_their_channels():
    """image 3 -> [stem] 5 -+-> [a] 3 -> cat 8 -> [b] 7 -> cat 15 -> fc 2, whose places read all three."""
    found = inspection_of("Dense")
    known = NETS["Dense"]
    stem, a, b = found.groups
    read = 9 * 8 * 7 / 2  # of b's convolution
    params = [
        9 * 3 * 5 + 2 * 5 + 9 * 5 * 3 / 2 + 5 / 8 * (2 * 8 + read) + 5 * 2,
        9 * 5 * 3 / 2 + 2 * 3 + 3 / 8 * (2 * 8 + read) + 3 * 2,
        read + 2 * 7 + 7 * 2,
    ]
    assert [g.params_share * known.params for g in (stem, a, b)] == pytest.approx(params)
    assert found.rest.params_share * known.params == pytest.approx(2)


def test_the_layers_of_a_chain():
    found = inspection_of("Chain")
    assert [(layer.name, layer.kind, layer.flops, layer.params) for layer in found.layers] == [
        ("", "Chain", PLACES * 7, 0),  # the pooling, which the network runs itself
        ("a.0", "Conv2d", PLACES * 9 * 3 * 5, 9 * 3 * 5),
        ("a.1", "BatchNorm2d", PLACES * 2 * 5, 2 * 5),
        ("b.0", "Conv2d", PLACES * 9 * 5 * 7, 9 * 5 * 7),
        ("b.1", "BatchNorm2d", PLACES * 2 * 7, 2 * 7),
        ("fc", "Linear", 7 * 2, 7 * 2 + 2),
    ]
    assert found.layers[1].flops_share == PLACES * 9 * 3 * 5 / CHAIN.flops
    assert found.layers[1].params_share == 9 * 3 * 5 / CHAIN.params


def test_the_totals_of_a_chain_and_how_narrow_it_can_get():
    found = inspection_of("Chain")
    assert (found.flops, found.params) == (CHAIN.flops, CHAIN.params)
    assert (found.channels, found.changeable) == (5 + 7 + 2, 5 + 7)
    assert [(g.lowest, g.highest) for g in found.groups] == [(1, 5), (1, 7)]
    narrowest = PLACES * (9 * (3 + 1) + 2 * (1 + 1) + 1) + 2
    assert (found.narrowest.flops, found.narrowest.flops_share) == (narrowest, narrowest / CHAIN.flops)
    assert found.narrowest.params == 9 * (3 + 1) + 2 * (1 + 1) + 2 + 2
    assert found.shallowest == found.narrowest  # there are no blocks


def test_rules_of_a_space_narrow_the_range():
    found = inspection_of("Chain", WidthRules(minimum=0.5, freeze=("a.0",)))
    assert [(g.lowest, g.highest) for g in found.groups] == [(5, 5), (4, 7)]
    assert found.narrowest.flops == PLACES * (9 * (3 * 5 + 5 * 4) + 2 * (5 + 4) + 4) + 4 * 2


@pytest.mark.parametrize("name", NETS)
def test_shares_sum_to_one_and_layers_to_the_total(name):
    found, known = inspection_of(name), NETS[name]
    assert sum(g.flops_share for g in found.groups) + found.rest.flops_share == pytest.approx(1)
    assert sum(g.params_share for g in found.groups) + found.rest.params_share == pytest.approx(1)
    assert sum(layer.flops for layer in found.layers) == found.flops == known.flops
    assert sum(layer.params for layer in found.layers) == found.params == known.params
    assert {g.name for g in found.groups if g.frozen} == known.frozen
    assert 0 < found.changeable <= found.channels


def test_channels_of_depthwise_and_transposed_convolutions_count():
    found = inspection_of("Depthwise")
    assert (found.channels, found.changeable) == (5 + 5 + 7 + 14 + 2, 5 + 5 + 7 + 14)
    found = inspection_of("Upsampled")
    assert (found.channels, found.changeable) == (5 + 7 + 2, 5 + 7)
    found = inspection_of("ConstantPad")
    assert (found.channels, found.changeable) == (5 + 7 + 11 + 2, 5 + 7 + 5)


def test_what_a_group_saves_is_between_its_share_and_twice_that():
    """As the record's docstring says, for whoever reads the shares as savings."""
    model, found = model_of("Dense"), inspection_of("Dense")
    for index, group in enumerate(found.groups):
        narrower = model.base_widths.copy()
        narrower[index] -= 1
        saved = (found.flops - int(model.flops(narrower))) / found.flops * group.width
        assert 0.999 * group.flops_share <= saved <= 2.001 * group.flops_share


def test_blocks_say_what_taking_them_out_saves():
    subject = Subject.of("tests.structure.test_blocks:Net", [Input((3, 11, 13))])
    found = inspect(subject)
    by_name = {block.name: block for block in found.blocks}
    assert list(by_name) == ["plain", "wider", "pre"]
    places = 9 * 11  # behind the stem's unpadded convolution
    assert by_name["plain"].flops == places * (9 * 5 * 2 + 2 * 2 + 9 * 2 * 5)
    assert by_name["plain"].params == 9 * 5 * 2 + 2 + 2 * 2 + 9 * 2 * 5 + 5
    assert by_name["plain"].flops_share == by_name["plain"].flops / found.flops
    assert set(found.unremovable) == {"alike", "scaled"}
    assert found.shallowest.flops < found.narrowest.flops


def test_the_json_holds_everything_under_the_names_of_schema_1():
    found = inspection_of("ConstantPad")
    data = json.loads(found.to_json())
    assert list(data) == [
        "schema", "network", "provider", "inputs", "structure", "seconds", "flops", "params", "memory", "channels",
        "changeable", "narrowest", "shallowest", "rest", "groups", "layers", "blocks", "unremovable", "fixed",
        "uncounted",
    ]  # fmt: skip
    assert data["schema"] == 1
    assert (data["network"], data["inputs"], data["seconds"]) == ("tests.nets:ConstantPad", ["3x11x13"], 1.5)
    assert list(data["groups"][0]) == [
        "name", "width", "lowest", "highest", "frozen", "elastic", "written_by", "read_by", "along", "flops_share",
        "params_share", "members",
    ]  # fmt: skip
    assert data["groups"][0]["members"][0] == {"parameter": "stem.0.weight", "dim": 0, "role": "out", "multiplicity": 1}
    assert data["groups"][0]["frozen"] is None
    assert "cannot be traced" in data["groups"][2]["frozen"]
    assert list(data["layers"][0]) == ["name", "kind", "flops", "flops_share", "params", "params_share"]
    assert list(data["narrowest"]) == ["flops", "flops_share", "params", "params_share"]
    assert data["fixed"][0] == {"parameter": "stem.0.weight", "dim": 1, "size": 3, "reason": "the network's input"}
    assert data["uncounted"] == {"aten::pad": 1, "aten::add": 1}


def test_elastic_groups_are_marked():
    found = inspect(Subject.of("torchvision:shufflenet_v2_x0_5", [Input((3, 64, 64))]))
    assert any(group.elastic for group in found.groups)


def test_the_same_is_said_from_python():
    import pruneas

    by_text = pruneas.inspect("tests.nets:Chain", "3x11x13")
    assert [g.name for g in by_text.groups] == ["a.0", "b.0"]
    for inputs in (["3x11x13"], (3, 11, 13), [(3, 11, 13)], [Input((3, 11, 13))]):
        assert pruneas.inspect("tests.nets:Chain", inputs).inputs == ("3x11x13",)
    assert CostModel.of(structure_of("Chain"), CHAIN.factory()).base.flops == by_text.flops
    assert INPUT == (Input((3, 11, 13)),)
