"""The figures of a comparison, as values: every one from its record alone, one mark a record.

Architectures of one budget are shown together, and masks apart from widths: their costs are never to be ranked with one
another. Such a set of rows is a `Group` here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pruneas.report.common_figures import (
    LEAST_ACCURACY,
    LEAST_COST,
    Contrasted,
    accuracy_mark,
    accuracy_tip,
    difference_rows,
    width_rows,
)
from pruneas.report.comparison import (
    SHOWN,
    Arm,
    ComparisonRecord,
    ContrastRecord,
    KeepMapRecord,
    QuestionRecord,
    RowRecord,
    WeightsRecord,
    WidthsRecord,
)
from pruneas.report.figures import OTHERS, Axis, Grid, Grids, Line, Mark, Plot, Points, Row, Rows, Style
from pruneas.report.numbers import count, duration

ARM_STYLES: Mapping[Arm, Style] = {
    "unpruned": "base",
    "fine-tuned": "other1",
    "scratch-e": "other2",
    "scratch-b": "other3",
    "ticket": "other4",
}

Group = tuple[str, bool]
"""A budget, and whether single weights are masked at it."""


def groups(record: ComparisonRecord) -> list[Group]:
    """In the order of the table."""
    return list(dict.fromkeys((row.budget, row.masked) for row in record.rows if row.budget is not None))


def group_name(group: Group) -> str:
    budget, masked = group
    return f"{budget}, masks" if masked else budget


def rows_of(record: ComparisonRecord, group: Group) -> list[RowRecord]:
    return [row for row in record.rows if (row.budget, row.masked) == group]


def styles(record: ComparisonRecord) -> dict[str, Style]:
    """How each architecture is drawn, the same in every figure, by its name."""
    fixed: Mapping[str, Style] = {"base": "base", "uniform": "uniform", "found": "winner"}
    roles = {row.name: row.role for row in record.rows}
    others = [name for name, role in roles.items() if role not in fixed]
    known = {name: OTHERS[index % len(OTHERS)] for index, name in enumerate(others)}
    return {name: known.get(name) or fixed[role] for name, role in roles.items()}


# What came out ------------------------------------------------------------------------------------------------------


def to_uniform(record: ComparisonRecord, group: Group) -> Rows:
    """The difference of each row of a group to uniform scaling, with its simultaneous interval."""
    found = [(row, each) for row in rows_of(record, group) if (each := record.to_uniform(row.key)) is not None]
    return difference_rows(
        f"Difference to uniform at {group_name(group)}",
        f"Mean test accuracy minus that of uniform {'sparsification' if group[1] else 'scaling'} at the same budget, "
        f"with {100 * record.confidence:g} % intervals that hold for all rows at once.",
        [_contrasted(record, each, f"{row.name}, {row.arm}") for row, each in found],
        record.confidence,
    )


def question(record: ComparisonRecord, asked: QuestionRecord) -> Rows:
    """The differences that answer one of the other questions."""
    found = [each for each in record.contrasts if each.question == asked.name]
    return difference_rows(
        f"{asked.name[:1].upper()}{asked.name[1:]}",
        f"Mean test accuracy: {asked.text}. The {100 * record.confidence:g} % intervals hold for all of them at once.",
        [_contrasted(record, each, _asked_of(record, each)) for each in found],
        record.confidence,
    )


def _asked_of(record: ComparisonRecord, each: ContrastRecord) -> str:
    row, control = record.row(each.row), record.row(each.control)
    return f"{row.label} at {row.budget}" + (f", {row.arm}" if row.name != control.name else "")


def _contrasted(record: ComparisonRecord, each: ContrastRecord, label: str) -> Contrasted:
    row = record.row(each.row)
    return Contrasted(
        label=label,
        name=row.name,
        style=styles(record)[row.name],
        difference=each.difference,
        interval=each.interval,
        text=SHOWN[each.word],
    )


# Accuracy against cost ----------------------------------------------------------------------------------------------


def trained_by(record: ComparisonRecord, masked: bool) -> list[Arm]:
    """The arms that architectures (or masks) were trained by, uniform scaling apart."""
    rows = [row for row in record.rows if row.masked is masked and row.role not in ("base", "uniform")]
    arms = dict.fromkeys(row.arm for row in rows)
    return [arm for arm in ARM_STYLES if arm in arms]


def accuracy(record: ComparisonRecord, arm: Arm, masked: bool, quantity: str) -> Plot:
    """Test accuracy against FLOPs or params over the budgets, of all that were trained by an arm [Liu2019, figure 3].

    Uniform scaling is that which the arm is held against. The base network stands at its own cost.
    """
    how = styles(record)
    word = "FLOPs" if quantity == "flops" else "params"
    rows = [row for row in record.rows if row.masked is masked and row.arm == arm and row.role != "base"]
    controls = {each.control for row in rows if (each := record.to_uniform(row.key)) is not None}
    rows = [row for row in record.rows if row in rows or row.key in controls or row.role == "base"]
    curves: dict[tuple[str, Arm], list[RowRecord]] = {}
    for row in rows:
        curves.setdefault((row.name, row.arm), []).append(row)
    is_limited = any(quantity in most for most in record.budgets.values())
    what = "masks" if masked else "widths"
    return Plot(
        title=f"{arm[:1].upper()}{arm[1:]}, {what}: accuracy against {word}",
        caption="Mean and spread (one standard deviation) over the seeds, for every budget."
        f"{' What costs about the same is drawn side by side.' if is_limited else ''}",
        x=Axis(
            label=word, unit="count", least_span=LEAST_COST * max((_cost(row, quantity) for row in rows), default=1)
        ),
        y=Axis(label="test accuracy", unit="percent", least_span=LEAST_ACCURACY),
        series=[
            Points(
                name=name if name == "base" or its == arm else f"{name}, {its}",
                style=how[name],
                joined=len(mine) > 1,
                marks=[_accuracy_mark(row, quantity) for row in mine],
            )
            for (name, its), mine in curves.items()
        ],
        side_by_side=is_limited,
    )


def _cost(row: RowRecord, quantity: str) -> float:
    return row.flops if quantity == "flops" else row.params


def _accuracy_mark(row: RowRecord, quantity: str) -> Mark:
    tip = accuracy_tip(row.key, row.mean, row.std, row.flops, row.flops_share, row.test_accuracies)
    return accuracy_mark(_cost(row, quantity), row.mean, row.std, f"{tip}; {count(round(row.params))} params")


# Compute ------------------------------------------------------------------------------------------------------------


def compute(record: ComparisonRecord, group: Group) -> Rows:
    """What each row's training took, on top of what it took to know its architecture."""
    rows = [row for row in record.rows if row.role == "base"] + rows_of(record, group)
    return Rows(
        title=f"Compute at {group_name(group)}",
        caption="Mean of a seed: three times the FLOPs of all images that were trained on, with the time of the arm's "
        "own training at the end.",
        axis=Axis(label="FLOPs of training", unit="count", from_zero=True),
        rows=[
            Row(
                label="unpruned" if row.role == "base" else f"{row.name}, {row.arm}",
                tip=f"{row.key}: {count(round(row.own.flops))} FLOPs in {duration(row.own.seconds)}"
                + (
                    f", after {count(round(row.before.flops))} in {duration(row.before.seconds)}"
                    * bool(row.before.flops)
                ),
                value=row.own.flops,
                track=row.own.flops + row.before.flops,
                text=duration(row.own.seconds),
            )
            for row in rows
        ],
        bars="the arm's own training",
        style="search",
        tracks="what it took to know the architecture, and inherited weights",
    )


# What they look like ------------------------------------------------------------------------------------------------


def widths(record: ComparisonRecord) -> tuple[list[Rows], list[Rows]]:
    """Mean and spread of each architecture's widths over base networks [Liu2019, table 7], beside uniform scaling's: of
    the most accurate architecture at every budget, and of the others.

    Uniform scaling has a figure of its own where there is nothing else at its budget.
    """
    how = styles(record)
    best, rest = [], []
    for budget in dict.fromkeys(each.budget for each in record.widths):
        mine = [each for each in record.widths if each.budget == budget]
        uniform = [each for each in mine if each.name == "uniform"]
        others = [each for each in mine if each.name != "uniform"]
        first = max(others or uniform, key=lambda each: _accuracy(record, each))
        best.append(_widths(record, first, uniform if others else [], how))
        rest += [_widths(record, each, uniform, how) for each in others if each is not first]
    return best, rest


def _accuracy(record: ComparisonRecord, each: WidthsRecord) -> tuple[bool, float]:
    """That of an architecture's best arm. Random widths come last: their mean is no architecture that was trained."""
    rows = [row for row in rows_of(record, (each.budget, False)) if row.name == each.name]
    return (each.name != "random", max((row.mean for row in rows), default=0.0))


def _widths(
    record: ComparisonRecord, each: WidthsRecord, uniform: Sequence[WidthsRecord], how: Mapping[str, Style]
) -> Rows:
    spread = f" Mean and standard deviation (thin lines) over {each.bases} base networks."
    return width_rows(
        {group: width for group, width in record.base_widths.items() if group in each.mean},
        (each.name, each.mean),
        [(other.name, other.mean) for other in uniform],
        how,
        how.get(each.name, "search"),
        std=each.std,
        title=f"Widths of {each.name} at {each.budget}",
        caption=spread if each.std is not None else " From one base network.",
    )


def keep_maps(record: ComparisonRecord) -> list[Grids]:
    """For each set of masks, how many kernels of every stage keep each of their places [Liu2019, figure 4]."""
    found: dict[tuple[str, str], list[KeepMapRecord]] = {}
    for each in record.keep_maps:
        found.setdefault((each.name, each.budget), []).append(each)
    return [
        Grids(
            title=f"Kept places of kernels: {name} at {budget}",
            caption="Percent of the kernels of a stage that keep the weight at that place, mean over "
            f"{maps[0].bases} base network{'s' * (maps[0].bases > 1)}; the darker, the more. Stage 0 has the largest "
            "feature maps.",
            grids=[
                Grid(label=f"stage {each.stage}, {len(each.rows)} x {len(each.rows[0])}", rows=each.rows)
                for each in maps
            ],
        )
        for (name, budget), maps in found.items()
    ]


def weights(record: ComparisonRecord) -> list[Plot]:
    """How the weights of each architecture are distributed after each of its arms, beside the base network's
    [Liu2019, appendix F]."""
    whole = [each for each in record.weights if record.row(each.row).role == "base"]
    found: dict[tuple[str, Group], list[WeightsRecord]] = {}
    for each in record.weights:
        row = record.row(each.row)
        if row.budget is not None:
            found.setdefault((row.name, (row.budget, row.masked)), []).append(each)
    if not found:
        return [_distributions("Weights of the base network", record, whole)] if whole else []
    return [
        _distributions(f"Weights of {name} at {group_name(group)}", record, [*whole, *mine])
        for (name, group), mine in found.items()
    ]


def _distributions(title: str, record: ComparisonRecord, each: Sequence[WeightsRecord]) -> Plot:
    return Plot(
        title=title,
        caption="The convolutions' weights after the first training of each arm, without masked ones; what lies "
        "beyond is in the outermost places.",
        x=Axis(label="weight", unit="number"),
        y=Axis(label="share of the weights", unit="percent", from_zero=True),
        series=[_distribution(record.row(one.row), one) for one in each],
    )


def _distribution(row: RowRecord, each: WeightsRecord) -> Line:
    total, num = max(1, sum(each.counts)), len(each.counts)
    centres = [each.limit * ((2 * index + 1) / num - 1) for index in range(num)]
    around = sum(number for at, number in zip(centres, each.counts, strict=True) if abs(at) <= each.limit / 10) / total
    return Line(
        name=row.arm,
        style=ARM_STYLES[row.arm],
        points=[(at, number / total) for at, number in zip(centres, each.counts, strict=True)],
        tip=f"{row.key}: {count(total)} weights, {100 * around:.1f} % of them within ± {each.limit / 10:.2g}",
    )
