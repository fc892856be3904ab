"""Guided sparsification [Liu2019, section 5]: which places of kernels pruned networks keep, as a design for a new one.

In each stage (`stages.py`) and for each size of kernel, the share of all kernels that keep a place is the place's
probability: a 3 x 3 map; several sources are averaged. New masks draw every weight on its own with the probability
of its place. That they are independent (Bernoulli) is our reading of the paper, which does not say how it samples.
From one network and data set to another it is transferred guided sparsification.

To fit a budget all probabilities p are scaled alike: with u drawn evenly from [0, 1), a weight stays where u < c * p,
so c decides how many go, and p / u is how long a weight lasts. Widths are read off the masks as in `sparse.py`. Kernels
of a size that the sources do not have in a stage count as whole in them (p = 1).

[Liu2019] Rethinking the Value of Network Pruning, arXiv 1810.05270
"""

import numpy as np
import numpy.typing as npt

from pruneas.errors import StructureError
from pruneas.generators.method import Generated, Method, Task
from pruneas.generators.sparse import convolutions, sparse
from pruneas.generators.stages import source_structures, weight_stages
from pruneas.structure.groups import Structure
from pruneas.structure.masks import Masks

Maps = dict[tuple[int, tuple[int, ...]], npt.NDArray[np.float64]]
"""By stage and size of kernel, how probable each place of a kernel is kept. Shape (size of the kernel,)."""


def generate(task: Task) -> Generated:
    """Masks drawn by the stages' maps, and widths by what they leave."""
    maps, stages = keep_maps(task), weight_stages(task.structure)
    rng = np.random.default_rng(task.seed)
    lasting = {}
    for name in convolutions(task.structure):
        shape = task.structure.shapes[name]
        probable = maps.get((stages[name], shape[2:]), np.ones(shape[2:]))
        lasting[name] = probable / np.maximum(rng.random(shape), 1e-12)
    return sparse(task, lasting)


def keep_maps(task: Task) -> Maps:
    """The share of a stage's kernels that keep each place, over all kernels of a source, then over sources.

    Raises StructureError where a source has no masks.
    """
    averages: dict[tuple[int, tuple[int, ...]], list[npt.NDArray[np.float64]]] = {}
    for source, structure in source_structures(task):
        if source.mask is None or source.mask not in task.masks:
            raise StructureError(
                f"generator guided-sparsity needs sources with masks; that of {source.network} has none"
            )
        for key, each in maps_of(structure, task.masks[source.mask]).items():
            averages.setdefault(key, []).append(each)
    return {key: np.mean(each, axis=0) for key, each in averages.items()}


def maps_of(structure: Structure, masks: Masks) -> Maps:
    """The share of a stage's kernels that keep each place, over all kernels of a size."""
    stages = weight_stages(structure)
    kernels: dict[tuple[int, tuple[int, ...]], list[npt.NDArray[np.bool_]]] = {}
    for name in convolutions(structure):
        if name in masks:
            size = structure.shapes[name][2:]
            kernels.setdefault((stages[name], size), []).append(masks[name].numpy().reshape(-1, *size))
    return {key: np.concatenate(each).mean(axis=0) for key, each in kernels.items()}


METHOD = Method(
    name="guided-sparsity",
    summary="masks drawn by how often pruned networks keep each place of a kernel in each stage (Liu 2019)",
    needs=frozenset({"sources"}),
    generate=generate,
)
