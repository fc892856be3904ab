"""The final report in a terminal: verdict, table, widths against the base network, and how it was measured; of a run
that is not finished, how far it is.

Eighty columns are enough, and nothing is said by colour alone.
"""

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pruneas.report.numbers import count, duration, limits, percent, share, with_interval, with_spread
from pruneas.report.records import FidelityRecord, ResultRecord
from pruneas.report.run import RunRecords


def table(record: ResultRecord) -> RenderableType:
    """The whole report, to be printed by rich."""
    return Group(
        Panel(Text(record.verdict, style="bold"), title="result", title_align="left", border_style="green"),
        _comparison(record),
        _caption(record),
        "",
        _widths(record),
        "",
        _method(record),
    )


def so_far(run: RunRecords) -> RenderableType:
    """How far a run is that is not finished, and how to go on with it."""
    return Group(
        Panel(Text(run.headline, style="bold"), title="so far", title_align="left", border_style="yellow"),
        _pairs([*run.stages, *((f"generator {name}", f"left out: {why}") for name, why in run.left_out.items())]),
        "",
        Text("Give its command again, and the run goes on where it was:"),
        Text(run.going_on, style="bold"),
    )


def _pairs(pairs: Sequence[tuple[str, str]]) -> Table:
    """Names and what belongs to them, as Text: brackets of a network's arguments are not markup."""
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column(overflow="fold")
    for name, text in pairs:
        rows.add_row(Text(name), Text(text))
    return rows


def _comparison(record: ResultRecord) -> Table:
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    result.add_column("architecture", overflow="fold")
    result.add_column("accuracy, %", no_wrap=True)
    result.add_column("n", justify="right", no_wrap=True)
    result.add_column("FLOPs", justify="right", no_wrap=True)
    result.add_column("of base", justify="right", no_wrap=True)
    result.add_column("params", justify="right", no_wrap=True)
    result.add_column("vs uniform", no_wrap=True)
    for arm in record.arms:
        winner = arm.name == record.winner
        result.add_row(
            Text(f"{arm.name} *" if winner else arm.name),
            with_spread(arm.mean, arm.std),
            str(len(arm.seeds)),
            count(arm.flops),
            share(arm.flops_share),
            count(arm.params),
            with_interval(arm.difference, arm.interval),
            style="bold green" if winner else "",
        )
    return result


def _caption(record: ResultRecord) -> Text:
    least = record.smallest_detectable
    lines = [
        "* chosen on validation images.",
        f"Accuracy: mean ± spread of n seeds on {record.data.test} test images, read once;",
        f"a test set of this size adds ± {percent(record.test_sampling_error)} by itself.",
        f"vs uniform: points, with the {100 * record.confidence:g} % interval.",
    ]
    if least is not None:
        lines.append(f"Smallest difference that these seeds could have shown: {percent(least)} points.")
    lines.append("FLOPs: multiply-adds of one input, as fvcore counts them.")
    return Text(" ".join(lines), style="dim")


def _widths(record: ResultRecord) -> RenderableType:
    winner, uniform = record.arm(record.winner), record.by_role("uniform")
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    rows.add_column("widths", overflow="fold", max_width=28)
    rows.add_column("base", justify="right", no_wrap=True)
    rows.add_column(Text(winner.name), justify="right", no_wrap=True)
    if uniform is not None and uniform is not winner:
        rows.add_column("uniform", justify="right", no_wrap=True)
    rows.add_column("share of the base's width", ratio=1)
    top = max([1.0, *(winner.widths.get(group, 0) / base for group, base in record.base_widths.items())])
    for group, base in record.base_widths.items():
        width = winner.widths.get(group, base)
        tick = None if uniform is None else uniform.widths.get(group, base)
        cells = [group, str(base), str(width)] + ([str(tick)] if uniform is not None and uniform is not winner else [])
        bar = _Bar(width / base / top, None if tick is None else tick / base / top, 1 / top)
        rows.add_row(*map(Text, cells), bar)
    key = f"filled: {winner.name}; | : uniform scaling; dots: up to the base's width"
    gone = [
        Text(f"{arm.name} goes without the branches of {', '.join(arm.removed)}") for arm in record.arms if arm.removed
    ]
    return Group(rows, Text(key, style="dim"), *gone)


class _Bar:
    """A bar filled to `value`, dotted on to `base`, with a tick at `tick`; all are shares of the room there is."""

    def __init__(self, value: float, tick: float | None, base: float) -> None:
        self.value = value
        self.tick = tick
        self.base = base

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = max(10, min(options.max_width, 60))
        full, empty, mark = ("#", ".", "|") if options.ascii_only else ("█", "·", "│")
        filled = max(1, round(self.value * room)) if self.value > 0 else 0
        cells = [full] * filled + [empty] * (round(self.base * room) - filled)
        if self.tick is not None:
            at = min(max(round(self.tick * room) - 1, 0), room - 1)
            cells += [" "] * (at + 1 - len(cells))
            cells[at] = mark
        bar = Text("".join(cells[:filled]), style="green")
        bar.append("".join(cells[filled:]), style="dim")
        yield bar


def _method(record: ResultRecord) -> RenderableType:
    data = record.data
    early = f", {record.num_stopped} stopped early" if record.num_stopped else ""
    search = (
        f"{record.num_trials} trials of {_epochs(record.trial_epochs)}, {record.num_distinct} distinct{early}; "
        f"finalists {_epochs(record.epochs)}; all from scratch; seed {record.seed}"
    )
    lines = [
        ("network", f"{record.network}, input {' x '.join(map(str, record.input))}"),
        ("base", f"{count(record.base_flops)} FLOPs, {count(record.base_params)} params"),
        ("budget", f"{record.budget}: at most {limits(record.limits)}"),
        ("images", f"{data.name}: {data.training} training, {data.validation} validation, {data.test} test"),
        ("search", search),
        *([("ranking", _ranking(record.fidelity, record))] if record.fidelity is not None else []),
        ("time", f"{duration(record.seconds)} on {record.hardware}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
        ("command", record.command),
        *(("note", note) for note in record.notes),
    ]
    return _pairs(lines)


def _ranking(fidelity: FidelityRecord, record: ResultRecord) -> str:
    """How far the trials' short trainings can be trusted."""
    interval = f"{100 * record.confidence:g} % interval {fidelity.low:+.2f} to {fidelity.high:+.2f}"
    return (
        f"{_epochs(record.trial_epochs)} rank as full trainings do with a correlation of {fidelity.correlation:+.2f} "
        f"({interval}, over {fidelity.architectures} architectures trained in full, most of them the best)"
    )


def _epochs(number: int) -> str:
    return "1 epoch" if number == 1 else f"{number} epochs"
