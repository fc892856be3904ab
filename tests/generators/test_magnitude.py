"""Masks by |w|: worked by hand, at the paper's counts, inside a budget; and what they leave, as widths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruneas.cost.limits import Limits
from pruneas.cost.masked import masked_cost
from pruneas.cost.projection import project
from pruneas.cost.widths import WidthRules
from pruneas.errors import StructureError
from pruneas.generators import Generated, Method, Task, magnitude
from pruneas.generators.sparse import convolutions, cut, shape_of
from tests.generators.conftest import make_task
from tests.nets import PLACES, structure_of

Tasks = Callable[..., Task]


def with_weights(task: Task, **weights: torch.Tensor) -> Task:
    assert task.state is not None
    return replace(task, state={**task.state, **{name.replace("__", "."): w for name, w in weights.items()}})


def test_the_weights_of_convolutions_are_pooled_and_no_others() -> None:
    assert convolutions(structure_of("Flat")) == ["a.0.weight"]
    assert convolutions(structure_of("Shared")) == ["stem.0.weight", "again.0.weight", "a.weight"]
    assert convolutions(structure_of("Functional")) == ["kernel", "second"]
    assert len(convolutions(structure_of("resnet20"))) == 19


def numbered(task: Task) -> Task:
    """Chain with weights of size 1 to 450, alternately negative: those of `a` are 1 to 135, those of `b` the rest."""
    signs = torch.tensor([1.0, -1.0]).repeat(225)
    values = torch.arange(1.0, 451.0) * signs
    return with_weights(task, a__0__weight=values[:135].view(5, 3, 3, 3), b__0__weight=values[135:].view(7, 5, 3, 3))


def test_one_threshold_for_all_layers(task: Tasks) -> None:
    """A share of 0.4: the threshold is the value at position int(450 * 0.4) = 180 of the sorted ones, 181."""
    found = magnitude.METHOD(replace(numbered(task("Chain")), share=0.4))
    assert found.masks is not None
    kept = torch.arange(136.0, 451.0).view(7, 5, 3, 3) > 181
    assert torch.equal(found.masks["b.0.weight"], kept)
    assert int(found.masks["b.0.weight"].sum()) == 450 - int(450 * 0.4) - 1
    # All of a's are below; its largest, the last one, stays all the same.
    assert found.masks["a.0.weight"].nonzero().tolist() == [[4, 2, 2, 2]]


def test_the_fewest_weights_go_that_a_budget_asks_for(task: Tasks) -> None:
    given = numbered(task("Chain"))
    # 100 weights are worth 100 * PLACES FLOPs: the 100 smallest go. One FLOP less, and one more goes.
    for most, gone in ((100 * PLACES, 100), (100 * PLACES + 1, 101), (101 * PLACES, 101), (0, 0)):
        found = magnitude.METHOD(replace(given, limits=Limits({"flops": given.model.base.flops - most})))
        assert found.masks is not None
        zeros = {name: int((~mask).sum()) for name, mask in found.masks.items()}
        assert zeros == {"a.0.weight": gone, "b.0.weight": 0}
        assert (~found.masks["a.0.weight"]).flatten()[:gone].all()


def test_equal_weights_go_in_the_order_of_layers_and_positions(task: Tasks) -> None:
    given = with_weights(
        task("Chain", "params=1.0"), a__0__weight=torch.ones(5, 3, 3, 3), b__0__weight=torch.ones(7, 5, 3, 3)
    )
    masks = magnitude.METHOD(replace(given, limits=Limits({"params": given.model.base.params - 140}))).masks
    assert masks is not None
    assert masks["a.0.weight"].flatten().tolist() == [True] + [False] * 134  # the first of equal largest ones
    assert masks["b.0.weight"].flatten().tolist() == [True] + [False] * 6 + [True] * 308


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(["Residual", "Dense", "Depthwise", "resnet20"]),
    seed=st.integers(0, 99),
    share=st.floats(0.4, 1.0),
    quantity=st.sampled_from(["flops", "params"]),
)
def test_masks_are_inside_the_budget_and_use_it(name: str, seed: int, share: float, quantity: str) -> None:
    task = make_task(name, str(share) if quantity == "flops" else f"params={share}")
    generator = torch.Generator().manual_seed(seed)
    assert task.state is not None
    state = {n: torch.randn(t.shape, generator=generator) if t.ndim == 4 else t for n, t in task.state.items()}
    task = replace(task, state=state)
    found = magnitude.METHOD(task)
    assert found.masks is not None
    cost = masked_cost(task.structure, task.model, found.masks, quantity)
    assert (
        task.limits.most[quantity] - (1 if quantity == "params" else 16 * 16) < cost <= task.limits.most[quantity]
    )  # a weight's uses at most
    spared = {n: mask & (state[n].abs() < state[n].abs().max()) for n, mask in found.masks.items()}  # but for the floor
    smallest = min(state[n][mask].abs().min().item() for n, mask in spared.items() if mask.any())
    largest = max([state[n][~mask].abs().max().item() for n, mask in found.masks.items() if not mask.all()], default=0)
    assert largest <= smallest


def test_a_budget_below_what_no_mask_reaches_has_uniform_widths_and_no_masks(task: Tasks) -> None:
    given = task("vgg16")
    least = int(given.model.cost(given.legal.lowest, "flops"))
    found = magnitude.METHOD(replace(given, limits=Limits({"flops": least})))
    assert found.masks is None
    assert found.widths.tolist() == given.legal.lowest.tolist()


def test_what_is_left_is_read_as_widths_by_hand(task: Tasks) -> None:
    """Densities of 0.8 and 0.2: b's channels are written by the second, a's written by the first and read by it."""
    structure = task("Chain").structure
    a, b = torch.zeros(135, dtype=torch.bool), torch.zeros(315, dtype=torch.bool)
    a[torch.randperm(135)[:108]] = True  # 0.8
    b[torch.randperm(315)[:63]] = True  # 0.2
    masks = {"a.0.weight": a.view(5, 3, 3, 3), "b.0.weight": b.view(7, 5, 3, 3)}
    assert shape_of(structure, masks) == pytest.approx(np.array([5 * (0.8 * 0.2) ** 0.25, 7 * 0.2**0.5]))


def test_equally_dense_layers_are_the_base_scaled(task: Tasks) -> None:
    given = task("resnet20")
    masks = {name: torch.ones(given.structure.shapes[name]) > 0 for name in convolutions(given.structure)}
    assert shape_of(given.structure, masks).tolist() == given.model.base_widths.tolist()
    for mask in masks.values():
        mask.view(-1)[::2] = False
    # Every second weight: within a kernel of nine 4 or 5 are left, so densities are one half but for the odd one out.
    ratios = shape_of(given.structure, masks) / given.model.base_widths
    assert ratios == pytest.approx(np.full(len(ratios), 0.5**0.5), rel=0.02)


def test_channels_are_told_apart_where_a_weight_reads_several_groups(task: Tasks) -> None:
    """Dense: b reads 5 of the stem and 3 of a. Masking what it reads of a says nothing about the stem."""
    structure = task("Dense").structure
    masks = {name: torch.ones(structure.shapes[name]) > 0 for name in convolutions(structure)}
    masks["b.0.weight"][:, 5:] = False
    masks["b.0.weight"][:, 5:, 0, 0] = True
    shape = dict(zip(structure.widths, shape_of(structure, masks), strict=True))
    assert shape["stem.0"] == pytest.approx(5)
    assert shape["a.0"] == pytest.approx(3 * (1 * 1 / 9) ** 0.25)  # written by a whole one, read by a ninth
    assert shape["b.0"] == pytest.approx(7 * ((5 + 3 / 9) / 8) ** 0.5)


def test_the_widths_are_that_shape_inside_the_budget(task: Tasks) -> None:
    given = task("resnet20", "0.4")
    found = magnitude.METHOD(given)
    assert found.masks is not None
    shape = shape_of(given.structure, found.masks)
    assert found.widths.tolist() == project(shape, given.model, given.legal, given.limits).tolist()


def test_layers_with_small_weights_become_narrow(task: Tasks) -> None:
    given = task("vgg16", "0.5")
    assert given.state is not None
    state = {n: t * (0.2 if n.startswith("features.3") and t.ndim == 4 else 1.0) for n, t in given.state.items()}
    widths = given.model.mapping(magnitude.METHOD(replace(given, state=state)).widths)
    shares = {name: widths[name] / width for name, width in given.structure.widths.items()}
    late = [share for name, share in shares.items() if name in ("features.30", "features.34", "features.37")]
    assert max(late) < min(share for name, share in shares.items() if name in ("features.17", "features.14"))


def test_a_share_is_of_channels_for_widths(task: Tasks) -> None:
    given = replace(task("vgg16", rules=WidthRules(minimum=0.0)), share=0.6)
    widths = magnitude.METHOD(given).widths
    assert abs(int(widths.sum()) - 0.4 * int(given.model.base_widths.sum())) <= len(widths)


def test_masks_beyond_the_budget_are_refused(task: Tasks) -> None:
    given = task("Chain", "0.5")
    masks = cut(replace(given, limits=Limits({"flops": given.model.base.flops})), {"a.0.weight": np.ones((5, 3, 3, 3))})
    method = Method(
        name="any", summary="", needs=frozenset(), generate=lambda t: Generated(widths=t.uniform(), masks=masks)
    )
    with pytest.raises(StructureError, match=r"generator any: its masks must leave at most \d+ flops, found \d+"):
        method(given)
