"""The width table's script: networks trained at once are trained as they would be alone."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.benchmarks.width_table import COMBINATIONS, SEEDS, Table
from tests.benchmarks.width_table.network import Plain, plain
from tests.benchmarks.width_table.train import BATCH, DECAY, MOMENTUM, NOISE, PEAK, WARMUP, Stack


def alone(network: Plain, images: torch.Tensor, labels: torch.Tensor, epochs: int, seed: int) -> None:
    """The same training, of one plain module by PyTorch's own means."""
    optimizer = torch.optim.SGD(network.parameters(), lr=PEAK, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)
    per_epoch = len(images) // BATCH
    steps = epochs * per_epoch

    def rate(step: int) -> float:
        done = (step + 1) / steps
        return done / WARMUP if done < WARMUP else 0.5 + 0.5 * np.cos(np.pi * (done - WARMUP) / (1 - WARMUP))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for batch in order[: per_epoch * BATCH].split(BATCH):
            noisy = images[batch] + NOISE * torch.randn(BATCH, 8, 8, generator=generator)
            optimizer.zero_grad()
            F.cross_entropy(network(noisy[:, None]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    network.eval()


def test_a_stack_trains_each_network_as_it_would_be_trained_alone() -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(3 * BATCH, 8, 8, dtype=torch.float64), torch.randint(10, (3 * BATCH,))
    widths = [[2, 4, 6, 10, 16], [16, 2, 10, 4, 2], [6, 6, 6, 6, 6]]
    torch.set_default_dtype(torch.float64)  # so that the order of sums does not matter
    try:
        networks = [plain(each) for each in widths]
        stack = Stack(networks, seeds=[7, 8, 9])
        stack.train(images, labels, epochs=2)
        losses, accuracies = stack.evaluate(images, labels)
        for index, network in enumerate(networks):
            alone(network, images, labels, epochs=2, seed=7 + index)
            with torch.no_grad():
                logits = network(images[:, None])
            assert losses[index].item() == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)
            assert accuracies[index].item() == (logits.argmax(1) == labels).double().mean().item()
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_table_in_the_making_is_refused(tmp_path) -> None:
    table = Table.empty()
    table.losses[:3] = 0.5
    table.write(tmp_path / "table.npz")
    assert Table.read(tmp_path / "table.npz").num_trained == 3
    with pytest.raises(ValueError, match=f"3 of {len(COMBINATIONS)} combinations are trained"):
        Table.complete(tmp_path / "table.npz")
    table.losses[:] = 0.5
    table.write(tmp_path / "table.npz")
    assert Table.complete(tmp_path / "table.npz").losses.shape == (len(COMBINATIONS), SEEDS)
