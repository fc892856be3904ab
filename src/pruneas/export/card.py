"""The model card: what a network is, how it was found, and how fast it is here. Markdown."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pruneas.cost.count import Count, count
from pruneas.cost.latency import Latency, measure, pass_of, processor
from pruneas.errors import ExportError
from pruneas.export.graphs import missing, write_onnx
from pruneas.export.taken import Taken
from pruneas.networks import examples, make
from pruneas.report.numbers import limits
from pruneas.report.records import ResultRecord

BATCHES = (1, 64)
DISAGREES = 0.1
"""Shares of time and of FLOPs that differ by more are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One comparison of times: on what, how many inputs at once, the base network's and this one's."""

    where: str
    batch: int
    base: Latency
    here: Latency

    @property
    def share(self) -> float:
        return self.here.median / self.base.median

    def disagrees(self, share: float) -> bool:
        """Whether the time is another share of the base network's than the FLOPs are, noise aside."""
        expected = share * self.base.median
        return abs(self.share - share) > DISAGREES and not self.here.low <= expected <= self.here.high


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
        _times(*timed(taken, base), counted.flops / before.flops),
        _widths(taken),
    ]
    return "\n\n".join(sections) + "\n"


def timed(taken: Taken, base: nn.Module) -> tuple[list[Timing], str | None]:
    """Base and this network in turn: PyTorch on the CPU and on a GPU if there is one, onnxruntime if it is installed.

    With why there are no times of onnxruntime, where there are none.
    """
    inputs, found = taken.architecture.inputs, []
    networks = {"base": base, "here": taken.network}
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        where = f"PyTorch, {processor() if device == 'cpu' else torch.cuda.get_device_name()}"
        for batch in BATCHES:
            found.append(
                _timing(where, batch, {n: pass_of(e, inputs, batch=batch, device=device) for n, e in networks.items()})
            )
    for network in networks.values():
        network.to("cpu")
    if lacking := missing("onnx"):
        return found, f"{', '.join(lacking)} is not installed"
    with tempfile.TemporaryDirectory() as folder:
        try:
            paths = {name: write_onnx(each, inputs, Path(folder, f"{name}.onnx")) for name, each in networks.items()}
        except ExportError as error:
            return found, str(error)
        for batch in BATCHES:
            where = f"onnxruntime, {processor()}"
            found.append(_timing(where, batch, {n: _onnx_pass(p, taken, batch) for n, p in paths.items()}))
    return found, None


def _timing(where: str, batch: int, passes: dict[str, Callable[[], object]]) -> Timing:
    times = measure(passes)
    return Timing(where=where, batch=batch, base=times["base"], here=times["here"])


def _onnx_pass(path: Path, taken: Taken, batch: int) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = examples(taken.architecture.inputs, batch=batch)
    feed = {each.name: tensor.numpy() for each, tensor in zip(session.get_inputs(), given, strict=True)}
    return lambda: session.run(None, feed)


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


def _times(timings: list[Timing], unmeasured: str | None, share: float) -> str:
    threads = torch.get_num_threads()
    lines = [
        "## Latency",
        "",
        f"Milliseconds for one batch: median and quartiles, both in turn, on {threads} thread{'s' * (threads > 1)}.",
        "",
        "| on | batch | base network | this network | share of the time |",
        "|---|---|---|---|---|",
        *(f"| {t.where} | {t.batch} | {t.base} | {t.here} | {t.share:.0%} |" for t in timings),
    ]
    if unmeasured is not None:
        lines += ["", f"Not measured with onnxruntime: {unmeasured}."]
    told = [f"{t.share:.0%} at batch {t.batch} ({t.where})" for t in timings if t.disagrees(share)]
    if told:
        lines += ["", f"FLOPs are not time: it has {share:.0%} of the FLOPs, but takes {'; '.join(told)}."]
    return "\n".join(lines)


def _widths(taken: Taken) -> str:
    rows = [f"| {name} | {base} | {'taken out' if here is None else here} |" for name, base, here in taken.widths()]
    return "\n".join(["## Widths", "", "| width group | base | here |", "|---|---|---|", *rows])
