"""Comparisons with uniform scaling: scipy's numbers, and plain words for what they mean."""

import math

import numpy as np
import pytest
from scipy import linalg, stats

from pruneas.compare.statistics import (
    Difference,
    Versus,
    against_control,
    critical_value,
    judge,
    sampling_error,
    simultaneous,
    verdict,
)

UNIFORM = [0.720, 0.726, 0.730]
OTHERS = {"falling": [0.736, 0.739, 0.735], "rising": [0.711, 0.714, 0.707], "same": [0.724, 0.728, 0.723]}


def found(searched: str | None = None, **samples: list[float]) -> str:
    name = next(iter(samples))
    seeds = {name: len(sample) for name, sample in {"uniform": UNIFORM, **samples}.items()}
    return verdict(name, searched or name, against_control(UNIFORM, samples), seeds)


def test_differences_and_intervals_are_dunnetts() -> None:
    differences = against_control(UNIFORM, OTHERS)
    result = stats.dunnett(*OTHERS.values(), control=UNIFORM, rng=np.random.default_rng(0))
    interval = result.confidence_interval(0.95)
    for index, (name, sample) in enumerate(OTHERS.items()):
        assert differences[name].value == pytest.approx(np.mean(sample) - np.mean(UNIFORM))
        # scipy integrates by random points: two digits of its half-width can be trusted.
        assert differences[name].low == pytest.approx(interval.low[index], abs=2e-4)
        assert differences[name].high == pytest.approx(interval.high[index], abs=2e-4)


def test_against_one_other_it_is_students_interval_with_pooled_variance() -> None:
    sample = OTHERS["falling"]
    differences = against_control(UNIFORM, {"falling": sample})
    pooled = math.sqrt((np.var(sample, ddof=1) + np.var(UNIFORM, ddof=1)) / 2)
    half = stats.t.ppf(0.975, 4) * pooled * math.sqrt(2 / 3)
    assert differences["falling"].detectable == pytest.approx(half, rel=1e-4)
    assert differences["falling"].value == pytest.approx(0.0113333, abs=1e-6)


@pytest.mark.parametrize(
    ("num_others", "freedom", "confidence", "expected"),
    [(2, 10, 0.95, 2.57), (3, 20, 0.95, 2.54), (5, 12, 0.95, 2.90), (1, 5, 0.99, 4.03)],
)
def test_critical_values_are_those_of_the_printed_tables(
    num_others: int, freedom: int, confidence: float, expected: float
) -> None:
    """Two-sided, equal sizes: Dunnett, New tables for multiple comparisons with a control, Biometrics 20, 1964."""
    assert critical_value([np.full(num_others + 1, 4)], freedom, confidence) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("sizes", [(3, 3, 3), (5, 3, 4, 2)])
def test_the_joint_probability_of_a_critical_value_is_scipys(sizes: tuple[int, ...]) -> None:
    freedom = sum(sizes) - len(sizes)
    critical = critical_value([np.array(sizes)], freedom, 0.95)
    joint = np.sqrt([n / (n + sizes[0]) for n in sizes[1:]])
    correlation = np.outer(joint, joint) + np.diag(1 - joint**2)
    distribution = stats.multivariate_t(shape=correlation, df=freedom, seed=0)
    inside = distribution.cdf(np.full(len(joint), critical), lower_limit=np.full(len(joint), -critical), maxpts=200_000)
    assert inside == pytest.approx(0.95, abs=2e-4)


def test_intervals_repeat_exactly_and_widen_with_confidence() -> None:
    first, again = against_control(UNIFORM, OTHERS), against_control(UNIFORM, OTHERS)
    surer = against_control(UNIFORM, OTHERS, confidence=0.99)
    assert first == again
    assert surer["falling"].detectable > first["falling"].detectable


def test_the_confidence_holds_for_all_comparisons_at_once() -> None:
    """Of 200 families of three true ties about 5 % may show a difference (3 standard errors: 4.6 %)."""
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(200):
        samples = rng.normal(0.7, 0.004, size=(4, 5)).tolist()
        differences = against_control(samples[0], dict(zip("abc", samples[1:], strict=True)))
        wrong += any(d.low > 0 or d.high < 0 for d in differences.values())
    assert wrong <= 200 * (0.05 + 3 * math.sqrt(0.05 * 0.95 / 200))


@pytest.mark.parametrize(
    ("control", "others"),
    [
        (UNIFORM, {}),
        ([0.7], {"a": [0.7, 0.8]}),
        ([0.7, 0.8], {"a": [0.9]}),
        ([0.7, 0.7], {"a": [0.7, 0.7], "b": [0.9, 0.9]}),
    ],
)
def test_where_nothing_can_be_said_nothing_is(control: list[float], others: dict) -> None:
    assert against_control(control, others) == {}


def test_seeds_may_differ_in_number() -> None:
    assert set(against_control(UNIFORM, {"a": [0.7, 0.75]})) == {"a"}


def test_a_clear_win_is_called_better() -> None:
    text = found(falling=[0.746, 0.749, 0.745])
    assert text.startswith(
        "The found widths (falling) are better than uniform scaling at the same budget: by 2.13 points of test accuracy"
    )
    assert "95% interval +" in text and text.endswith("3 seeds each).")


def test_a_clear_loss_is_called_worse() -> None:
    text = found(rising=[0.701, 0.704, 0.697])
    assert " are worse than uniform scaling at the same budget: by 2.47 points of test accuracy " in text
    assert "95% interval -" in text


def test_a_tie_is_not_called_a_win_and_says_what_could_have_been_seen() -> None:
    difference = against_control(UNIFORM, {"same": OTHERS["same"]})["same"]
    text = found(same=OTHERS["same"])
    assert " are not shown to be better than uniform scaling at the same budget: the difference of -0.03 points" in text
    assert f"anything below {difference.detectable * 100:.2f} points could not have been told from it." in text


def test_a_sample_of_one_is_left_out_and_the_others_are_compared() -> None:
    differences = against_control(UNIFORM, {**OTHERS, "alone": [0.5]})
    assert differences == against_control(UNIFORM, OTHERS)


def test_pooled_samples_steady_the_variance_without_widening_the_family() -> None:
    """By hand: two samples of spread s and one of spread 0 pool to s * sqrt(2/3), with 6 degrees of freedom."""
    control, other, steady = [0.70, 0.71, 0.72], [0.73, 0.74, 0.75], [0.8, 0.8, 0.8]
    difference = against_control(control, {"a": other}, pooled_only=[steady])["a"]
    half = stats.t.ppf(0.975, 6) * 0.01 * math.sqrt(2 / 3) * math.sqrt(2 / 3)
    assert difference.detectable == pytest.approx(half, rel=1e-4)


def test_no_spread_is_no_comparison() -> None:
    text = verdict("a", "a", against_control([0.7, 0.7], {"a": [0.9, 0.9]}), {"a": 2, "uniform": 2})
    assert text == (
        "The found widths (a) cannot be compared with uniform scaling: 2 seeds of each show no spread to measure a "
        "difference against."
    )


def test_a_single_training_is_no_comparison_and_the_sentence_says_why() -> None:
    text = verdict("a", "a", against_control(UNIFORM, {"a": [0.9]}), {"a": 1, "uniform": 3})
    assert text.endswith("a spread needs two trainings of each, there are 1 and 3.")


def test_a_winner_that_was_not_searched_is_told_so_and_the_search_is_judged_too() -> None:
    text = found(searched="rising", slimming=[0.746, 0.749, 0.745], rising=[0.701, 0.704, 0.697])
    assert text.startswith("The validation images chose the widths of a generator, slimming: they are better than")
    assert " The best searched widths (rising) are worse than uniform scaling " in text


def test_uniform_scaling_as_the_winner_leaves_the_search_to_be_judged() -> None:
    differences = against_control(UNIFORM, {"same": OTHERS["same"]})
    text = verdict("uniform", "same", differences, {"same": 3, "uniform": 3})
    assert text.startswith(
        "No widths were found that beat uniform scaling: it did best itself on the validation images."
    )
    assert " The best searched widths (same) are not shown to be better " in text


def test_detectable_is_half_of_the_interval() -> None:
    assert Difference(value=0.01, low=-0.01, high=0.03).detectable == pytest.approx(0.02)


@pytest.mark.parametrize(("accuracy", "images", "expected"), [(0.5, 10_000, 0.005), (1.0, 100, 0.0), (0.9, 900, 0.01)])
def test_sampling_errors_are_binomial(accuracy: float, images: int, expected: float) -> None:
    assert sampling_error(accuracy, images) == pytest.approx(expected)


@pytest.mark.parametrize("sizes", [[(3, 3, 3), (3, 3, 3)], [(5, 3, 4), (2, 2), (4, 4)]])
def test_several_controls_are_one_family_with_scipys_joint_probability(sizes: list[tuple[int, ...]]) -> None:
    """Comparisons with different controls have no mean in common: their correlation is 0."""
    freedom = sum(sum(each) - len(each) for each in sizes)
    critical = critical_value([np.array(each) for each in sizes], freedom, 0.95)
    blocks = []
    for each in sizes:
        joint = np.sqrt([n / (n + each[0]) for n in each[1:]])
        blocks.append(np.outer(joint, joint) + np.diag(1 - joint**2))
    correlation = linalg.block_diag(*blocks)
    distribution = stats.multivariate_t(shape=correlation, df=freedom, seed=0)
    limits = np.full(len(correlation), critical)
    assert distribution.cdf(limits, lower_limit=-limits, maxpts=200_000) == pytest.approx(0.95, abs=3e-4)


@pytest.mark.parametrize(("pairs", "freedom"), [(2, 4), (5, 20), (10, 30)])
def test_pairs_need_less_than_bonferroni_or_sidak_ask_for(pairs: int, freedom: int) -> None:
    """They share the pooled variance, so they are wrong together: the studentised maximum modulus."""
    alone = stats.t.ppf(0.975, freedom)
    sidak = stats.t.ppf((1 + 0.95 ** (1 / pairs)) / 2, freedom)
    bonferroni = stats.t.ppf(1 - 0.025 / pairs, freedom)
    assert alone < critical_value([np.array([4, 4])] * pairs, freedom, 0.95) < sidak < bonferroni


def test_one_control_alone_is_dunnetts_comparison() -> None:
    family = [Versus(control=UNIFORM, others=OTHERS)]
    assert simultaneous(family, [UNIFORM, *OTHERS.values()]) == against_control(UNIFORM, OTHERS)


def test_more_questions_widen_the_intervals_of_a_family() -> None:
    samples = [UNIFORM, *OTHERS.values()]
    one = simultaneous([Versus(control=UNIFORM, others={"a": OTHERS["falling"]})], samples)
    two = simultaneous(
        [
            Versus(control=UNIFORM, others={"a": OTHERS["falling"]}),
            Versus(control=OTHERS["rising"], others={"b": OTHERS["same"]}),
        ],
        samples,
    )
    assert two["a"].value == one["a"].value and two["a"].detectable > one["a"].detectable
    assert two["b"].value == pytest.approx(np.mean(OTHERS["same"]) - np.mean(OTHERS["rising"]))


@pytest.mark.parametrize(
    ("low", "high", "word", "text"),
    [
        (0.01, 0.03, "better", "better than x by 2.00 points (95% interval +1.00 to +3.00)"),
        (-0.03, -0.01, "worse", "worse than x by 2.00 points (95% interval -3.00 to -1.00)"),
        (
            -0.01,
            0.02,
            "no difference seen",
            (
                "no difference to x to be seen: +0.50 points (95% interval -1.00 to +2.00); below 1.50 points none "
                "could have been"
            ),
        ),
    ],
)
def test_judgements_say_what_is_shown_with_its_numbers(low: float, high: float, word: str, text: str) -> None:
    difference = Difference(value=(low + high) / 2, low=low, high=high)
    assert judge(difference, "x", seeds=3, control_seeds=3) == (word, text)


def test_what_cannot_be_told_says_why() -> None:
    word, text = judge(None, "x", seeds=1, control_seeds=3)
    assert word == "cannot be told" and text.endswith("a spread needs two trainings of each, there are 1 and 3")
    assert judge(None, "x", seeds=2, control_seeds=2)[1].endswith("there is no spread to measure a difference against")
