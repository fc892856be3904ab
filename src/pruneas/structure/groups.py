"""From a trace to width groups: which channels have to change together, and what every size is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from pruneas.architecture import Reference
from pruneas.errors import StructureError
from pruneas.structure.dye import Ids, Trace

Role = Literal["out", "in", "along"]
Dimension = tuple[str, int]
"""A parameter's or buffer's name and one of its dimensions."""


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
    """Channels with the same membership: they differ in nothing but their position. `width` is the base network's."""

    name: str
    width: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the indices of one parameter dimension belong to: group (-1: fixed) and position within it. Shape (size,)."""

    groups: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearForm:
    """A size as a function of the widths: constant + sum of coefficients * width. Coefficients: (groups,)."""

    constant: int
    coefficients: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedOperation:
    """FLOPs of one operator: factor * a * b; `b` is None where there is no second dimension."""

    kind: str
    factor: int
    a: LinearForm
    b: LinearForm | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """Indices of a parameter dimension that cannot change, and why."""

    parameter: str
    dim: int
    size: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """What tracing found about a network at an input shape.

    `frozen`: groups that tracing found, but whose change breaks the network, with the reason (see `confirm.py`).
    """

    network: Reference
    input_shape: tuple[int, ...]
    groups: tuple[Group, ...]
    layouts: Mapping[Dimension, Layout]
    shapes: Mapping[str, tuple[int, ...]]
    learned: frozenset[str]
    operations: tuple[CountedOperation, ...]
    fixed: tuple[Fixed, ...]
    frozen: Mapping[str, str]

    @property
    def widths(self) -> dict[str, int]:
        """The base network's widths by group."""
        return {group.name: group.width for group in self.groups}

    def form(self, dimension: Dimension) -> LinearForm:
        """The size of a parameter dimension as a function of the widths."""
        return _form(self.layouts[dimension].groups, np.array([group.width for group in self.groups]))

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the groups, what they are made of, or any parameter's shape."""
        digest = hashlib.sha256(json.dumps([dict(self.shapes), self.input_shape], sort_keys=True).encode())
        for group in self.groups:
            members = [(m.parameter, m.dim, m.role, m.multiplicity) for m in group.members]
            digest.update(json.dumps([group.name, group.width, members]).encode())
        for dimension in sorted(self.layouts):
            digest.update(self.layouts[dimension].groups.tobytes() + self.layouts[dimension].positions.tobytes())
        return digest.hexdigest()[:16]


def find_groups(
    trace: Trace,
    network: Reference,
    input_shape: tuple[int, ...],
    shapes: Mapping[str, tuple[int, ...]],
    learned: frozenset[str],
) -> Structure:
    """Join the dyes that met and gather channels of equal membership into groups.

    `shapes` are those of all parameters and floating-point buffers, `learned` the names that are parameters.
    """
    channel, reasons = _channels(trace)
    dimensions = list(trace.first)
    ids = {d: np.arange(trace.first[d], trace.first[d] + trace.sizes[d]) for d in dimensions}
    outs, ins = _roles(trace)
    met = np.zeros(trace.count, dtype=np.bool_)
    for a, b in [*trace.edges, *trace.weights]:
        met[a] = met[b] = True

    # How many indices of each dimension each channel takes; channels with equal rows form a group.
    pairs = np.concatenate(
        [np.stack([channel[ids[d]], np.full(len(ids[d]), index)], axis=1) for index, d in enumerate(dimensions)]
    )
    unique, counts = np.unique(pairs, axis=0, return_counts=True)
    starts = np.flatnonzero(np.r_[True, unique[1:, 0] != unique[:-1, 0]])
    ends = np.r_[starts[1:], len(unique)]
    by_membership: dict[bytes, list[int]] = {}
    rows: dict[bytes, list[tuple[int, int]]] = {}
    for dimension in dimensions:  # what evaluation never runs (auxiliary heads) is nothing to search
        for alone in channel[ids[dimension]][~met[ids[dimension]]]:
            reasons.setdefault(int(alone), "no operator uses it in evaluation mode")
    for start, end in zip(starts, ends, strict=True):
        name = int(unique[start, 0])
        if name in reasons:
            continue
        row = np.stack([unique[start:end, 1], counts[start:end]], axis=1)
        key = row.tobytes()
        by_membership.setdefault(key, []).append(name)
        rows[key] = [(int(a), int(b)) for a, b in row]

    first_seen: dict[int, int] = {}
    for dye in range(len(channel) - 1, 0, -1):
        first_seen[int(channel[dye])] = dye

    def role(dimension: Dimension) -> Role:
        mine = ids[dimension]
        return "out" if outs[mine].any() else "in" if ins[mine].any() else "along"

    roles = {dimension: role(dimension) for dimension in dimensions}
    found = sorted(by_membership, key=lambda key: min(first_seen[c] for c in by_membership[key]))
    groups: list[Group] = []
    of_channel: dict[int, tuple[int, int]] = {}
    taken: dict[str, int] = {}
    for key in found:
        members = tuple(
            Member(
                parameter=dimensions[index][0],
                dim=dimensions[index][1],
                role=roles[dimensions[index]],
                multiplicity=multiplicity,
            )
            for index, multiplicity in rows[key]
        )
        if not any(member.parameter in learned for member in members):
            continue
        producers = [m for m in members if m.role == "out"] or list(members)
        name = producers[0].parameter.rpartition(".")[0] or producers[0].parameter
        taken[name] = taken.get(name, 0) + 1
        if taken[name] > 1:
            name = f"{name}[{taken[name] - 1}]"
        channels = sorted(by_membership[key], key=lambda c: first_seen[c])
        of_channel |= {c: (len(groups), position) for position, c in enumerate(channels)}
        groups.append(Group(name=name, width=len(channels), members=members))

    layouts = {}
    for dimension in dimensions:
        table = np.array([of_channel.get(int(c), (-1, -1)) for c in channel[ids[dimension]]], dtype=np.int64)
        table = table.reshape(-1, 2)
        layouts[dimension] = Layout(groups=table[:, 0].copy(), positions=table[:, 1].copy())
    group_of_dye = np.array([of_channel.get(int(c), (-1, -1))[0] for c in channel], dtype=np.int64)
    widths = np.array([group.width for group in groups], dtype=np.int64)
    operations = tuple(
        CountedOperation(
            kind=operation.kind,
            factor=operation.factor,
            a=_form(group_of_dye[operation.a], widths),
            b=None if operation.b is None else _form(group_of_dye[operation.b], widths),
        )
        for operation in trace.operations
    )
    fixed = []
    for name, dim in dimensions:
        mine = channel[ids[name, dim]]
        for reason in dict.fromkeys(reasons[int(c)] for c in mine if int(c) in reasons):
            size = sum(reasons.get(int(c)) == reason for c in mine)
            if name in learned and reason not in ("the kernel's size", "no dye"):
                fixed.append(Fixed(parameter=name, dim=dim, size=size, reason=reason))
    return Structure(
        network=network,
        input_shape=input_shape,
        groups=tuple(groups),
        layouts=layouts,
        shapes=shapes,
        learned=learned,
        operations=operations,
        fixed=tuple(fixed),
        frozen={},
    )


def _channels(trace: Trace) -> tuple[Ids, dict[int, str]]:
    """The channel of every dye (count,), and the reasons of those that are fixed."""
    left = np.concatenate([a for a, _ in trace.edges] or [np.zeros(0, dtype=np.int64)])
    right = np.concatenate([b for _, b in trace.edges] or [np.zeros(0, dtype=np.int64)])
    graph = sparse.coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(trace.count, trace.count))
    _, labels = sparse.csgraph.connected_components(graph, directed=False)
    channel = labels.astype(np.int64)
    reasons: dict[int, str] = {int(channel[0]): "no dye"}
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
