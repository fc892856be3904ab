"""What every method is held to before and after it runs, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pruneas.cost.widths import WidthRules
from pruneas.errors import StructureError
from pruneas.generators import Generated, Method, Ranking, Task
from pruneas.generators.method import Need

Tasks = Callable[..., Task]


def method(*needs: Need, found: Callable[[Task], Generated] = lambda task: Generated(widths=task.uniform())) -> Method:
    return Method(name="any", summary="", needs=frozenset(needs), generate=found)


@pytest.mark.parametrize(
    ("need", "without", "name", "why"),
    [
        ("weights", {"state": None}, "Chain", "the base network is not trained"),
        ("data", {"images": None}, "Chain", "there are no images"),
        ("training", {"train": None}, "Chain", "there is nothing to train on"),
        ("sources", {"sources": ()}, "Chain", "there are no architectures to learn from"),
        ("blocks", {}, "Chain", "no residual branch can be taken out"),
        ("batch norm", {}, "GroupNormed", "groups without one: a, b"),
    ],
)
def test_a_need_that_is_not_met_is_told_by_its_word(
    task: Tasks, need: Need, without: dict[str, object], name: str, why: str
) -> None:
    given = replace(task(name), **without)
    with pytest.raises(StructureError, match=f"generator any needs {need}: {why}"):
        method(need)(given)
    assert method()(given).widths.tolist() == given.uniform().tolist()


def test_widths_that_are_illegal_or_too_dear_are_refused(task: Tasks) -> None:
    given = task("Chain", "0.5")
    for widths in (given.model.base_widths, given.legal.lowest - 1):
        with pytest.raises(
            StructureError, match=r"generator any: its widths must be legal and cost at most [\d,]+ FLOPs"
        ):
            method(found=lambda _, widths=widths: Generated(widths=widths))(given)


def test_a_share_of_the_channels_in_place_of_a_budget(task: Tasks) -> None:
    given = replace(task("Chain", rules=WidthRules(minimum=0.0)), share=0.6)
    widths = dict(given.structure.widths)  # {a: 5, b: 7}
    assert given.model.mapping(given.uniform()) == {name: int(width * 0.4) for name, width in widths.items()}
    scores = {name: np.arange(1.0, width + 1) for name, width in widths.items()}
    found, keep = given.walk(Ranking(scores=scores, scope="network"))
    # All twelve scores sorted: 1 1 2 2 3 3 4 4 5 5 6 7; the threshold is number int(12 * 0.6) = 7, a 4.
    assert given.model.mapping(found) == {"a.0": 1, "b.0": 3}
    assert keep == {"a.0": [4], "b.0": [4, 5, 6]}
    found, keep = given.walk(Ranking(scores=scores, scope="layer"))
    assert given.model.mapping(found) == {"a.0": 2, "b.0": 2}
    assert keep == {"a.0": [3, 4], "b.0": [5, 6]}


def test_walking_by_share_keeps_the_papers_number_of_channels(task: Tasks) -> None:
    """Kept is total - int(total * share) - 1 [Liu2017's code]: 1,689 of VGG-16's 4,224 at 60 %."""
    given = replace(task("vgg16", rules=WidthRules(minimum=0.0)), share=0.6)
    rng = np.random.default_rng(0)
    scores = {name: rng.random(width) for name, width in given.structure.widths.items()}
    widths, _ = given.walk(Ranking(scores=scores, scope="network"))
    total = int(given.model.base_widths.sum())
    assert int(widths.sum()) == total - int(total * 0.6) - 1
