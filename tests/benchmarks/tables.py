"""The README's tables, made from the result files that are committed beside this script.

    python tests/benchmarks/tables.py            # write them into the README
    python tests/benchmarks/tables.py RUN NAME   # take the result of a run into results/NAME.json first

A result file is a run's own `result.json`, or what `comparison.py`, `pricing.py` or `tracing.py` measured. Tables
stand in the README between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from pruneas.report.comparison import ComparisonRecord, RowRecord
from pruneas.report.numbers import count
from pruneas.report.records import ArmRecord, ResultRecord

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
BUSY = 0.5
"""A load average before a measurement from which on its times are not to be trusted."""
TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(name: str) -> str:
    """Markdown of a committed result."""
    text = (HERE / "results" / f"{name}.json").read_text(encoding="utf-8")
    if name == "comparison":
        return comparison_table(ComparisonRecord.from_json(text))
    measured = {"pricing": _pricing, "tracing": _tracing}.get(name)
    return measured(json.loads(text)) if measured else _search(ResultRecord.from_json(text))


def _pricing(measured: dict[str, Any]) -> str:
    """How long projection takes and what it leaves, by network and multiple; pricing beside fvcore below."""
    rows = [
        "| network | groups | multiples of | ms, median (slowest) | unused, mean (largest) |",
        "|---|---|---|---|---|",
        *(
            f"| {row['network']} | {row['groups']} | {row['multiple_of']} | {row['median_ms']:.1f} "
            f"({row['slowest_ms']:.1f}) | {row['mean_unused']:.2%} ({row['largest_unused']:.2%}) |"
            for row in measured["projection"]
        ),
    ]
    pricing = measured["pricing"]
    told = (
        f"{pricing['network']}: {pricing['candidates_per_second']:,.0f} candidates a second in batches of "
        f"{pricing['batch']:,}; fvcore counts {pricing['counts_per_second']:.1f} built networks a second. "
        f"{measured['hardware']}; torch {measured['versions']['torch']}.\n"
    )
    return "\n".join(rows) + "\n\n" + told


def _tracing(measured: dict[str, Any]) -> str:
    """Seconds beside Torch-Pruning's, memory beside that of a forward pass."""

    def seconds(taken: dict[str, float]) -> str:
        return f"{taken['median']:.2f} ({taken['least']:.2f} to {taken['most']:.2f})"

    def memory(row: dict[str, Any], way: str) -> str:
        return f"{row[f'{way}_again_mib']:.0f} ({row[f'{way}_first_mib']:.0f})"

    found = measured["versions"]
    rows = [
        "| network | tracing, s | Torch-Pruning, s | tracing, MiB | a forward pass, MiB |",
        "|---|---|---|---|---|",
        *(
            f"| {row['network']} | {seconds(row['pruneas_seconds'])} | {seconds(row['torch_pruning_seconds'])} "
            f"| {memory(row, 'tracing')} | {memory(row, 'forward')} |"
            for row in measured["networks"]
        ),
    ]
    busy = measured["load_before"]
    told = (
        f"Medians of {measured['repeats']}, fastest and slowest, taken in turn; memory: medians of "
        f"{measured['processes']} fresh processes. "
        + (f"The machine was busy with other work: a load of {busy:.1f} before. " if busy > BUSY else "")
        + f"{measured['hardware']}; torch {found['torch']}, Torch-Pruning {found['torch-pruning']}.\n"
    )
    return "\n".join(rows) + "\n\n" + told


def _search(record: ResultRecord) -> str:
    """Every architecture with widths, cost, test accuracy and difference."""
    rows = [
        "| architecture | widths | FLOPs | params | test accuracy, mean (seeds) | to uniform, points (95 % interval) |",
        "|---|---|---|---|---|---|",
        *map(_row, record.arms),
    ]
    small = "" if record.smallest_detectable is None else f"{record.smallest_detectable * 100:.2f}"
    told = (
        f"{record.verdict}\n\n{record.data.training:,} training, {record.data.validation:,} validation and "
        f"{record.data.test:,} test images; {record.num_distinct} candidates trained for {record.trial_epochs} of "
        f"{record.epochs} epochs; smallest difference that these seeds could have shown {small} points, error that "
        f"comes of the test set's size {record.test_sampling_error * 100:.2f}; {record.seconds / 60:.0f} minutes on "
        f"{record.hardware}; torch {record.versions['torch']}, seed {record.seed}.\n"
    )
    return "\n".join(rows) + "\n\n" + told


def _row(arm: ArmRecord) -> str:
    seeds = " ".join(f"{accuracy * 100:.1f}" for accuracy in arm.test_accuracies)
    spread = "" if arm.std is None else f" ± {arm.std * 100:.2f}"
    difference = ""
    if arm.difference is not None and arm.interval is not None:
        low, high = (bound * 100 for bound in arm.interval)
        difference = f"{arm.difference * 100:+.2f} ({low:+.2f} to {high:+.2f})"
    name = f"**{arm.name}**" if arm.role == "winner" else arm.name
    return (
        f"| {name} | {' '.join(map(str, arm.widths.values()))} | {arm.flops / 1e6:.2f} M, {arm.flops_share:.1%} "
        f"| {arm.params / 1e3:.0f} k | {arm.mean * 100:.2f}{spread} ({seeds}) | {difference} |"
    )


def comparison_table(record: ComparisonRecord) -> str:
    """Every architecture and arm with cost, test accuracy, difference and compute; then the verdict."""
    head = "budget|architecture|arm|FLOPs|params|test accuracy, mean (seeds)|to uniform, points (95 % interval)"
    columns = [*head.split("|"), "epochs", "training FLOPs", "before it"]
    rows = [
        f"| {' | '.join(columns)} |",
        "|" + "---|" * len(columns),
        *(_comparison_row(record, row) for row in record.rows),
    ]
    others = [each for each in record.contrasts if each.question != "to uniform"]
    told = [f"- {sentence}" for sentence in record.verdict]
    told += [f"- {each.sentence}." for each in others if each.word in ("better", "worse")]
    spread = "" if record.pooled_std is None else f"; spread of seeds {record.pooled_std * 100:.2f} points, pooled"
    error = max(row.test_sampling_error for row in record.rows)
    data = record.data
    how = (
        f"{data.training:,} training, {data.validation:,} validation and {data.test:,} test images; {record.epochs} "
        f"epochs{spread}; error that comes of the test set's size {error * 100:.2f} at most. Training FLOPs: three "
        "times those of its images, with all three rates of fine-tuning; before it: what it took to know the "
        f"architecture, and inherited weights. {record.num_trainings} trainings, {record.seconds / 3600:.1f} hours on "
        f"{record.hardware}; "
        f"torch {record.versions['torch']}, seed {record.seed}.\n"
    )
    return "\n".join(rows) + "\n\n" + "\n".join(told) + "\n\n" + how


def _comparison_row(record: ComparisonRecord, row: RowRecord) -> str:
    seeds = " ".join(f"{accuracy * 100:.1f}" for accuracy in row.test_accuracies)
    spread = "" if row.std is None else f" ± {row.std * 100:.2f}"
    contrast = record.contrast("to uniform", row.key)
    difference = ""
    if contrast is not None and contrast.difference is not None and contrast.interval is not None:
        low, high = (bound * 100 for bound in contrast.interval)
        difference = f"{contrast.difference * 100:+.2f} ({low:+.2f} to {high:+.2f})"
        difference = f"**{difference}**" if contrast.word in ("better", "worse") else difference
    elif contrast is not None:
        difference = contrast.word
    least, most = min(row.epochs), max(row.epochs)
    return (
        f"| {row.budget or ''} | {row.name}{' (masks)' if row.masked else ''} | {row.arm} "
        f"| {row.flops / 1e6:.2f} M, {row.flops_share:.1%} | {row.params / 1e3:.0f} k "
        f"| {row.mean * 100:.2f}{spread} ({seeds}) | {difference} | {least if least == most else f'{least}-{most}'} "
        f"| {count(round(row.own.flops))} | {count(round(row.before.flops)) if row.before.flops else ''} |"
    )


def with_tables(text: str) -> str:
    """The README's text with every table made anew."""
    return TABLE.sub(lambda found: found[1] + table(found[2]) + found[3], text)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        shutil.copyfile(Path(sys.argv[1]) / "result.json", HERE / "results" / f"{sys.argv[2]}.json")
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
