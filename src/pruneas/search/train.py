"""Training one architecture from scratch, as a job for a process of its own.

The network is built from the structure and the widths, recounted by fvcore, and trained. A count that differs from the
stored one is an error, so nothing is trained that is not inside the budget.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from pruneas.architecture import Inputs
from pruneas.cost.count import count
from pruneas.errors import InputError, NetworkError, PruneasError, RunError, StructureError
from pruneas.files import replacing
from pruneas.networks import examples, provider
from pruneas.networks.weights import fit_to, read_weights
from pruneas.progress import Observer
from pruneas.search.stopping import Extrapolation, Rule
from pruneas.structure.build import build_widths
from pruneas.structure.groups import Structure
from pruneas.structure.masks import hold, initialise_masked, read_masks
from pruneas.training import DataSource, EpochRecord, Outcome, Ranks, Recipe, evaluate, fit

TELL_EVERY = 5.0
"""Seconds between two signs of life within an epoch."""
CHECKPOINT = ".checkpoint.safetensors"
"""How the file ends that keeps a training's state beside the record it will have."""
Report = Callable[[Any], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What to train: `flops` and `params` are the counts that the built network must have.

    `removed`: blocks whose branches are taken out. `selections`: what channel selections take, where that is not the
    first channels. `initial`: weights to begin with, of the network as it is built;
    without it they are fresh. `masks`: a file of masks that are held all along; fresh weights are drawn for what they
    leave, given ones are set to zero elsewhere. `test`: read the test set afterwards, once. `weights`: where to leave
    the trained weights. `checkpoint`: where its state is kept while it trains, from which it goes on where it was.
    `stopping`: when it may end before its last epoch. `compile`: as `fit` takes it.
    """

    structure: Structure
    widths: Mapping[str, int]
    flops: int
    params: int
    data: DataSource
    recipe: Recipe
    seed: int
    device: str
    removed: tuple[str, ...] = ()
    selections: Mapping[str, Sequence[int]] = field(default_factory=dict)
    initial: Path | None = None
    masks: Path | None = None
    test: bool = False
    weights: Path | None = None
    checkpoint: Path | None = None
    stopping: Rule | None = None
    compile: str = "auto"

    def identity(self, data: str) -> str:
        """A hash of all that the trained weights depend on; `data` is the fingerprint of the images.

        Two trainings with the same one, on a machine of the same kind, are one training: what is done with the weights
        afterwards makes no difference to it.
        """
        parts = {
            "network": str(self.structure.network),
            "provider": provider(self.structure.network),
            "structure": self.structure.fingerprint,
            "widths": {name: self.widths[name] for name in sorted(self.widths)},
            "removed": sorted(self.removed),
            "selections": {name: list(map(int, self.selections[name])) for name in sorted(self.selections)},
            "initial": None if self.initial is None else hashlib.sha256(self.initial.read_bytes()).hexdigest(),
            "masks": None if self.masks is None else hashlib.sha256(self.masks.read_bytes()).hexdigest(),
            "data": data,
            "recipe": asdict(self.recipe),
            "seed": self.seed,
            "device": torch.device(self.device).type,
            **({} if self.stopping is None else {"stopping": self.stopping.to_json()}),
            **({} if (ranks := Ranks.here()).count == 1 else {"processes": ranks.count}),  # batch norm sees parts
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """How a training went. Accuracies in [0, 1]; `images` counts every image each time it was trained on.

    `identity` is `Training.identity`, empty in records of before it was kept. `notes` are sentences on what else than
    the recipe its numbers depend on: that memory ran out, or what was compiled. `extrapolation`: where it was stopped
    before its last epoch, what it would have come to; all other numbers are those of the epochs that it had.
    """

    widths: Mapping[str, int]
    flops: int
    params: int
    seed: int
    epochs: tuple[Mapping[str, float], ...]
    validation_accuracy: float
    validation_loss: float
    test_accuracy: float | None
    test_loss: float | None
    seconds: float
    images: int
    precision: str
    notes: tuple[str, ...] = ()
    identity: str = ""
    extrapolation: Extrapolation | None = None

    @property
    def tested(self) -> float:
        """The test accuracy. Raises RunError where the test set was not read."""
        if self.test_accuracy is None:
            raise RunError(f"the record of the training with seed {self.seed} has no test accuracy; delete it")
        return self.test_accuracy

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "epochs": [dict(epoch) for epoch in self.epochs], "widths": dict(self.widths)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainingRecord:
        return cls(
            **{
                **data,
                "epochs": tuple(data["epochs"]),
                "notes": tuple(data.get("notes", ())),
                "extrapolation": Extrapolation.from_json(data.get("extrapolation")),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a training tells its parent after each epoch, and every few seconds within one.

    `epoch`: how many of `epochs` are done, within one with the share of it. `accuracy` on the validation images and
    mean training `loss` are of an epoch that has just ended, None within one. `images` were trained on since the last
    message.
    """

    epoch: float
    epochs: int
    images: int
    images_per_second: float
    accuracy: float | None = None
    loss: float | None = None

    def tell(self, label: str, observer: Observer, worked: Callable[[int], None]) -> None:
        """Pass it on to whoever watches the training called `label`, and to whoever counts images."""
        observer.training(label, self.epoch, self.epochs, self.accuracy, self.loss, self.images_per_second)
        worked(self.images)


class Reporter:
    """Hooks of a `fit` that report its `Progress`."""

    def __init__(
        self, report: Report, recipe: Recipe, num_images: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._report, self._clock, self._epochs = report, clock, recipe.epochs
        self._per_epoch = images_per_epoch(recipe, num_images)
        self._per_step = min(recipe.batch_size, num_images)
        self._done, self._steps, self._told = 0, 0, 0  # epochs; steps of this one; images of this one
        self._last = clock()

    def after_step(self, model: nn.Module) -> None:
        self._steps += 1
        if (now := self._clock()) - self._last < TELL_EVERY:
            return
        images = min(self._steps * self._per_step, self._per_epoch)  # more where an epoch began anew
        new = max(0, images - self._told)
        self._report(
            Progress(
                epoch=self._done + images / self._per_epoch,
                epochs=self._epochs,
                images=new,
                images_per_second=new / (now - self._last),
            )
        )
        self._told, self._last = max(images, self._told), now

    def after_epoch(self, record: EpochRecord) -> None:
        self._report(
            Progress(
                epoch=record.epoch,
                epochs=self._epochs,
                images=self._per_epoch - self._told,
                images_per_second=self._per_epoch / max(record.seconds, 1e-9),
                accuracy=record.validation_accuracy,
                loss=record.train_loss,
            )
        )
        self._done, self._steps, self._told, self._last = record.epoch, 0, 0, self._clock()


def train(report: Report, *, training: Training) -> TrainingRecord:
    """Build, recount, train, and evaluate. Runs in a child process; `report` gets `Progress`."""
    network = build_widths(
        training.structure, training.widths, training.removed, training.selections, seed=training.seed
    )
    check_counts(network, training)
    if training.initial is not None:
        fit_to(network, read_weights(training.initial), str(training.initial))
    keep_masked = hold({})
    if training.masks is not None:
        masks = read_masks(training.masks)
        keep_masked = hold(masks)
        if training.initial is None:
            initialise_masked(network, masks, seed=training.seed)
        keep_masked(network)
    data = training.data.load()
    reporter = Reporter(report, training.recipe, len(data.train))

    def after_step(model: nn.Module) -> None:
        keep_masked(model)
        reporter.after_step(model)

    result = fit(
        network,
        data,
        training.recipe,
        seed=training.seed,
        device=training.device,
        after_step=after_step,
        after_epoch=reporter.after_epoch,
        is_enough=lambda epochs: _stopped(training, epochs) is not None,
        checkpoint=training.checkpoint,
        compile=training.compile,
    )
    score = None
    if training.test:
        score = evaluate(
            network, data.test, mean=data.mean, std=data.std, device=training.device, precision=result.precision
        )
    writes = Ranks.here().index == 0
    if training.weights is not None and writes:
        save_weights(network, training.weights)
    if training.checkpoint is not None and writes:
        training.checkpoint.unlink(missing_ok=True)
    return TrainingRecord(
        widths=dict(training.widths),
        flops=training.flops,
        params=training.params,
        seed=training.seed,
        epochs=tuple(asdict(epoch) for epoch in result.epochs),
        validation_accuracy=result.epochs[-1].validation_accuracy,
        validation_loss=result.epochs[-1].validation_loss,
        test_accuracy=None if score is None else score.accuracy,
        test_loss=None if score is None else score.loss,
        seconds=result.seconds,
        images=result.images,
        precision=result.precision,
        notes=result.notes,
        identity=training.identity(data.fingerprint),
        extrapolation=_stopped(training, result.epochs),
    )


def _stopped(training: Training, epochs: Sequence[EpochRecord]) -> Extrapolation | None:
    """What the training would come to if it ends now, before its last epoch; None where it goes on."""
    if training.stopping is None:
        return None
    return training.stopping.stopped([epoch.validation_accuracy for epoch in epochs])


def images_per_epoch(recipe: Recipe, num_images: int) -> int:
    """How many images an epoch trains on: whole batches."""
    return recipe.steps_per_epoch(num_images) * min(recipe.batch_size, num_images)


def notes_of(records: Mapping[str, TrainingRecord]) -> list[str]:
    """What else than the recipe the numbers of trainings depend on: each sentence once, and which they are."""
    found: dict[str, list[str]] = {}
    for name, record in records.items():
        for text in record.notes:
            found.setdefault(text, []).append(name)
    return [
        f"training {names[0]}{'' if len(names) == 1 else f' and {len(names) - 1} more'}: {text}"
        for text, names in found.items()
    ]


def concerns_all(outcome: Outcome) -> PruneasError | None:
    """The error that ended a training, if it would end every other one, too: unreadable images, a full disk.

    A network that cannot be built at some widths, or diverges at them, says nothing about others.
    """
    error = outcome.user_error
    return error if isinstance(error, InputError) and not isinstance(error, NetworkError) else None


def check_counts(network: nn.Module, training: Training) -> None:
    """Raises StructureError where fvcore's count of the built network is not the stored one."""
    found = count(network, training.structure.inputs)
    if (found.flops, found.params) != (training.flops, training.params):
        raise StructureError(
            f"network {training.structure.network}: built, it has {found.flops} FLOPs and {found.params} parameters by "
            f"fvcore's count, where the closed form said {training.flops} and {training.params}"
        )


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's state as safetensors, whole or not at all. Raises RunError where the disk refuses."""
    save_state(network.state_dict(), path)


def save_state(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors by name as safetensors, whole or not at all. Raises RunError where the disk refuses."""
    # Copies, because safetensors refuses tensors that share memory: a shared one is written under each of its names.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file(state, temporary)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{path}: cannot be written: {error}. Give the same command again when it can; it goes on where it was"
        ) from error


def outputs_of(network: nn.Module, inputs: Inputs) -> int:
    """How many values the network puts out for one image."""
    training = network.training
    with torch.no_grad():
        output = network.eval()(*examples(inputs))
    network.train(training)
    output = output[0] if isinstance(output, tuple | list) else output
    return int(output.shape[-1])
