"""Uniform scaling: the same share of every layer. The baseline that every other architecture is held against."""

from pruneas.generators.method import Generated, Method, Task


def generate(task: Task) -> Generated:
    """As large a common share as the budget allows, every group within a step of it."""
    return Generated(widths=task.uniform())


METHOD = Method(
    name="uniform",
    summary="the same share of every layer: the baseline",
    needs=frozenset(),
    generate=generate,
    uniform_widths=True,
)
