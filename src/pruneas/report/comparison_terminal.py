"""A comparison in a terminal: verdict, a table for each budget, the other questions, cost and compute; of one that is
not finished, how far it is.

Eighty columns are enough, and nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pruneas.report.comparison import SHOWN, ComparisonRecord, ContrastRecord
from pruneas.report.comparison_state import ComparisonState
from pruneas.report.numbers import count, duration, percent, share, with_interval, with_spread


def table(record: ComparisonRecord) -> RenderableType:
    """The whole result, to be printed by rich."""
    verdict = Text("\n".join(record.verdict) or "Nothing was compared: there is one row alone.", style="bold")
    return Group(
        Panel(verdict, title="result", title_align="left", border_style="green"),
        _rows(record),
        "",
        _caption(record),
        "",
        *_questions(record),
        _architectures(record),
        "",
        _compute(record),
        Text(
            "own: the arm's training, mean of a seed; before: what it took to know the architecture, and the weights "
            "where it inherits some (a generator's time is that for all budgets). FLOPs of training: three times those "
            "of its images.",
            style="dim",
        ),
        "",
        *_widths(record),
        _method(record),
    )


def so_far(state: ComparisonState) -> RenderableType:
    """How far one that is not finished has come, and how to go on with it."""
    rows = () if state.progress is None else state.progress.rows
    notes = () if state.progress is None else state.progress.notes
    grid = _grid("row", "seeds", "validation, %", "trainings", words=1)
    for row in rows:
        accuracy, missing = state.accuracy(row), state.num_missing(row)
        grid.add_row(
            Text(row.key),
            f"{state.num_seeds_done(row)} of {len(row.trainings)}",
            "" if accuracy is None else percent(accuracy),
            f"{missing} missing" if missing else "all done",
        )
    trainings: list[RenderableType] = ["", grid] if rows else []
    return Group(
        Panel(Text(state.headline, style="bold"), title="so far", title_align="left", border_style="yellow"),
        _pairs([*state.stages, *(("note", note) for note in notes)]),
        *trainings,
        "",
        Text("Give its command again, and the comparison goes on where it was:"),
        Text(state.command, style="bold"),
    )


def _pairs(pairs: Sequence[tuple[str, str]]) -> Table:
    """Names and what belongs to them, as Text: brackets are not markup."""
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(style="bold", overflow="fold")
    rows.add_column(overflow="fold")
    for name, text in pairs:
        rows.add_row(Text(name), Text(text))
    return rows


def _grid(*columns: str, words: int) -> Table:
    """A plain table; the first `words` columns hold words, the others numbers. Where room is short, only what is in the
    first one is folded."""
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        result.add_column(
            column,
            justify="left" if index < words else "right",
            no_wrap=index > 0,
            overflow="fold",
        )
    return result


def _numbers(contrast: ContrastRecord | None) -> str:
    return "" if contrast is None else with_interval(contrast.difference, contrast.interval)


def _rows(record: ComparisonRecord) -> Table:
    """The rows of each budget below one another, the unpruned network's first."""
    columns = ("arm", "accuracy, %", "vs uniform", "")
    budgets = list(dict.fromkeys(row.budget for row in record.rows))
    grid = _grid(budgets[0] or "", *columns, words=5)
    for budget in budgets:
        if budget != budgets[0]:
            grid.add_row()
            grid.add_row(budget, *columns, style="bold")
        for row in record.rows:
            if row.budget != budget:
                continue
            contrast = record.to_uniform(row.key)
            shown = "" if contrast is None else SHOWN[contrast.word]
            cells = [row.arm, with_spread(row.mean, row.std), _numbers(contrast), shown]
            grid.add_row(Text(row.label), *cells, style="bold" if shown in ("better", "worse") else "")
    return grid


def _caption(record: ComparisonRecord) -> Text:
    error = max(row.test_sampling_error for row in record.rows)
    seeds = sorted({len(row.seeds) for row in record.rows})
    lines = [
        f"Accuracy: mean ± spread of {' or '.join(map(str, seeds))} seeds on {record.data.test} test images, read once",
        f"a training; a test set of this size adds up to ± {percent(error)} by itself.",
    ]
    if record.pooled_std is not None and record.uniform_text:
        lines.append(
            f"vs uniform: points, with {100 * record.confidence:g} % intervals that hold for all rows at once (spread "
            f"pooled over them: {percent(record.pooled_std)}; random widths apart, with a spread of their own), "
            f"{record.uniform_text}."
        )
    if (question := next((each for each in record.questions if each.name == "to uniform"), None)) is not None:
        if question.smallest_detectable is not None:
            lines.append(f"Differences below {percent(question.smallest_detectable)} points could not have been seen.")
    return Text(" ".join(lines), style="dim")


def _questions(record: ComparisonRecord) -> Iterator[RenderableType]:
    """The questions beside that to uniform, each comparison a line."""
    for question in record.questions:
        if question.name in ("to uniform", "random to uniform"):
            continue
        grid = _grid(question.name, "points", "", words=3)
        for each in record.contrasts:
            if each.question == question.name:
                row, control = record.row(each.row), record.row(each.control)
                name = f"{row.label} at {row.budget}" + (f", {row.arm}" if row.name != control.name else "")
                grid.add_row(Text(name), _numbers(each), SHOWN[each.word])
        yield grid
        least = question.smallest_detectable
        seen = "" if least is None else f"; differences below {percent(least)} points could not have been seen"
        yield Text(f"{question.text}{seen}", style="dim")
        yield ""


def _architectures(record: ComparisonRecord) -> Table:
    result = _grid("architecture", "budget", "FLOPs", "of base", "params", words=2)
    seen = set()
    for row in record.rows:
        if (key := (row.label, row.budget)) not in seen:
            seen.add(key)
            cells = [row.budget or "", count(round(row.flops)), share(row.flops_share), count(round(row.params))]
            result.add_row(Text(row.label), *cells)
    return result


def _compute(record: ComparisonRecord) -> Table:
    result = _grid("compute", "epochs", "images", "own FLOPs", "time", "before", "time", words=1)
    for row in record.rows:
        least, most = min(row.epochs), max(row.epochs)
        place = "" if row.budget is None else f" at {row.budget}"
        result.add_row(
            Text(f"{row.label}{place}, {row.arm}"),
            str(least) if least == most else f"{least}-{most}",
            count(round(row.own.images)),
            count(round(row.own.flops)),
            duration(row.own.seconds),
            count(round(row.before.flops)) if row.before.flops else "",
            duration(row.before.seconds) if row.before.flops else "",
        )
    return result


def _widths(record: ComparisonRecord) -> Iterator[RenderableType]:
    """Mean and spread of every group's width, where there are several base networks."""
    for each in record.widths:
        if each.std is None or not any(each.std.values()):
            continue
        cells = [
            f"{name} {mean:.1f} ± {each.std[name]:.1f} of {record.base_widths[name]}"
            for name, mean in each.mean.items()
        ]
        title = f"widths of {each.name} at {each.budget}, over {each.bases} base networks: "
        yield Text.assemble((title, "bold"), "; ".join(cells))
        yield ""


def _method(record: ComparisonRecord) -> RenderableType:
    data = record.data
    lines = [
        ("recipe", f"{record.epochs} epochs; seed {record.seed}"),
        ("network", f"{record.network}, input {' x '.join(map(str, record.input))}"),
        ("base", f"{count(record.base_flops)} FLOPs, {count(record.base_params)} params"),
        ("images", f"{data.name}: {data.training} training, {data.validation} validation, {data.test} test"),
        (
            "trainings",
            f"{record.num_trainings}, of which {record.num_reused} were done by other runs",
        ),
        ("time", f"{duration(record.seconds)} on {record.hardware}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
        ("command", record.command),
        *(("note", note) for note in record.notes),
    ]
    return _pairs(lines)
