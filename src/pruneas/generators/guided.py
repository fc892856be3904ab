"""Guided pruning [Liu2019, section 5]: pruned networks' widths, averaged over each stage, as a design for a new one.

A stage is all layers whose feature maps have the same size (`stages.py`). Every group of a stage gets the average share
of the base's width that the sources' groups of that stage kept; several sources (seeds) are averaged. That design is
projected onto the budget. From one network and data set to another it is transferred guided pruning: nothing large
is trained on the target.

Departure: the paper averages widths. Where all layers of a stage have one base width, as in VGG, shares give the same;
where they have not (a bottleneck's inner and outer channels), only shares mean something.

[Liu2019] Rethinking the Value of Network Pruning, arXiv 1810.05270
"""

import numpy as np

from pruneas.errors import StructureError
from pruneas.generators.method import Generated, Method, Task
from pruneas.generators.stages import group_stages, source_structures


def generate(task: Task) -> Generated:
    """The base's widths times the stages' average shares, projected onto the budget."""
    shares = stage_shares(task)
    stages = group_stages(task.structure)
    if unknown := [name for name in task.changing if stages[name] not in shares]:
        raise StructureError(f"generator guided: no source has groups in the stage of {', '.join(unknown[:4])}")
    shape = [width * shares.get(stages[name], 1.0) for name, width in task.structure.widths.items()]
    return Generated(widths=task.project(np.array(shape)))


def stage_shares(task: Task) -> dict[int, float]:
    """The average share of the base's width that groups of each stage have: over a source's groups, then over sources.

    Groups that a source has lost with a branch are none of its groups.
    """
    averages: dict[int, list[float]] = {}
    for source, structure in source_structures(task):
        stages = group_stages(structure)
        kept: dict[int, list[float]] = {}
        for name, width in source.widths.items():
            kept.setdefault(stages[name], []).append(width / structure.widths[name])
        for stage, shares in kept.items():
            averages.setdefault(stage, []).append(float(np.mean(shares)))
    return {stage: float(np.mean(each)) for stage, each in averages.items()}


METHOD = Method(
    name="guided",
    summary="widths of pruned networks, averaged over each stage, as a design for this one (Liu 2019)",
    needs=frozenset({"sources"}),
    generate=generate,
)
