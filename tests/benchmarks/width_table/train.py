"""Train all networks of the width table, three times each: hours, and the table is the ground truth of strategies.

    python -m tests.benchmarks.width_table.train --pilot         # spread over architectures beside the seeds' noise
    python -m tests.benchmarks.width_table.train [--out FILE] [--workers N]    # train what is missing, write table.npz

A worker takes one core. The script goes on where it stopped: whatever was trained is in the file, which is replaced
whole after every stack.

Many networks are trained at once as one grouped convolution, a group a network, and every network is embedded in one of
the greatest widths: weights of channels that it does not have begin at zero. A channel of zeros stays one (batch norm
gives its shift, which is zero, and nothing depends on it), and so do its weights, whose gradients and decay are zero.
So each is trained exactly as it would be alone, three to four times faster on one core.
"""

import argparse
import multiprocessing
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from pruneas.seeds import derive
from tests.benchmarks.width_table import COMBINATIONS, FILE, SEEDS, WIDTHS, Table
from tests.benchmarks.width_table.network import CLASSES, STRIDES, Plain, plain

EPOCHS, BATCH, PEAK, WARMUP, MOMENTUM, DECAY = 20, 64, 0.1, 0.25, 0.9, 5e-4
TRAINING = 900
"""Of the 1,797 images; the others are for validation. A fixed split, the same for all."""
STACK = 4
"""Combinations trained at once, with all their seeds. Beyond a dozen networks the work leaves the cache."""
NOISE = 0.7
"""Deviation of what is added to the training images, in theirs: seeds scatter less than on clean ones."""
NORM = 0.1
"""Batch norm's momentum, PyTorch's default."""


class Stack:
    """Networks of several widths as one. `networks` give the initial weights, `seeds` the order of images and noise."""

    def __init__(self, networks: Sequence[Plain], seeds: Sequence[int]) -> None:
        self.size, self.seeds = len(networks), seeds
        widest = max(WIDTHS)
        channels = [1] + [widest] * len(STRIDES)
        self.weights = [torch.zeros(self.size * outputs, inputs, 3, 3) for inputs, outputs in pairwise(channels)]
        self.scales = [torch.ones(self.size * widest) for _ in STRIDES]
        self.shifts = [torch.zeros(self.size * widest) for _ in STRIDES]
        self.head, self.bias = torch.zeros(self.size, widest, CLASSES), torch.zeros(self.size, 1, CLASSES)
        for index, network in enumerate(networks):
            for layer, convolution in enumerate(network.convolutions):
                outputs, inputs = convolution.weight.shape[:2]
                first = index * widest
                self.weights[layer][first : first + outputs, :inputs] = convolution.weight.detach()
            width = network.classifier.in_features
            self.head[index, :width] = network.classifier.weight.detach().T
            self.bias[index, 0] = network.classifier.bias.detach()
        self.means = [torch.zeros(self.size * widest) for _ in STRIDES]
        self.variances = [torch.ones(self.size * widest) for _ in STRIDES]

    @property
    def parameters(self) -> list[Tensor]:
        return [*self.weights, *self.scales, *self.shifts, self.head, self.bias]

    def __call__(self, images: Tensor, *, training: bool) -> Tensor:
        """Logits of images (batch, networks, 8, 8): (networks, batch, classes)."""
        features = images
        for layer, stride in enumerate(STRIDES):
            features = F.conv2d(features, self.weights[layer], None, stride, 1, 1, self.size)
            features = F.batch_norm(
                features,
                self.means[layer],
                self.variances[layer],
                self.scales[layer],
                self.shifts[layer],
                training,
                NORM,
            ).relu_()
        pooled = features.mean((2, 3)).view(len(images), self.size, -1).transpose(0, 1)
        return torch.baddbmm(self.bias, pooled, self.head)

    def train(self, images: Tensor, labels: Tensor, epochs: int) -> None:
        """SGD with Nesterov momentum; the rate rises to its peak and falls to zero as a cosine."""
        for parameter in self.parameters:
            parameter.requires_grad_()
        optimizer = torch.optim.SGD(
            self.parameters, lr=PEAK, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY, foreach=True
        )
        generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        steps_per_epoch = len(images) // BATCH
        step, steps = 0, epochs * steps_per_epoch
        for _ in range(epochs):
            orders = torch.stack([torch.randperm(len(images), generator=each) for each in generators], dim=1)
            for batch in orders[: steps_per_epoch * BATCH].split(BATCH):  # (batch, networks)
                done = (step + 1) / steps
                rate = done / WARMUP if done < WARMUP else 0.5 + 0.5 * np.cos(np.pi * (done - WARMUP) / (1 - WARMUP))
                optimizer.param_groups[0]["lr"] = PEAK * rate
                noise = torch.stack([torch.randn(BATCH, 8, 8, generator=each) for each in generators], dim=1)
                logits = self(images[batch] + NOISE * noise, training=True)
                loss = F.cross_entropy(logits.reshape(-1, CLASSES), labels[batch].T.reshape(-1), reduction="sum")
                optimizer.zero_grad()
                (loss / BATCH).backward()
                optimizer.step()
                step += 1

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean log-loss and accuracy of each network. Shapes (networks,)."""
        logits = self(images[:, None].expand(-1, self.size, -1, -1), training=False)
        losses = F.cross_entropy(logits.transpose(1, 2), labels.expand(self.size, -1), reduction="none").mean(1)
        return losses, (logits.argmax(2) == labels).double().mean(1)


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, validation images and labels. Images (n, 8, 8), about zero mean and unit spread."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.images))
    images = torch.tensor((data.images - 4.9) / 6.0, dtype=torch.float32)[order]
    labels = torch.tensor(data.target)[order]
    return images[:TRAINING], labels[:TRAINING], images[TRAINING:], labels[TRAINING:]


def trained(trainings: Sequence[tuple[Sequence[int], int]], epochs: int = EPOCHS) -> tuple[Tensor, Tensor]:
    """Log-loss and accuracy on the validation images of networks of these widths, trained with these seeds."""
    images, labels, validation, answers = digits()
    networks = []
    for widths, seed in trainings:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            networks.append(plain(list(widths)))
    stack = Stack(networks, [seed for _, seed in trainings])
    stack.train(images, labels, epochs)
    return stack.evaluate(validation, answers)


def measured(part: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """These combinations, their log-losses and accuracies (combinations, SEEDS), and seconds of a core."""
    began = time.process_time()
    pairs = [(int(combination), index) for combination in part for index in range(SEEDS)]
    losses, accuracies = trained([(COMBINATIONS[c], seed_of(c, index)) for c, index in pairs])
    shape = len(part), SEEDS
    return part, losses.view(shape).numpy(), accuracies.view(shape).numpy(), time.process_time() - began


def seed_of(combination: int, index: int) -> int:
    """Each training has a seed of its own: networks of different widths share no more than those of the same."""
    return derive(0, "width table", combination, index)


def pilot(num: int, seeds: int) -> None:
    """Spread over architectures, and the noise of a mean over SEEDS seeds, from a sample of the table."""
    chosen = np.random.default_rng(1).choice(len(COMBINATIONS), num, replace=False)
    began, losses = time.process_time(), []
    for part in np.array_split(chosen, -(-num * seeds // (STACK * SEEDS))):
        found, _ = trained([(COMBINATIONS[c], seed_of(int(c), index)) for c in part for index in range(seeds)])
        losses.append(found.view(len(part), seeds).double().numpy())
    took = (time.process_time() - began) / (num * seeds)
    values = np.concatenate(losses)
    for combination, row in zip(chosen, values, strict=True):
        print(*COMBINATIONS[combination], " ", " ".join(f"{value:.4f}" for value in row))
    print(f"{took:.2f} s of a core a training: {took * len(COMBINATIONS) * SEEDS / 3600:.1f} h for the table")
    report(values)


def report(values: np.ndarray) -> None:
    """Print spread and noise of log-losses (architectures, seeds).

    The noise of a mean over SEEDS seeds: the root of the mean variance over seeds divided by SEEDS. The spread: the
    standard deviation of the architectures' means, less what of it is noise.
    """
    variance = values.var(axis=1, ddof=1).mean()
    noise = np.sqrt(variance / SEEDS)
    spread = np.sqrt(values.mean(axis=1).var(ddof=1) - variance / values.shape[1])
    print(
        f"{len(values)} architectures, {values.shape[1]} seeds: log-loss {values.mean():.3f}, spread {spread:.4f}, "
        f"noise of a mean over {SEEDS} seeds {noise:.4f}: {spread / noise:.1f} times"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pilot", action="store_true", help="train a sample only, and say what the table would show")
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.pilot:
        pilot(num=20, seeds=5)
        return
    table = Table.read(arguments.out) if arguments.out.exists() else Table.empty()
    order = np.random.default_rng(0).permutation(len(COMBINATIONS))  # so that a part of the table is a sample of it
    parts = [
        part for part in np.split(order, np.arange(STACK, len(order), STACK)) if np.isnan(table.losses[part]).any()
    ]
    with multiprocessing.get_context("spawn").Pool(arguments.workers, torch.set_num_threads, (1,)) as pool:
        for part, losses, accuracies, took in pool.imap_unordered(measured, parts):
            table.losses[part], table.accuracies[part] = losses, accuracies
            table.write(arguments.out)
            print(f"{table.num_trained} of {len(COMBINATIONS)} combinations, {took:.1f} s", flush=True)
    report(table.losses.astype(np.float64))


if __name__ == "__main__":
    main()
