"""What the rows of a comparison show: five questions, each a family of differences that hold all at once.

*To uniform*: each architecture against uniform scaling (masks: uniform sparsification) of the same budget that was
trained the same way; fine-tuned ones against Scratch-B, which has the base network's compute, too (without that arm
against Scratch-E). *Scratch-B to fine-tuned*: the paper's question. *Ticket to Scratch-E*: the base network's own
initial weights against fresh ones. *Here to transferred*: the generators' architectures against the design that was
brought along. *Random to uniform*: widths drawn by lot; where every seed has a base network of its own they are drawn
anew for each, and the spread of those rows is that of widths, too. So they are a question apart, whose variance is
pooled over them and uniform scaling alone, and take no part in the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pruneas.compare.statistics import Difference, Versus, judge, simultaneous
from pruneas.report.comparison import Arm, Bases, ContrastRecord, Question, QuestionRecord, RowRecord, Word

TEXTS: Mapping[Question, str] = {
    "to uniform": "against uniform scaling at the same budget, trained the same way{fine_tuned}",
    "scratch-b to fine-tuned": "fresh weights with the base network's compute against inherited, fine-tuned ones",
    "ticket to scratch-e": "the base network's own initial weights against fresh ones",
    "here to transferred": "what the generators found here against the design that was brought along",
    "random to uniform": "widths drawn by lot, {drawn}, against uniform scaling trained the same way",
}
UNIFORM_ARM: Mapping[Arm, tuple[Arm, ...]] = {
    "fine-tuned": ("scratch-b", "scratch-e"),
    "scratch-b": ("scratch-b",),
    "scratch-e": ("scratch-e",),
    "ticket": ("scratch-e",),
}
"""How uniform scaling was trained that an arm is held against: the first of these that there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusions:
    """The contrasts of all questions, the questions, the verdict in sentences, and the spread of seeds behind them."""

    contrasts: tuple[ContrastRecord, ...]
    questions: tuple[QuestionRecord, ...]
    verdict: tuple[str, ...]
    pooled_std: float | None
    freedom: int


def conclude(rows: Sequence[RowRecord], *, bases: Bases = "each") -> Conclusions:
    """Answer all questions that these rows allow. Rows that are the same as others count once. `bases` is as in
    `ComparisonRecord`."""
    contrasts: list[ContrastRecord] = []
    questions = []
    for question in TEXTS:
        pairs = list(_pairs(question, rows))
        if not pairs:
            continue
        roles = ("random", "uniform") if question == "random to uniform" else None
        found = _contrasts(question, pairs, _samples(rows, roles))
        numbers = [(each.interval[1] - each.interval[0]) / 2 for each in found if each.interval is not None]
        told = {tuple(map(_first, pair)) for pair, each in zip(pairs, found, strict=True) if each.interval is not None}
        contrasts += found
        questions.append(
            QuestionRecord(
                name=question,
                text=_text(question, pairs, bases),
                num_contrasts=len(told),
                smallest_detectable=min(numbers, default=None),
            )
        )
    spread = [np.asarray(sample) for sample in _samples(rows) if len(sample) > 1]
    freedom = sum(len(sample) - 1 for sample in spread)
    squares = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in spread)
    return Conclusions(
        contrasts=tuple(contrasts),
        questions=tuple(questions),
        verdict=tuple(_verdict(rows, contrasts, questions)),
        pooled_std=(squares / freedom) ** 0.5 if freedom else None,
        freedom=freedom,
    )


def _samples(rows: Sequence[RowRecord], roles: Collection[str] | None = None) -> list[tuple[float, ...]]:
    """What variance is pooled over: rows of these roles, by default of all but random widths, each training once."""
    return [
        row.test_accuracies
        for row in rows
        if row.same_as is None and (row.role != "random" if roles is None else row.role in roles)
    ]


Pair = tuple[RowRecord, RowRecord]
"""A row and its control."""


def _pairs(question: Question, rows: Sequence[RowRecord]) -> Iterator[Pair]:
    there = {(row.name, row.budget, row.arm, row.masked): row for row in rows}
    for row in rows:
        alike = [r for r in rows if (r.budget, r.masked) == (row.budget, row.masked)]
        if row.role not in ("base", "uniform") and question == (
            "random to uniform" if row.role == "random" else "to uniform"
        ):
            uniform = {r.arm: r for r in alike if r.role == "uniform"}
            if (arm := next((arm for arm in UNIFORM_ARM[row.arm] if arm in uniform), None)) is not None:
                yield row, uniform[arm]
        elif question == "here to transferred" and row.role in ("generator", "found"):
            yield from ((row, r) for r in alike if r.role == "transferred" and r.arm == row.arm)
        elif question in ("scratch-b to fine-tuned", "ticket to scratch-e") and row.role == "generator":
            arm, other = ("scratch-b", "fine-tuned") if question[0] == "s" else ("ticket", "scratch-e")
            control = there.get((row.name, row.budget, other, row.masked))  # type: ignore[arg-type]
            if row.arm == arm and control is not None:
                yield row, control


def _text(question: Question, pairs: Sequence[Pair], bases: Bases) -> str:
    """What the question asks of these rows: what they are held against, and how random widths were drawn."""
    controls = dict.fromkeys(control.arm for row, control in pairs if row.arm == "fine-tuned")
    return TEXTS[question].format(
        fine_tuned=f" (fine-tuned: against {' or '.join(arm.title() for arm in controls)})" if controls else "",
        drawn="anew for each seed" if bases == "each" else "once for all seeds",
    )


def _contrasts(question: Question, pairs: Sequence[Pair], samples: Sequence[Sequence[float]]) -> list[ContrastRecord]:
    family: dict[str, dict[str, Sequence[float]]] = {}
    controls = {}
    for row, control in pairs:
        if _first(row) != _first(control):
            controls[_first(control)] = control.test_accuracies
            family.setdefault(_first(control), {})[f"{_first(row)} / {_first(control)}"] = row.test_accuracies
    found = simultaneous([Versus(control=controls[key], others=others) for key, others in family.items()], samples)
    return [
        _contrast(question, row, control, found.get(f"{_first(row)} / {_first(control)}")) for row, control in pairs
    ]


def _contrast(question: Question, row: RowRecord, control: RowRecord, difference: Difference | None) -> ContrastRecord:
    word: Word
    if _first(row) == _first(control):
        word, sentence = "the same", f"the same trainings as {control.key}"
    else:
        word, sentence = judge(difference, control.key, seeds=len(row.seeds), control_seeds=len(control.seeds))
    return ContrastRecord(
        question=question,
        row=row.key,
        control=control.key,
        difference=None if difference is None else difference.value,
        interval=None if difference is None else (difference.low, difference.high),
        word=word,
        sentence=f"{row.key}: {sentence}",
    )


def _first(row: RowRecord) -> str:
    """The key of the first row with these trainings."""
    return row.same_as or row.key


# In words --------------------------------------------------------------------------------------------------------


def _verdict(
    rows: Sequence[RowRecord], contrasts: Sequence[ContrastRecord], questions: Sequence[QuestionRecord]
) -> Iterator[str]:
    keyed = {row.key: row for row in rows}
    for question in questions:
        mine = [each for each in contrasts if each.question == question.name]
        budgets = dict.fromkeys(keyed[each.row].budget for each in mine) if question.name == "to uniform" else [None]
        for budget in budgets:
            asked = [each for each in mine if budget is None or keyed[each.row].budget == budget]
            place = "" if budget is None else f"Budget {budget}, "
            yield place + f"{_NAMES[question.name]}: {_listed(asked, keyed)}.{_seen(question, asked)}"


_NAMES: Mapping[Question, str] = {
    "to uniform": "against uniform scaling",
    "scratch-b to fine-tuned": "Scratch-B against fine-tuning",
    "ticket to scratch-e": "The base network's initial weights against fresh ones",
    "here to transferred": "Found here against transferred",
    "random to uniform": "Random widths against uniform scaling",
}


def _listed(contrasts: Sequence[ContrastRecord], rows: Mapping[str, RowRecord]) -> str:
    """Rows by what is shown of them; those of no difference are counted."""
    several = len({rows[each.row].budget for each in contrasts}) > 1

    def name(each: ContrastRecord) -> str:
        row, value = rows[each.row], each.difference
        text = f"{row.name}{' (masks)' if row.masked else ''} {row.arm}{f' at {row.budget}' if several else ''}"
        return text if value is None else f"{text} {value * 100:+.2f}"

    parts = []
    for word in ("better", "worse"):
        if named := [name(each) for each in contrasts if each.word == word]:
            parts.append(f"{word} by points of test accuracy: {', '.join(named)}")
    for word, text in (
        ("no difference seen", "no difference to be seen"),
        ("the same", "the very same trainings"),
        ("cannot be told", "cannot be told"),
    ):
        if number := sum(each.word == word for each in contrasts):
            parts.append(f"{text} in {number} of {len(contrasts)}")
    return "; ".join(parts)


def _seen(question: QuestionRecord, contrasts: Sequence[ContrastRecord]) -> str:
    if question.smallest_detectable is None or not any(each.word == "no difference seen" for each in contrasts):
        return ""
    return f" Differences below {question.smallest_detectable * 100:.2f} points could not have been seen."
