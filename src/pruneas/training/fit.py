"""Training a network from where it stands, and measuring it.

Knows images, labels and a recipe; nothing of widths or pruning. What a method adds to a training comes in as a
`penalty` or a hook. The same seed, device and number of threads give bit-equal weights on a CPU; on CUDA they do as
far as the kernels of the network's operators are deterministic. Two things that happen are recorded with each epoch,
because numbers depend on them: that memory ran out and batches were computed in parts, and that a long training was
compiled. Where `torchrun` has started several processes, they train together (`ranks.py`).
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pruneas.errors import TrainingError
from pruneas.recipe import PRECISIONS, Recipe
from pruneas.seeds import derive
from pruneas.training import compiling
from pruneas.training.augment import Normaliser
from pruneas.training.batches import Batches
from pruneas.training.checkpoint import State
from pruneas.training.checkpoint import load as load_checkpoint
from pruneas.training.checkpoint import save as save_checkpoint
from pruneas.training.data import DataSet, Images
from pruneas.training.ranks import Ranks

AUXILIARY_WEIGHT = 0.3  # of a further output's loss (GoogLeNet, Inception), as in their papers
SMALLEST_PART = 8  # images; batch norm's statistics of fewer say little


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
    its last step; `seconds` those of training, without the validation that follows. `part` is how many images at most
    were computed at a time where memory did not hold a batch: gradients were added up, so that a step is still the
    batch's, but batch norm normalised over each part. None: whole batches. `compiled`: by `torch.compile`.
    """

    epoch: int
    train_loss: float
    validation_accuracy: float
    validation_loss: float
    learning_rate: float
    seconds: float
    part: int | None = None
    compiled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """A finished training. `images` counts every image each time it was trained on; `seconds` include validation.

    `notes` are sentences on what else than the recipe its numbers depend on.
    """

    epochs: tuple[EpochRecord, ...]
    seconds: float
    images: int
    precision: str
    notes: tuple[str, ...] = ()

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
    is_enough: Callable[[Sequence[EpochRecord]], bool] | None = None,
    checkpoint: Path | None = None,
    compile: str = "auto",
) -> FitResult:
    """Trains `model` in place on `data.train` and validates it after every epoch.

    The model ends on `device`, in the default memory format and in the mode (training or evaluation) it came in. With
    an average in the recipe, it ends with the averaged weights.

    Where memory runs out, the epoch begins anew with half as many images at a time.

    Args:
        seed: of the order of the images, of crops and flips, and of torch's global generators (dropout) meanwhile.
        penalty: a scalar tensor added to the loss of every step.
        after_step: called after every step of the optimiser; may change weights. Of an epoch that begins anew it sees
            some steps twice.
        after_epoch: called with each finished epoch; what it raises ends the training.
        is_enough: asked before each epoch but the first, with the finished ones; True ends the training there, as if it
            had no more.
        checkpoint: a file that keeps the state at the end of each epoch. Where it holds this very training (recipe,
            seed, data, shapes), the training goes on from there and ends with the same numbers; `after_epoch` is
            called with the epochs it holds, too. Penalties and hooks with a state of their own cannot go on so.
        compile: 'on', 'off', or 'auto': where measured seconds say that it pays (`compiling.py`).

    Raises:
        TrainingError: the loss of an epoch is not finite, memory does not hold the smallest part of a batch, or
            `compile` is 'on' and cannot be.
    """
    if compile not in compiling.COMPILE:
        raise ValueError(f"compile must be one of {', '.join(compiling.COMPILE)}, got {compile!r}")
    device, ranks = torch.device(device), Ranks.here()
    precision = resolve_precision(recipe.precision, model, device)
    size = min(recipe.batch_size, len(data.train))
    if size < 2 * ranks.count:
        raise TrainingError(f"a batch must have 2 images or more for each of {ranks.count} processes, it has {size}")
    notes: list[str] = []
    if ranks.count > 1:
        notes.append(f"trained by {ranks.count} processes; batch norm normalised over each one's part of a batch")
        compile = "off" if compile == "auto" else compile  # measured seconds differ from process to process
    if compile != "off" and (missing := compiling.missing_tool(device)) is not None:
        if compile == "on":
            raise TrainingError(f"compile 'on' needs {missing}, and finds none. Install it, or say 'auto' or 'off'.")
        compile = "off"
    records: list[EpochRecord] = []
    began = time.perf_counter()
    with _prepared(model, device, seed):
        steps = _Steps(model, data, recipe, seed, device, precision, ranks, penalty, after_step)
        identity = {
            "recipe": asdict(recipe),
            "seed": seed,
            "data": data.fingerprint,
            "precision": precision,
            "compile": compile,
            "processes": ranks.count,
            "shapes": {name: list(tensor.shape) for name, tensor in model.state_dict().items()},
        }
        found = ranks.of_first(load_checkpoint(checkpoint, identity) if checkpoint is not None else None)
        if found is not None:
            records = [EpochRecord(**epoch) for epoch in found[0]]
            steps.state.put_back(found[1], str(checkpoint))
            if after_epoch is not None:
                for record in records:
                    after_epoch(record)
        kept = steps.state.copied()  # what the next epoch begins with
        part = records[-1].part if records else None
        while len(records) < recipe.epochs and not (records and is_enough is not None and is_enough(records)):
            epoch_began = time.perf_counter()
            compiled = compile == "on" or (compile == "auto" and compiling.is_worth_it(records, recipe.epochs))
            failed = False
            try:
                train_loss, rate = steps.epoch(len(records), part, compiled)
            except Exception as error:
                if ranks.count > 1:
                    raise  # the others wait for this one's gradients: they cannot be asked to begin anew
                if _is_out_of_memory(error):
                    part = _half(part or size, device, error)
                elif compiled and compile == "auto" and compiling.is_failure(error):
                    compile = "off"
                    notes.append(f"torch.compile failed, so nothing was compiled: {_in_short(error)}")
                else:
                    raise
                failed = True
            if failed:  # not in the handler: an error holds on to the tensors of the step that it ended
                steps.begin_anew(kept)
                continue
            seconds = time.perf_counter() - epoch_began
            ranks.like_first(steps.judged.buffers())
            score = evaluate(
                steps.judged, data.validation, mean=data.mean, std=data.std, device=device, precision=precision
            )
            record = EpochRecord(
                epoch=len(records) + 1,
                train_loss=train_loss,
                validation_accuracy=score.accuracy,
                validation_loss=score.loss,
                learning_rate=rate,
                seconds=seconds,
                part=part,
                compiled=compiled,
            )
            records.append(record)
            kept = steps.state.copied()
            if checkpoint is not None and ranks.index == 0:
                save_checkpoint(checkpoint, records, identity, kept)
            if after_epoch is not None:
                after_epoch(record)
        steps.finish()
    return FitResult(
        epochs=tuple(records),
        seconds=time.perf_counter() - began,
        images=len(records) * recipe.steps_per_epoch(len(data.train)) * size,
        precision=precision,
        notes=(*notes, *_notes(records, size)),
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
        sums = None
        while sums is None:
            try:
                sums = _sums(model, images, batch, normalise, device, precision)
            except Exception as error:
                if not _is_out_of_memory(error):
                    raise
                batch = _half(batch, device, error)
        right_ones, loss = Ranks.here().add(sums).tolist()
    finally:
        model.train(was_training)
    return Score(accuracy=right_ones / len(images), loss=loss / len(images), num_images=len(images))


def _sums(
    model: nn.Module, images: Images, batch: int, normalise: Normaliser, device: torch.device, precision: str
) -> Tensor:
    """float64 (2,): how many images are right, and the sum of their losses; of this process's share of the batches."""
    ranks = Ranks.here()
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    parts = torch.split(torch.arange(len(images)), batch)[ranks.index :: ranks.count]
    for part, pixels in zip(parts, images.batches(parts, device), strict=True):
        labels = images.labels[part].to(device)
        with _autocast(device, precision):
            outputs = model(normalise(pixels))
        logits = own_logits(outputs).float()
        right = (logits.argmax(1) == labels).sum()
        sums += torch.stack((right.double(), F.cross_entropy(logits, labels, reduction="sum").double()))
    return sums


class _Steps:
    """The steps of a training, an epoch at a time, and everything that they change (`state`).

    `judged` is what is validated and kept: the model, or its average.
    """

    def __init__(
        self,
        model: nn.Module,
        data: DataSet,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        precision: str,
        ranks: Ranks,
        penalty: Callable[[nn.Module], Tensor] | None,
        after_step: Callable[[nn.Module], None] | None,
    ) -> None:
        self._model, self._recipe, self._seed, self._ranks = model, recipe, seed, ranks
        self._device, self._precision = device, precision
        self._penalty, self._after_step = penalty, after_step
        self._num_images = len(data.train)
        self._batches = Batches(data, recipe, seed=seed, device=device, ranks=ranks)
        self._optimiser = _optimiser(model, recipe)
        self._averaged = _averaged(model, recipe)
        self._spread: nn.Module | None = None
        self._compiled: nn.Module | None = None
        self.judged: nn.Module = model if self._averaged is None else self._averaged.module
        self.state = State(
            networks={"model": model} if self._averaged is None else {"model": model, "average": self._averaged},
            optimiser=self._optimiser,
            generator=self._batches.generator,
            device=device,
        )

    def epoch(self, done: int, part: int | None, compiled: bool) -> tuple[float, float]:
        """One epoch after `done` others: the mean loss of its steps, without the penalty, and the last learning rate.

        Raises TrainingError where the loss, with the penalty, is not finite.
        """
        recipe, steps = self._recipe, self._recipe.steps_per_epoch(self._num_images)
        size = min(recipe.batch_size, self._num_images)
        num_parts = 1 if part is None else math.ceil(size / part)
        forward = self._forward(compiled, num_parts)
        if self._ranks.count > 1:  # so that dropout differs between processes, and is the same where one goes on
            torch.manual_seed(derive(self._seed, "epoch", done, "process", self._ranks.index))
        self._model.train()
        losses = torch.zeros(2, device=self._device)  # without and with the penalty; read once an epoch
        for step, (images, labels) in enumerate(self._batches.epoch(), done * steps):
            rate = recipe.learning_rate_at(step, self._num_images)
            for group in self._optimiser.param_groups:
                group["lr"] = rate
            self._optimiser.zero_grad(set_to_none=True)
            parts = zip(images.tensor_split(num_parts), labels.tensor_split(num_parts), strict=True)
            for number, (few, theirs) in enumerate(parts):
                with _autocast(self._device, self._precision):
                    outputs = forward(few)
                loss = _training_loss(outputs, theirs, recipe.label_smoothing)
                if (share := len(few) * self._ranks.count / size) != 1.0:  # the mean over processes is taken for us
                    loss = share * loss
                total = loss if self._penalty is None or number else loss + self._penalty(self._model)
                total.backward()  # type: ignore[no-untyped-call]
                losses += torch.stack((loss.detach(), total.detach()))
            if recipe.max_norm:
                nn.utils.clip_grad_norm_(self._model.parameters(), recipe.max_norm)
            self._optimiser.step()
            if self._averaged is not None:
                self._averaged.update_parameters(self._model)
            if self._after_step is not None:
                self._after_step(self._model)
        train_loss, objective = (self._ranks.add(losses) / (steps * self._ranks.count)).tolist()
        if not math.isfinite(objective):
            raise TrainingError(
                f"epoch {done + 1} of {recipe.epochs}: the training loss must be finite, got {objective} at learning"
                f" rate {rate:.4g} (peak {recipe.learning_rate:g}). Lower the learning rate or train in float32."
            )
        return train_loss, rate

    def begin_anew(self, kept: Mapping[str, Tensor]) -> None:
        """Back to the state that an epoch began with, with nothing left of the step that failed."""
        self._optimiser.zero_grad(set_to_none=True)
        self._compiled = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self.state.put_back(kept, "the state that the epoch began with")

    def finish(self) -> None:
        """Leaves the averaged weights in the model, if there is an average."""
        if self._averaged is not None:
            self._model.load_state_dict(self._averaged.module.state_dict())

    def _forward(self, compiled: bool, num_parts: int) -> nn.Module:
        """What computes the model's outputs. Made when first asked for: after a checkpoint has been put back."""
        if self._spread is None:
            self._spread = self._ranks.spread(self._model)
        if not compiled:
            return self._spread
        if self._compiled is None:
            self._compiled = compiling.compiled(self._spread, graphs=self._device.type == "cuda" and num_parts == 1)
        return self._compiled


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


def _is_out_of_memory(error: Exception) -> bool:
    """torch has a class for a GPU's memory only; its allocator for the CPU raises a plain RuntimeError."""
    texts = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in texts)


def _half(images: int, device: torch.device, error: Exception) -> int:
    """Half as many images at a time. Raises TrainingError where that would be too few."""
    if images <= SMALLEST_PART:
        raise TrainingError(
            f"memory of {device} ran out with {images} images at a time, and fewer are not tried:"
            f" {_in_short(error)}. Use a smaller network or smaller images, or train fewer at the"
            " same time (compute.workers)."
        ) from error
    return max(SMALLEST_PART, math.ceil(images / 2))


def _in_short(error: Exception) -> str:
    """The beginning of its text in one line; those of compilers go on for pages."""
    return " ".join(str(error).split())[:200].rstrip(".")


def _notes(epochs: Sequence[EpochRecord], size: int) -> Iterator[str]:
    """What else than the recipe the numbers of a training depend on."""
    if parts := [record for record in epochs if record.part is not None]:
        yield (
            f"memory ran out: from epoch {parts[0].epoch} on, batches of {size} images were computed {parts[-1].part}"
            " at a time; gradients were added up, but batch norm normalised over so many"
        )
    if compiled := [record for record in epochs if record.compiled]:
        plain, last = epochs[0], compiled[-1]
        gain = "" if plain.compiled else f", {last.seconds:.1f} s an epoch in place of {plain.seconds:.1f}"
        yield f"compiled by torch.compile: epochs {compiled[0].epoch} to {last.epoch}{gain}"


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
