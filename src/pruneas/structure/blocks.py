"""Residual blocks: modules that add a branch to a shortcut, and what is left when the branch is taken out.

The record of a pass says which operator read which. A module is such a block where its output comes from a sum,
through nothing but activations and modules of its own one after another, and one side of that sum leads back to its
input in the same way. Taken out, the branch leaves the modules and activations on that way: a plain `nn.Sequential`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import nn

from pruneas.structure.dye import Call, Record

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "aten.relu": nn.ReLU,
    "aten.silu": nn.SiLU,
    "aten.hardswish": nn.Hardswish,
    "aten.tanh": nn.Tanh,
    "aten.sigmoid": nn.Sigmoid,
}
"""Activations that a block may apply by itself, and the modules that stand for them once its branch is taken out."""
WEIGHTED = ("conv", "linear")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A module whose branch can be taken out. `shortcut` is what is left, in order: names of its children, or of
    activations; `parameters` (and buffers) is what goes. `branch` is the module whose output the branch is, where one
    module of the network puts it out."""

    name: str
    shortcut: tuple[str, ...]
    branch: str | None
    parameters: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """`dropped` holds, for every removable block, the steps of the record that go with its branch."""

    removable: tuple[Block, ...]
    unremovable: Mapping[str, str]
    dropped: Mapping[str, frozenset[int]]


class _Refusal(Exception):
    """Why a block's branch cannot be taken out."""


def find_blocks(record: Record, names: Collection[str], shared: Collection[str]) -> Blocks:
    """`names` are those of all parameters and buffers, `shared` those of tensors that have several."""
    calls = Counter(call.module for call in record.calls)
    sums = {step.call for step in record.steps if step.operator == "add" and len(set(step.reads)) == 2}
    readers: dict[int, list[int]] = {}
    for index, step in enumerate(record.steps):
        for read in step.reads:
            readers.setdefault(read, []).append(index)
    removable: list[Block] = []
    unremovable: dict[str, str] = {}
    dropped: dict[str, frozenset[int]] = {}
    for position in sorted(sums - {0}):
        call = record.calls[position]
        try:
            if calls[call.module] > 1:
                raise _Refusal("it is called more than once")
            shortcut, side, steps = _taken_apart(record, position)
            read_by = {reader for step in steps - {*call.made} for reader in readers.get(step, [])}
            if not read_by <= {*range(call.first, call.last)}:
                raise _Refusal("its branch is read outside of it")
            stays = tuple(f"{call.module}.{link}." for link in shortcut)
            inside = {name for name in names if name.startswith(f"{call.module}.") and not name.startswith(stays)}
            if inside & set(shared):
                raise _Refusal("it shares parameters")
        except _Refusal as refusal:
            unremovable[call.module] = str(refusal)
        else:
            ends = [each.module for each in record.calls[position + 1 :] if each.made == (side,)]
            branch = next((name for name in ends if calls[name] == 1), None)
            removable.append(Block(name=call.module, shortcut=shortcut, branch=branch, parameters=frozenset(inside)))
            dropped[call.module] = steps
    return Blocks(removable=tuple(removable), unremovable=unremovable, dropped=dropped)


def shortcut_of(module: nn.Module, block: Block) -> nn.Module:
    """What is left of a block without its branch. Its children keep their names."""
    left = nn.Sequential()
    for link in block.shortcut:
        activation = ACTIVATIONS.get(link)
        name = link if activation is None else f"activation{len(left)}"
        left.add_module(name, module.get_submodule(link) if activation is None else activation())
    for part in left.modules():
        if getattr(part, "inplace", False):  # on the sum that was; what comes in now is others' to read, too
            part.inplace = False  # type: ignore[assignment]
    return left


@dataclass(frozen=True, slots=True)
class _Link:
    """A child's name or an activation's, and the steps it takes."""

    name: str
    steps: range


def _taken_apart(record: Record, position: int) -> tuple[tuple[str, ...], int, frozenset[int]]:
    """What is left of a call's module without its branch, the branch's last step, and those that go.

    Raises _Refusal.
    """
    call = record.calls[position]
    if len(call.reads) != 1 or len(call.made) != 1:
        raise _Refusal("it must take one tensor and give one")
    (source,), (result,) = call.reads, call.made
    after, total = _way(record, position, result, lambda step: record.steps[step].operator == "add")
    if total is None:
        raise _Refusal("its output is not a sum of a shortcut and a branch, activations aside")
    sides = sorted((_weights(record, call, side), side) for side in record.steps[total].reads)
    (fewer, shortcut), (more, branch) = sides[0], sides[-1]
    if fewer == more:
        raise _Refusal("the sides of its sum are alike: neither is the shortcut")
    before, reached = _way(record, position, shortcut, lambda step: step == source)
    if reached is None or record.steps[shortcut].shape != record.steps[total].shape:
        raise _Refusal("its shortcut is more than activations and modules of its own")
    links = (*before, *after)
    children = [link.name for link in links if link.name not in ACTIVATIONS]
    if len(set(children)) < len(children) or any("." in name for name in children):
        raise _Refusal("its shortcut is more than activations and modules of its own")
    kept = {step for link in links for step in link.steps}
    return tuple(link.name for link in links), branch, frozenset(range(call.first, call.last)) - kept


def _way(record: Record, position: int, start: int, found: Callable[[int], bool]) -> tuple[list[_Link], int | None]:
    """Back from a step through children and activations of a call, one after another, until `found`.

    Gives them in the order in which they run, and the step that was found, if one was.
    """
    prefix = f"{record.calls[position].module}."
    children = [call for call in record.calls if call.parent == position and call.module.startswith(prefix)]
    links: list[_Link] = []
    at = start
    while not found(at):
        step = record.steps[at]
        child = next((call for call in reversed(children) if call.made == (at,) and len(call.reads) == 1), None)
        if child is not None:
            children.remove(child)
            links.append(_Link(child.module.removeprefix(prefix), range(child.first, child.last)))
            at = child.reads[0]
        elif step.call == position and f"aten.{step.operator}" in ACTIVATIONS and len(step.reads) == 1:
            links.append(_Link(f"aten.{step.operator}", range(at, at + 1)))
            at = step.reads[0]
        else:
            return [], None
    return links[::-1], at


def _weights(record: Record, call: Call, side: int) -> int:
    """How many convolutions and matrix products of a call a step of it depends on."""
    weighted = {operation.step for operation in record.operations if operation.kind in WEIGHTED}
    pending, seen = [side], set[int]()
    while pending:
        step = pending.pop()
        if step >= call.first and step not in seen:
            seen.add(step)
            pending += record.steps[step].reads
    return len(seen & weighted)
