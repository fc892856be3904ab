"""Comparisons with made-up numbers: nothing here was measured."""

import dataclasses

from pruneas.report.comparison import (
    ArchitectureRecord,
    ComparisonRecord,
    ComputeRecord,
    CurveRecord,
    KeepMapRecord,
    PointRecord,
    RowRecord,
    WeightsRecord,
    WidthsRecord,
)
from pruneas.report.comparison_state import ComparisonState
from pruneas.report.records import DataRecord
from pruneas.run.conclusions import conclude

ROLES = {"base": "base", "uniform": "uniform", "random": "random", "guided": "transferred", "found": "found"}


def row(name, arm, accuracies, budget="0.5", masked=False, **changes):
    """A row whose name says its role; masks of 'uniform-sparsity' are the uniform ones."""
    role = "uniform" if name == "uniform-sparsity" else ROLES.get(name, "generator")
    values = {
        "key": f"{name}{' (masks)' if masked else ''} at {budget}, {arm}",
        "name": name,
        "role": role,
        "budget": None if role == "base" else budget,
        "arm": arm,
        "masked": masked,
        "flops": 1e6,
        "flops_share": 0.5,
        "params": 1e4,
        "seeds": tuple(range(len(accuracies))),
        "test_accuracies": tuple(accuracies),
        "validation_accuracies": tuple(accuracies),
        "epochs": (12,) * len(accuracies),
        "rates": None,
        "own": ComputeRecord(images=1000.0, flops=3e9, seconds=12.0),
        "before": ComputeRecord(images=0.0, flops=0.0, seconds=0.0),
        "test_sampling_error": 0.004,
    }
    return RowRecord(**values | changes)


def around(mean, num=3, spread=0.001):
    """Values of that mean, an odd number of them, evenly spaced."""
    return [mean + spread * (index - num // 2) for index in range(num)]


def rows():
    return [
        row("base", "unpruned", around(0.95)),
        row("uniform", "scratch-e", around(0.90)),
        row("uniform", "scratch-b", around(0.91)),
        row("l1", "fine-tuned", around(0.88)),
        row("l1", "scratch-e", around(0.90, spread=0.002)),
        row("l1", "scratch-b", around(0.93)),
        row("l1", "ticket", [0.9]),
        row("thinet", "scratch-e", around(0.90), same_as="uniform at 0.5, scratch-e"),
    ]


def made_up_comparison(given=None):
    found = rows() if given is None else given
    conclusions = conclude(found)
    widths = {"features.0": 8, "features.3": 16}
    return ComparisonRecord(
        network="pruneas:vgg(layout=[16, 'M', 32], channels=1)",
        input=(1, 8, 8),
        data=DataRecord(name="made up", fingerprint="0" * 16, training=1000, validation=250, test=500),
        base_widths={"features.0": 16, "features.3": 32},
        base_flops=2_000_000,
        base_params=20_000,
        asked={"budgets": "0.5"},
        budgets={"0.5": {"flops": 1_000_000}},
        bases="each",
        epochs=12,
        cap=None,
        rows=tuple(found),
        contrasts=conclusions.contrasts,
        questions=conclusions.questions,
        verdict=conclusions.verdict,
        confidence=0.95,
        pooled_std=conclusions.pooled_std,
        freedom=conclusions.freedom,
        architectures=(
            ArchitectureRecord(
                name="l1",
                role="generator",
                budget="0.5",
                base=0,
                masked=False,
                widths=widths,
                removed=(),
                flops=1,
                params=1,
            ),
        ),
        curves=(
            CurveRecord(
                name="l1",
                arm="scratch-e",
                masked=False,
                points=(PointRecord(budget="0.5", flops=1e6, params=1e4, accuracy=0.9, std=0.002, seeds=3),),
            ),
        ),
        widths=(
            WidthsRecord(
                name="l1",
                budget="0.5",
                bases=3,
                mean={n: float(w) for n, w in widths.items()},
                std={n: 1.5 for n in widths},
            ),
        ),
        keep_maps=(KeepMapRecord(name="magnitude", budget="0.5", stage=0, bases=3, rows=((0.1, 0.2), (0.3, 0.4))),),
        weights=(WeightsRecord(row=found[0].key, limit=0.3, counts=(1, 5, 1)),),
        num_trainings=24,
        num_reused=3,
        seconds=100.0,
        hardware="2 imaginary cores",
        versions={"torch": "0.0"},
        command="pruneas compare",
        seed=0,
        notes=("a [bracketed] note",),
    )


def made_up_state(record=None, progress=None, **changes):
    """A comparison's state with that result, or of the made-up one."""
    values = {
        "folder": "runs/made up-compare",
        "network": "pruneas:vgg",
        "input": (1, 8, 8),
        "data": "digits",
        "recipe": {"epochs": "12"},
        "command": "pruneas compare --budget 0.5",
        "seed": 0,
        "hardware": "2 imaginary cores",
        "versions": {"torch": "0.0"},
        "seconds": 100.0,
        "failure": None,
        "result": record,
        "progress": progress,
        "accuracies": {},
        "num_bases": 0,
        "num_generated": 0,
        "left_out": {},
    }
    return ComparisonState(**values | changes)


def many_rows():
    """Two budgets, widths and masks, and something of every role; costs go with the budgets."""
    found = [row("base", "unpruned", around(0.95), key="unpruned", flops=2e6, flops_share=1.0, params=2e4)]
    for budget, share in (("0.5", 0.5), ("0.3", 0.3)):
        cost = {"budget": budget, "flops": share * 2e6, "flops_share": share, "params": share * 2e4}
        for name, arm, mean in (
            ("uniform", "scratch-e", 0.90),
            ("uniform", "scratch-b", 0.91),
            ("random", "scratch-e", 0.89),
            ("l1", "fine-tuned", 0.88),
            ("l1", "scratch-e", 0.90),
            ("l1", "scratch-b", 0.93),
            ("l1", "ticket", 0.90),
            ("guided", "scratch-b", 0.91),
        ):
            before = ComputeRecord(images=100.0, flops=1e9 if name == "l1" else 0.0, seconds=2.0)
            found.append(row(name, arm, around(mean), before=before, **cost))
        for name, arm, mean in (("uniform-sparsity", "scratch-e", 0.9), ("magnitude", "scratch-e", 0.92)):
            found.append(row(name, arm, around(mean), masked=True, **cost))
    return found


def whole_comparison(given=None):
    """A comparison of several budgets with all that a record can hold."""
    record = made_up_comparison(many_rows() if given is None else given)
    budgets = [budget for budget in dict.fromkeys(row.budget for row in record.rows) if budget is not None]
    mean = {name: 0.6 * width for name, width in record.base_widths.items()}
    return dataclasses.replace(
        record,
        budgets={budget: {"flops": int(2e6 * float(budget))} for budget in budgets},
        widths=tuple(
            WidthsRecord(name=name, budget=budget, bases=3, mean=mean, std={group: 1.5 for group in mean})
            for budget in budgets
            for name in ("uniform", "l1")
        ),
        keep_maps=tuple(
            KeepMapRecord(name="magnitude", budget=budget, stage=stage, bases=3, rows=((0.1 + stage / 10,) * 3,) * 3)
            for budget in budgets
            for stage in (0, 1)
        ),
        weights=tuple(WeightsRecord(row=row.key, limit=0.3, counts=(1, 5, 1)) for row in record.rows),
    )
