"""What `pruneas.train` and `pruneas train` call: any architecture trained from scratch, several times.

Where `torchrun` has started several processes, all of them call: the first one `train`, which leads, the others
`follow`.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pruneas import forking, interrupts
from pruneas.architecture import Architecture
from pruneas.config import Space
from pruneas.errors import ArchitectureError, SpaceError, TrainingError
from pruneas.files import copy_file, write_json, write_text
from pruneas.progress import Observer
from pruneas.run.folder import digest, held, prepare, settled

if TYPE_CHECKING:
    from pruneas.structure.groups import Structure
    from pruneas.structure.masks import Masks
    from pruneas.training import Leader, Pool

Arm = Literal["scratch-e", "scratch-b"]
RECORD, WEIGHTS = "training.json", "weights.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """An architecture's trainings: test accuracies in [0, 1], one a seed, and the weights of the first seed.

    `flops` and `params` are what the network costs. Of a masked architecture `masked_flops` and `masked_params` are
    what its masks leave, never to be ranked with those of widths; None of one without masks.
    """

    folder: Path
    weights: Path
    arm: Arm
    epochs: int
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    flops: int
    params: int
    masked_flops: int | None = None
    masked_params: int | None = None

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
    masks: Path | None = None,
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
    on at the end of its last epoch; more seeds add to those that are there. Trainings run side by side in processes of
    their own, or, where torchrun has started this process with others, one after the other on all of them.

    `masks` is the file of a masked architecture's masks. Fresh weights are drawn for what they leave, and they are held
    all along; the FLOPs that Scratch-B reckons with are those of the weights that are left, as in a comparison.

    Raises ArchitectureError where the factory no longer gives the architecture's structure, and where its masks are
    missing, others, or beside other widths than the network's own.
    """
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
    name = f"{space.name}-{arm}-{digest(kept, architecture=text, arm=arm, cap=str(cap))}"
    folder = run if run is not None else Path("runs") / name
    observer.stage("start", "loading torch", 0)
    if num_processes() == 1:
        forking.start(space.compute.threads)

    with interrupts.held_back():
        from pruneas.compare.finalists import Entrant, Stage
        from pruneas.cost.masked import masked_cost
        from pruneas.run.ledger import Ledger
        from pruneas.run.setting import Setting, check_givens
        from pruneas.search.train import images_per_epoch
        from pruneas.structure.build import structure_for
        from pruneas.structure.masks import mask_path

    # What is not trusted, too large or of another network goes no further.
    read = _masks(architecture, structure_for(architecture), masks)
    with held(folder), _processes(space) as pool:
        setting = Setting.of(kept, folder, download, observer)
        structure = setting.structure
        widths = {**structure.widths, **architecture.widths}
        model = setting.model.without(structure, architecture.removed)
        flops, params = int(model.flops(model.vector(widths))), int(model.params(model.vector(widths)))
        masked: dict[str, int] = {}
        if read is not None:
            masked = {
                "masked_flops": masked_cost(structure, setting.model, read, "flops"),
                "masked_params": masked_cost(structure, setting.model, read, "params"),
            }
        ratio = setting.model.base.flops / max(1, masked.get("masked_flops", flops))
        recipe = setting.recipe.scratch_b(ratio, cap=cap) if arm == "scratch-b" else setting.recipe.scratch_e()
        prepare(folder, kept, fresh=False)
        facts = {"command": command, **setting.facts(), "architecture": text, "arm": f"{arm}, at most {cap:g}"}
        facts["processes"] = num_processes()
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
            compile=space.compute.compile,
        )
        entrant = Entrant(
            name=arm,
            origin=arm,
            widths=widths,
            removed=architecture.removed,
            selections=architecture.selections,
            masks=masks,
        )
        left = len(stage.jobs([entrant])) * recipe.epochs * images_per_epoch(recipe, len(setting.data.train))
        ledger = Ledger(folder / "run.json", facts, {arm: float(left)}, observer)
        ledger.begin(arm, float(left))
        notes: list[str] = []
        records = stage.run([entrant], pool, observer, ledger.work, notes.append).get(arm, [])
        ledger.save()
        if not records:
            raise TrainingError(f"no training ended well: {notes[-1]}")
        for note in notes:
            observer.note(note)
        write_text(folder / "architecture.json", text + "\n")
        if masks is not None:
            copy_file(masks, mask_path(folder / "architecture.json"))
        if (first := stage.weights(entrant, stage.seeds[0])).exists():
            copy_file(first, folder / WEIGHTS)
        result = TrainResult(
            folder=folder,
            weights=folder / WEIGHTS,
            arm=arm,
            epochs=recipe.epochs,
            seeds=tuple(record.seed for record in records),
            accuracies=tuple(record.tested for record in records),
            flops=flops,
            params=params,
            **masked,
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
                "flops": flops,
                "params": params,
                **masked,
                "base_flops": setting.model.base.flops,
                "images": [record.images for record in records],
                "training_seconds": [record.seconds for record in records],
                "notes": notes,
            },
        )
    return result


def _masks(architecture: Architecture, structure: Structure, path: Path | None) -> Masks | None:
    """The masks in the file, None of an architecture without any. Raises ArchitectureError as `train` does."""
    from pruneas.cost.masked import uses
    from pruneas.structure.masks import check_masks, read_masks

    if architecture.mask is None and path is None:
        return None
    place = f"architecture of {architecture.network}"
    if architecture.mask is None or path is None:
        what = "masks were given, but it names none" if path is not None else "it names masks, but none were given"
        raise ArchitectureError(f"{place}: {what}; give those that it names, which lie beside its file, and no others")
    masks = read_masks(path, architecture.mask)
    if {**structure.widths, **architecture.widths} != structure.widths or architecture.removed:
        raise ArchitectureError(
            f"{place}: masks hold single weights of the whole network, but it has other widths than that, too, so "
            "they are of no weights of it; leave out its mask, or give the network's own widths"
        )
    check_masks(masks, structure.shapes)
    if strange := sorted(set(masks) - set(uses(structure))):
        raise ArchitectureError(f"{path}: masks must be of weights of convolutions, found one of {strange[0]!r}")
    return masks


def num_processes() -> int:
    """How many processes torchrun has started for one training; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_follower() -> bool:
    """Whether this process is one of those that only help: torchrun's others than the first."""
    return num_processes() > 1 and os.environ.get("RANK", "0") != "0"


def follow(space: Space) -> None:
    """This process's part of the trainings that the first one leads, until there are no more."""
    with interrupts.held_back():
        from pruneas.training import ranks
    with ranks.joined(_shared_device(space), space.compute.threads):
        ranks.follow()


@contextmanager
def _processes(space: Space) -> Iterator[Pool | Leader]:
    """What trainings run in: processes of their own, or those that torchrun has started."""
    from pruneas.run.machine import num_workers, resolve_device
    from pruneas.training import Leader, Pool, ranks

    if num_processes() == 1:
        workers = num_workers(space.compute.workers, resolve_device(space.compute.device))
        with Pool(workers=workers, threads=space.compute.threads) as pool:
            yield pool
        return
    with ranks.joined(_shared_device(space), space.compute.threads), Leader() as leader:
        yield leader


def _shared_device(space: Space) -> str:
    """'cpu', or 'cuda': each process then has the GPU of its own number."""
    from pruneas.run.machine import resolve_device

    device = resolve_device(space.compute.device)
    if ":" in device:
        raise SpaceError(
            [f"compute.device: must be auto, cpu or cuda with torchrun: each process has its own GPU, got {device!r}"]
        )
    return device
