"""What is taken away: the value that every format is written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pruneas.architecture import Architecture
from pruneas.structure.groups import Structure


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An architecture, its base network's structure, and the network in evaluation mode.

    `weights` is the file that its weights are from, None where it is freshly initialised; `mask` the file of masks of a
    masked one. Of a run, `result` is the text of its result and `facts` what it says of its weights.
    """

    architecture: Architecture
    structure: Structure
    network: nn.Module
    weights: Path | None
    mask: Path | None
    result: str | None
    facts: Mapping[str, Any]

    @property
    def has_weights(self) -> bool:
        return self.weights is not None

    @property
    def origin(self) -> str:
        """Where the weights are from, as a sentence's end."""
        if self.weights is None:
            return "freshly initialised by the network's own factory, seed 0: not trained"
        if self.facts:
            return f"of seed {self.facts['seed']}, trained on {self.facts['trained_on']}"
        return f"as they were given ({self.weights.name})"

    def widths(self) -> list[tuple[str, int, int | None]]:
        """Group, base width, width here: None where the branch that holds it is taken out."""
        here = self.architecture.widths
        return [(name, width, here.get(name)) for name, width in self.structure.widths.items()]
