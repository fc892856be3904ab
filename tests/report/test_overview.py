"""What an inspection looks like."""

import dataclasses
import io
from functools import cache

import pytest
from rich.console import Console

from pruneas.architecture import Input
from pruneas.report.inspection import inspect
from pruneas.report.overview import overview
from pruneas.subject import Subject
from tests.report.test_inspection import inspection_of


@cache
def resnet50():
    return inspect(Subject.of("torchvision:resnet50"))


def printed(record, *, width=80, **flags):
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(overview(record, **flags))
    return out.getvalue()


def line(text, start):
    (found,) = [line for line in text.splitlines() if line.startswith(start)]
    return found.removeprefix(start).split("  ")


def cells(text, start):
    return [cell.strip() for cell in line(text, start) if cell.strip()]


def test_a_resnet50_is_read_at_a_glance():
    text = printed(resnet50(), width=100)
    lines = text.splitlines()
    assert len(lines) <= 75
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("torchvision:resnet50   torchvision ")
    assert ", input 3x224x224, traced and tried in " in lines[0]
    assert "37, all of which can change" in text
    assert "26,560 of the 27,560 that layers write can change" in text
    assert "16 of 16 can be taken out" in text
    assert cells(text, "layer1.0.conv3 ")[:4] == ["1", "256", "4", "4"]
    assert cells(text, "layer2.{0-3}.conv1 ")[:4] == ["4", "128", "1", "1"]
    assert "the network's output  fc (1000)" in text
    assert "not counted by fvcore" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_the_terminal(width):
    for record in (resnet50(), inspection_of("ConstantPad"), inspection_of("UnknownOperator")):
        for flags in ({}, {"every_group": True, "every_layer": True}):
            assert max(map(len, printed(record, width=width, **flags).splitlines())) <= width


def test_all_can_be_seen():
    text = printed(resnet50(), width=100, every_group=True, every_layer=True)
    for group in resnet50().groups:
        assert any(line.startswith(f"{group.name} ") for line in text.splitlines())
    for layer in resnet50().layers:
        assert any(line.startswith(f"{layer.name} ") and f" {layer.kind} " in line for line in text.splitlines())
    assert "other" not in text


def test_shares_that_are_shown_add_up():
    text = printed(resnet50(), width=100)
    table = text[text.index("group  ") : text.index("n groups alike")].splitlines()[1:]
    flops = [float(line.split()[-4]) for line in table]
    assert sum(flops) == pytest.approx(100, abs=0.05 * len(table))


def test_what_cannot_change_says_why():
    text = printed(inspection_of("ConstantPad"))
    assert "3, 2 of which can change" in text
    assert "b.0 (frozen)" in text
    flat = " ".join(text.split())
    assert "frozen groups the network cannot be traced: aten.add" in flat
    assert "network tests.nets" not in flat  # which network it is was said
    assert "the network's input stem.0 (3)" in flat
    assert "no residual blocks were found" in flat
    text = printed(inspection_of("UnknownOperator"))
    assert "aten.sort has no rule here (tests/nets.py:" in text
    assert "b.{0-1} (7), fc (7)" in text
    assert cells(text, "what no group has a part in")[0] == "4.4 %"
    assert "not counted by fvcore  sort (1)" in text


def test_elastic_groups_are_marked():
    found = inspect(Subject.of("torchvision:shufflenet_v2_x0_5", [Input((3, 64, 64))]))
    text = printed(found, width=120)
    assert "(elastic)" in text and "can be counted, but not told apart" in " ".join(text.split())
    assert "elastic" not in printed(resnet50()).lower()


def test_blocks_that_have_to_stay_say_why():
    stays = {"layer1.0": "its branch is read outside of it", "layer1.1": "its branch is read outside of it"}
    flat = " ".join(printed(dataclasses.replace(resnet50(), unremovable=stays)).split())
    assert "16 of 18 can be taken out" in flat
    assert "blocks that have to stay its branch is read outside of it layer1.{0-1}" in flat


def test_long_lists_of_names_are_cut():
    stays = {f"block_{a}{b}": "a reason" for a in "abcdefghij" for b in "abcdefghij"}
    flat = " ".join(printed(dataclasses.replace(resnet50(), unremovable=stays)).split())
    assert "a reason block_aa, block_ab, " in flat
    assert ", ..." in flat
    assert "block_jj" not in flat
