"""An inspection in a terminal: what can change, what it is worth, and what cannot change.

Eighty columns are enough. Repeated layers and groups are folded into one line, and of many lines the largest are shown.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pruneas.report.folding import fold, listed
from pruneas.report.inspection import GroupRecord, Inspection, LayerRecord
from pruneas.report.numbers import count, duration, share

GROUPS, LAYERS = 24, 12
"""How many lines of groups and of layers are shown unless all are asked for."""
LEAST = 0.005
"""The share of FLOPs or params from which on a line of layers is shown."""
LISTED = 300
"""How many characters of a list of names are shown."""

R = TypeVar("R", GroupRecord, LayerRecord)
Line = tuple[str, list[R]]
"""A folded name and what it stands for."""


def overview(record: Inspection, *, every_group: bool = False, every_layer: bool = False) -> RenderableType:
    """The whole of it, to be printed by rich; `every_group` and `every_layer` unfold those tables."""
    head = Text(record.network, style="bold").append(
        f"   {record.provider}, input {', '.join(record.inputs)}, traced and tried in {duration(record.seconds)}",
        style="not bold",
    )
    return Group(
        head,
        "",
        _facts(record),
        "",
        _groups(record, every_group),
        "",
        _layers(record, every_layer),
        "",
        _fixed(record),
    )


def _facts(record: Inspection) -> Table:
    frozen = sum(group.frozen is not None for group in record.groups)
    num = len(record.groups)
    can = "all of which can change" if not frozen else f"{num - frozen} of which can change"
    narrow, shallow = record.narrowest, record.shallowest
    reach = (
        f"{_small(narrow.flops_share)} of the FLOPs, {_small(narrow.params_share)} of the params at the lowest widths"
    )
    if record.blocks:
        reach += f"; with the blocks out as well, {_small(shallow.flops_share)} and {_small(shallow.params_share)}"
    total = len(record.blocks) + len(record.unremovable)
    blocks = f"{len(record.blocks)} of {total} can be taken out"
    if record.blocks:
        saved = sum(block.flops_share for block in record.blocks)
        blocks += f" ({share(saved)} of the FLOPs): {_cut(listed([block.name for block in record.blocks]))}"
    lines = [
        ("FLOPs", f"{count(record.flops)} (multiply-adds of one input, as fvcore counts them)"),
        ("params", count(record.params)),
        ("memory", f"{count(record.memory)}B of activations at once, for one input"),
        ("groups", f"{num}, {can}; the channels of a group change together"),
        ("channels", f"{record.changeable:,} of the {record.channels:,} that layers write can change"),
        ("narrowest", reach),
        ("blocks", blocks if total else "no residual blocks were found"),
    ]
    return _grid(lines)


def _groups(record: Inspection, every: bool) -> RenderableType:
    def like(group: GroupRecord) -> Hashable:
        return group.width, group.lowest, group.highest, group.frozen, group.elastic

    lines = _lines(record.groups, lambda group: group.name, like, every)
    shown, rest = (lines, []) if every else _largest(lines, GROUPS)
    table = _table("group", ["n", "width", "writers", "readers", "FLOPs", "params"])
    for name, groups in shown:
        frozen = groups[0].frozen is not None
        marks = [mark for mark, holds in (("frozen", frozen), ("elastic", groups[0].elastic)) if holds]
        table.add_row(
            _Name(f"{name} ({', '.join(marks)})" if marks else name),
            str(len(groups)),
            str(groups[0].width),
            _range(len(group.written_by) for group in groups),
            _range(len(group.read_by) for group in groups),
            share(sum(group.flops_share for group in groups)),
            share(sum(group.params_share for group in groups)),
            style="dim" if frozen else "",
        )
    if rest:
        flops, params = sum(group.flops_share for group in rest), sum(group.params_share for group in rest)
        table.add_row("other groups", str(len(rest)), "", "", "", share(flops), share(params))
    left = record.rest
    if max(left.flops_share, left.params_share) >= 0.0005:
        name = "what no group has a part in"
        table.add_row(name, "", "", "", "", share(left.flops_share), share(left.params_share))
    elastic = any(groups[0].elastic for _, groups in shown)
    return Group(table, Text(_GROUPS_CAPTION + (_ELASTIC if elastic else ""), style="dim"))


_GROUPS_CAPTION = (
    "n groups alike, each of that width (--groups shows each). Writers and readers: the layers that put out and take "
    "in its channels. Shares are those of all n, and add up to 100 %: an operator's cost is split evenly between those "
    "it reads and writes."
)

_ELASTIC = " Elastic: its channels can be counted, but not told apart."


def _layers(record: Inspection, every: bool) -> RenderableType:
    def like(layer: LayerRecord) -> Hashable:
        return layer.kind, layer.flops, layer.params

    lines = _lines(record.layers, lambda layer: layer.name, like, every)
    shown, rest = (lines, []) if every else _largest(lines, LAYERS, LEAST)
    table = _table("layer", ["kind", "n", "FLOPs", "share", "params", "share"])
    for name, layers in shown:
        table.add_row(_Name(name or "(its own forward)"), layers[0].kind, *_costs(layers))
    if rest:
        table.add_row("other layers", "", *_costs(rest))
    if every or len(shown) == len(record.layers):
        return table
    most = "Those that cost most, n" if rest else "n"
    return Group(table, Text(f"{most} layers alike in one line; --layers shows each.", style="dim"))


def _costs(layers: Sequence[LayerRecord]) -> list[str]:
    return [
        str(len(layers)),
        count(sum(layer.flops for layer in layers)),
        share(sum(layer.flops_share for layer in layers)),
        count(sum(layer.params for layer in layers)),
        share(sum(layer.params_share for layer in layers)),
    ]


def _fixed(record: Inspection) -> RenderableType:
    """What cannot change and what is not counted, each with its reason."""
    sizes: dict[str, dict[str, list[int]]] = {}
    for fixed in record.fixed:
        owner = fixed.parameter.rpartition(".")[0] or fixed.parameter
        of_owner = sizes.setdefault(fixed.reason, {}).setdefault(owner, [])
        if fixed.size not in of_owner:
            of_owner.append(fixed.size)
    fixed_groups = {group.name: group.frozen for group in record.groups if group.frozen is not None}
    parts = [
        ("cannot change, by reason", [(reason, _sized(owners)) for reason, owners in sizes.items()]),
        ("frozen groups", [(reason, listed(names)) for reason, names in _by_reason(fixed_groups).items()]),
        ("blocks that have to stay", [(r, listed(names)) for r, names in _by_reason(record.unremovable).items()]),
    ]
    drawn: list[RenderableType] = []
    for title, lines in parts:
        if lines:
            drawn.append(Text(title, style="bold"))
            grid = _grid([(_readable(reason, record), _cut(names)) for reason, names in lines], style="")
            drawn.append(Padding(grid, (0, 0, 0, 2)))
    if record.uncounted:
        times = ", ".join(f"{name.removeprefix('aten::')} ({num})" for name, num in record.uncounted.items())
        drawn.append(_grid([("not counted by fvcore", times)]))
    return Group(*drawn)


def _sized(owners: Mapping[str, Sequence[int]]) -> str:
    """Layers with their sizes that cannot change: conv1 (3)."""
    like = [tuple(sizes) for sizes in owners.values()]
    folded = fold(list(owners), like)
    return ", ".join(f"{name} ({', '.join(map(str, like[members[0]]))})" for name, members in folded)


def _by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return names


def _lines(records: Sequence[R], name: Callable[[R], str], like: Callable[[R], Hashable], every: bool) -> list[Line[R]]:
    if every:
        return [(name(each), [each]) for each in records]
    folded = fold([name(each) for each in records], [like(each) for each in records])
    return [(text, [records[index] for index in members]) for text, members in folded]


def _largest(lines: list[Line[R]], most: int, least: float = 0.0) -> tuple[list[Line[R]], list[R]]:
    """The largest lines, of at least that share, in their order, and what the others stand for: never a single line."""
    sizes = [max(sum(r.flops_share for r in records), sum(r.params_share for r in records)) for _, records in lines]
    order = sorted(range(len(lines)), key=lambda index: -sizes[index])
    kept = {index for index in order[:most] if sizes[index] >= least}
    if len(lines) - len(kept) <= 1:
        return lines, []
    rest = [each for index, (_, records) in enumerate(lines) if index not in kept for each in records]
    return [line for index, line in enumerate(lines) if index in kept], rest


def _table(first: str, others: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="left" if name == "kind" else "right", no_wrap=True)
    return table


def _grid(lines: Iterable[tuple[str, str]], style: str = "bold") -> Table:
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(style=style, overflow="fold")
    rows.add_column(overflow="fold")
    for name, text in lines:
        rows.add_row(Text(name), Text(text))  # as Text: brackets are not markup
    return rows


def _range(numbers: Iterable[int]) -> str:
    found = sorted(set(numbers))
    return str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}"


def _small(value: float) -> str:
    """A share, with more digits where it is very small: 0.41 %."""
    return share(value) if value >= 0.0995 else f"{100 * value:.2g} %"


def _cut(text: str) -> str:
    return text if len(text) <= LISTED else f"{text[: text.rindex(', ', 0, LISTED)]}, ..."


def _readable(reason: str, record: Inspection) -> str:
    """A reason whose files are named by their last two parts, and which does not say again what network this is."""
    reason = reason.removeprefix(f"network {record.network} at input {', '.join(record.inputs)}: ")
    return re.sub(r"\([^()]*?([^/\\()]+[/\\][^/\\()]+:\d+)\)", r"(\1)", reason)


class _Name:
    """A dotted name, broken at its dots where it must be."""

    def __init__(self, name: str) -> None:
        self.pieces = re.findall(r"\.?[^.]+", name)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(max(map(len, self.pieces)), sum(map(len, self.pieces)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [""]
        for piece in self.pieces:
            if lines[-1] and len(lines[-1] + piece) > options.max_width:
                lines.append("")
            lines[-1] += piece
        yield Text("\n".join(lines), overflow="fold")
