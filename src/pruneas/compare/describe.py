"""What architectures and trained weights look like: widths over base networks, kept places of kernels, weights.

[Liu2019] Rethinking the Value of Network Pruning, arXiv 1810.05270: table 7, figure 4, appendix F
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from pruneas.generators.guided_sparsity import Maps, maps_of
from pruneas.generators.sparse import convolutions
from pruneas.structure.groups import Structure
from pruneas.structure.masks import read_masks

BINS = 61
"""An odd number, so that weights around zero are in one bin."""


def width_moments(found: Sequence[Mapping[str, int]]) -> tuple[dict[str, float], dict[str, float] | None]:
    """Mean and sample standard deviation (None of one) of each group's width; of those that all have."""
    names = [name for name in found[0] if all(name in widths for widths in found)]
    each = {name: [widths[name] for widths in found] for name in names}
    mean = {name: statistics.fmean(widths) for name, widths in each.items()}
    return mean, {n: statistics.stdev(widths) for n, widths in each.items()} if len(found) > 1 else None


def mean_maps(structure: Structure, masks: Sequence[Path]) -> Maps:
    """By stage and size of kernel the share of kernels that keep each place, over mask files. Kernels of one place are
    left out."""
    found = [maps_of(structure, read_masks(path)) for path in masks]
    return {key: np.mean([maps[key] for maps in found], axis=0) for key in found[0] if np.prod(key[1]) > 1}


def weights_left(structure: Structure, weights: Path, masks: Path | None) -> torch.Tensor:
    """All weights of the convolutions of a trained network that no mask hides. (weights,)"""
    state = load_file(weights)
    hidden = {} if masks is None else read_masks(masks)
    names = [name for name in convolutions(structure) if name in state]
    parts = [state[name][hidden[name]] if name in hidden else state[name].flatten() for name in names]
    return torch.cat(parts).float() if parts else torch.zeros(0)


def histogram(values: torch.Tensor, limit: float) -> tuple[int, ...]:
    """Counts of `BINS` equal bins from -limit to limit; what is beyond is in the outermost."""
    return tuple(map(int, torch.histc(values.clamp(-limit, limit), BINS, -limit, limit).tolist()))
