"""Latency of any widths, from a table measured once: what each layer takes as its widths change.

A few networks of different widths run in turn, layer by layer under a clock, and as a whole without it. A layer's time
is fitted as constant + per output channel + per input channel + per pair of both, none of them negative, so that more
channels never seem to be faster; the whole's as a share of the layers' sum, a constant, and a price of what the
convolutions put out, which pays for what is between the layers. So latency is one more polynomial of the widths, in
picoseconds, and holds for the device, the threads and the batch of one that it was measured with. Of the rounds the
lower quartile counts: what else a machine does makes some of them longer, and none shorter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import nnls
from torch import nn

from pruneas.cost.latency import WARM_UP, Latency, measure, pass_of
from pruneas.cost.model import CostModel, Polynomial, Term, Widths, constant_form, polynomial
from pruneas.cost.widths import LegalWidths
from pruneas.structure.build import build_widths
from pruneas.structure.groups import LinearForm, Structure

MEASURED, HELD_OUT = 16, 10
"""Networks that a table is made from, the base and the narrowest among them; and further ones that it is held to."""
SECONDS = 0.5
"""Of passes of each network."""
PICOSECONDS = 10**9
"""In a millisecond, the unit of measurements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyTable:
    """What a pass over one input takes, in milliseconds, by layer.

    `layers`: of each module with a weight, a constant, the price of an output channel, of an input channel and of a
    pair; `rest`: a constant, and the price of an element that a convolution puts out. `error`: the largest of
    the relative errors on networks that were measured, in turn with the others, and not fitted.
    """

    device: str
    threads: int
    layers: Mapping[str, tuple[float, float, float, float]]
    rest: tuple[float, float]
    error: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LatencyTable:
        layers = {name: tuple(map(float, prices)) for name, prices in data["layers"].items()}
        return cls(**{**data, "layers": layers, "rest": tuple(data["rest"])})

    def price(self, structure: Structure, removed: Collection[str] = ()) -> Polynomial:
        """Picoseconds as a function of the widths, without the branches of these blocks."""
        gone = structure.parameters_of(removed)
        constant = self.rest[0]
        terms: list[tuple[float, LinearForm, LinearForm | None]] = []
        for name, (fixed, of_outputs, of_inputs, of_pairs) in self.layers.items():
            if f"{name}.weight" not in gone:
                outputs, inputs = _sizes(structure, name)
                constant += fixed
                terms.append((of_outputs, outputs, None))
                terms += [] if inputs is None else [(of_inputs, inputs, None), (of_pairs, outputs, inputs)]
        terms += [(self.rest[1] * factor, form, None) for factor, form in _put_out(structure, removed)]
        terms.append((constant, constant_form(1, structure), None))
        rounded: list[Term] = [(round(price * PICOSECONDS), a, b) for price, a, b in terms]
        return polynomial(rounded, structure)


def time_layers(structure: Structure, model: CostModel, legal: LegalWidths, *, device: str, seed: int) -> LatencyTable:
    """Measure the latency table of a structure on this machine's device: seconds to a minute."""
    candidates = _candidates(model, legal, MEASURED + HELD_OUT, seed)
    networks = [build_widths(structure, model.mapping(widths), seed=0) for widths in candidates]
    wholes = measured(structure, networks, device=device)
    by_layer = _by_layer(structure, networks[:MEASURED], device)
    features = {name: np.array([_features(structure, name, widths) for widths in candidates]) for name in by_layer[0]}
    layers = {
        name: _nonnegative(table[:MEASURED], np.array([each[name] for each in by_layer]))
        for name, table in features.items()
    }
    sums = sum(features[name] @ prices for name, prices in layers.items())
    whole = np.column_stack([sums, np.ones(len(candidates)), [_elements(structure, widths) for widths in candidates]])
    times = np.array([each.low for each in wholes])
    part, constant, between = _nonnegative(whole[:MEASURED], times[:MEASURED])
    errors = np.abs(whole @ [part, constant, between] / times - 1)[MEASURED:]
    return LatencyTable(
        device=device,
        threads=torch.get_num_threads(),
        layers={name: (part * a, part * b, part * c, part * d) for name, (a, b, c, d) in layers.items()},
        rest=(constant, between),
        error=float(errors.max()),
    )


def measured(structure: Structure, networks: Sequence[nn.Module], *, device: str) -> list[Latency]:
    """Latency of networks over one input, in turn."""
    passes = {
        str(index): pass_of(network, structure.inputs, batch=1, device=device) for index, network in enumerate(networks)
    }
    return list(measure(passes, seconds=SECONDS).values())


def _candidates(model: CostModel, legal: LegalWidths, number: int, seed: int) -> list[Widths]:
    """The base's widths, the narrowest, and widths between them: a common scale, and each group's own beside it."""
    generator = np.random.default_rng(seed)
    found = [model.base_widths, legal.lowest]
    while len(found) < number:
        scales = generator.uniform(0.1, 1) * np.exp(generator.uniform(-0.5, 0.5, len(model.groups)))
        found.append(legal.floor(np.clip(scales * model.base_widths, legal.lowest, legal.highest)))
    return found


def _by_layer(structure: Structure, networks: Sequence[nn.Module], device: str) -> list[dict[str, float]]:
    """Milliseconds that each module with a weight takes in a pass, the lower quartile of rounds, by network."""
    clocked = [_Clocked(network, device) for network in networks]
    passes = {}
    for index, (each, network) in enumerate(zip(clocked, networks, strict=True)):
        passes[str(index)] = partial(each.run, pass_of(network, structure.inputs, batch=1, device=device))
    measure(passes, seconds=SECONDS)
    return [each.quartiles() for each in clocked]


class _Clocked:
    """Times the modules of a network that have a weight, wherever they run in it."""

    def __init__(self, network: nn.Module, device: str) -> None:
        self._rounds: list[dict[str, float]] = []
        self._began: dict[str, float] = {}
        self._device = device
        self._modules = {
            n: m for n, m in network.named_modules() if isinstance(getattr(m, "weight", None), nn.Parameter)
        }

    def run(self, whole: Callable[[], object]) -> None:
        self._rounds.append(dict.fromkeys(self._modules, 0.0))
        hooks = []
        for name, module in self._modules.items():
            hooks.append(module.register_forward_pre_hook(partial(self._begin, name)))
            hooks.append(module.register_forward_hook(partial(self._end, name)))
        try:
            whole()
        finally:
            for hook in hooks:
                hook.remove()

    def quartiles(self) -> dict[str, float]:
        rounds = self._rounds[WARM_UP:]
        return {name: float(np.quantile([each[name] for each in rounds], 0.25)) for name in self._modules}

    def _now(self) -> float:
        if self._device.startswith("cuda"):
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def _begin(self, name: str, *_: object) -> None:
        self._began[name] = self._now()

    def _end(self, name: str, *_: object) -> None:
        self._rounds[-1][name] += 1000 * (self._now() - self._began[name])


def _sizes(structure: Structure, layer: str) -> tuple[LinearForm, LinearForm | None]:
    """Output and input channels of a layer's weight; a normalisation's are one and the same."""
    name = f"{layer}.weight" if layer else "weight"
    name = structure.aliases.get(name, name)
    inputs = structure.form((name, 1)) if len(structure.shapes[name]) > 1 else None
    return structure.form((name, 0)), inputs


def _put_out(structure: Structure, removed: Collection[str]) -> Iterator[tuple[int, LinearForm]]:
    """Places and channels of what each convolution puts out."""
    for operation in structure.operations:
        if operation.kind == "conv" and operation.blocks.isdisjoint(removed):
            yield prod(operation.map_size), operation.a


def _features(structure: Structure, layer: str, widths: Widths) -> list[float]:
    outputs, inputs = _sizes(structure, layer)
    written, read = outputs.at(widths), 0 if inputs is None else inputs.at(widths)
    return [1.0, written, read, written * read]


def _elements(structure: Structure, widths: Widths) -> int:
    return sum(places * form.at(widths) for places, form in _put_out(structure, ()))


def _nonnegative(table: npt.NDArray[np.float64], times: npt.NDArray[np.float64]) -> list[float]:
    """The prices, none below zero, that come closest to the times, by relative errors. Shape of `table`: (times,
    prices)."""
    weighted = table / times[:, None]
    scales = np.maximum(np.abs(weighted).max(axis=0), 1e-300)
    found, _ = nnls(weighted / scales, np.ones(len(times)))
    prices: list[float] = (found / scales).tolist()
    return prices
