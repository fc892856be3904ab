"""Comparisons as values, and how a terminal shows them."""

import dataclasses
import io
import json
import re

import pytest
from rich.console import Console

from pruneas.report.comparison import SHOWN, ComparisonRecord, ComputeRecord
from pruneas.report.comparison_page import comparison_page
from pruneas.report.comparison_state import ProgressRecord, RowTrainings
from pruneas.report.comparison_terminal import so_far, table
from tests.benchmarks.tables import comparison_table
from tests.report.comparisons import around, made_up_comparison, made_up_state, many_rows, row
from tests.report.test_run_page import Page


def printed(shown, width=80):
    console = Console(file=io.StringIO(), width=width, _environ={"TERM": "dumb"})
    console.print(table(shown) if isinstance(shown, ComparisonRecord) else shown)
    return console.file.getvalue()


def test_a_comparison_goes_through_json_unchanged():
    record = made_up_comparison()
    again = ComparisonRecord.from_json(record.to_json())
    assert again == record
    written = json.loads(record.to_json())["rows"][1]
    assert written["mean"] == pytest.approx(record.rows[1].mean) and written["std"] == record.rows[1].std


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema": 9}, "schema: must be 1"),
        ({"rows": 3}, "comparison.rows: must be a list"),
        ({"freedom": "many"}, "comparison.freedom: must be int"),
        ({"surplus": 1}, "surplus: not a field"),
        ({"rows": []}, "every row that is named must be there"),
    ],
)
def test_what_is_no_comparison_is_refused_with_its_place(change, complaint):
    data = json.loads(made_up_comparison().to_json())
    with pytest.raises(ValueError, match=complaint):
        ComparisonRecord.from_json(json.dumps(data | change))


def test_rows_have_keys_of_their_own_and_as_many_accuracies_as_seeds():
    record = made_up_comparison()
    with pytest.raises(ValueError, match="different keys"):
        dataclasses.replace(record, rows=(*record.rows, record.rows[0]))
    with pytest.raises(ValueError, match="as many accuracies"):
        dataclasses.replace(record.rows[0], seeds=(1,))


def test_the_terminal_shows_every_row_with_what_it_shows_in_eighty_columns():
    record = made_up_comparison()
    text = printed(record)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "…" not in text
    assert re.search(r"l1 +scratch-b +93\.00 ± 0\.10 +\+2\.00 \(.*\) +better", text)
    for words in (
        "better",
        "none seen",
        "same nets",
        "unknown",
        "[bracketed] note",
        "Differences below",
        "before",
    ):
        assert words in text, text


def test_terminal_and_page_say_what_fine_tuned_rows_are_held_against():
    given = [row("uniform", "scratch-e", around(0.90)), row("l1", "fine-tuned", around(0.91))]
    record = made_up_comparison(given)
    for words in (" ".join(printed(record).split()), Page(comparison_page(made_up_state(record))).words):
        assert (
            "gainst uniform scaling at the same budget, trained the same way (fine-tuned: against Scratch-E)." in words
        )
        assert "Scratch-B" not in words


def test_no_word_of_a_verdict_is_cut_whatever_the_names_and_numbers_are():
    """As "uniform-sparsity (masks)" and intervals of two digits cut them once."""
    names = ("uniform-sparsity", "guided-sparsity", "a-method-of-a-third-party", "l1")
    given = [*many_rows(), *(row(name, "fine-tuned", around(0.7, spread=0.04), masked=True) for name in names[1:])]
    record = made_up_comparison(given)
    spent = ComputeRecord(images=1.2e7, flops=1.23e15, seconds=12_000)
    for word, shown in SHOWN.items():
        contrasts = tuple(
            dataclasses.replace(each, difference=-0.1234, interval=(-0.2345, -0.1111), word=word)
            for each in record.contrasts
        )
        rows = tuple(
            dataclasses.replace(each, own=spent, before=spent, epochs=(100,) * (len(each.epochs) - 1) + (115,))
            for each in record.rows
        )
        text = printed(dataclasses.replace(record, rows=rows, contrasts=contrasts))
        assert all(len(line) <= 80 for line in text.splitlines())
        numbers = [line for line in text.splitlines() if "-12.34 (-23.45, -11.11)" in line]
        assert len(numbers) == len(contrasts)
        assert all(line.rstrip().endswith(f"-11.11)  {shown}") for line in numbers)
        words = " ".join(text.split())
        assert "uniform-sparsity" in words and "guided-sparsity" in words  # folded between words where that is enough
        assert words.count("100-115 12.0 M 1230 T 3 h 20 min 1230 T 3 h 20 min") == len(rows)


def test_the_readmes_table_has_a_line_for_every_row():
    record = made_up_comparison()
    lines = comparison_table(record).splitlines()
    assert sum(line.startswith("| ") for line in lines) == 1 + len(record.rows)
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert "| 0.5 | l1 | scratch-b | 1.00 M, 50.0% | 10 k | 93.00 ± 0.10 (92.9 93.0 93.1) | **+2.00 (" in "\n".join(
        lines
    )
    assert any(line.startswith("- l1 at 0.5, scratch-b: better than l1 at 0.5, fine-tuned") for line in lines)


def test_of_an_unfinished_one_the_terminal_shows_what_is_done_what_is_missing_and_how_to_go_on():
    rows = (
        RowTrainings(key="unpruned", trainings=(("a",), ("b",))),
        RowTrainings(key="a-long-method-name (masks) at params=2.5M, fine-tuned", trainings=(("c", "d"), ("e", "f"))),
        RowTrainings(key="l1 at 0.5, ticket", trainings=(("g",), ("h",))),
    )
    progress = ProgressRecord(asked={}, rows=rows, notes=("a [bracketed] note",))
    state = made_up_state(
        None,
        progress,
        accuracies={"a": 0.5, "b": 0.6, "c": 0.7, "d": 0.8, "of another command": 0.1},
        num_bases=2,
        left_out={"slimming": "no batch norm"},
    )
    text = printed(so_far(state))
    assert all(len(line) <= 80 for line in text.splitlines())
    words = " ".join(text.split())
    for told in (
        "Not finished, so there is no verdict: 4 of 8 trainings are done.",
        "base networks 2 trained",
        "generator slimming left out: no batch norm",
        "note a [bracketed] note",
        "unpruned 2 of 2 55.00 all done",
        "1 of 2 80.00 2 missing",  # the best rate of the seed that is there
        "l1 at 0.5, ticket 0 of 2 2 missing",
        "goes on where it was: pruneas compare --budget 0.5",
    ):
        assert told in words, told
    assert "Failed: a disk was full." in printed(so_far(made_up_state(None, progress, failure="a disk was full")))
    assert "0 trainings are done" in printed(so_far(made_up_state(None, None)))


def test_one_row_alone_is_shown_too():
    record = made_up_comparison([row("uniform", "scratch-e", [0.9])])
    assert "Nothing was compared" in printed(record)
    assert ComparisonRecord.from_json(record.to_json()) == record
