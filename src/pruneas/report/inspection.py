"""What can be done with a network, as plain values: its groups, what they cost, its layers, and what cannot change.

FLOPs are counted as fvcore does: a multiply-add is one, for one input.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from pruneas.cost.layers import layer_flops
from pruneas.cost.memory import peak_memory
from pruneas.cost.model import CostModel, Widths
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.networks import make, provider
from pruneas.structure.build import structure_of
from pruneas.structure.confirm import confirmed
from pruneas.structure.groups import Fixed, Group, LinearForm, Member, Structure
from pruneas.subject import Subject

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRecord:
    """A width group. It may take widths from `lowest` to `highest`; `frozen` is why it cannot change, where it cannot.
    Channels of an `elastic` one cannot be told apart, only counted.

    `written_by` and `read_by` name the layers whose weights produce its channels and those that take them in,
    `along` those that only go with them (normalisation, depthwise convolution).

    Shares are of the whole network's. FLOPs of an operator are split evenly between the sizes of it that groups make
    up (what it reads, what it writes), and a size of several groups (a concatenation) by their channels; params of a
    weight likewise. So the shares of all groups, and of what no group has a part in (`Inspection.rest`), sum to 1.
    Narrowing one group by a tenth saves between one and two tenths of its share: an operator that two groups make up
    loses a tenth of all its FLOPs, half of which are the other group's.
    """

    name: str
    width: int
    lowest: int
    highest: int
    frozen: str | None
    elastic: bool
    written_by: tuple[str, ...]
    read_by: tuple[str, ...]
    along: tuple[str, ...]
    flops_share: float
    params_share: float
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """A module that ran counted operators or has parameters of its own; `name` is '' for the network's own forward.

    `flops` are those of what it ran itself, in all its calls; `params` its own, shared ones at their first owner.
    """

    name: str
    kind: str
    flops: int
    flops_share: float
    params: int
    params_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRecord:
    """A residual block whose branch can be taken out, and what that saves at full width."""

    name: str
    flops: int
    flops_share: float
    params: int
    params_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRecord:
    """What a network costs, and as shares of the base network."""

    flops: int
    flops_share: float
    params: int
    params_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SharesRecord:
    """Shares of the base network's cost."""

    flops_share: float
    params_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Everything that pruneas knows about a network before anything is trained.

    `memory` is peak activation memory in bytes (`cost/memory.py`).
    `channels` are the outputs of all convolutions and matrix products, `changeable` those of them that belong to a
    group which can change. `narrowest` is the network with every group at its lowest legal width, `shallowest` the
    same with every removable block taken out too. `rest` is what no group has a part in.
    `fixed` are sizes that cannot change, `unremovable` residual blocks that have to stay, both with the reason.
    `uncounted` are the operators fvcore has no formula for, with how often they ran. `seconds` is the time it took to
    trace the network and to build it at other widths.
    """

    schema: int = SCHEMA
    network: str
    provider: str
    inputs: tuple[str, ...]
    structure: str
    seconds: float
    flops: int
    params: int
    memory: int
    channels: int
    changeable: int
    narrowest: CostRecord
    shallowest: CostRecord
    rest: SharesRecord
    groups: tuple[GroupRecord, ...]
    layers: tuple[LayerRecord, ...]
    blocks: tuple[BlockRecord, ...]
    unremovable: Mapping[str, str]
    fixed: tuple[Fixed, ...]
    uncounted: Mapping[str, int]

    @classmethod
    def of(
        cls,
        structure: Structure,
        model: CostModel,
        network: nn.Module,
        *,
        seconds: float,
        rules: WidthRules | None = None,
    ) -> Inspection:
        """Gather what a confirmed structure and its cost model say. `network` is the base network, `rules` by default
        those of a search space that has none."""
        legal = LegalWidths.of(structure, rules or WidthRules())
        flops = _hanging(structure, ((o.factor, [o.a] if o.b is None else [o.a, o.b]) for o in structure.operations))
        params = _hanging(structure, ((1, _forms(structure, name)) for name in sorted(structure.learned)))
        channels, changeable = _channels(structure, network)
        every_block = [block.name for block in structure.blocks]
        return cls(
            network=str(structure.network),
            provider=provider(structure.network),
            inputs=tuple(map(str, structure.inputs)),
            structure=structure.fingerprint,
            seconds=seconds,
            flops=model.base.flops,
            params=model.base.params,
            memory=peak_memory(network, structure.inputs),
            channels=channels,
            changeable=changeable,
            narrowest=_cost(model, model, legal.lowest),
            shallowest=_cost(model, model.without(structure, every_block), legal.lowest),
            rest=SharesRecord(flops_share=float(flops[-1]), params_share=float(params[-1])),
            groups=tuple(
                GroupRecord(
                    name=group.name,
                    width=group.width,
                    lowest=int(legal.lowest[index]),
                    highest=int(legal.highest[index]),
                    frozen=structure.frozen.get(group.name),
                    elastic=group.elastic,
                    written_by=(written := _layers_of(group, "out")),
                    read_by=(read := _layers_of(group, "in")),
                    along=tuple(name for name in _layers_of(group, "along") if name not in (*written, *read)),
                    flops_share=float(flops[index]),
                    params_share=float(params[index]),
                    members=group.members,
                )
                for index, group in enumerate(structure.groups)
            ),
            layers=_layers(structure, model, network),
            blocks=tuple(_blocks(structure, model)),
            unremovable=dict(structure.unremovable),
            fixed=structure.fixed,
            uncounted=dict(model.base.uncounted),
        )

    def to_json(self) -> str:
        """Every field, nested as here, under its own name; within a schema's number none is renamed or dropped."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False, allow_nan=False)


def inspect(subject: Subject) -> Inspection:
    """Make the network, trace it, and try it at other widths.

    Raises NetworkError where it cannot be made, StructureError where it cannot be traced at these inputs, made narrower
    or priced.
    """
    network = make(subject.network, trusted=subject.trusted)
    began = time.perf_counter()
    structure = confirmed(structure_of(network, subject.network, subject.inputs))
    seconds = time.perf_counter() - began
    model = CostModel.of(structure, network)
    return Inspection.of(structure, model, network, seconds=seconds, rules=WidthRules(**subject.widths))


def _hanging(structure: Structure, terms: Iterable[tuple[int, Sequence[LinearForm]]]) -> npt.NDArray[np.float64]:
    """How much of a sum of products of sizes hangs on each group, as shares. Shape (groups + 1,), the rest last."""
    widths = np.array(list(structure.widths.values()), dtype=np.int64)
    hanging = np.zeros(len(widths) + 1)
    for factor, forms in terms:
        sizes = [form.at(widths) for form in forms]
        product = factor * float(np.prod(sizes))
        changing = [(form, size) for form, size in zip(forms, sizes, strict=True) if form.coefficients.any()]
        for form, size in changing:
            hanging += product / len(changing) / size * np.append(form.coefficients * widths, form.constant)
        if not changing:
            hanging[-1] += product
    total = hanging.sum()
    return hanging / total if total else hanging


def _forms(structure: Structure, name: str) -> list[LinearForm]:
    return [structure.form((name, dim)) for dim in range(len(structure.shapes.get(name, ())))]


def _layers_of(group: Group, role: str) -> tuple[str, ...]:
    """The layers with a parameter in this role, in the group's order; a parameter of no layer stands for itself."""
    names = [_owner(member.parameter) or member.parameter for member in group.members if member.role == role]
    return tuple(dict.fromkeys(names))


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _channels(structure: Structure, network: nn.Module) -> tuple[int, int]:
    """How many channels convolutions and matrix products write, and how many of those can change."""
    roles = {(m.parameter, m.dim): m.role for group in structure.groups for m in group.members}
    changes = np.array([group.name not in structure.frozen for group in structure.groups] + [False])
    modules = dict(network.named_modules())
    total = changeable = 0
    for name in structure.learned:
        module = modules[_owner(name)]
        mine = [roles.get((name, dim)) for dim in range(len(structure.shapes.get(name, ())))]
        is_layer = isinstance(module, nn.Linear | nn.modules.conv._ConvNd) and name.endswith("weight")
        if "out" in mine:
            dim = mine.index("out")
        elif "in" in mine:
            dim = 1 - mine.index("in")
        elif is_layer:
            dim = int(isinstance(module, nn.modules.conv._ConvTransposeNd))
        else:
            continue
        groups = structure.layouts[name, dim].groups  # -1, the last of `changes`, where fixed
        total += len(groups)
        changeable += int(changes[groups].sum())
    return total, changeable


def _cost(base: CostModel, model: CostModel, widths: Widths) -> CostRecord:
    return _shares(base, int(model.flops(widths)), int(model.params(widths)))


def _shares(base: CostModel, flops: int, params: int) -> CostRecord:
    return CostRecord(
        flops=flops,
        flops_share=flops / max(1, base.base.flops),
        params=params,
        params_share=params / max(1, base.base.params),
    )


def _layers(structure: Structure, model: CostModel, network: nn.Module) -> tuple[LayerRecord, ...]:
    flops = Counter(layer_flops(structure, model.base_widths))
    params: Counter[str] = Counter()
    for name, parameter in network.named_parameters():
        params[_owner(name)] += parameter.numel()
    return tuple(
        LayerRecord(
            name=name,
            kind=type(module).__name__,
            **dataclasses.asdict(_shares(model, flops[name], params[name])),
        )
        for name, module in network.named_modules()
        if flops[name] or params[name]
    )


def _blocks(structure: Structure, model: CostModel) -> Iterable[BlockRecord]:
    for block in structure.blocks:
        left = _cost(model, model.without(structure, [block.name]), model.base_widths)
        saved = _shares(model, model.base.flops - left.flops, model.base.params - left.params)
        yield BlockRecord(name=block.name, **dataclasses.asdict(saved))
