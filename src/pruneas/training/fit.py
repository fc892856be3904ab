"""Training a network from where it stands, and measuring it.

Knows images, labels and a recipe; nothing of widths or pruning. What a method adds to a training comes in as a
`penalty` or a hook. The same seed, device and number of threads give bit-equal weights on a CPU; on CUDA they do as
far as the kernels of the network's operators are deterministic.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pruneas.errors import TrainingError
from pruneas.training.augment import Normaliser, crop_and_flip, cut_out
from pruneas.training.checkpoint import load as load_checkpoint
from pruneas.training.checkpoint import save as save_checkpoint
from pruneas.training.data import DataSet, Images
from pruneas.training.recipe import PRECISIONS, Recipe

AUXILIARY_WEIGHT = 0.3  # of a further output's loss (GoogLeNet, Inception), as in their papers


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """`accuracy` in [0, 1] and mean cross entropy (no smoothing) of `num_images` images."""

    accuracy: float
    loss: float
    num_images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One epoch, counted from 1.

    `train_loss` is the mean over its steps, label smoothing included and the penalty left out; `learning_rate` that of
    its last step; `seconds` those of training, without the validation that follows.
    """

    epoch: int
    train_loss: float
    validation_accuracy: float
    validation_loss: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """A finished training. `images` counts every image each time it was trained on; `seconds` include validation."""

    epochs: tuple[EpochRecord, ...]
    seconds: float
    images: int
    precision: str

    @property
    def train_seconds(self) -> float:
        """Seconds of training, without validation."""
        return sum(record.seconds for record in self.epochs)

    @property
    def images_per_second(self) -> float:
        """Images trained on in a second of training."""
        return self.images / max(self.train_seconds, 1e-9)


def resolve_precision(precision: str, model: nn.Module, device: torch.device | str) -> str:
    """'float32' or 'bfloat16': what a training or an evaluation computes in.

    'auto' is bfloat16 on CUDA, and on a CPU that multiplies bfloat16 in hardware if the network convolves and none of
    its convolutions is grouped. Measured on one core of an AVX512-BF16 EPYC, images/s in bfloat16 and float32:
    quarter-width VGG-16 1128 and 805, a 16-32-32 net on 8 x 8 digits 25.1k and 22.3k, one of 4-8-8 channels 35.0k and
    34.0k, but a depthwise-separable net 650 and 1048.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision != "auto":
        return precision
    kind = torch.device(device).type
    if kind == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if kind == "cpu" and _cpu_multiplies_bfloat16():
        groups = [module.groups for module in model.modules() if isinstance(module, nn.Conv2d)]
        if groups and max(groups) == 1:
            return "bfloat16"
    return "float32"


def fit(
    model: nn.Module,
    data: DataSet,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    penalty: Callable[[nn.Module], Tensor] | None = None,
    after_step: Callable[[nn.Module], None] | None = None,
    after_epoch: Callable[[EpochRecord], None] | None = None,
    checkpoint: Path | None = None,
) -> FitResult:
    """Trains `model` in place on `data.train` and validates it after every epoch.

    The model ends on `device`, in the default memory format and in the mode (training or evaluation) it came in. With
    an average in the recipe, it ends with the averaged weights.

    Args:
        seed: of the order of the images, of crops and flips, and of torch's global generators (dropout) meanwhile.
        penalty: a scalar tensor added to the loss of every step.
        after_step: called after every step of the optimiser; may change weights.
        after_epoch: called with each finished epoch; what it raises ends the training.
        checkpoint: a file that keeps the state at the end of each epoch. Where it holds this very training (recipe,
            seed, data, shapes), the training goes on from there and ends with the same numbers; `after_epoch` is
            called with the epochs it holds, too. Penalties and hooks with a state of their own cannot go on so.

    Raises:
        TrainingError: the loss of an epoch is not finite.
    """
    device = torch.device(device)
    precision = resolve_precision(recipe.precision, model, device)
    steps, size = recipe.steps_per_epoch(len(data.train)), min(recipe.batch_size, len(data.train))
    records: list[EpochRecord] = []
    began = time.perf_counter()
    with _prepared(model, device, seed):
        batches = _Batches(data, recipe, seed=seed, device=device)
        optimiser = _optimiser(model, recipe)
        averaged = _averaged(model, recipe)
        kept = (
            {
                "recipe": asdict(recipe),
                "seed": seed,
                "data": data.fingerprint,
                "precision": precision,
                "shapes": {name: list(tensor.shape) for name, tensor in model.state_dict().items()},
            },
            {"model": model} if averaged is None else {"model": model, "average": averaged},
            optimiser,
            batches.generator,
            device,
        )
        if checkpoint is not None:
            records = [EpochRecord(**epoch) for epoch in load_checkpoint(checkpoint, *kept) or []]
            if after_epoch is not None:
                for record in records:
                    after_epoch(record)
        for epoch in range(len(records) + 1, recipe.epochs + 1):
            epoch_began = time.perf_counter()
            model.train()
            losses = torch.zeros(2, device=device)  # without and with the penalty; read once an epoch
            for step, (images, labels) in enumerate(batches.epoch(), (epoch - 1) * steps):
                rate = recipe.learning_rate_at(step, len(data.train))
                for group in optimiser.param_groups:
                    group["lr"] = rate
                with _autocast(device, precision):
                    outputs = model(images)
                loss = _training_loss(outputs, labels, recipe.label_smoothing)
                total = loss if penalty is None else loss + penalty(model)
                optimiser.zero_grad(set_to_none=True)
                total.backward()  # type: ignore[no-untyped-call]
                if recipe.max_norm:
                    nn.utils.clip_grad_norm_(model.parameters(), recipe.max_norm)
                optimiser.step()
                if averaged is not None:
                    averaged.update_parameters(model)
                if after_step is not None:
                    after_step(model)
                losses += torch.stack((loss.detach(), total.detach()))
            train_loss, objective = (losses / steps).tolist()
            seconds = time.perf_counter() - epoch_began
            if not math.isfinite(objective):
                raise TrainingError(
                    f"epoch {epoch} of {recipe.epochs}: the training loss must be finite, got {objective} at learning"
                    f" rate {rate:.4g} (peak {recipe.learning_rate:g}). Lower the learning rate or train in float32."
                )
            judged = model if averaged is None else averaged.module
            score = evaluate(judged, data.validation, mean=data.mean, std=data.std, device=device, precision=precision)
            record = EpochRecord(
                epoch=epoch,
                train_loss=train_loss,
                validation_accuracy=score.accuracy,
                validation_loss=score.loss,
                learning_rate=rate,
                seconds=seconds,
            )
            records.append(record)
            if checkpoint is not None:
                save_checkpoint(checkpoint, records, *kept)
            if after_epoch is not None:
                after_epoch(record)
        if averaged is not None:
            model.load_state_dict(averaged.module.state_dict())
    return FitResult(
        epochs=tuple(records),
        seconds=time.perf_counter() - began,
        images=recipe.epochs * steps * size,
        precision=precision,
    )


@torch.no_grad()
def evaluate(
    model: nn.Module,
    images: Images,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device | str = "cpu",
    precision: str = "auto",
) -> Score:
    """The score of `model`, moved to `device`, on `images`; its mode (training or evaluation) is left as it was."""
    device = torch.device(device)
    if len(images) == 0:
        raise ValueError("images must not be empty")
    precision = resolve_precision(precision, model, device)
    height, width = images.size
    # As many pixels a batch as fill the machine without its activations filling the memory.
    batch = min(4096, max(16, (2**22 if device.type == "cuda" else 2**18) // (height * width)))
    normalise = Normaliser(mean, std, width=width, device=device)
    was_training = model.training
    model.to(device).eval()
    try:
        sums = torch.zeros(2, dtype=torch.float64, device=device)  # right ones, loss
        parts = torch.split(torch.arange(len(images)), batch)
        for part, pixels in zip(parts, images.batches(parts, device), strict=True):
            labels = images.labels[part].to(device)
            with _autocast(device, precision):
                outputs = model(normalise(pixels))
            logits = own_logits(outputs).float()
            right = (logits.argmax(1) == labels).sum()
            sums += torch.stack((right.double(), F.cross_entropy(logits, labels, reduction="sum").double()))
        right_ones, loss = sums.tolist()
    finally:
        model.train(was_training)
    return Score(accuracy=right_ones / len(images), loss=loss / len(images), num_images=len(images))


def in_order(
    data: DataSet, batch_size: int, *, seed: int, device: torch.device | str = "cpu"
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every training image once, normalised and not augmented, in an order that the seed gives.

    Batches of (float32 (n, c, h, w), int64 (n,)), the last one perhaps smaller, on `device`.
    """
    device = torch.device(device)
    normalise = Normaliser(data.mean, data.std, width=data.train.size[1], device=device)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    parts = torch.split(order, batch_size)
    for part, pixels in zip(parts, data.train.batches(parts, device), strict=True):
        yield normalise(pixels), data.train.labels[part].to(device)


class _Batches:
    """The training batches of one epoch after the other, augmented; every decision comes from one generator."""

    def __init__(self, data: DataSet, recipe: Recipe, *, seed: int, device: torch.device) -> None:
        self._images = data.train.on(device)
        self._recipe = recipe
        self._device = device
        # Drawn on the CPU, an epoch at a time, so that decisions do not depend on the device.
        self.generator = torch.Generator().manual_seed(seed)
        self._normalise = Normaliser(data.mean, data.std, width=data.train.size[1], device=device)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(float32 (n, c, h, w), int64 (n,)) batches; an incomplete last one is left out unless it is the only one."""
        recipe, count = self._recipe, len(self._images)
        home = self._images.labels.device
        order = torch.randperm(count, generator=self.generator).to(home)
        corners = torch.randint(2 * recipe.crop + 1, (2, count), generator=self.generator).to(self._device)
        mirrored = (torch.rand(count, generator=self.generator) < 0.5).to(self._device)
        sides = self._images.size if recipe.cutout else ()
        centres = [torch.randint(side, (count,), generator=self.generator).to(self._device) for side in sides]
        size = min(recipe.batch_size, count)
        slices = [slice(start, start + size) for start in range(0, count - size + 1, size)]
        batches = self._images.batches([order[part] for part in slices], self._device)
        for part, images in zip(slices, batches, strict=True):
            labels = self._images.labels[order[part]].to(self._device, non_blocking=True)
            images = crop_and_flip(
                images, corners[0, part], corners[1, part], mirrored[part] if recipe.flip else None, recipe.crop
            )
            images = self._normalise(images)
            if recipe.cutout:
                images = cut_out(images, centres[0][part], centres[1][part], recipe.cutout)
            yield images, labels


def own_logits(outputs: object) -> Tensor:
    """The logits (n, classes) that count: those of the network itself, not of auxiliary heads."""
    return _outputs(outputs)[0]


def _outputs(outputs: object) -> list[Tensor]:
    """The logits a network gave: its own first, then those of auxiliary heads, which some give while training."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        outputs = tuple(outputs.values())
    if isinstance(outputs, tuple | list):
        tensors = [output for output in outputs if isinstance(output, Tensor)]
        if tensors:
            return tensors
    raise TrainingError(f"the network must put out a tensor of logits (n, classes), got {type(outputs).__name__}")


def _training_loss(outputs: object, labels: Tensor, label_smoothing: float) -> Tensor:
    first, *others = (
        F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing) for logits in _outputs(outputs)
    )
    return first + AUXILIARY_WEIGHT * sum(others) if others else first


def _optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(
        parameters,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        # One kernel for all parameters; on the CPU as fast as foreach (1128 and 1132 images/s; the plain loop 1095).
        fused=all(parameter.device.type in ("cpu", "cuda") for parameter in parameters),
    )


def _averaged(model: nn.Module, recipe: Recipe) -> AveragedModel | None:
    """The model's exponential moving average, its buffers (batch-norm statistics) included."""
    if not recipe.average:
        return None
    average = get_ema_multi_avg_fn(recipe.average)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


@contextmanager
def _prepared(model: nn.Module, device: torch.device, seed: int) -> Iterator[None]:
    """Channels-last weights, seeded global generators and deterministic cuDNN; all put back afterwards."""
    was_training = model.training
    model.to(device)
    model.to(memory_format=torch.channels_last)
    cuda = [device] if device.type == "cuda" else []
    try:
        with (
            torch.random.fork_rng(devices=cuda),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        ):
            torch.manual_seed(seed)
            yield
    finally:
        # safetensors, among others, refuses tensors in another format.
        model.to(memory_format=torch.contiguous_format)
        model.train(was_training)


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def _cpu_multiplies_bfloat16() -> bool:
    get_capabilities = getattr(torch.cpu, "get_capabilities", None)
    if get_capabilities is not None:
        capabilities = get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # torch before get_capabilities
    return bool(probe is not None and probe())
