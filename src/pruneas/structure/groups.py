"""From a trace to width groups: which channels have to change together, and what every size is made of."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import gcd
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from pruneas.architecture import Inputs, Reference
from pruneas.errors import StructureError
from pruneas.structure.blocks import Block, Blocks
from pruneas.structure.dye import KERNEL, Trace
from pruneas.structure.held import Derivation
from pruneas.structure.planes import Ids

Role = Literal["out", "in", "along"]
Dimension = tuple[str, int]
"""A parameter's or buffer's name and one of its dimensions."""
Membership = tuple[tuple[Dimension, int], ...]
"""Dimensions that a channel is part of, each with how many of its indices the channel takes."""
SINGLE = "a size of one"
UNUSED = "no operator uses it in evaluation mode"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A parameter dimension that a group is part of; each channel of the group takes `multiplicity` of its indices.

    `role`: 'out' where the parameter produces the channels, 'in' where it reads them, 'along' where it goes with them
    (normalisation, bias, depthwise filters).
    """

    parameter: str
    dim: int
    role: Role
    multiplicity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Channels with the same membership: they differ in nothing but their position. `width` is the base network's.

    Where the network's own code moves channels so that all of a dimension belong together (a channel shuffle), they can
    be counted, but not told apart: the group is `elastic`. Its width is how many there are, in the smallest member;
    which of them are kept means nothing, and weights that are inherited do not keep the network's function.
    """

    name: str
    width: int
    members: tuple[Member, ...]
    elastic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the indices of a parameter dimension belong to: group (-1: fixed) and position within it. Shape (size,)."""

    groups: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearForm:
    """A size as a function of the widths: constant + sum of coefficients * width. Coefficients: (groups,)."""

    constant: int
    coefficients: npt.NDArray[np.int64]

    def at(self, widths: npt.NDArray[np.int64]) -> int:
        """The size at these widths (groups,)."""
        return self.constant + int(self.coefficients @ widths)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedOperation:
    """FLOPs of one operator: factor * a * b; `b` is None where there is no second dimension.

    `place` is the innermost module that runs it ('' for the network's own forward), `blocks` those whose removal drops
    it. `weight` is the parameter that a convolution reads, where it reads one as it is; `map_size` the height and
    width of what a convolution puts out (one number or three where it is of that kind).
    """

    kind: str
    factor: int
    a: LinearForm
    b: LinearForm | None
    place: str
    blocks: frozenset[str] = frozenset()
    weight: str | None = None
    map_size: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """Indices of a parameter dimension that cannot change, and why."""

    parameter: str
    dim: int
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class HeldSize:
    """A size that a module holds as an integer."""

    derivation: Derivation
    size: LinearForm


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """What tracing found about a network at an input shape.

    `frozen`: groups that tracing found, but whose change breaks the network, with the reason (see `confirm.py`).
    `held` are sizes that modules hold as integers. `blocks` can be taken out, `unremovable` cannot, with the reason.
    `aliases`: further names of shared tensors, each with the name that everything else here knows them by.
    `selections`: the indices of channel selections, each with the module whose output it selects from ('' where that is
    no module's).
    """

    network: Reference
    inputs: Inputs
    groups: tuple[Group, ...]
    layouts: Mapping[Dimension, Layout]
    shapes: Mapping[str, tuple[int, ...]]
    learned: frozenset[str]
    operations: tuple[CountedOperation, ...]
    fixed: tuple[Fixed, ...]
    frozen: Mapping[str, str]
    blocks: tuple[Block, ...]
    unremovable: Mapping[str, str]
    aliases: Mapping[str, str] = field(default_factory=dict)
    held: tuple[HeldSize, ...] = ()
    selections: Mapping[str, str] = field(default_factory=dict)

    @property
    def widths(self) -> dict[str, int]:
        """The base network's widths by group."""
        return {group.name: group.width for group in self.groups}

    @property
    def selecting(self) -> frozenset[str]:
        """The groups that channel selections put out: which of their channels there are is part of the network."""
        return frozenset(g.name for g in self.groups if any(m.parameter in self.selections for m in g.members))

    def parameters_of(self, removed: Collection[str]) -> frozenset[str]:
        """The parameters and buffers that go when these blocks are removed."""
        return frozenset[str]().union(*(block.parameters for block in self.blocks if block.name in removed))

    def without(self, removed: Collection[str]) -> frozenset[str]:
        """The groups that only the branches of these blocks hold."""
        gone = self.parameters_of(removed)
        return frozenset(group.name for group in self.groups if all(m.parameter in gone for m in group.members))

    def form(self, dimension: Dimension) -> LinearForm:
        """The size of a parameter dimension as a function of the widths."""
        return _form(self.layouts[dimension].groups, np.array([group.width for group in self.groups]))

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the groups, what they are made of, or any parameter's shape."""
        digest = hashlib.sha256(
            json.dumps([dict(self.shapes), [str(each) for each in self.inputs]], sort_keys=True).encode()
        )
        for group in self.groups:
            members = [(m.parameter, m.dim, m.role, m.multiplicity) for m in group.members]
            digest.update(json.dumps([group.name, group.width, members]).encode())
        for dimension in sorted(self.layouts):
            digest.update(self.layouts[dimension].groups.tobytes() + self.layouts[dimension].positions.tobytes())
        return digest.hexdigest()[:16]


def find_groups(
    trace: Trace,
    network: Reference,
    inputs: Inputs,
    shapes: Mapping[str, tuple[int, ...]],
    learned: frozenset[str],
    blocks: Blocks,
) -> Structure:
    """Join the dyes that met and gather channels of equal membership into groups.

    `shapes` are those of all parameters and buffers that have dyes, `learned` the names that are parameters.
    """
    dropped = blocks.dropped
    dyes = {d: slice(first, first + trace.sizes[d]) for d, first in trace.first.items()}
    channel, reasons = _channels(trace)
    of = {dimension: channel[mine] for dimension, mine in dyes.items()}
    _retire_unused(trace, channel, reasons)
    outs, ins = _roles(trace)
    _retire_unmade(channel, reasons, [dyes[dimension] for dimension in dyes if dimension[0] in learned], outs, ins)

    @cache
    def role(dimension: Dimension) -> Role:
        mine = dyes[dimension]
        return "out" if np.count_nonzero(outs[mine]) else "in" if np.count_nonzero(ins[mine]) else "along"

    groups: list[Group] = []
    group_of, position_of = np.full((2, int(channel.max()) + 1), -1, dtype=np.int64)
    taken: Counter[str] = Counter()
    for membership, channels in _memberships(of, channel, reasons):
        width = gcd(*(times for _, times in membership)) if len(channels) == 1 else 1
        members = tuple(
            Member(parameter=name, dim=dim, role=role((name, dim)), multiplicity=times // width)
            for (name, dim), times in membership
        )
        if not any(member.parameter in learned for member in members):
            continue
        producer = next((member for member in members if member.role == "out"), members[0]).parameter
        name = producer.rpartition(".")[0] or producer
        taken[name] += 1
        group_of[channels], position_of[channels] = len(groups), np.arange(len(channels))
        unique_name = name if taken[name] == 1 else f"{name}[{taken[name] - 1}]"
        groups.append(Group(name=unique_name, width=width * len(channels), members=members, elastic=width > 1))

    group_of_dye, position_of_dye = group_of[channel], position_of[channel]
    elastic = {index: group.width for index, group in enumerate(groups) if group.elastic}
    layouts = {d: _layout(group_of_dye[mine], position_of_dye[mine], elastic) for d, mine in dyes.items()}
    widths = np.array([group.width for group in groups], dtype=np.int64)
    operations = tuple(
        CountedOperation(
            kind=operation.kind,
            factor=operation.factor,
            a=_form(group_of_dye[operation.a], widths),
            b=None if operation.b is None else _form(group_of_dye[operation.b], widths),
            place=trace.record.place(operation.step),
            blocks=frozenset(name for name, steps in dropped.items() if operation.step in steps),
            weight=operation.weight,
            map_size=trace.record.steps[operation.step].shape[2:] if operation.kind == "conv" else (),
        )
        for operation in trace.record.operations
    )
    return Structure(
        network=network,
        inputs=inputs,
        groups=tuple(groups),
        layouts=layouts,
        shapes=shapes,
        learned=learned,
        operations=operations,
        fixed=tuple(_fixed({d: mine for d, mine in of.items() if d[0] in learned}, len(group_of), reasons)),
        frozen={},
        blocks=blocks.removable,
        unremovable=blocks.unremovable,
        held=tuple(_held(trace, group_of_dye, widths)),
    )


def _held(trace: Trace, group_of_dye: npt.NDArray[np.int64], widths: npt.NDArray[np.int64]) -> Iterator[HeldSize]:
    """What modules hold of the widths. A part of a group is no size of it: it stays what the code says."""
    for derivation, dyes in trace.held:
        counts = np.bincount(group_of_dye[dyes] + 1, minlength=len(widths) + 1)[1:]
        if counts.any() and not (counts % np.maximum(widths, 1)).any():
            yield HeldSize(derivation, _form(group_of_dye[dyes], widths))


def _layout(groups: npt.NDArray[np.int64], positions: npt.NDArray[np.int64], elastic: Mapping[int, int]) -> Layout:
    """The layout of a dimension; the channels of elastic groups (widths by index) are numbered here, in order, again
    and again."""
    for group, width in elastic.items():
        mine = np.flatnonzero(groups == group)
        positions[mine] = np.arange(len(mine)) % width
    return Layout(groups=groups, positions=positions)


def _retire_unused(trace: Trace, channel: Ids, reasons: dict[int, str]) -> None:
    """Channels that evaluation never runs (inside of auxiliary heads) are nothing to search."""
    used = np.zeros(len(channel), dtype=np.bool_)
    used[channel[: len(trace.evaluated)][trace.evaluated]] = True
    for alone in channel[~used[channel]]:
        reasons.setdefault(int(alone), UNUSED)


def _retire_unmade(
    channel: Ids,
    reasons: dict[int, str],
    learned: Sequence[slice],
    outs: npt.NDArray[np.bool_],
    ins: npt.NDArray[np.bool_],
) -> None:
    """What weights read, but nothing makes (a weight, a selection), is as wide as a buffer."""
    made = np.zeros(len(channel), dtype=np.bool_)
    made[channel[outs]] = True
    of_learned = np.zeros(len(channel), dtype=np.bool_)
    for mine in learned:
        of_learned[mine] = True
    made[channel[of_learned & ~ins]] = True
    for alone in channel[~made[channel]]:
        reasons.setdefault(int(alone), "no parameter makes it")


def _memberships(
    of: Mapping[Dimension, Ids], channel: Ids, reasons: Mapping[int, str]
) -> Iterator[tuple[Membership, Ids]]:
    """The channels that can change, by which dimensions they are part of: equal ones form a group.

    Groups come in the order of their first channels, each with its channels, ascending.
    """
    dimensions = list(of)
    index = np.repeat(np.arange(len(dimensions)), [len(mine) for mine in of.values()])
    channels = np.concatenate([np.zeros(0, dtype=np.int64), *of.values()])
    # A membership is known by two sums of random 64-bit numbers, one number for each dimension: comparing them in
    # place of the memberships themselves errs once in 2^128.
    tokens = np.random.default_rng(0).integers(0, 2**64, size=(2, len(dimensions)), dtype=np.uint64)
    sums = np.zeros((2, int(channel.max()) + 1), dtype=np.uint64)
    for each, token in zip(sums, tokens, strict=True):
        np.add.at(each, channels, token[index])
    is_free = np.asarray(sums.any(axis=0))
    is_free[list(reasons)] = False
    free = np.flatnonzero(is_free)
    order = free[np.lexsort(sums[:, free])]
    starts = 1 + np.flatnonzero((sums[:, order[1:]] != sums[:, order[:-1]]).any(axis=0))
    kinds = sorted((kind for kind in np.split(order, starts) if len(kind)), key=lambda kind: int(kind[0]))
    kind_of = np.full(len(is_free), -1)
    kind_of[[kind[0] for kind in kinds]] = np.arange(len(kinds))
    parts = [Counter[int]() for _ in kinds]
    chosen = kind_of[channels] >= 0
    for which, dimension in zip(kind_of[channels[chosen]].tolist(), index[chosen].tolist(), strict=True):
        parts[which][dimension] += 1
    for part, kind in zip(parts, kinds, strict=True):
        yield tuple((dimensions[k], times) for k, times in sorted(part.items())), kind


def _fixed(of: Mapping[Dimension, Ids], channels: int, reasons: Mapping[int, str]) -> Iterator[Fixed]:
    """What of parameter dimensions cannot change; kernels' sizes and single channels go without saying."""
    told = {channel: reason for channel, reason in reasons.items() if reason not in (KERNEL, SINGLE)}
    is_told = np.zeros(channels, dtype=np.bool_)
    is_told[list(told)] = True
    for (name, dim), mine in of.items():
        for reason, size in Counter(told[each] for each in mine[is_told[mine]].tolist()).items():
            yield Fixed(parameter=name, dim=dim, size=size, reason=reason)


def _channels(trace: Trace) -> tuple[Ids, dict[int, str]]:
    """The channel of every dye (count,), and the reasons of those that are fixed. Channels are numbered in the order in
    which their first dyes were given out."""
    left, right = trace.united()
    graph = sparse.coo_array((np.ones(len(left)), (left, right)), shape=(trace.count, trace.count))
    _, labels = sparse.csgraph.connected_components(graph, directed=False)
    first = np.zeros(labels.max() + 1, dtype=np.int64)
    first[labels[::-1]] = np.arange(trace.count)[::-1]  # the last one that is written stays
    rank = np.empty_like(first)
    rank[np.argsort(first)] = np.arange(len(first))
    channel = rank[labels]
    reasons: dict[int, str] = {int(channel[0]): SINGLE}
    for mark, reason in trace.frozen.items():
        reasons.setdefault(int(channel[mark]), reason)
    return channel, reasons


def _roles(trace: Trace) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which dyes are the output, and which the input, dimension of a weight that combines channels."""
    outs, ins = np.zeros(trace.count, dtype=np.bool_), np.zeros(trace.count, dtype=np.bool_)
    for a, b in trace.weights:
        outs[a] = True
        ins[b] = True
    outs[0] = ins[0] = False
    return outs, ins


def _form(groups: npt.NDArray[np.int64], widths: npt.NDArray[np.int64]) -> LinearForm:
    """The size of a dimension whose indices belong to these groups (-1: fixed), given the base widths (groups,)."""
    counts = np.bincount(groups + 1, minlength=len(widths) + 1)
    multiplicities, rest = np.divmod(counts[1:], np.maximum(widths, 1))
    if rest.any():
        raise StructureError("an operator takes only some channels of a group, which no parameter shows")
    return LinearForm(constant=int(counts[0]), coefficients=multiplicities)
