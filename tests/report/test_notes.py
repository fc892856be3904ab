import dataclasses
import xml.etree.ElementTree as ElementTree

from pruneas.report.notes import study_note, study_pictures


def test_the_study_has_a_picture_of_each_figure_that_shows_something(made_up_run):
    pictures = study_pictures(made_up_run)
    assert list(pictures) == [
        "Accuracy against FLOPs", "Difference to uniform scaling", "Width of every group", "History of the search",
        "Candidates: accuracy against FLOPs", "Candidates: accuracy against params",
    ]  # fmt: skip
    for picture in pictures.values():
        ElementTree.fromstring(picture)
    nothing = dataclasses.replace(made_up_run, result=None, trials=(), proposals=())
    assert study_pictures(nothing) == {}


def test_the_note_has_the_verdict_the_table_and_the_pictures(made_up_run):
    note = study_note(made_up_run, {"History of the search": "/artifacts/1/abc"})
    assert note.startswith("### The found widths are better than uniform scaling")
    assert "| search #17 | 95.12 ± 0.00 | 3 | 1.23 M (49.9 %) | 45.7 k | +4.12 (+2.12, +6.12) |" in note
    assert "![History of the search](/artifacts/1/abc)\n\nEach point is a candidate, trained from scratch." in note


def test_names_in_a_note_are_neither_html_nor_markdown(made_up_run):
    arms = (*made_up_run.result.arms[:2], dataclasses.replace(made_up_run.result.arms[2], name="<b>|*x*|"))
    result = dataclasses.replace(made_up_run.result, arms=(*arms, made_up_run.result.arms[3]))
    note = study_note(dataclasses.replace(made_up_run, result=result), {})
    assert r"| &lt;b&gt;\|\*x\*\| |" in note
