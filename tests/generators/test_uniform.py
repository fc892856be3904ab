"""The baseline is the projection of the base's own shape, and nothing that needs training."""

from collections.abc import Callable

from pruneas.cost.projection import uniform
from pruneas.generators import METHODS, Task


def test_it_is_uniform_scaling_and_needs_nothing(task: Callable[..., Task]) -> None:
    given = task("resnet20")
    found = METHODS["uniform"].generate(given)
    assert found.widths.tolist() == uniform(given.model, given.legal, given.limits).tolist()
    assert found.keep is None and found.ranking is None
    assert METHODS["uniform"].needs == frozenset()
