import dataclasses
import html
import re

import pytest

from pruneas.report import comparison_figures
from pruneas.report.comparison_page import comparison_page, headline
from pruneas.report.comparison_state import ProgressRecord, RowTrainings
from pruneas.report.page import POLICY
from tests.report.comparisons import around, made_up_state, many_rows, row, whole_comparison
from tests.report.test_run_page import Page

ASKED = {"budgets": "0.5, 0.3", "seeds": "3"}


@pytest.fixture(scope="module")
def record():
    return dataclasses.replace(whole_comparison(), asked=ASKED)


def progress(*rows, asked=ASKED, notes=()):
    return ProgressRecord(asked=asked, rows=tuple(rows), notes=tuple(notes))


def test_figures_carry_as_many_marks_as_there_are_records(record):
    page = Page(comparison_page(made_up_state(record)))
    widths, masks = 6, 1  # rows of a budget that are held against uniform scaling
    expected = {}
    for budget in ("0.5", "0.3"):
        expected |= {
            f"Difference to uniform at {budget}": 2 * widths,
            f"Difference to uniform at {budget}, masks": 2 * masks,
            f"Compute at {budget}": 1 + 8,
            f"Compute at {budget}, masks": 1 + 2,
            f"Widths of l1 at {budget}": 2 * 2,
            f"Kept places of kernels: magnitude at {budget}": 2 * 9,
            f"Weights of uniform at {budget}": 1 + 2,
            f"Weights of random at {budget}": 1 + 1,
            f"Weights of l1 at {budget}": 1 + 4,
            f"Weights of guided at {budget}": 1 + 1,
            f"Weights of uniform-sparsity at {budget}, masks": 1 + 1,
            f"Weights of magnitude at {budget}, masks": 1 + 1,
        }
    expected |= {"Scratch-b to fine-tuned": 2 * 2, "Ticket to scratch-e": 2 * 2, "Here to transferred": 2 * 2}
    for quantity in ("FLOPs", "params"):
        expected |= {
            f"Fine-tuned, widths: accuracy against {quantity}": 1 + 2 * 2,
            f"Scratch-e, widths: accuracy against {quantity}": 1 + 3 * 2,
            f"Scratch-b, widths: accuracy against {quantity}": 1 + 3 * 2,
            f"Ticket, widths: accuracy against {quantity}": 1 + 2 * 2,
            f"Scratch-e, masks: accuracy against {quantity}": 1 + 2 * 2,
        }
    assert page.figures == expected


def test_a_page_fetches_nothing_and_runs_nothing(record):
    text = comparison_page(made_up_state(record))
    page = Page(text)
    assert page.loaded == [] and "script" not in page.tags and page.tags.count("style") == 1
    assert re.findall("https?://|@import|url\\(", text) == []
    assert html.escape(POLICY) in text
    assert len(text) < 400_000


def test_it_says_what_was_found_first_and_how_to_go_on_last(record):
    body = Page(comparison_page(made_up_state(record))).words
    order = [
        "A comparison: pruneas:vgg on digits, budgets 0.5, 0.3",
        "Of 12 rows held against uniform scaling:",
        *record.verdict,
        "Smallest detectable difference",
        "The test set's own error ± 0.40 points",
        "The table",
        "Budget 0.5",
        "Budget 0.5, masks",
        "Budget 0.3",
        "Against uniform scaling",
        "The other questions",
        "Accuracy against cost",
        "Compute",
        "Widths over base networks",
        "What masks keep",
        "How weights are distributed",
        "How to go on",
        "pruneas compare --budget 0.5",
        "pruneas report 'runs/made up-compare' --json",
        "How it was made",
        "2 imaginary cores",
        "a [bracketed] note",
    ]
    at = 0
    for text in order:
        assert text in body[at:], text
        at = body.index(text, at)


def test_a_row_of_the_table_has_its_compute_beside_its_accuracy(record):
    words = Page(comparison_page(made_up_state(record))).words
    contrast = record.to_uniform("l1 at 0.5, scratch-b")
    low, high = (f"{100 * end:+.2f}" for end in contrast.interval)
    assert (
        f"l1 scratch-b 93.00 ± 0.10 3 +2.00 ({low}, {high}) better 12 50.0 % 50.0 % 3.00 G, 12 s 1.00 G, 2.0 s"
    ) in words


def test_the_headline_counts_what_is_shown(record):
    words = [each.word for each in record.contrasts if each.question == "to uniform"]
    assert words.count("better") and words.count("no difference seen")
    assert headline(made_up_state(record)) == (
        f"Of {len(words)} rows held against uniform scaling: {words.count('better')} better, {words.count('worse')} "
        f"worse, no difference seen in {words.count('no difference seen')}."
    )


def test_what_users_name_is_text(record):
    evil = "</style><script>alert(1)</script>"
    rows = tuple(dataclasses.replace(each, name=each.name + evil) for each in record.rows)
    hostile = dataclasses.replace(record, rows=rows, verdict=(evil,), notes=(evil,))
    state = made_up_state(hostile, network=evil, folder=evil, command=evil, data=evil, recipe={evil: evil})
    page = Page(comparison_page(state))
    assert "script" not in page.tags and page.tags.count("style") == 1
    assert evil in page.words


def one_seed(each):
    first = {name: getattr(each, name)[:1] for name in ("test_accuracies", "validation_accuracies", "seeds", "epochs")}
    return dataclasses.replace(each, **first)


def test_one_seed_is_a_report_that_says_that_nothing_can_be_told():
    found = whole_comparison([one_seed(each) for each in many_rows()])
    page = Page(comparison_page(made_up_state(found)))
    assert headline(made_up_state(found)) == "Of 12 rows held against uniform scaling: 12 cannot be told."
    assert "a spread needs two seeds" in page.words and "one seed has none" in page.words
    assert "Difference to uniform at 0.5" not in page.figures  # there is no number to be drawn
    assert page.figures["Scratch-e, widths: accuracy against FLOPs"] == 1 + 3 * 2


def test_one_budget_and_no_masks_is_a_report():
    found = whole_comparison([each for each in many_rows() if each.budget in (None, "0.5") and not each.masked])
    found = dataclasses.replace(found, keep_maps=())
    page = Page(comparison_page(made_up_state(found)))
    assert page.figures["Scratch-b, widths: accuracy against FLOPs"] == 1 + 3
    assert "What masks keep" not in page.words and "dense hardware" not in page.words
    assert not any("masks" in title for title in page.figures)


def many_widths(found):
    """The same with the widths of six generators at every budget."""
    names = ("l1", *(f"generator {number}" for number in range(5)), "uniform")
    return dataclasses.replace(
        found, widths=tuple(dataclasses.replace(each, name=name) for each in found.widths[::2] for name in names)
    )


def test_of_many_widths_those_of_the_best_are_shown_and_the_others_folded_but_printed(record):
    text = comparison_page(made_up_state(many_widths(record)))
    section = text.partition("<h2>Widths over base networks</h2>")[2].partition("</section>")[0]
    shown, _, folded = section.partition('<details class="printed"><summary>The widths of 10 less accurate')
    assert re.findall("<h3>(Widths of .*?)</h3>", shown) == ["Widths of l1 at 0.5", "Widths of l1 at 0.3"]
    assert len(re.findall("<h3>Widths of generator", folded)) == 10 and "Widths of l1" not in folded
    assert "details:not([open], .printed) { display: none; }" in text.partition("@media print")[2]
    assert '<details class="printed">' not in comparison_page(made_up_state(record))  # a handful is not folded


def test_the_base_network_alone_is_a_report():
    found = whole_comparison([row("base", "unpruned", around(0.95), key="unpruned")])
    found = dataclasses.replace(found, widths=(), keep_maps=(), weights=())
    page = Page(comparison_page(made_up_state(found)))
    assert headline(made_up_state(found)) == "Nothing was held against uniform scaling."
    assert page.figures == {}
    assert "There is no architecture beside uniform scaling to draw." in page.words


def test_rows_that_failed_are_missed_by_name(record):
    rows = [
        RowTrainings(key="unpruned", trainings=(("a",), ("b",), ("c",))),
        RowTrainings(key="l1 at 0.5, fine-tuned", trainings=(("d", "e"), ("f", "g"))),
        RowTrainings(key="l1 at 0.5, ticket", trainings=(("h",), ("i",))),
    ]
    notes = ("training l1 at 0.5, ticket, seed 1 failed: <diverged>",)
    found = dataclasses.replace(record, notes=notes)
    done = dict.fromkeys("abcdg", 0.5)
    state = made_up_state(found, progress(*rows, notes=notes), accuracies=done)
    assert state.is_finished
    words = Page(comparison_page(state)).words
    assert "Not every row has all its seeds, because trainings failed:" in words
    assert "l1 at 0.5, ticket: 0 of 2 seeds" in words
    assert "unpruned: 3 of 3" not in words and "fine-tuned: 2 of 2" not in words
    assert "seed 1 failed: <diverged>" in words


def test_an_unfinished_one_says_how_far_it_is_and_how_to_go_on():
    rows = [
        RowTrainings(key="unpruned", trainings=(("a",), ("b",))),
        RowTrainings(key="l1 at 0.5, fine-tuned", trainings=(("c", "d"), ("e", "f"))),
        RowTrainings(key="l1 at 0.5, ticket", trainings=(("g",), ("a",))),
    ]
    state = made_up_state(
        None,
        progress(*rows, notes=["a note"]),
        accuracies={"a": 0.5, "b": 0.6, "c": 0.7, "d": 0.8, "of another command": 0.1},
        num_bases=2,
        num_generated=4,
        left_out={"slimming": "no batch norm"},
    )
    assert headline(state) == "Not finished, so there is no verdict: 4 of 7 trainings are done."
    page = Page(comparison_page(state))
    assert page.figures == {}
    before = page.words.partition("So far")[0]
    assert "pruneas compare --budget 0.5" in before and "pruneas report 'runs/made up-compare' --html" in before
    for text in (
        "base networks 2 trained",
        "generators 4 architectures given",
        "generator slimming left out: no batch norm",
        "unpruned 2 of 2 55.00",
        "l1 at 0.5, fine-tuned 1 of 2 80.00",  # the best rate
        "l1 at 0.5, ticket 1 of 2 50.00",
        "a note",
    ):
        assert text in page.words, text


@pytest.mark.parametrize("known", [None, progress()])
def test_one_that_has_nothing_yet_is_a_report(known):
    state = made_up_state(None, known)
    assert headline(state) == "Not finished, so there is no verdict: 0 trainings are done."
    assert Page(comparison_page(state)).figures == {}


def test_a_failed_one_says_why():
    state = made_up_state(None, progress(), failure="training a base network failed; <diverged>")
    assert headline(state) == "Failed: training a base network failed; <diverged>."
    assert "goes on where it was" in Page(comparison_page(state)).words


def test_the_result_of_an_earlier_command_is_shown_as_such(record):
    state = made_up_state(record, progress(asked={**ASKED, "seeds": "5"}))
    assert not state.is_finished
    assert headline(state).endswith("What follows is the result of an earlier command.")
    page = Page(comparison_page(state))
    assert "So far" in page.words and page.figures["Compute at 0.5"] == 9


def test_progress_survives_its_file():
    given = progress(RowTrainings(key="a", trainings=(("b", "c"), ("d",))), notes=["n"])
    assert ProgressRecord.from_json(given.to_json()) == given
    with pytest.raises(ValueError, match="progress: asked, rows, notes: missing"):
        ProgressRecord.from_json("{}")


def test_an_architecture_looks_the_same_in_every_figure(record):
    how = comparison_figures.styles(record)
    assert (how["base"], how["uniform"], how["uniform-sparsity"]) == ("base", "uniform", "uniform")
    assert len({how[name] for name in ("random", "l1", "guided", "magnitude")}) == 4
