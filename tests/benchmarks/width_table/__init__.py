"""The validation log-loss of every network of a grid of widths: what a search strategy would find, known in advance.

Five convolutions (`network.py`) of five widths each, every combination trained on digits with three seeds (`train.py`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pruneas.files import replacing

WIDTHS = (2, 4, 6, 10, 16)
SEEDS = 3
COMBINATIONS = list(itertools.product(WIDTHS, repeat=5))
FILE = Path(__file__).with_name("table.npz")


@dataclass(frozen=True, slots=True)
class Table:
    """Validation log-loss and accuracy, NaN where nothing is trained yet. Shapes (combinations, seeds)."""

    losses: npt.NDArray[np.float32]
    accuracies: npt.NDArray[np.float32]

    @classmethod
    def empty(cls) -> Table:
        return cls(*(np.full((len(COMBINATIONS), SEEDS), np.nan, dtype=np.float32) for _ in range(2)))

    @classmethod
    def read(cls, path: Path = FILE) -> Table:
        """A table that may be in the making. Raises ValueError for the table of another grid."""
        with np.load(path) as arrays:
            if tuple(arrays["widths"]) != WIDTHS or arrays["losses"].shape != (len(COMBINATIONS), SEEDS):
                raise ValueError(f"{path}: is the table of widths {arrays['widths']}, not of {WIDTHS}")
            return cls(arrays["losses"], arrays["accuracies"])

    @classmethod
    def complete(cls, path: Path = FILE) -> Table:
        """The whole table. Raises ValueError for one in the making: regret against a part of it means nothing."""
        table = cls.read(path)
        if table.num_trained < len(COMBINATIONS):
            raise ValueError(
                f"{path}: {table.num_trained} of {len(COMBINATIONS)} combinations are trained; go on with "
                "python -m tests.benchmarks.width_table.train"
            )
        return table

    @property
    def num_trained(self) -> int:
        return int((~np.isnan(self.losses)).all(axis=1).sum())

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, widths=np.array(WIDTHS), losses=self.losses, accuracies=self.accuracies)
