import dataclasses
import io

import pytest
from rich.console import Console

from pruneas.report.records import FidelityRecord, ResultRecord
from pruneas.report.terminal import table


def printed(record, *, width=80, encoding="utf-8", terminal=False):
    raw = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    Console(file=raw, width=width, force_terminal=terminal, _environ={"TERM": "xterm"}).print(table(record))
    raw.flush()
    return raw.buffer.getvalue().decode(encoding)


def test_the_report_says_what_was_found_how_sure_it_is_and_how_it_was_measured(made_up):
    text = printed(made_up)
    lines = text.splitlines()
    assert "The found widths are better than uniform scaling (a made-up sentence)." in text.split("architecture")[0]
    (winner,) = [line for line in lines if line.startswith("search #17 *")]
    assert winner.split("*")[1].split("  ")[1:] == [
        "95.12 ± 0.00", "3", "1.23 M", " 49.9 %", "45.7 k", "+4.12 (+2.12, +6.12)",
    ]  # fmt: skip
    (base,) = [line for line in lines if line.startswith("base ") and "100.0 %" in line]
    assert "95.00" in base and "±" not in base  # one seed has no spread
    flat = " ".join(text.split())
    assert "n seeds on 500 test images" in flat
    assert "a test set of this size adds ± 0.96 by itself" in flat
    assert "95 % interval" in flat
    assert "Smallest difference that these seeds could have shown: 1.51 points." in flat
    assert "multiply-adds" in flat
    assert "24 trials of 8 epochs, 23 distinct; finalists 16 epochs" in flat
    assert "1 min 5 s on 2 imaginary cores" in flat
    assert "the group [classifier] cannot change" in flat
    assert "layout=[16, 'M', 32]" in flat


def test_each_group_has_a_bar_of_its_share_and_uniforms_tick(made_up):
    bars = [line for line in printed(made_up).splitlines() if line.startswith("features.")]
    assert [line.split()[:4] for line in bars] == [
        ["features.0", "16", "16", "11"],
        ["features.3", "32", "16", "22"],
        ["features.7", "64", "20", "45"],
    ]
    drawn = [line.split()[4] for line in bars]
    assert [("·" in bar, bar.count("│")) for bar in drawn] == [(False, 1), (True, 1), (True, 1)]
    room = len(drawn[0])
    assert drawn[1].count("█") == round(room / 2)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_the_terminal_without_colours(made_up, width):
    text = printed(made_up, width=width)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= width


def test_a_terminal_gets_colours(made_up):
    assert "\x1b[" in printed(made_up, terminal=True)


def test_ascii_is_enough(made_up):
    text = printed(made_up, encoding="ascii")
    assert "#" * 10 in text and "|" in text


def test_uniform_scaling_can_win(made_up):
    text = printed(dataclasses.replace(made_up, winner="uniform"))
    assert "uniform *" in text
    assert text.count("uniform  share of the base") == 1


def test_widths_above_the_base_fit(made_up):
    winner = dataclasses.replace(
        made_up.arm("search #17"), widths={"features.0": 40, "features.3": 1, "features.7": 64}
    )
    text = printed(dataclasses.replace(made_up, arms=(*made_up.arms[:-1], winner)))
    assert max(map(len, text.splitlines())) <= 80


def test_it_says_which_branches_an_architecture_goes_without(made_up):
    assert "goes without" not in printed(made_up)
    arms = tuple(
        dataclasses.replace(arm, removed=("blocks.1", "blocks.4")) if arm.role == "winner" else arm
        for arm in made_up.arms
    )
    text = " ".join(printed(dataclasses.replace(made_up, arms=arms)).split())
    assert "search #17 goes without the branches of blocks.1, blocks.4" in text


def test_it_says_how_well_short_trainings_rank(made_up):
    fidelity = FidelityRecord(architectures=7, correlation=0.71, low=-0.1, high=0.95)
    record = dataclasses.replace(made_up, fidelity=fidelity)
    assert "8 epochs rank as full trainings do with a correlation of +0.71 (95 % interval -0.10 to +0.95" in " ".join(
        printed(record).split()
    )
    assert ResultRecord.from_json(record.to_json()) == record
    assert "rank as full" not in printed(made_up)
