"""What Optuna Dashboard shows of a run beside its own views: a note of the study, with the figures of its page.

It is made here, as text; `search/study_note.py` leaves it where the dashboard finds it.
"""

from __future__ import annotations

import html
from collections.abc import Mapping

from pruneas.report import run_figures
from pruneas.report.figures import Figure
from pruneas.report.numbers import count, share, with_interval, with_spread
from pruneas.report.records import ArmRecord
from pruneas.report.run import RunRecords
from pruneas.report.run_page import verdict
from pruneas.report.svg import draw


def study_pictures(run: RunRecords) -> dict[str, str]:
    """SVG files for the study, by title: what the page of the run shows of its result and its search."""
    return {figure.title: _file(figure) for figure in _figures(run)}


def _figures(run: RunRecords) -> list[Figure]:
    shown: list[Figure] = []
    if run.result is not None:
        shown += [run_figures.final_comparison(run, run.result), run_figures.differences(run, run.result)]
    if run.base_widths and (run.proposals or run.trained):
        shown.append(run_figures.widths(run))
    if run.trained:
        shown += [run_figures.history(run), *(run_figures.search_cost(run, each) for each in ("flops", "params"))]
    return [figure for figure in shown if figure.num_marks]


def study_note(run: RunRecords, pictures: Mapping[str, str]) -> str:
    """The note of a study, in Markdown: the verdict, the table of the comparison, and the pictures, by title.

    `pictures` says where each was uploaded, as `optuna_dashboard.artifact.get_artifact_path` gives it.
    """
    parts = [f"### {_escaped(verdict(run))}"]
    if run.result is not None:
        head = ("architecture", "test accuracy, %", "seeds", "FLOPs", "params", "against uniform, points")
        lines = [head, ("---",) * len(head), *map(_cells, run.result.arms)]
        parts.append("\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines))
    for figure in _figures(run):
        if figure.title in pictures:
            title, caption = _escaped(figure.title), _escaped(figure.caption)
            parts.append(f"#### {title}\n\n![{title}]({pictures[figure.title]})\n\n{caption}")
    return "\n\n".join(parts) + "\n"


def _cells(arm: ArmRecord) -> tuple[str, ...]:
    flops = f"{count(arm.flops)} ({share(arm.flops_share)})"
    accuracy, difference = with_spread(arm.mean, arm.std), with_interval(arm.difference, arm.interval)
    return arm.name, accuracy, str(len(arm.seeds)), flops, count(arm.params), difference


def _escaped(text: str) -> str:
    """Text of a user's that is neither HTML nor Markdown."""
    return "".join(f"\\{c}" if c in "\\`*_[]|" else c for c in html.escape(text, quote=False))


def _file(figure: Figure) -> str:
    return draw(figure, standalone=True)[0] + "\n"
