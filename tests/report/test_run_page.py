import dataclasses
import html
import re
from html.parser import HTMLParser

import pytest

from pruneas.report import run_figures
from pruneas.report.page import POLICY
from pruneas.report.run_page import run_page, verdict
from tests.report.conftest import made_up_trial

VOID = {"meta", "br", "hr", "img", "input", "link"}
LOADING = {"src", "href", "srcset", "data", "poster", "action", "background", "xlink:href"}


class Page(HTMLParser):
    """What a page holds; complains about what is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.loaded, self.tags, self.figures, self.text = [], [], [], [], {}, []
        self.title = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.loaded += [value for key, value in attributes if key in LOADING]
        if (given.get("class") or "").startswith("mark "):
            self.figures[self.title] = self.figures.get(self.title, 0) + 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] == "h3":
            self.title = data

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def unfinished(run, **more):
    return dataclasses.replace(run, result=None, curves=(), importances=(), **more)


def test_figures_carry_as_many_marks_as_there_are_records(made_up_run):
    page = Page(run_page(made_up_run))
    run, result = made_up_run, made_up_run.result
    groups = len(result.base_widths)
    assert page.figures == {
        "Accuracy against FLOPs": len(result.arms),
        "Difference to uniform scaling": 2 * 2,
        "Width of every group": groups * 3,  # winner, uniform, slimming
        "FLOPs by layer": 4 * 2,
        "params by layer": 2 * 2,
        "History of the search": len(run.trained) + 1 + len(run.failed),
        "Candidates: accuracy against FLOPs": len(run.trained) + 1,
        "Candidates: accuracy against params": len(run.trained) + 1,
        "Importance of the widths": 2 * len(run.importances),
        "Selection: the best candidates": 2,
        "Test: the final comparison": 3,
    }
    assert page.figures["History of the search"] == run_figures.history(run).num_marks


def test_nothing_is_fetched_and_nothing_runs(made_up_run):
    text = run_page(made_up_run)
    page = Page(text)
    assert page.loaded == []
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    assert not re.search(r"https?://|//[a-z]|@import|url\(|<[^>]+ on[a-z]+=", text)
    assert html.escape(POLICY) in text
    assert len(set(page.ids)) == len(page.ids)
    assert len(text) < 200_000


def test_a_comparison_of_the_run_is_linked_by_its_place_and_told_on_paper(made_up_run):
    text = run_page(made_up_run, comparison="../a run/comparison/report.html")
    page = Page(text)
    assert "by the paper's arms: ../a run/comparison/report.html" in page.words
    assert '<a href="../a%20run/comparison/report.html">' in text and page.tags.count("a") == 1
    assert "a { text-decoration: none; }" in text.partition("@media print")[2]
    strange = run_page(made_up_run, comparison='javascript:alert("1")/report.html')
    assert 'href="javascript%3Aalert%28%221%22%29/report.html"' in strange
    assert "a" not in Page(run_page(made_up_run)).tags


def test_the_verdict_comes_first_then_the_numbers(made_up_run):
    words = Page(run_page(made_up_run)).words
    body = words[words.index("}", words.rindex("print-color")) :]
    order = [
        "The found widths are better than uniform scaling (a made-up sentence).",
        "95.12 ± 0.00 %",
        "The comparison",
        "91.00 ± 1.00",
        "+4.12 (+2.12, +6.12)",
        "Widths, and what they cost",
        "Search",
        "1 of 5 candidates could not be trained.",
        "trial 3: diverged: the loss is <nan>",
        "Training of the finalists",
        "What could not change",
        "reshaping <mixes> its channels",
        "aten::tanh (3 times)",
        "How to have it again",
        "pruneas export 'runs/made up'",
        "pruneas search --budget 0.5",
        "2 imaginary cores",
        "the group [classifier] cannot change",
    ]
    places = [body.index(text) for text in order]
    assert places == sorted(places)


def test_time_is_shown_beside_flops_and_said_where_they_disagree(made_up_run):
    words = Page(run_page(made_up_run)).words
    assert "5.2 (4.94 to 5.46), 52.0 %" in words
    assert (
        "FLOPs are not time: search #17 has 50.0 % of the FLOPs, but takes 80.0 % of the time for a batch of 64 (an "
        "imaginary CPU)."
    ) in words
    latency = dataclasses.replace(made_up_run.latency, timings=made_up_run.latency.timings[:2])
    agreeing = Page(run_page(dataclasses.replace(made_up_run, latency=latency))).words
    assert "The time agrees with the FLOPs, noise aside." in agreeing


def test_noise_is_no_disagreement(made_up_run):
    base, _, found = made_up_run.latency.timings
    noisy = dataclasses.replace(found, low=4.0, high=12.0)  # the 5.0 that FLOPs promise are among the usual
    latency = dataclasses.replace(made_up_run.latency, timings=(base, noisy))
    assert latency.time_share(noisy) == 0.8
    assert not latency.disagrees(noisy)
    assert made_up_run.latency.disagrees(found)


def test_compute_is_summed_by_stage(made_up_run):
    found = [(c.stage, c.trainings, c.images, c.seconds) for c in made_up_run.compute]
    assert found == [
        ("base network", 1, 4000, 3.0),
        ("generators", 1, 4000, 2.0),  # uniform trains nothing
        ("search", 5, 10_000, 10.0),
        ("selection", 2, 8000, 6.0),
        ("test", 3, 12_000, 9.0),
    ]


def test_what_users_name_is_text(made_up_run):
    evil = "</style><script>alert(1)</script>"
    result = made_up_run.result
    arms = tuple(dataclasses.replace(arm, name=arm.name + evil) for arm in result.arms)
    result = dataclasses.replace(result, arms=arms, winner=result.winner + evil, verdict=evil, notes=(evil,))
    run = dataclasses.replace(
        made_up_run, result=result, network_reference=evil, folder=evil, command=evil, data=evil,
        trials=(*made_up_run.trials, made_up_trial(30, None, failure=evil)),
    )  # fmt: skip
    page = Page(run_page(run))
    assert "script" not in page.tags
    assert page.tags.count("style") == 1
    assert evil in page.words


def test_an_unfinished_run_says_so_and_how_to_go_on(made_up_run):
    run = unfinished(made_up_run, command="pruneas search --fresh --budget 0.5")
    page = Page(run_page(run))
    assert verdict(run) == "Not finished, so there is no verdict: 5 of 24 candidates, no finalist has been trained."
    assert "pruneas search --budget 0.5" in page.words.partition("So far")[0]  # --fresh would begin anew
    assert "No finalist has been trained yet." in page.words
    assert page.figures["History of the search"] == 4 + 1 + 1
    assert "too few candidates to say (4; from 20 on it is told)" in page.words


def test_a_run_of_one_trial_is_a_report(made_up_run):
    page = Page(run_page(unfinished(made_up_run, trials=made_up_run.trials[:1])))
    assert page.figures["Candidates: accuracy against FLOPs"] == 2
    assert page.figures["Width of every group"] == 3 * 2


def test_a_run_in_which_every_trial_failed_is_a_report(made_up_run):
    failed = tuple(made_up_trial(n, None, failure=f"reason {n}") for n in range(20))
    run = unfinished(made_up_run, trials=failed)
    page = Page(run_page(run))
    assert verdict(run) == "Not finished, and no candidate could be trained: all 20 that were tried failed."
    assert "20 of 20 candidates could not be trained." in page.words
    assert "trial 11: reason 11" in page.words and "trial 12" not in page.words and "and 8 more" in page.words


def test_a_run_that_has_nothing_yet_is_a_report(made_up_run):
    run = unfinished(made_up_run, trials=(), proposals=(), network=None, base_training=None)
    page = Page(run_page(run))
    assert verdict(run) == "Not finished: no candidate has been trained yet."
    assert page.figures == {}
    assert "There is no architecture to be shown yet." in page.words


def test_a_run_of_a_version_that_kept_less_is_a_report(made_up_run):
    arms = tuple(dataclasses.replace(arm, layer_flops={}, layer_params={}) for arm in made_up_run.result.arms)
    result = dataclasses.replace(made_up_run.result, arms=arms)
    page = Page(run_page(dataclasses.replace(made_up_run, network=None, result=result)))
    assert "FLOPs by layer" not in page.figures
    assert page.words.count("made this run did not keep") == 2


@pytest.mark.parametrize("seeds", [1, 2])
def test_what_has_no_interval_is_shown_without(made_up_run, seeds):
    result = dataclasses.replace(
        made_up_run.result,
        arms=tuple(dataclasses.replace(arm, interval=None) for arm in made_up_run.result.arms),
        smallest_detectable=None,
    )
    page = Page(run_page(dataclasses.replace(made_up_run, result=result)))
    assert page.figures["Difference to uniform scaling"] == 2
    assert "a spread needs two seeds of each" in page.words
