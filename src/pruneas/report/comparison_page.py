"""The page of a comparison: verdict, tables, figures, and how to go on with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from pruneas.report import comparison_figures as draw
from pruneas.report.comparison import (
    SHOWN,
    ComparisonRecord,
    ComputeRecord,
    ContrastRecord,
    RowRecord,
    Word,
)
from pruneas.report.comparison_state import ComparisonState
from pruneas.report.figures import Figure
from pruneas.report.markup import Markup, tag
from pruneas.report.numbers import count, duration, limits, percent, share, with_interval, with_spread
from pruneas.report.page import code, facts, figures, folded, listing, page, paragraph, section, table, tiles, unbroken

COUNTED: Mapping[Word, str] = {
    "better": "{} better",
    "worse": "{} worse",
    "no difference seen": "no difference seen in {}",
    "the same": "the very same trainings in {}",
    "cannot be told": "{} cannot be told",
}

UNFOLDED = 4
"""So many figures of widths are shown at once; of more only that of the best architecture at every budget."""


def comparison_page(state: ComparisonState) -> str:
    """The whole page, as text."""
    parts = [*_head(state)]
    if not state.is_finished:
        parts.append(_so_far(state))
    if state.result is not None:
        record = state.result
        parts += [
            _table(state, record),
            _to_uniform(record),
            *_questions(record),
            _costs(record),
            _compute(record),
            *_architectures(record),
            _again(state),
        ]
    parts.append(_method(state))
    parts.append(tag("footer", "FLOPs are multiply-adds of one input, as fvcore counts them."))
    return page(f"{state.network}, a comparison: pruneas", *parts)


def headline(state: ComparisonState) -> str:
    """The sentence at the top."""
    if state.result is None or not state.is_finished:
        before = "" if state.result is None else " What follows is the result of an earlier command."
        return f"{state.headline}{before}"
    words = [each.word for each in state.result.contrasts if each.question == "to uniform"]
    if not words:
        return "Nothing was held against uniform scaling."
    told = ", ".join(text.format(number) for word, text in COUNTED.items() if (number := words.count(word)))
    return f"Of {len(words)} rows held against uniform scaling: {told}."


# The result ---------------------------------------------------------------------------------------------------------


def _head(state: ComparisonState) -> Iterator[Markup]:
    asked = state.progress.asked if state.progress is not None else {} if state.result is None else state.result.asked
    budgets = f", budgets {asked['budgets']}" if asked.get("budgets") else ""
    yield tag("p", f"A comparison: {state.network} on {state.data}{budgets}", class_="kicker")
    yield tag("h1", headline(state))
    if not state.is_finished:
        told = "Give its command again, and the comparison goes on where it was; the other one writes this page anew:"
        yield paragraph(told, kind="muted")
        yield code(f"{state.command}\n{_report(state)} --html")
    if state.result is not None:
        yield from map(paragraph, state.result.verdict)
        yield tiles(list(_tiles(state.result)))


def _tiles(record: ComparisonRecord) -> Iterator[tuple[str, str, str]]:
    question = next((each for each in record.questions if each.name == "to uniform"), None)
    least = None if question is None else question.smallest_detectable
    yield (
        "Smallest detectable difference",
        "—" if least is None else f"{percent(least)} points",
        "to uniform scaling" if least is not None else "a spread needs two seeds",
    )
    error = max(row.test_sampling_error for row in record.rows)
    yield "The test set's own error", f"± {percent(error)} points", f"at most, of {record.data.test} images"
    yield (
        "Spread of the seeds",
        "—" if record.pooled_std is None else f"± {percent(record.pooled_std)} points",
        "one standard deviation, pooled over the rows" if record.pooled_std is not None else "one seed has none",
    )
    reused = f", {record.num_reused} taken over" if record.num_reused else ""
    yield "Trainings", str(record.num_trainings), f"in {duration(record.seconds)}{reused}"


def _table(state: ComparisonState, record: ComparisonRecord) -> Markup:
    columns = (
        "architecture", "arm", "test accuracy, %", "seeds", "against uniform, points", "shown", "epochs",
        "FLOPs of base", "params of base", "own compute", "before",
    )  # fmt: skip
    base = [row for row in record.rows if row.role == "base"]
    parts: list[Markup] = []
    for group in draw.groups(record):
        rows = base + draw.rows_of(record, group)
        told = [None if (each := record.to_uniform(row.key)) is None else each.word for row in rows]
        strong = {index for index, word in enumerate(told) if word in ("better", "worse")}
        parts.append(tag("h3", f"Budget {draw.group_name(group)}"))
        parts.append(table(columns, [_cells(record, row) for row in rows], strong=strong, dense=True))
    if not parts:
        parts.append(table(columns, [_cells(record, row) for row in base], dense=True))
    short = state.short_rows if state.is_finished else {}
    if short:
        parts.append(paragraph("Not every row has all its seeds, because trainings failed:", kind="warning"))
        parts.append(listing([f"{key}: {done} of {asked} seeds" for key, (done, asked) in short.items()]))
    return section("The table", *parts, paragraph(_caption(record), kind="muted"))


def _cells(record: ComparisonRecord, row: RowRecord) -> tuple[str, ...]:
    contrast = record.to_uniform(row.key)
    least, most = min(row.epochs), max(row.epochs)
    difference, _, interval = ("", "", "") if contrast is None else _difference(contrast).partition(" ")
    return (
        row.name,
        unbroken(row.arm),
        unbroken(with_spread(row.mean, row.std)),
        str(len(row.seeds)),
        unbroken(difference, interval) if difference else "",
        "" if contrast is None else SHOWN[contrast.word],
        str(least) if least == most else f"{least} to {most}",
        unbroken(share(row.flops_share)),
        unbroken(share(row.params / record.base_params)),
        _spent(row.own),
        _spent(row.before) if row.before.flops else "",
    )


def _difference(contrast: ContrastRecord) -> str:
    return with_interval(contrast.difference, contrast.interval)


def _spent(compute: ComputeRecord) -> Markup:
    return unbroken(f"{count(round(compute.flops))},", duration(compute.seconds))


def _caption(record: ComparisonRecord) -> str:
    told = (
        f"Accuracy: mean ± spread (one standard deviation) over the seeds, on {record.data.test} test images that were "
        f"read once a training. Against uniform: with {100 * record.confidence:g} % intervals that hold for all rows "
        "at once. Compute, mean of a seed: FLOPs of training (three times those of its images) and time. Own: the "
        "arm's training, with all rates that fine-tuning tried. Before: what it took to know the architecture, and the "
        "weights where it inherits some."
    )
    masks = (
        " Masks: the base network with single weights held at zero. Their FLOPs and params are what is left, not to be "
        "ranked with those of widths: dense hardware computes the zeros, too."
    )
    return told + masks if any(row.masked for row in record.rows) else told


# Figures ------------------------------------------------------------------------------------------------------------


def _to_uniform(record: ComparisonRecord) -> Markup:
    shown = [figure for group in draw.groups(record) if (figure := draw.to_uniform(record, group)).num_marks]
    if not shown:
        return section("Against uniform scaling", paragraph("There is no difference to be drawn."))
    told = (
        f"{record.uniform_text[:1].upper()}{record.uniform_text[1:]}. The intervals hold for all rows of all budgets "
        "at once; those of random widths, with a spread of their own, for themselves."
    )
    return section("Against uniform scaling", figures(*shown), paragraph(told, kind="muted"))


def _questions(record: ComparisonRecord) -> Iterator[Markup]:
    others = [each for each in record.questions if each.name not in ("to uniform", "random to uniform")]
    shown = [figure for each in others if (figure := draw.question(record, each)).num_marks]
    if not shown:
        return
    least = [
        f"{each.name}: {percent(each.smallest_detectable)} points"
        for each in record.questions
        if each.smallest_detectable is not None
    ]
    told = f"Smallest detectable differences: {'; '.join(least)}." if least else ""
    yield section("The other questions", figures(*shown), *([paragraph(told, kind="muted")] if told else []))


def _costs(record: ComparisonRecord) -> Markup:
    shown: list[Figure] = [
        draw.accuracy(record, arm, masked, quantity)
        for masked in (False, True)
        for arm in draw.trained_by(record, masked)
        for quantity in ("flops", "params")
    ]
    if not shown:
        return section("Accuracy against cost", paragraph("There is no architecture beside uniform scaling to draw."))
    return section("Accuracy against cost", figures(*shown))


def _compute(record: ComparisonRecord) -> Markup:
    return section("Compute", figures(*(draw.compute(record, group) for group in draw.groups(record))))


def _architectures(record: ComparisonRecord) -> Iterator[Markup]:
    best, rest = draw.widths(record)
    if best or rest:
        if len(best) + len(rest) <= UNFOLDED:
            best, rest = [*best, *rest], []
        told = f"The widths of {len(rest)} less accurate architectures"
        others = [folded(told, figures(*rest), is_printed=True)] if rest else []
        yield section("Widths over base networks", figures(*best), *others)
    if maps := draw.keep_maps(record):
        yield section("What masks keep", figures(*maps))
    if distributions := draw.weights(record):
        yield section("How weights are distributed", figures(*distributions))


# An unfinished one, and how it was made -----------------------------------------------------------------------------


def _so_far(state: ComparisonState) -> Markup:
    progress = state.progress
    rows = [] if progress is None else [
        (
            row.key,
            f"{state.num_seeds_done(row)} of {len(row.trainings)}",
            "" if (accuracy := state.accuracy(row)) is None else percent(accuracy),
        )
        for row in progress.rows
    ]  # fmt: skip
    columns = ("row", "seeds trained", "validation accuracy so far, %")
    notes = () if progress is None else progress.notes
    return section(
        "So far",
        facts(state.stages),
        *([table(columns, rows)] if rows else []),
        *([tag("h3", "Notes"), listing(notes)] if notes else []),
    )


def _again(state: ComparisonState) -> Markup:
    again = _report(state)
    return section(
        "How to go on",
        paragraph("The same command goes on with it; more budgets, generators, arms and seeds add to what is there:"),
        code(state.command),
        paragraph("The tables in a terminal, everything as values, and this page anew:"),
        code(f"{again}\n{again} --json\n{again} --html"),
    )


def _report(state: ComparisonState) -> str:
    return f"pruneas report {shlex.quote(state.folder)}"


def _method(state: ComparisonState) -> Markup:
    record = state.result
    pairs = [("network", f"{state.network}, input {' x '.join(map(str, state.input))}")]
    images = state.data
    if record is not None:
        data = record.data
        images = (
            f"{data.name}: {data.training} training, {data.validation} validation, {data.test} test (fingerprint "
            f"{data.fingerprint})"
        )
        pairs.append(("base network", f"{count(record.base_flops)} FLOPs, {count(record.base_params)} params"))
        budgets = (f"{name}: at most {limits(most)}" for name, most in record.budgets.items())
        pairs.append(("budgets", "; ".join(budgets)))
    pairs += [
        ("images", images),
        ("recipe", ", ".join(f"{name} {value}" for name, value in state.recipe.items())),
        ("seed", f"{state.seed}; every training's follows from it"),
    ]
    if record is not None:
        seeds = dict.fromkeys(seed for row in record.rows for seed in row.seeds)
        pairs.append(("seeds of trainings", ", ".join(map(str, seeds))))
    pairs += [
        ("time", f"{duration(state.seconds)}, over all sessions"),
        ("hardware", state.hardware),
        ("versions", ", ".join(f"{name} {version}" for name, version in state.versions.items())),
        ("folder", state.folder),
    ]
    notes = () if record is None else record.notes
    return section("How it was made", facts(pairs), *([tag("h3", "Notes"), listing(notes)] if notes else []))
