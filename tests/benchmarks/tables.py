"""The README's tables, made from the result files that are committed beside this script.

    python tests/benchmarks/tables.py            # write them into the README
    python tests/benchmarks/tables.py RUN NAME   # take the result of a run into results/NAME.json first

A result file is a run's own `result.json`, or what one of the scripts beside this one measured. Tables stand in the
README between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import json
import re
import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pruneas.report.comparison import ComparisonRecord, RowRecord
from pruneas.report.numbers import count
from pruneas.report.records import ArmRecord, ResultRecord

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
GENERATORS, FOUND = HERE / "results" / "generators", HERE / "results" / "found"
BUSY = 0.5
"""A load average before a measurement from which on its times are not to be trusted."""
TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(name: str) -> str:
    """Markdown of a committed result."""
    if name == "generators":
        return _generators([json.loads(file.read_text(encoding="utf-8")) for file in GENERATORS.glob("*.json")])
    if name == "found":
        files = sorted(FOUND.glob("*.json"), reverse=True)
        return "\n".join(
            comparison_table(ComparisonRecord.from_json(file.read_text(encoding="utf-8"))) for file in files
        )
    text = (HERE / "results" / f"{name}.json").read_text(encoding="utf-8")
    if name == "comparison":
        return comparison_table(ComparisonRecord.from_json(text))
    measured = TABLES.get(name)
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


def _training(measured: dict[str, Any]) -> str:
    """What was compared with what, and the ratio; parts that were not measured are left out."""
    lines = ["| what | measured | beside | ratio | target |", "|---|---|---|---|---|"]
    if "speed" in measured:
        speed = measured["speed"]
        medians, best = speed["medians"], speed["best_usual"]
        for name, target in (("one training", 2.0), ("two trainings", 2.5)):
            lines.append(
                f"| {name}, two cores | {medians[name]:,.0f} images/s | {best}: {medians[best]:,.0f} images/s "
                f"| {speed['ratios'][name]:.2f} | at least {target:.1f} |"
            )
    if "accuracy" in measured:
        found = measured["accuracy"]
        means = {loop: 100 * statistics.fmean(found[loop].values()) for loop in ("pruneas", "usual")}
        low, high = (100 * bound for bound in found["interval"])
        lines.append(
            f"| accuracy after 12 epochs, {len(found['usual'])} seeds each | {means['pruneas']:.2f} % "
            f"| the usual loop: {means['usual']:.2f} % | {100 * found['difference']:+.2f} points (95 %: {low:+.2f} to "
            f"{high:+.2f}) | within 0.8 points |"
        )
    if "data" in measured:
        lines.append(
            "| an epoch with data and augmentation | | the same steps on one batch in memory "
            f"| {measured['data']['ratio']:.3f} | at most 1.10 |"
        )
    if "workers" in measured:
        one, two = (statistics.median(measured["workers"]["candidates_per_hour"][key]) for key in ("1", "2"))
        lines.append(
            f"| two worker processes | {two:,.0f} candidates/h | one: {one:,.0f} | {measured['workers']['ratio']:.2f} "
            "| at least 1.8 |"
        )
    if "start" in measured:
        lines.append(f"| from the command to the first step | {measured['start']['median']:.1f} s | | | at most 10 s |")
    loads = [f"{part} {found['load_before']:.1f}" for part, found in measured.items() if part != "accuracy"]
    first = next(iter(measured.values()))
    told = (
        f"Medians of pairs measured in turn. Load average before each part, with what the part before it left: "
        f"{', '.join(loads)}. {first['hardware']}; torch {first['versions']['torch']}.\n"
    )
    return "\n".join(lines) + "\n\n" + told


def _latency(measured: dict[str, Any]) -> str:
    """What the latency table is off, by network: two tables made one after the other."""
    rows = [
        "| network | the base takes, ms by the table (a second one) | largest error (a second one) | target |",
        "|---|---|---|---|",
        *(
            f"| {row['network']} | {row['base_milliseconds'][0]:.2f} ({row['base_milliseconds'][1]:.2f}) "
            f"| {row['errors'][0]:.1%} ({row['errors'][1]:.1%}) | at most 15% |"
            for row in measured["rows"]
        ),
    ]
    told = (
        f"Errors over {measured['held_out']} networks of random widths, timed in turn with those that the table is "
        f"made of. {measured['hardware']}, {measured['threads']} threads, one input; torch "
        f"{measured['versions']['torch']}.\n"
    )
    return "\n".join(rows) + "\n\n" + told


def _generators(rows: list[dict[str, Any]]) -> str:
    """Each method at each budget: widths, what generating took, accuracies. Best from scratch first."""
    lines = [
        "| budget | method | widths | params | images to generate (epochs) | test accuracy, mean (seeds) |",
        "|---|---|---|---|---|---|",
    ]
    order = sorted(rows, key=lambda r: (r["base_flops"], r["budget"], statistics.fmean(r["accuracies"])), reverse=True)
    for row in order:
        each = " ".join(f"{accuracy * 100:.1f}" for accuracy in row["accuracies"])
        mean, spread = (f(row["accuracies"]) * 100 for f in (statistics.fmean, statistics.stdev))
        tuned = "" if row["rates"] is None else f", rates {' '.join(f'{rate:g}' for rate in row['rates'])}"
        arm = "" if row["arm"] == "scratch" else f", fine-tuned{tuned}"
        removed = f", without {' '.join(row['removed'])}" if row["removed"] else ""
        widths = " ".join(map(str, row["widths"].values()))
        took = f"{row['images']:,} ({row['images'] / row['training_images']:.1f})"
        lines.append(
            f"| {float(row['budget']):.0%} | {row['method']}{arm} | {widths}{removed} | {count(row['params'])} "
            f"| {took} | {mean:.2f} ± {spread:.2f} ({each}) |"
        )
    shared = rows[0]
    networks = " and ".join(sorted({row["network"] for row in rows}, reverse=True))
    told = (
        f"{networks}, {shared['training_images']:,} training images, 12 epochs, 10,000 test images; fine-tuned for "
        f"{next((row['epochs'] for row in rows if row['rates']), 3)}. Images are those that the method trained on or "
        f"took statistics of, for both budgets where it ranks once; the base network's training, 180,000, is not in "
        f"them. {shared['hardware'].partition(';')[0]}; torch {shared['versions']['torch']}.\n"
    )
    return "\n".join(lines) + "\n\n" + told


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


def _scaling(measured: dict[str, Any]) -> str:
    """Trials a second by storage and number of workers; the share of a real search outside of training below."""
    workers = sorted({row["workers"] for row in measured["throughput"]})
    found = {(row["storage"], row["workers"]): row["per_second"] for row in measured["throughput"]}
    rows = [
        f"| no-op trials a second, by workers | {' | '.join(map(str, workers))} |",
        f"|---|{'---|' * len(workers)}",
        *(
            f"| {name} | {' | '.join(f'{found[kind, number]:.1f}' for number in workers)} |"
            for kind, name in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL, loopback"))
        ),
    ]
    real = measured["overhead"]
    busy = "" if measured["load"] < BUSY else f" The machine was busy: a load of {measured['load']:.1f} before."
    told = (
        f"{real['space']}, {real['trials']} trials of {real['epochs']} epochs by one worker: {real['outside']:.1%} of "
        f"{real['seconds']:.0f} s outside of training.{busy} {measured['hardware']}; optuna "
        f"{measured['versions']['optuna']}.\n"
    )
    return "\n".join(rows) + "\n\n" + told


def _strategies(measured: dict[str, Any]) -> str:
    """The regret of every search strategy on the width table, best first; its networks below."""
    checks = measured["checks"]
    first, last = checks[0], checks[-1]
    columns = [
        "strategy",
        *(f"after {check} trials" for check in checks),
        f"95 % interval, {last}",
        f"of random search, {first}",
        f"{last}",
        f"minus TPE, {first}",
        f"{last}",
    ]
    rows = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for name, row in sorted(measured["strategies"].items(), key=lambda item: item[1]["regret"]):
        both = (measured["early"][name], row)
        cells = [
            name,
            *(f"{value:.4f}" for value in measured["course"][name]),
            f"{row['low']:.4f} to {row['high']:.4f}",
            *(f"{each['of_random']:.2f}" for each in both),
            *(f"{each['minus_tpe']:+.4f} ± {each['minus_tpe_half']:.4f}" for each in both),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    anchors = "; ".join(
        f"{name} {' '.join(map(str, each['widths']))}: {each['regret']:.4f}"
        for name, each in measured["anchors"].items()
    )
    told = (
        f"Regret: validation log-loss above that of the best of {measured['networks']:,} networks inside "
        f"{measured['budget']:.0%} of the FLOPs: {measured['best']:.4f}, the median {measured['median']:.4f}; "
        f"means of {measured['searches']} searches. A mean of three seeds has an error of {measured['noise']:.4f} "
        f"among the best 100. The anchors' own: {anchors}. {measured['hardware']}; optuna "
        f"{measured['versions']['optuna']}.\n"
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
    others = [each for each in record.contrasts if each.question not in ("to uniform", "random to uniform")]
    told = [f"- {sentence}" for sentence in record.verdict]
    if record.bases == "once":  # otherwise they differ from seed to seed
        told = [
            f"- Widths of {each.name} at {each.budget}: {' '.join(map(str, each.widths.values()))}"
            for each in record.architectures
            if not each.masked
        ] + told
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
    contrast = record.to_uniform(row.key)
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


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "pricing": _pricing,
    "tracing": _tracing,
    "training": _training,
    "scaling": _scaling,
    "latency": _latency,
    "strategies": _strategies,
    "strategies-between": _strategies,
}
"""Of results that are no records of runs, by name."""


def with_tables(text: str) -> str:
    """The README's text with every table made anew."""
    return TABLE.sub(lambda found: found[1] + table(found[2]) + found[3], text)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        shutil.copyfile(Path(sys.argv[1]) / "result.json", HERE / "results" / f"{sys.argv[2]}.json")
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
