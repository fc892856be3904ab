"""The training loop that everyone copies, which pruneas's trainer is measured against. It uses nothing of pruneas.

A torchvision data set, transforms of PIL images in a DataLoader, float32, NCHW, plain SGD. The learning rate follows
whatever function of the step it is given, so that both learn by the same recipe.
"""

import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class InMemory(Dataset):
    """Images as torchvision's CIFAR10 holds and gives them: decoded once, made into a PIL image at each access."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, transform: Callable) -> None:
        self.data = images.permute(0, 2, 3, 1).contiguous().numpy()  # (n, h, w, c)
        self.targets = labels.tolist()
        self.transform = transform

    def __getitem__(self, index: int):
        return self.transform(Image.fromarray(self.data[index])), self.targets[index]

    def __len__(self) -> int:
        return len(self.data)


def augmentation(mean: Sequence[float], std: Sequence[float]) -> Callable:
    return transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


def train(
    model: nn.Module,
    dataset: Dataset,
    *,
    epochs: int,
    batch_size: int,
    workers: int,
    rate: Callable[[int], float],
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    label_smoothing: float,
    seed: int,
) -> list[float]:
    """Train in place. Returns the seconds of each epoch; DataLoader workers start in the first."""
    torch.manual_seed(seed)
    loader = DataLoader(
        dataset, batch_size, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=rate(0), momentum=momentum, nesterov=nesterov, weight_decay=weight_decay
    )
    seconds, step = [], 0
    for _ in range(epochs):
        began = time.perf_counter()
        model.train()
        for images, labels in loader:
            optimizer.param_groups[0]["lr"] = rate(step)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels, label_smoothing=label_smoothing)
            loss.backward()
            optimizer.step()
            step += 1
        seconds.append(time.perf_counter() - began)
    return seconds
