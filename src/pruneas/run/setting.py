"""What is known before anything is trained: the network and its structure, the budget, the images, the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from pruneas.architecture import Budget, Input, Reference, amount_text
from pruneas.config import Space
from pruneas.cost.latency_table import HELD_OUT, LatencyTable, time_layers
from pruneas.cost.limits import Limits
from pruneas.cost.memory import price_memory
from pruneas.cost.model import CostModel
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.errors import DataError, RunError, SpaceError
from pruneas.generators import Method, find_methods
from pruneas.networks import make
from pruneas.networks.weights import fit_to, read_weights
from pruneas.progress import Observer
from pruneas.run.folder import read_json
from pruneas.run.machine import hardware, num_workers, resolve_device, versions
from pruneas.search.propose import Target
from pruneas.search.train import outputs_of
from pruneas.structure.build import structure_of
from pruneas.structure.confirm import confirmed
from pruneas.structure.groups import Structure
from pruneas.training import DataSet, DataSource, Recipe
from pruneas.trust import consent


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One run's givens. `given` is the base network with the user's trained weights, where there are some."""

    space: Space
    folder: Path
    methods: Sequence[Method]
    device: str
    workers: int
    source: DataSource
    data: DataSet
    structure: Structure
    model: CostModel
    legal: LegalWidths
    budget: Budget
    limits: Limits
    recipe: Recipe
    trial_recipe: Recipe
    given: nn.Module | None
    notes: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """What results depend on beside the space's own settings, and what they were made with."""
        threads, given = self.space.compute.threads, self.space.network.weights
        return {
            "seed": self.space.compute.seed,
            "device": self.device,
            "workers": self.workers,
            "threads": threads,
            "hardware": hardware(self.device, self.workers, threads),
            "versions": versions(),
            "data": self.data.fingerprint,
            "structure": self.structure.fingerprint,
            "trust": consent(self.structure.network.name, self.folder),
            "weights": None if given is None else hashlib.sha256(Path(given).expanduser().read_bytes()).hexdigest(),
            "limits": self.limits.to_json(),
            "latency_table": None if self.model.table is None else self.model.table.to_json(),
        }

    def target(self, budget: Budget) -> Target:
        """What an architecture may cost within a budget. Raises BudgetError for one that cannot be met."""
        return Target(limits=Limits.of(budget, self.model, self.legal))

    def reach(self) -> str:
        """What the budget allows and what any budget could ask for, by quantity."""
        texts = []
        for quantity, most in self.limits.most.items():
            least, base = int(self.model.cost(self.legal.lowest, quantity)), self.model.base_cost(quantity)
            texts.append(
                f"at most {amount_text(most, quantity)}, {most / base:.1%} of the base's; from "
                f"{amount_text(least, quantity)} ({least / base:.1%}) on there are widths"
            )
        return "; ".join(texts)

    @classmethod
    def of(
        cls,
        space: Space,
        folder: Path,
        download: bool,
        observer: Observer,
        *,
        budgets: Iterable[Budget] = (),
        table: LatencyTable | None = None,
        run: Path | None = None,
        fresh: bool = False,
    ) -> Setting:
        """Look up what the space names. `budgets`: those beside the space's that costs are needed for. Its latency
        `table`, where it was measured elsewhere, else that of `run` or of what lies in the folder, if that is not to be
        forgotten (`fresh`). Raises an InputError for whatever cannot be used; writes nothing."""
        methods = find_methods(list(space.generators.methods), space.generators.options)
        device = resolve_device(space.compute.device)
        observer.stage("network", space.network.reference, 0)
        reference = Reference.parse(space.network.reference)
        network = make(reference)
        inputs = (Input(tuple(space.network.input)),)
        structure = confirmed(structure_of(network, reference, inputs))
        model = CostModel.of(structure, network)
        legal = LegalWidths.of(structure, WidthRules(**space.widths.model_dump()))
        if not (legal.lowest < legal.highest).any():
            raise SpaceError(
                ["widths: nothing to search: every group keeps its width, because of freeze, limits or the network"]
            )
        budget = Budget.parse(space.budget)
        limited = {limit.quantity for each in (budget, *budgets) for limit in each.limits}
        if "memory" in limited:
            model = replace(model, memory=price_memory(structure, network, model, legal))
        if "latency" in limited:
            if table is None:
                known = None if fresh else folder if run is None else run
                table = _table(structure, model, legal, device, known, observer)
            model = model.timed(structure, table)
        limits = Limits.of(budget, model, legal)
        notes = [f"{name} keeps its width: {reason}" for name, reason in structure.frozen.items()]
        for note in notes:
            observer.note(note)
        observer.stage("data", space.data.source, 0)
        source = DataSource(
            source=space.data.source,
            shape=_image_shape(space.network.input),
            training=space.data.training,
            validation=space.data.validation,
            seed=space.compute.seed,
            download=download,
        )
        data = source.load(observer.decoding)
        outputs = outputs_of(network, inputs)
        if outputs < len(data.classes):
            raise DataError(
                f"data {space.data.source!r} has {len(data.classes)} classes, the network {reference} {outputs} "
                f"outputs; give it as many, as in --network '{reference.name}(classes={len(data.classes)})'"
            )
        weights = space.network.weights
        if weights is not None:
            fit_to(network, read_weights(Path(weights).expanduser()), weights)
        recipe = Recipe(**space.recipe.model_dump())
        epochs = max(1, round(space.search.fidelity * recipe.epochs))
        return cls(
            space=space,
            folder=folder,
            methods=methods,
            device=device,
            workers=num_workers(space.compute.workers, device),
            source=source,
            data=data,
            structure=structure,
            model=model,
            legal=legal,
            budget=budget,
            limits=limits,
            recipe=recipe,
            trial_recipe=Recipe(**{**space.recipe.model_dump(), "epochs": epochs}),
            given=None if weights is None else network,
            notes=tuple(notes),
        )


def _table(
    structure: Structure, model: CostModel, legal: LegalWidths, device: str, run: Path | None, observer: Observer
) -> LatencyTable:
    """The latency table that a run goes by, or a new one: measured once, so that a run that goes on, and what is held
    against it, has the same budget."""
    before = read_json(run / "run.json") if run is not None and (run / "run.json").exists() else {}
    if before.get("latency_table") is not None and before["structure"] == structure.fingerprint:
        table = LatencyTable.from_json(before["latency_table"])
        if table.device == device:
            return table
    observer.stage("latency", f"a table of the layers, on {device}", 0)
    table = time_layers(structure, model, legal, device=device, seed=0)
    observer.note(
        f"latency follows from a table measured on {device}, threads: {table.threads}, a batch of one; on "
        f"{HELD_OUT} networks that it was not made from it is off by at most {table.error:.0%}"
    )
    return table


def _image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise DataError(f"network.input must be channels, height and width for images, got {list(shape)}")
    return shape[0], shape[1], shape[2]


def check_givens(folder: Path, facts: Mapping[str, Any]) -> None:
    """What the settings name must be what it was when the run began: half a run on other images is no run.

    Raises RunError naming what has changed.
    """
    path = folder / "run.json"
    if not path.exists():
        return
    before = read_json(path)
    names = {"data": "the images", "structure": "the network", "weights": "the given weights", "device": "the device"}
    names |= {"architecture": "the architecture", "arm": "the arm"}
    changed = [text for key, text in names.items() if key in before and before[key] != facts.get(key)]
    if changed:
        told = f" (--device {before['device']})" if "the device" in changed else ""
        raise RunError(
            f"{folder}: {' and '.join(changed)} changed since the run began; use --fresh to begin anew, or put "
            f"back what was there{told}"
        )
