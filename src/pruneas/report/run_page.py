"""The page of a run: verdict, table, figures, what could not change, and how to have it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pruneas.report import run_figures as draw
from pruneas.report.figures import Figure
from pruneas.report.folding import listed
from pruneas.report.markup import Markup, tag
from pruneas.report.numbers import count, duration, limits, percent, points, share, with_interval, with_spread
from pruneas.report.page import code, facts, figures, folded, link, listing, page, paragraph, section, table, tiles
from pruneas.report.records import ArmRecord, LatencyRecord, ResultRecord, TimingRecord
from pruneas.report.run import RunRecords
from pruneas.search.importance import LEAST

LISTED = 12
"""So many failures are told in full, the others are counted."""


def run_page(run: RunRecords, comparison: str | None = None) -> str:
    """The whole page, as text. `comparison`: where, from the page's folder, that of a comparison of this run lies."""
    parts = [*_head(run)]
    if comparison is not None:
        told = "It was compared with its generators' architectures, trained by the paper's arms: "
        parts.append(paragraph(told, link(comparison, comparison)))
    if run.result is not None:
        parts += [_comparison(run, run.result)]
    else:
        parts += [_so_far(run)]
    parts += [
        _widths(run),
        *([] if run.latency is None else [_times(run.latency)]),
        _search(run),
        _trainings(run),
        _fixed(run),
        _again(run),
        _method(run),
    ]
    parts.append(tag("footer", "FLOPs are multiply-adds of one input, as fvcore counts them."))
    return page(f"{run.network_reference} at {run.budget}: pruneas", *parts)


def verdict(run: RunRecords) -> str:
    """The sentence at the top."""
    return run.headline if run.result is None else run.result.verdict


# The result ---------------------------------------------------------------------------------------------------------


def _head(run: RunRecords) -> list[Markup]:
    first, stop, rest = verdict(run).partition(". ")
    claim, _, numbers = first.rpartition(": ")
    told = [
        tag("p", f"{run.network_reference} on {run.data}, budget {run.budget}", class_="kicker"),
        tag("h1", f"{claim or numbers}".rstrip(".") + "."),
        *([paragraph(numbers[:1].upper() + numbers[1:] + stop)] if claim else []),
        *([paragraph(rest)] if rest else []),
    ]
    if run.result is None:
        again = "Give its command again, and the run goes on where it was:"
        return [*told, paragraph(again, kind="muted"), code(run.going_on)]
    result = run.result
    winner, base, uniform = result.arm(result.winner), result.by_role("base"), result.by_role("uniform")
    shown = [
        (
            "Test accuracy",
            f"{with_spread(winner.mean, winner.std)} %",
            "" if base is None else f"base network {with_spread(base.mean, base.std)} %",
        ),
        (
            "Against uniform scaling",
            "—" if winner.difference is None else f"{points(winner.difference)} points",
            "it is uniform scaling itself" if winner is uniform else _interval(winner, result.confidence),
        ),
        ("FLOPs", share(winner.flops_share), f"{count(winner.flops)} of {count(result.base_flops)}"),
        (
            "Params",
            share(winner.params / result.base_params),
            f"{count(winner.params)} of {count(result.base_params)}",
        ),
    ]
    return [*told, tiles(shown)]


def _interval(arm: ArmRecord, confidence: float) -> str:
    if arm.interval is None:
        return "no interval: a spread needs two seeds of each"
    return f"{100 * confidence:g} % interval {points(arm.interval[0])} to {points(arm.interval[1])}"


def _comparison(run: RunRecords, result: ResultRecord) -> Markup:
    columns = ("architecture", "test accuracy, %", "seeds", "FLOPs", "params", "against uniform, points")
    rows = [
        (
            f"{arm.name} (winner)" if arm.name == result.winner else arm.name,
            with_spread(arm.mean, arm.std),
            str(len(arm.seeds)),
            f"{count(arm.flops)} ({share(arm.flops_share)})",
            f"{count(arm.params)} ({share(arm.params / result.base_params)})",
            with_interval(arm.difference, arm.interval),
        )
        for arm in result.arms
    ]
    least = result.smallest_detectable
    caption = (
        f"Accuracy: mean ± spread (one standard deviation) over the seeds, on {result.data.test} test images that were "
        f"read once; a test set of this size adds ± {percent(result.test_sampling_error)} by itself. The winner was "
        f"chosen on validation images. Against uniform: with the {100 * result.confidence:g} % interval."
    )
    if least is not None:
        caption += f" The smallest difference that these seeds could have shown: {percent(least)} points."
    shown: list[Figure] = [draw.final_comparison(run, result)]
    if (apart := draw.differences(run, result)).rows:
        shown.append(apart)
    strong = {[arm.name for arm in result.arms].index(result.winner)}
    return section(
        "The comparison",
        table(columns, rows, strong=strong),
        paragraph(caption, kind="muted"),
        figures(*shown),
    )


def _so_far(run: RunRecords) -> Markup:
    """What an unfinished run knows: the architectures of its generators, and how far it is."""
    columns = ("generator", "FLOPs", "params")
    rows = [
        (each.method, _of_base(run, each.flops, "flops"), _of_base(run, each.params, "params"))
        for each in run.proposals
    ]
    return section("So far", facts(run.stages), *([table(columns, rows)] if rows else []))


def _of_base(run: RunRecords, cost: int, quantity: str) -> str:
    if run.network is None:
        return count(cost)
    return f"{count(cost)} ({share(cost / (run.network.flops if quantity == 'flops' else run.network.params))})"


# The figures --------------------------------------------------------------------------------------------------------


def _widths(run: RunRecords) -> Markup:
    if not run.base_widths or not (run.proposals or run.trained):
        return section("Widths, and what they cost", paragraph("There is no architecture to be shown yet."))
    removed = [
        f"{name} leaves out the branches of {listed(blocks)}."
        for name, blocks in (
            [(arm.name, arm.removed) for arm in run.result.arms]
            if run.result is not None
            else [(each.method, each.removed) for each in run.proposals]
        )
        if blocks
    ]
    costs = [] if run.result is None else draw.layer_costs(run, run.result)
    if run.result is not None and not costs:
        removed.append("The version of pruneas that made this run did not keep what each layer costs.")
    return section("Widths, and what they cost", figures(draw.widths(run), *costs), *map(paragraph, removed))


def _times(latency: LatencyRecord) -> Markup:
    names = list(dict.fromkeys(timing.name for timing in latency.timings))
    places = list(dict.fromkeys((timing.where, timing.batch) for timing in latency.timings))
    by_place = {(t.where, t.batch, t.name): t for t in latency.timings}
    rows = [
        (f"{where}, batch of {batch}", *(_time(latency, by_place[where, batch, name]) for name in names))
        for where, batch in places
    ]
    threads = f"{latency.threads} thread{'s' * (latency.threads > 1)}"
    told = [
        f"{t.name} has {share(t.flops_share)} of the FLOPs, but takes {share(latency.time_share(t))} of the time for a "
        f"batch of {t.batch} ({t.where})"
        for t in latency.timings
        if latency.disagrees(t)
    ]
    verdict = f"FLOPs are not time: {'; '.join(told)}." if told else "The time agrees with the FLOPs, noise aside."
    return section(
        "Time",
        table(("measured on", *(f"{name}, ms" for name in names)), rows),
        paragraph(verdict),
        paragraph(
            "Milliseconds a batch: median and quartiles of all rounds, share of the base network's; on a CPU with "
            f"{threads}; all in turn, so that whatever else the machine did meets all alike.",
            kind="muted",
        ),
        *map(paragraph, latency.notes),
    )


def _time(latency: LatencyRecord, timing: TimingRecord) -> str:
    beside = "" if timing.name == "base" else f", {share(latency.time_share(timing))}"
    return f"{timing}{beside}"


def _search(run: RunRecords) -> Markup:
    told: list[Markup] = []
    if run.failed:
        told.append(
            paragraph(f"{len(run.failed)} of {run.num_trained} candidates could not be trained.", kind="warning")
        )
        told.append(listing([f"trial {trial.number}: {trial.failure}" for trial in run.failed[:LISTED]]))
        if len(run.failed) > LISTED:
            told.append(paragraph(f"and {len(run.failed) - LISTED} more"))
    if not run.trained:
        told.append(paragraph("No candidate has been trained, so there is nothing to draw."))
        return section("Search", *told)
    shown: list[Figure] = [draw.history(run)]
    shown += [draw.search_cost(run, quantity) for quantity in ("flops", "params")]
    if run.importances:
        shown.append(draw.importance(run))
    else:
        told.append(paragraph(_no_importance(run), kind="muted"))
    return section("Search", figures(*shown), *told)


def _no_importance(run: RunRecords) -> str:
    if (num := len(run.trained) + len(run.stopped)) < LEAST:
        return f"Importance of the widths: too few candidates to say ({num}; from {LEAST} on it is told)."
    return "Importance of the widths: the candidates do not differ enough to say."


def _trainings(run: RunRecords) -> Markup:
    stages = [stage for stage in ("selection", "test") if any(curve.stage == stage for curve in run.curves)]
    if not stages:
        return section("Training of the finalists", paragraph("No finalist has been trained yet."))
    return section("Training of the finalists", figures(*(draw.training_curves(run, stage) for stage in stages)))


# What could not change, and how to have it again --------------------------------------------------------------------


def _fixed(run: RunRecords) -> Markup:
    if run.network is None:
        return section("What could not change", paragraph("The version of pruneas that made this run did not keep it."))
    network = run.network
    kept = _by_reason([(reason, name) for name, reason in network.kept.items()])
    fixed = _by_reason([(each.reason, f"{each.parameter} ({each.size})") for each in network.fixed])
    blocks = _by_reason([(reason, name) for name, reason in network.unremovable.items()])
    parts: list[Markup] = []
    total = len(network.widths)
    if kept:
        parts.append(paragraph(f"{len(network.kept)} of {total} groups keep their width."))
        parts.append(table(("groups", "why"), [(names, reason) for reason, names in kept]))
    else:
        parts.append(paragraph(f"All {total} groups of channels could change."))
    if fixed:
        rows = [(names, reason) for reason, names in fixed]
        parts.append(folded("Sizes that are no group's", table(("parameter (size)", "why"), rows)))
    if blocks:
        rows = [(names, reason) for reason, names in blocks]
        parts.append(folded("Residual blocks that have to stay", table(("blocks", "why"), rows)))
    if network.uncounted:
        names = ", ".join(f"{name} ({times} times)" for name, times in network.uncounted.items())
        parts.append(paragraph(f"Operators that fvcore has no formula for, counted as nothing: {names}.", kind="muted"))
    return section("What could not change", *parts)


def _by_reason(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    reasons: dict[str, list[str]] = {}
    for reason, name in pairs:
        reasons.setdefault(reason, []).append(name)
    return [(reason, listed(names)) for reason, names in reasons.items()]


def _again(run: RunRecords) -> Markup:
    if run.result is None:
        return section("How to have it again", paragraph("The exact command:"), code(run.command))
    best = f"{run.folder}/best"
    snippet = (
        "import pruneas\nfrom safetensors.torch import load_file\n\n"
        f"architecture = pruneas.Architecture.load({best + '/architecture.json'!r})\n"
        "network = architecture.build()  # a torch.nn.Module, freshly initialised\n"
        "# The trained weights of its first seed:\n"
        f"network.load_state_dict(load_file({best + '/weights.safetensors'!r}))\n"
    )
    return section(
        "How to have it again",
        paragraph("Build the winner in Python:"),
        code(snippet),
        paragraph("Take it away as files:"),
        code(f"pruneas export {shlex.quote(run.folder)}"),
        paragraph("Repeat the run:"),
        code(run.command),
    )


def _method(run: RunRecords) -> Markup:
    result = run.result
    pairs = [("network", f"{run.network_reference}, input {' x '.join(map(str, run.input))}")]
    if run.network is not None:
        base = f"{count(run.network.flops)} FLOPs, {count(run.network.params)} params; {run.network.provider}"
        pairs.append(("base network", base))
    pairs.append(("budget", f"{run.budget}: at most {limits(run.limits)}"))
    images = run.data
    if result is not None:
        data = result.data
        images = (
            f"{data.name}: {data.training} training, {data.validation} validation, {data.test} test (fingerprint "
            f"{data.fingerprint})"
        )
    pairs += [
        ("images", images),
        ("search", _searched(run)),
        ("finalists", f"{run.finalists} candidates and the baselines, {run.epochs} epochs, {run.seeds} seeds each"),
        ("seed", f"{run.seed}; every training's follows from it"),
    ]
    if result is not None:
        pairs.append(("test seeds", ", ".join(map(str, result.arm(result.winner).seeds))))
    pairs += [
        ("time", f"{duration(run.seconds)}, over all sessions"),
        ("hardware", run.hardware),
        ("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
        ("folder", run.folder),
    ]
    notes = [*(() if result is None else result.notes)]
    if result is None:
        notes += [f"generator {name} left out: {failure}" for name, failure in run.left_out.items()]
    compute = table(
        ("stage", "trainings", "images trained on", "time of all trainings"),
        [(c.stage, str(c.trainings), count(c.images), duration(c.seconds)) for c in run.compute],
    )
    return section(
        "How it was measured",
        facts(pairs),
        tag("h3", "Compute"),
        compute,
        *([tag("h3", "Notes"), listing(notes)] if notes else []),
    )


def _searched(run: RunRecords) -> str:
    epochs = max((len(trial.curve) for trial in run.trials), default=0)
    each = f" of {epochs} epoch{'s' * (epochs > 1)}" if epochs else ""
    early = f", {len(run.stopped)} of them stopped early" if run.stopped else ""
    return f"{run.num_trained} of {run.asked_trials} candidates{each}{early}, sampler {run.sampler}; all from scratch"
