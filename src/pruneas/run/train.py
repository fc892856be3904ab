"""What `pruneas.train` and `pruneas train` call: any architecture trained from scratch, several times."""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pruneas import interrupts
from pruneas.architecture import Architecture
from pruneas.config import Space
from pruneas.errors import ArchitectureError, TrainingError
from pruneas.files import replacing, write_json, write_text
from pruneas.progress import Observer
from pruneas.run.folder import held, prepare, settings, settled

Arm = Literal["scratch-e", "scratch-b"]
RECORD, WEIGHTS = "training.json", "weights.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """An architecture's trainings: test accuracies in [0, 1], one a seed, and the weights of the first seed."""

    folder: Path
    weights: Path
    arm: Arm
    epochs: int
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.accuracies)

    @property
    def std(self) -> float | None:
        """The sample standard deviation over seeds; None of one."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None


def train(
    space: Space,
    architecture: Architecture,
    *,
    arm: Arm = "scratch-e",
    cap: float = 2.0,
    num_seeds: int = 1,
    run: Path | None = None,
    download: bool = False,
    command: str,
    observer: Observer,
) -> TrainResult:
    """Train an architecture by the space's recipe and read the test set once a seed.

    Scratch-E trains for the recipe's epochs. Scratch-B trains for as many more as the base network has FLOPs more, at
    most `cap` times as many [Liu2019, section 3]. The space's own network is not used. A run that was interrupted goes
    on at the end of its last epoch; more seeds add to those that are there.

    Raises ArchitectureError where the factory no longer gives the architecture's structure, and for masked ones.
    """
    if architecture.mask is not None:
        raise ArchitectureError(
            f"architecture of {architecture.network}: must be without masks, found {architecture.mask[:8]}; those are "
            "trained in Python: structure/masks.py initialises such a network and holds its masks"
        )
    given = space.model_copy(
        update={
            "network": space.network.model_copy(
                update={
                    "reference": str(architecture.network),
                    "input": architecture.inputs[0].shape,
                    "weights": None,
                }
            )
        }
    )
    kept = settled(given)
    text = architecture.to_json()
    asked = {**settings(kept), "architecture": text, "arm": arm, "cap": cap}
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
    folder = run if run is not None else Path("runs") / f"{space.name}-{arm}-{digest}"
    observer.stage("start", "loading torch", 0)

    with interrupts.held_back():
        from pruneas.compare.finalists import Entrant, Stage
        from pruneas.run.ledger import Ledger
        from pruneas.run.setting import Setting, check_givens
        from pruneas.search.train import images_per_epoch
        from pruneas.structure.build import structure_for
        from pruneas.training import Pool

    structure_for(architecture)  # what is not trusted, too large or of another network goes no further
    with held(folder):
        setting = Setting.of(kept, folder, download, observer)
        structure = setting.structure
        widths = {**structure.widths, **architecture.widths}
        model = setting.model.without(structure, architecture.removed)
        ratio = setting.model.base.flops / int(model.flops(model.vector(widths)))
        recipe = setting.recipe.scratch_b(ratio, cap=cap) if arm == "scratch-b" else setting.recipe.scratch_e()
        prepare(folder, kept, fresh=False)
        facts = {"command": command, **setting.facts(), "architecture": text, "arm": f"{arm}, at most {cap:g}"}
        check_givens(folder, facts)
        stage = Stage(
            name=arm,
            structure=structure,
            model=setting.model,
            data=setting.source,
            recipe=recipe,
            run_seed=space.compute.seed,
            num_seeds=num_seeds,
            device=setting.device,
            test=True,
            folder=folder / "test",
        )
        entrant = Entrant(
            name=arm,
            origin=arm,
            widths=widths,
            removed=architecture.removed,
            selections=architecture.selections,
        )
        left = len(stage.jobs([entrant])) * recipe.epochs * images_per_epoch(recipe, len(setting.data.train))
        ledger = Ledger(folder / "run.json", facts, {arm: float(left)}, observer)
        ledger.begin(arm, float(left))
        notes: list[str] = []
        with Pool(workers=setting.workers, threads=space.compute.threads) as pool:
            records = stage.run([entrant], pool, observer, ledger.work, notes.append).get(arm, [])
        ledger.save()
        if not records:
            raise TrainingError(f"no training ended well: {notes[-1]}")
        for note in notes:
            observer.note(note)
        write_text(folder / "architecture.json", text + "\n")
        if (first := stage.weights(entrant, stage.seeds[0])).exists():
            with replacing(folder / WEIGHTS) as temporary:
                shutil.copyfile(first, temporary)
        result = TrainResult(
            folder=folder,
            weights=folder / WEIGHTS,
            arm=arm,
            epochs=recipe.epochs,
            seeds=tuple(record.seed for record in records),
            accuracies=tuple(record.test_accuracy or 0.0 for record in records),
        )
        write_json(
            folder / RECORD,
            {
                **facts,
                "epochs": result.epochs,
                "seeds": result.seeds,
                "test_accuracies": result.accuracies,
                "mean": result.mean,
                "std": result.std,
                "flops": records[0].flops,
                "params": records[0].params,
                "base_flops": setting.model.base.flops,
                "images": [record.images for record in records],
                "training_seconds": [record.seconds for record in records],
                "notes": notes,
            },
        )
    return result
