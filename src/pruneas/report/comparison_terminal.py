"""The result of a comparison in a terminal: verdict, a table for each budget, every comparison's sentence, compute.

Eighty columns are enough, and nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pruneas.report.comparison import ComparisonRecord, RowRecord
from pruneas.report.numbers import count, duration, percent, points, share


def table(record: ComparisonRecord) -> RenderableType:
    """The whole result, to be printed by rich."""
    verdict = Text("\n".join(record.verdict) or "One architecture, compared with nothing.", style="bold")
    return Group(
        Panel(verdict, title="result", title_align="left", border_style="green"),
        _rows(record),
        _caption(record),
        "",
        _sentences(record),
        "",
        _compute(record),
        Text(
            "own: the arm's training, mean of a seed; before: what it took to know the architecture, and the weights "
            "where it inherits some (a generator's seconds are those for all budgets). FLOPs of training: three times "
            "those of its images.",
            style="dim",
        ),
        "",
        *_widths(record),
        _method(record),
    )


def _grid(*columns: str, left: int = 2) -> Table:
    """A plain table; the first `left` columns hold words, the others numbers."""
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        result.add_column(column, justify="left" if index < left else "right", no_wrap=index > 0)
    return result


def _name(row: RowRecord) -> str:
    return f"{row.name}{' (masks)' if row.masked else ''}"


def _rows(record: ComparisonRecord) -> Table:
    result = _grid("architecture", "arm", "accuracy, %", "n", "FLOPs", "params", "vs uniform", left=3)
    budget = None
    for row in record.rows:
        if row.budget != budget:
            budget = row.budget
            result.add_row(Text(f"budget {budget}: at most {count(record.budgets[budget or ''])}", style="dim"))
        spread = "" if row.std is None else f" ± {percent(row.std)}"
        contrast = record.contrast("to uniform", row.key)
        told = ""
        if contrast is not None and contrast.difference is not None and contrast.interval is not None:
            low, high = contrast.interval
            mark = {"better": " +", "worse": " -"}.get(contrast.word, "")
            told = f"{points(contrast.difference)} ({points(low)}, {points(high)}){mark}"
        elif contrast is not None:
            told = contrast.word
        result.add_row(
            Text(_name(row)),
            row.arm,
            f"{percent(row.mean)}{spread}",
            str(len(row.seeds)),
            f"{count(round(row.flops))}, {share(row.flops_share)}",
            count(round(row.params)),
            told,
            style="bold" if told.endswith(("+", "-")) else "",
        )
    return result


def _caption(record: ComparisonRecord) -> Text:
    error = max(row.test_sampling_error for row in record.rows)
    lines = [
        f"Accuracy: mean ± spread of n seeds on {record.data.test} test images, read once a training;",
        f"a test set of this size adds up to ± {percent(error)} by itself.",
    ]
    if record.pooled_std is not None:
        lines.append(
            f"vs uniform: points, with {100 * record.confidence:g} % intervals that hold for all rows at once (spread "
            f"pooled over all rows: {percent(record.pooled_std)}); + better, - worse."
        )
    lines.append("FLOPs: multiply-adds of one input, as fvcore counts them; of masks, of the weights that are left.")
    return Text(" ".join(lines), style="dim")


def _sentences(record: ComparisonRecord) -> RenderableType:
    lines: list[RenderableType] = []
    for question in record.questions:
        least = question.smallest_detectable
        seen = "" if least is None else f"; the smallest difference that could have shown: {percent(least)} points"
        lines.append(Text(f"{question.name}: {question.text}{seen}", style="bold"))
        for each in record.contrasts:
            if each.question == question.name:
                lines.append(Text(f"  {each.sentence}"))
    return Group(*lines)


def _compute(record: ComparisonRecord) -> Table:
    result = _grid("compute", "arm", "epochs", "images", "FLOPs", "time", "before: FLOPs", "time")
    for row in record.rows:
        least, most = min(row.epochs), max(row.epochs)
        place = "" if row.budget is None else f", {row.budget}"
        result.add_row(
            Text(f"{_name(row)}{place}"),
            row.arm,
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
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column(overflow="fold")
    data = record.data
    lines = [
        ("network", f"{record.network}, input {' x '.join(map(str, record.input))}"),
        ("base", f"{count(record.base_flops)} FLOPs, {count(record.base_params)} params"),
        ("images", f"{data.name}: {data.training} training, {data.validation} validation, {data.test} test"),
        (
            "trainings",
            f"{record.num_trainings}, of which {record.num_reused} were done by other runs; {record.epochs} epochs",
        ),
        ("time", f"{duration(record.seconds)} on {record.hardware}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
        ("command", record.command),
        *(("note", note) for note in record.notes),
    ]
    for name, text in lines:
        rows.add_row(name, Text(text))
    return rows
