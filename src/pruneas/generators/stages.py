"""The layer stages of a network [Liu2019, section 5]: all convolutions that put out feature maps of the same size.

Statistics of one network's stages go to another network's stage by stage, in their order from the largest map to the
smallest: those of VGG-16's five stages of 2, 2, 3, 3, 3 layers to VGG-19's of 2, 2, 4, 4, 4, at whatever input sizes.
Layers without a map (linear ones) are a stage of their own.

[Liu2019] Rethinking the Value of Network Pruning, arXiv 1810.05270
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from pruneas.architecture import Architecture
from pruneas.errors import StructureError
from pruneas.generators.method import Task
from pruneas.structure.build import structure_for
from pruneas.structure.groups import Structure

Stage = int
"""Number of a stage: 0 has the largest map. -1: no map."""


def weight_stages(structure: Structure) -> dict[str, Stage]:
    """The stage of every convolution's weight, by its map where it first ran."""
    sizes = _map_sizes(structure)
    numbers = {size: number for number, size in enumerate(sorted(set(sizes.values()), key=lambda s: (-prod(s), s)))}
    return {weight: numbers[size] for weight, size in sizes.items()}


def group_stages(structure: Structure) -> dict[str, Stage]:
    """The stage of every group: that of the first convolution that produces its channels.

    Where none does (they are selected from others), that of the first one that works on them.
    """
    stages = weight_stages(structure)
    found = {}
    for group in structure.groups:
        producers = {member.parameter for member in group.members if member.role == "out"}
        known = producers or {member.parameter for member in group.members}
        found[group.name] = next((stage for weight, stage in stages.items() if weight in known), -1)
    return found


def num_stages(structure: Structure) -> int:
    """How many stages have maps."""
    return len(set(_map_sizes(structure).values()))


def source_structures(task: Task) -> Iterator[tuple[Architecture, Structure]]:
    """Each source with the structure that its widths are of.

    Raises StructureError where a source has another number of stages, ArchitectureError where its network has changed.
    """
    for source in task.sources:
        same = (source.network, source.inputs) == (task.structure.network, task.structure.inputs)
        structure = task.structure if same else structure_for(source)
        here, there = num_stages(task.structure), num_stages(structure)
        if here != there:
            raise StructureError(
                f"network {task.structure.network}: its feature maps have {here} sizes, those of the source "
                f"{source.network} {there}: nothing can be transferred from stage to stage"
            )
        yield source, structure


def _map_sizes(structure: Structure) -> Mapping[str, tuple[int, ...]]:
    """The map that each convolution's weight puts out where it first runs, in the order in which they run."""
    sizes: dict[str, tuple[int, ...]] = {}
    for operation in structure.operations:
        if operation.kind == "conv" and operation.weight is not None:
            sizes.setdefault(operation.weight, operation.map_size)
    return sizes
