"""The figures of a run, as values: every one from its records alone, one mark a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pruneas.report.common_figures import (
    LEAST_ACCURACY,
    LEAST_COST,
    Contrasted,
    Named,
    accuracy_mark,
    accuracy_tip,
    difference_rows,
    width_rows,
)
from pruneas.report.figures import OTHERS, Axis, Guide, Line, Mark, Plot, Points, Row, Rows, Style, Tick, front
from pruneas.report.numbers import count, percent, points
from pruneas.report.records import ArmRecord, ResultRecord
from pruneas.report.run import CurveRecord, RunRecords, trial_name
from pruneas.search.records import SEARCH, TrialRecord

LEAST_SHARE = 0.005
"""Layers with a smaller share of the base network's cost are shown together."""


def styles(run: RunRecords) -> dict[str, Style]:
    """How each architecture is drawn, the same in every figure, by its name."""
    generators = [each.method for each in run.proposals if each.method != "uniform"]
    known: dict[str, Style] = {"base": "base", "uniform": "uniform"}
    known |= {name: OTHERS[index % len(OTHERS)] for index, name in enumerate(generators)}
    for arm in () if run.result is None else run.result.arms:
        if arm.role in ("winner", "searched"):
            known[arm.name] = "winner" if arm.role == "winner" else "searched"
    return known


# What came out ------------------------------------------------------------------------------------------------------


def differences(run: RunRecords, result: ResultRecord) -> Rows:
    """Each arm's difference to uniform scaling, with its interval."""
    how = styles(run)
    return difference_rows(
        "Difference to uniform scaling",
        f"Test accuracy minus that of uniform scaling at the same budget, with {100 * result.confidence:g} % intervals "
        "that hold for all of them at once.",
        [
            Contrasted(
                label=arm.name,
                name=arm.name,
                style=how.get(arm.name, "search"),
                difference=arm.difference,
                interval=arm.interval,
                text=points(arm.difference),
            )
            for arm in result.arms
            if arm.difference is not None
        ],
        result.confidence,
    )


def final_comparison(run: RunRecords, result: ResultRecord) -> Plot:
    """Test accuracy of the arms against their FLOPs."""
    how = styles(run)
    return Plot(
        title="Accuracy against FLOPs",
        caption="The final comparison: test accuracy, mean and spread (one standard deviation) over the seeds. What "
        "costs about the same is drawn side by side.",
        x=Axis(label="FLOPs", unit="count", from_zero=True),
        y=Axis(label="test accuracy", unit="percent", least_span=LEAST_ACCURACY),
        series=[
            Points(name=_starred(arm, result), style=how.get(arm.name, "search"), marks=[_arm_mark(arm)])
            for arm in result.arms
        ],
        side_by_side=True,
    )


def _starred(arm: ArmRecord, result: ResultRecord) -> str:
    return f"{arm.name} (winner)" if arm.name == result.winner else arm.name


def _arm_mark(arm: ArmRecord) -> Mark:
    tip = accuracy_tip(arm.name, arm.mean, arm.std, arm.flops, arm.flops_share, arm.test_accuracies)
    return accuracy_mark(arm.flops, arm.mean, arm.std, tip)


def widths(run: RunRecords) -> Rows:
    """The width of every group, as a share of the base network's: the winner's as bars, the others' as ticks.

    Of an unfinished run the bars are the best candidate's so far.
    """
    how = styles(run)
    bar, *others = _architectures(run)
    return width_rows(
        run.base_widths, bar, others, how, "searched" if run.result is None else how.get(bar[0], "winner")
    )


def _architectures(run: RunRecords) -> Sequence[Named]:
    """The winner first, then the baselines; before there is a winner, the best candidate so far."""
    if (result := run.result) is not None:
        arms = [arm for arm in result.arms if arm.role != "base"]
        return [(arm.name, arm.widths) for arm in sorted(arms, key=lambda arm: arm.name != result.winner)]
    generated: list[Named] = [(each.method, each.widths) for each in run.proposals]
    searched = [trial for trial in run.trained if trial.origin == SEARCH]
    if not searched:
        return generated
    best = max(searched, key=lambda trial: trial.accuracy or 0.0)
    return [(f"{trial_name(best)} (best so far)", best.widths), *generated]


def layer_costs(run: RunRecords, result: ResultRecord) -> list[Rows]:
    """FLOPs and params of every layer, before (base network) and after (winner), with uniform scaling beside it.

    Empty for records of before they were kept.
    """
    base, winner, uniform = result.by_role("base"), result.arm(result.winner), result.by_role("uniform")
    figures = []
    for quantity in ("flops", "params"):
        before, after = _by_layer(base, quantity), _by_layer(winner, quantity)
        beside = {} if uniform is None or uniform.name == winner.name else _by_layer(uniform, quantity)
        if not before:
            continue
        word = "FLOPs" if quantity == "flops" else "params"
        small = [layer for layer, cost in before.items() if cost < LEAST_SHARE * sum(before.values())]
        if len(small) > 1:
            before, after, beside = (_together(each, small) for each in (before, after, beside))
        rows = [_cost_row(layer, cost, after.get(layer, 0), beside.get(layer), word) for layer, cost in before.items()]
        figures.append(
            Rows(
                title=f"{word} by layer",
                caption=f"Before (base network, {count(sum(before.values()))} in all) and after ({winner.name}, "
                f"{count(sum(after.values()))}).",
                axis=Axis(label=word, unit="count", from_zero=True),
                rows=rows,
                bars=winner.name,
                style=styles(run).get(winner.name, "winner"),
                tracks="base network",
            )
        )
    return figures


def _cost_row(layer: str, before: int, after: int, uniform: int | None, word: str) -> Row:
    name = layer or "(its own forward)"
    beside = [] if uniform is None else [uniform]
    return Row(
        label=name,
        tip=f"{name}: {count(after)} {word} of {count(before)}",
        value=after,
        track=before,
        text=count(after),
        ticks=[
            Tick(name="uniform", style="uniform", value=each, tip=f"{name}: uniform {count(each)} {word}")
            for each in beside
        ],
    )


def _together(costs: Mapping[str, int], small: Sequence[str]) -> dict[str, int]:
    """Costs by layer with the small ones summed up, last."""
    left = {layer: cost for layer, cost in costs.items() if layer not in small}
    return left | ({f"{len(small)} small layers": sum(costs.get(layer, 0) for layer in small)} if costs else {})


def _by_layer(arm: ArmRecord | None, quantity: str) -> Mapping[str, int]:
    if arm is None:
        return {}
    return arm.layer_flops if quantity == "flops" else arm.layer_params


# The search ---------------------------------------------------------------------------------------------------------


def search_cost(run: RunRecords, quantity: str) -> Plot:
    """Validation accuracy of the candidates against their FLOPs or params, with their front."""
    word = "FLOPs" if quantity == "flops" else "params"
    candidates = [(trial, _cost(trial, quantity)) for trial in run.trained]
    best = front([(cost, trial.accuracy or 0.0) for trial, cost in candidates])
    series: list[Points | Line] = []
    if best:
        told = "; ".join(f"{percent(accuracy)} % at {count(int(cost))}" for cost, accuracy in best)
        series.append(Line(name="front", style="front", points=best, steps=True, tip=f"front of the search: {told}"))
    series += _by_origin(run, lambda trial: _cost(trial, quantity))
    left = f" {len(run.stopped)} that were stopped early are not shown." if run.stopped else ""
    budget = (
        ""
        if not _budget_guide(run, quantity)
        else " All are inside the budget; the search uses as much of it as it can."
    )
    return Plot(
        title=f"Candidates: accuracy against {word}",
        caption="Validation accuracy after a candidate's short training, from scratch with one seed. The front joins "
        f"those that no other candidate beats in both.{budget}{left}",
        x=Axis(label=word, unit="count", least_span=LEAST_COST * max((cost for _, cost in candidates), default=1.0)),
        y=Axis(label="validation accuracy", unit="percent", least_span=LEAST_ACCURACY),
        series=series,
        guides=_budget_guide(run, quantity),
    )


def _cost(trial: TrialRecord, quantity: str) -> float:
    return trial.flops if quantity == "flops" else trial.params


def _budget_guide(run: RunRecords, quantity: str) -> list[Guide]:
    return [Guide(along="x", value=run.limits[quantity], label="budget")] if quantity in run.limits else []


def _by_origin(run: RunRecords, x: Callable[[TrialRecord], float]) -> list[Points | Line]:
    """The candidates that Optuna proposed first, so that the few known architectures lie above them."""
    how, trials = styles(run), run.trained
    origins = dict.fromkeys(["search", *(trial.origin for trial in trials)])
    return [
        Points(
            name="proposed by the search" if origin == SEARCH else origin,
            style="search" if origin == SEARCH else how.get(origin, "other4"),
            marks=[
                Mark(x=x(trial), y=trial.accuracy or 0.0, tip=_tip(trial)) for trial in trials if trial.origin == origin
            ],
        )
        for origin in origins
        if any(trial.origin == origin for trial in trials)
    ]


def _tip(trial: TrialRecord) -> str:
    name = trial_name(trial) if trial.origin == SEARCH else f"{trial.origin} (trial {trial.number})"
    accuracy = "failed" if trial.accuracy is None else f"{percent(trial.accuracy)} %"
    if (early := trial.extrapolation) is not None:
        interval = f"{percent(early.low)} to {percent(early.high)} %"
        accuracy = f"stopped after epoch {early.epoch}, extrapolated to {accuracy} (prediction interval {interval})"
    return f"{name}: {accuracy}, {count(trial.flops)} FLOPs, {count(trial.params)} params"


def history(run: RunRecords) -> Plot:
    """Validation accuracy of the candidates in the order in which they were asked for, and the best so far."""
    best: list[tuple[float, float]] = []
    for trial in run.trained:
        best.append((float(trial.number), max(trial.accuracy or 0.0, best[-1][1] if best else 0.0)))
    series: list[Points | Line] = []
    if best:
        series.append(
            Line(
                name="best so far", style="front", points=best, steps=True, tip=f"best so far: {percent(best[-1][1])} %"
            )
        )
    series += _by_origin(run, lambda trial: float(trial.number))
    if run.stopped:
        series.append(Points(name="stopped early, extrapolated", style="stopped", marks=_extrapolated(run)))
    lowest = min((trial.accuracy or 0.0 for trial in run.trained), default=0.0)
    if run.failed:
        marks = [Mark(x=float(t.number), y=lowest, tip=f"trial {t.number} failed: {t.failure}") for t in run.failed]
        series.append(Points(name="failed", style="failed", marks=marks))
    copies = sum(trial.copied_from is not None for trial in run.trials)
    left = f" {copies} that repeat earlier widths are not shown." if copies else ""
    return Plot(
        title="History of the search",
        caption=f"Each point is a candidate, trained from scratch.{left}",
        x=Axis(label="trial", unit="whole", least_span=1.0),
        y=Axis(label="validation accuracy", unit="percent", least_span=LEAST_ACCURACY),
        series=series,
    )


def _extrapolated(run: RunRecords) -> list[Mark]:
    """The candidates that were stopped early, with the intervals of where they would have ended."""
    return [
        Mark(x=float(trial.number), y=early.accuracy, low=early.low, high=early.high, tip=_tip(trial))
        for trial in run.stopped
        if (early := trial.extrapolation) is not None
    ]


def importance(run: RunRecords) -> Rows:
    """The importance of every group's width, beside what chance alone would show."""
    clear = sum(each.value > each.chance for each in run.importances)
    num = len(run.trained) + len(run.stopped)
    rows = [
        Row(
            label=each.group,
            tip=f"{each.group}: {each.value:.3g}; rank correlation of width and accuracy {each.direction:+.2f}",
            value=each.value,
            text="" if each.value <= each.chance else "wider" if each.direction > 0 else "narrower",
            ticks=[
                Tick(name="what chance reaches", style="uniform", value=each.chance, tip=f"chance: {each.chance:.3g}")
            ],
        )
        for each in run.importances
    ]
    return Rows(
        title="Importance of the widths",
        caption=f"{clear or 'None'} of {len(rows)} groups stand{'s' * (clear < 2)} out. Bars: how differently the best "
        f"quarter of {num} candidates chose the width (PED-ANOVA). Lines across: with accuracies "
        "shuffled, the highest bar stays below this in 95 % of the cases, so a bar that ends before it says nothing; "
        "where one does not, the word tells what the better candidates were. Widths share a budget: no bar stands for "
        "its group alone.",
        axis=Axis(label="importance", unit="number", from_zero=True),
        rows=rows,
        bars="importance",
        style="search",
    )


# Trainings ----------------------------------------------------------------------------------------------------------


def training_curves(run: RunRecords, stage: str) -> Plot:
    """Validation accuracy by epoch, a line for each training of a stage."""
    how = styles(run)
    curves = [curve for curve in run.curves if curve.stage == stage]
    names = list(dict.fromkeys(curve.name for curve in curves))
    first = sum(style in OTHERS for style in how.values())
    spare = {name: OTHERS[i % len(OTHERS)] for i, name in enumerate((n for n in names if n not in how), first)}
    order = {name: index for index, name in enumerate([*how, *spare])}
    what = "Selection: the best candidates" if stage == "selection" else "Test: the final comparison"
    return Plot(
        title=what,
        caption=f"{run.epochs} epochs from scratch, a line a seed. "
        + (
            "The highest mean at the end names the winner."
            if stage == "selection"
            else "Fresh seeds; the test set was read once, after the last epoch."
        ),
        x=Axis(label="epoch", unit="whole", least_span=1.0),
        y=Axis(label="validation accuracy", unit="percent", least_span=LEAST_ACCURACY),
        series=[
            Line(
                name=curve.name,
                style=how.get(curve.name) or spare[curve.name],
                points=[(float(epoch), accuracy) for epoch, accuracy in curve.accuracies],
                tip=_curve_tip(curve),
            )
            for curve in sorted(curves, key=lambda curve: order[curve.name])
        ],
    )


def _curve_tip(curve: CurveRecord) -> str:
    if not curve.accuracies:
        return f"{curve.name}, seed {curve.seed}: no epoch"
    epoch, accuracy = curve.accuracies[-1]
    return f"{curve.name}, seed {curve.seed}: {percent(accuracy)} % after epoch {epoch}"
