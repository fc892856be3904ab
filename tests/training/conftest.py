"""Small data for the training tests, and a cache folder of their own."""

import math
from pathlib import Path

import pytest
import torch

from pruneas.training import DataSet, Images


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pruneas" / "images"


@pytest.fixture
def small() -> DataSet:
    """53 + 17 + 19 random images of 3 x 7 x 11 pixels; class k of three is bright in channel k."""
    generator = torch.Generator().manual_seed(5)

    def part(count: int) -> Images:
        labels = torch.arange(count) % 3
        noise = torch.randint(0, 100, (count, 3, 7, 11), generator=generator, dtype=torch.uint8)
        noise[torch.arange(count), labels] += 100
        return Images(store=noise, labels=labels)

    return DataSet(
        train=part(53),
        validation=part(17),
        test=part(19),
        classes=("a", "b", "c"),
        fingerprint="0",
        mean=(0.3, 0.4, 0.5),
        std=(0.2, 0.3, math.sqrt(0.05)),
    )
