"""The walk from scores to widths, and scores of channels that many parameters make up."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruneas.cost.limits import Limits
from pruneas.cost.projection import uniform
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.generators.ranking import Ranking, member_scores, walk
from tests.nets import model_of, structure_of


def ranking(name: str, seed: int, scope: str = "network") -> Ranking:
    rng = np.random.default_rng(seed)
    scores = {group: rng.exponential(size=width) for group, width in structure_of(name).widths.items()}
    return Ranking(scores=scores, scope=scope)


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(["vgg16", "resnet20", "mobilenet_v2"]),
    seed=st.integers(0, 99),
    share=st.floats(0, 1),
    multiple_of=st.sampled_from([1, 8]),
    scope=st.sampled_from(["network", "layer"]),
)
def test_walks_end_inside_the_budget_above_the_floor_with_the_top_scores(
    name: str, seed: int, share: float, multiple_of: int, scope: str
) -> None:
    model, legal = model_of(name), LegalWidths.of(structure_of(name), WidthRules(multiple_of=multiple_of))
    least = int(model.cost(legal.lowest, "flops"))
    most = least + int(share * (model.base.flops - least))
    given_scores = ranking(name, seed, scope)
    widths, keep = walk(given_scores, model, legal, Limits({"flops": most}))
    assert model.cost(widths, "flops") <= most
    assert legal.holds(widths)
    for group, width in model.mapping(widths).items():
        scores = given_scores.scores[group]
        assert len(keep[group]) == width
        assert sorted(scores[keep[group]]) == sorted(scores)[len(scores) - width :]


def test_the_least_important_channels_of_the_whole_network_go() -> None:
    model, legal = model_of("Chain"), LegalWidths.of(structure_of("Chain"), WidthRules(minimum=0.0))
    scores = {"a.0": np.array([5.0, 0.1, 7.0, 6.0, 8.0]), "b.0": np.array([0.2, 9.0, 9.0, 0.3, 9.0, 9.0, 9.0])}
    most = int(model.flops(model.vector({"a.0": 4, "b.0": 5})))
    widths, keep = walk(Ranking(scores=scores, scope="network"), model, legal, Limits({"flops": most}))
    assert model.mapping(widths) == {"a.0": 4, "b.0": 5}
    assert keep == {"a.0": [0, 2, 3, 4], "b.0": [1, 2, 4, 5, 6]}


def test_the_floor_keeps_a_layer_from_collapsing() -> None:
    model, legal = model_of("Chain"), LegalWidths.of(structure_of("Chain"), WidthRules(minimum=0.5))
    scores = {"a.0": np.full(5, 0.0), "b.0": np.full(7, 1.0)}
    most = int(model.flops(legal.lowest))
    widths, _ = walk(Ranking(scores=scores, scope="network"), model, legal, Limits({"flops": most}))
    assert model.mapping(widths) == {"a.0": 3, "b.0": 4}


def test_equal_scores_fall_in_the_order_of_groups_and_positions() -> None:
    model, legal = model_of("Chain"), LegalWidths.of(structure_of("Chain"), WidthRules(minimum=0.0))
    scores = {"a.0": np.ones(5), "b.0": np.ones(7)}
    results = [
        walk(Ranking(scores=scores, scope="network"), model, legal, Limits({"flops": model.base.flops // 2}))
        for _ in "ab"
    ]
    assert results[0][1] == results[1][1]
    assert all(kept == list(range(len(kept))) for kept in results[0][1].values())


def test_layer_scope_is_uniform_scaling_whatever_the_scores() -> None:
    model, legal = model_of("vgg16"), LegalWidths.of(structure_of("vgg16"), WidthRules())
    most = model.base.flops // 2
    for seed in (1, 2):
        widths, _ = walk(ranking("vgg16", seed, "layer"), model, legal, Limits({"flops": most}))
        assert widths.tolist() == uniform(model, legal, Limits({"flops": most})).tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_must_be_finite(bad: float) -> None:
    model, legal = model_of("Chain"), LegalWidths.of(structure_of("Chain"), WidthRules())
    scores = {"a.0": np.array([1.0, bad, 1, 1, 1]), "b.0": np.ones(7)}
    with pytest.raises(ValueError, match="a ranking's scores must be finite"):
        walk(Ranking(scores=scores, scope="network"), model, legal, Limits({"flops": model.base.flops}))


def test_member_scores_are_means_over_members_and_over_a_channels_indices() -> None:
    structure = structure_of("Flat")
    group = structure.groups[0]
    members = {member.parameter: member for member in group.members}
    columns, norm = members["hidden.weight"], members["a.1.weight"]
    values = {"hidden.weight": torch.arange(150.0), "a.1.weight": torch.tensor([0.0, 1, 2, 3, 4])}
    mean_column = np.arange(150.0).reshape(5, 30).mean(axis=1)
    plain = member_scores(structure, group, [columns, norm], lambda m: values[m.parameter], normalise=False)
    assert plain == pytest.approx((mean_column + np.arange(5)) / 2)
    equal = member_scores(structure, group, [columns, norm], lambda m: values[m.parameter], normalise=True)
    assert equal == pytest.approx((mean_column / mean_column.mean() + np.arange(5) / 2) / 2)
