"""What rows show, on constructed cases: wins, ties, losses, too few seeds, the same trainings twice."""

import numpy as np
import pytest
from scipy import stats

from pruneas.run.conclusions import conclude
from tests.report.comparisons import around, row, rows


def words(found, question="to uniform"):
    return {each.row: each.word for each in found.contrasts if each.question == question}


def test_a_clear_win_a_tie_and_a_loss_are_called_so():
    found = conclude(
        [
            row("uniform", "scratch-e", around(0.90)),
            row("l1", "scratch-e", around(0.95)),
            row("fpgm", "scratch-e", around(0.9003)),
            row("slimming", "scratch-e", around(0.85)),
        ]
    )
    assert words(found) == {
        "l1 at 0.5, scratch-e": "better",
        "fpgm at 0.5, scratch-e": "no difference seen",
        "slimming at 0.5, scratch-e": "worse",
    }
    assert found.verdict[0].startswith(
        "Budget 0.5, against uniform scaling: better by points of test accuracy: l1 scratch-e +5.00; worse by points "
        "of test accuracy: slimming scratch-e -5.00; no difference to be seen in 1 of 3. Differences below 0."
    )


def test_intervals_are_scipys_dunnett_where_there_is_one_control():
    samples = {"l1": [0.91, 0.93, 0.92], "fpgm": [0.90, 0.92, 0.88]}
    uniform = [0.90, 0.91, 0.89]
    given = [row("uniform", "scratch-e", uniform), *(row(n, "scratch-e", s) for n, s in samples.items())]
    found = {each.row: each for each in conclude(given).contrasts}
    theirs = stats.dunnett(*samples.values(), control=uniform, rng=np.random.default_rng(0)).confidence_interval(0.95)
    for index, name in enumerate(samples):
        low, high = found[f"{name} at 0.5, scratch-e"].interval
        assert (low, high) == pytest.approx((theirs.low[index], theirs.high[index]), abs=3e-4)


def test_the_variance_is_pooled_over_all_rows_each_training_once():
    given = rows()
    found = conclude(given)
    used = [r.test_accuracies for r in given if r.same_as is None and len(r.seeds) > 1]
    assert found.freedom == sum(len(sample) - 1 for sample in used) == 12
    assert found.pooled_std == pytest.approx(np.sqrt(np.mean([np.var(sample, ddof=1) for sample in used])))


def test_arms_are_held_against_uniform_scaling_trained_the_same_way():
    controls = {each.row: each.control for each in conclude(rows()).contrasts if each.question == "to uniform"}
    assert controls == {
        "l1 at 0.5, fine-tuned": "uniform at 0.5, scratch-b",
        "l1 at 0.5, scratch-e": "uniform at 0.5, scratch-e",
        "l1 at 0.5, scratch-b": "uniform at 0.5, scratch-b",
        "l1 at 0.5, ticket": "uniform at 0.5, scratch-e",
        "thinet at 0.5, scratch-e": "uniform at 0.5, scratch-e",
    }


def test_what_rows_are_held_against_is_told_as_it_is():
    def texts(*given, **how):
        return {question.name: question.text for question in conclude(given, **how).questions}

    uniform, fine_tuned = row("uniform", "scratch-e", around(0.9)), row("l1", "fine-tuned", around(0.9))
    same = "against uniform scaling at the same budget, trained the same way"
    assert texts(uniform, row("l1", "scratch-e", around(0.9))) == {"to uniform": same}
    assert texts(uniform, fine_tuned) == {"to uniform": f"{same} (fine-tuned: against Scratch-E)"}
    both = row("uniform", "scratch-b", around(0.9))
    assert texts(uniform, both, fine_tuned) == {"to uniform": f"{same} (fine-tuned: against Scratch-B)"}
    drawn = row("random", "scratch-e", around(0.9))
    assert texts(uniform, drawn)["random to uniform"].startswith("widths drawn by lot, anew for each seed, against")
    once = texts(uniform, drawn, bases="once")["random to uniform"]
    assert once.startswith("widths drawn by lot, once for all seeds, against")


def test_budgets_and_masks_are_never_held_against_others():
    given = [
        row("uniform", "scratch-e", around(0.90)),
        row("uniform", "scratch-e", around(0.80), budget="0.3"),
        row("l1", "scratch-e", around(0.82), budget="0.3"),
        row("uniform-sparsity", "scratch-e", around(0.85), masked=True),
        row("magnitude", "scratch-e", around(0.88), masked=True),
    ]
    found = conclude(given)
    assert {each.row: each.control for each in found.contrasts} == {
        "l1 at 0.3, scratch-e": "uniform at 0.3, scratch-e",
        "magnitude (masks) at 0.5, scratch-e": "uniform-sparsity (masks) at 0.5, scratch-e",
    }
    assert found.questions[0].num_contrasts == 2
    half = {round((each.interval[1] - each.interval[0]) / 2, 9) for each in found.contrasts}
    assert len(half) == 1  # one family: both hold at once


def test_the_papers_questions_are_asked_of_each_architecture():
    found = conclude(rows())
    assert words(found, "scratch-b to fine-tuned") == {"l1 at 0.5, scratch-b": "better"}
    assert words(found, "ticket to scratch-e") == {"l1 at 0.5, ticket": "cannot be told"}
    assert [question.name for question in found.questions] == [
        "to uniform", "scratch-b to fine-tuned", "ticket to scratch-e"
    ]  # fmt: skip
    sentence = next(each.sentence for each in found.contrasts if each.question == "scratch-b to fine-tuned")
    assert sentence.startswith("l1 at 0.5, scratch-b: better than l1 at 0.5, fine-tuned by 5.00 points (95% interval +")
    assert any(text.startswith("Scratch-B against fine-tuning: better by points") for text in found.verdict)


def test_too_few_seeds_are_told_and_the_rest_is_compared():
    found = conclude([row("uniform", "scratch-e", [0.9]), row("l1", "scratch-e", [0.95])])
    (contrast,) = found.contrasts
    assert (contrast.word, contrast.difference, contrast.interval) == ("cannot be told", None, None)
    assert contrast.sentence.endswith("a spread needs two trainings of each, there are 1 and 1")
    assert found.questions[0].num_contrasts == 0 and found.questions[0].smallest_detectable is None
    assert found.verdict == ("Budget 0.5, against uniform scaling: cannot be told in 1 of 1.",)


def test_the_same_trainings_are_the_same_and_count_once():
    found = conclude(rows())
    assert words(found)["thinet at 0.5, scratch-e"] == "the same"
    assert found.questions[0].num_contrasts == 3  # l1's, without the ticket of one seed and thinet's


def test_a_design_brought_along_is_held_against_what_was_found_here():
    given = [
        row("uniform", "scratch-e", around(0.90)),
        row("guided", "scratch-e", around(0.94)),
        row("slimming", "scratch-e", around(0.92)),
        row("found", "scratch-e", around(0.94)),
    ]
    found = conclude(given)
    assert words(found, "here to transferred") == {
        "slimming at 0.5, scratch-e": "worse",
        "found at 0.5, scratch-e": "no difference seen",
    }
    assert words(found)["guided at 0.5, scratch-e"] == "better"


def test_random_widths_are_a_question_apart_and_widen_no_others_intervals():
    given = [row("uniform", "scratch-e", around(0.90)), row("l1", "scratch-e", around(0.91))]
    alone = conclude(given)
    found = conclude([*given, row("random", "scratch-e", around(0.85, spread=0.02))])
    assert [each for each in found.contrasts if each.question == "to uniform"] == list(alone.contrasts)
    assert (found.pooled_std, found.freedom) == (alone.pooled_std, alone.freedom)
    (contrast,) = [each for each in found.contrasts if each.question == "random to uniform"]
    pooled = np.sqrt((0.02**2 + 0.001**2) / 2)
    assert contrast.difference == pytest.approx(-0.05)
    assert contrast.interval[1] == pytest.approx(-0.05 + stats.t.ppf(0.975, 4) * pooled * np.sqrt(2 / 3), rel=1e-4)


def test_a_single_row_answers_nothing():
    found = conclude([row("uniform", "scratch-e", around(0.9))])
    assert (found.contrasts, found.questions, found.verdict) == ((), (), ())
