"""The model card: what a network is, how it was found, and how fast it is here. Markdown."""

from __future__ import annotations

from pruneas.cost.count import Count, count
from pruneas.export.taken import Taken
from pruneas.export.timing import Timed, time_networks
from pruneas.networks import make
from pruneas.report.numbers import limits
from pruneas.report.records import LatencyRecord, ResultRecord


def card(taken: Taken, counted: Count) -> str:
    """The card's text. Latency is measured now, on this machine."""
    base = make(taken.architecture.network).eval()
    before = count(base, taken.architecture.inputs)
    record = None if taken.result is None else ResultRecord.from_json(taken.result)
    sections = [
        f"# {taken.architecture.network} at {counted.flops / before.flops:.1%} of its FLOPs",
        *([] if record is None else [record.verdict]),
        _sizes(counted, before, record),
        _weights(taken),
        _found(taken, record),
        _times(
            time_networks(
                {
                    "base": Timed(network=base, flops_share=1.0),
                    "this network": Timed(network=taken.network, flops_share=counted.flops / before.flops),
                },
                taken.architecture.inputs,
            )
        ),
        _widths(taken),
    ]
    return "\n\n".join(sections) + "\n"


def _sizes(counted: Count, before: Count, record: ResultRecord | None) -> str:
    lines = ["| | FLOPs | parameters | test accuracy, mean over seeds |", "|---|---|---|---|"]
    arms = {} if record is None else {arm.role: arm for arm in record.arms}
    winner = None if record is None else record.arm(record.winner)
    uniform = arms.get("uniform")
    rows = [
        ("base network", before.flops, before.params, arms.get("base")),
        *(
            []
            if uniform is None or uniform is winner
            else [("uniform scaling", uniform.flops, uniform.params, uniform)]
        ),
        ("**this network**", counted.flops, counted.params, winner),
    ]
    for name, flops, params, arm in rows:
        accuracy = "not measured" if arm is None else f"{arm.mean:.2%}"
        accuracy += "" if arm is None or arm.std is None else f" ± {100 * arm.std:.2f} ({len(arm.seeds)} seeds)"
        lines.append(f"| {name} | {flops:,} | {params:,} | {accuracy} |")
    return (
        "\n".join(lines) + "\n\nFLOPs as fvcore counts them: a multiply-add is one, for one input, in evaluation mode."
    )


def _weights(taken: Taken) -> str:
    inputs = ", ".join(map(str, taken.architecture.inputs))
    lines = ["## Use", "", f"- Input: {inputs}, without the batch.", f"- Weights: {taken.origin}."]
    if taken.facts:
        normalisation, classes = taken.facts["normalisation"], taken.facts["classes"]
        lines += [
            "- Images are scaled to [0, 1], then normalised, channel by channel.",
            f"  Mean {normalisation['mean']}, standard deviation {normalisation['std']}.",
            f"- {len(classes)} classes, in the order of the outputs: {', '.join(map(str, classes))}.",
        ]
    else:
        lines.append("- Normalisation and classes are those of whoever trained the weights; the file does not say.")
    if taken.mask is not None:
        lines.append("- Single weights are masked; their FLOPs are counted in full.")
    return "\n".join(lines)


def _found(taken: Taken, record: ResultRecord | None) -> str:
    network = f"- Network: `{taken.architecture.network}` of {taken.architecture.provider}."
    if record is None:
        return f"## How it was found\n\n{network}\n- The architecture file alone was exported: it does not say how."
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    data = record.data
    lines = [
        network,
        f"- Command: `{record.command}`, seed {record.seed}.",
        f"- Budget: {record.budget} ({limits(record.limits)}).",
        f"- Data: {data.name}, {data.training:,} training, {data.validation:,} validation, {data.test:,} test images.",
        f"- {record.num_trials} candidates trained for {record.trial_epochs} of {record.epochs} epochs.",
        f"- The winner, `{record.winner}`, was chosen on validation images, then trained anew for {record.epochs}.",
        f"- {record.seconds / 60:.0f} minutes on {record.hardware}.",
        f"- Versions: {versions}.",
        *(f"- Note: {note}." for note in record.notes),
    ]
    return "\n".join(["## How it was found", "", *lines])


def _times(latency: LatencyRecord) -> str:
    threads = latency.threads
    mine = [timing for timing in latency.timings if timing.name != "base"]
    lines = [
        "## Latency",
        "",
        f"Milliseconds for one batch: median and quartiles, both in turn, on {threads} thread{'s' * (threads > 1)}.",
        "",
        "| on | batch | base network | this network | share of the time |",
        "|---|---|---|---|---|",
        *(f"| {t.where} | {t.batch} | {latency.base_of(t)} | {t} | {latency.time_share(t):.0%} |" for t in mine),
    ]
    if latency.notes:
        lines += ["", *latency.notes]
    told = [f"{latency.time_share(t):.0%} at batch {t.batch} ({t.where})" for t in mine if latency.disagrees(t)]
    if told:
        share = mine[0].flops_share
        lines += ["", f"FLOPs are not time: it has {share:.0%} of the FLOPs, but takes {'; '.join(told)}."]
    return "\n".join(lines)


def _widths(taken: Taken) -> str:
    rows = [f"| {name} | {base} | {'taken out' if here is None else here} |" for name, base, here in taken.widths()]
    return "\n".join(["## Widths", "", "| width group | base | here |", "|---|---|---|", *rows])
