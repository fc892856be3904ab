"""What the paper's arms begin with, and the recipes that train them."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from pruneas.compare.arms import RATES, Arms, Candidate, Starts, default_cap, starts
from pruneas.generators import METHODS
from pruneas.search.propose import GeneratorRecord
from pruneas.structure.build import build_widths, inherit, leading
from pruneas.training import DataSource, Recipe


def state_of(givens, seed):
    return build_widths(givens.structure, givens.structure.widths, seed=seed).state_dict()


def record_of(givens, method, **changes):
    widths = givens.model.mapping(givens.uniform)
    keep = {name: list(range(base - widths[name], base)) for name, base in givens.structure.widths.items()}
    values = {
        "method": method, "widths": widths, "removed": [], "flops": 1, "params": 1, "keep": keep, "scope": None,
        "scores": None, "weights": None, "seed": 5, "images": 0, "seconds": 0.0,
    }  # fmt: skip
    return GeneratorRecord(**values | changes)


@pytest.fixture
def began(givens, tmp_path):
    """A trained base network (made up), and what a method's arms begin with."""
    save_file(state_of(givens, seed=11), tmp_path / "base.safetensors")

    def made(method, masked=False, base_seed=7, **changes):
        return starts(
            givens.structure,
            METHODS[method],
            record_of(givens, method, **changes),
            generators=tmp_path,
            base=tmp_path / "base.safetensors",
            base_seed=base_seed,
            folder=tmp_path / "starts",
            masked=masked,
        )

    return made


def same(path, state):
    found = load_file(path)
    return found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


def test_what_is_kept_of_the_trained_base_is_inherited_and_the_ticket_is_its_own_beginning(givens, began):
    keep = record_of(givens, "l1").keep
    found = began("l1")
    assert same(found.inherited, inherit(givens.structure, state_of(givens, 11), keep))
    assert same(found.original, inherit(givens.structure, state_of(givens, 7), keep))
    build_widths(givens.structure, record_of(givens, "l1").widths).load_state_dict(load_file(found.inherited))


def test_methods_that_train_leave_their_own_network_and_its_beginning(givens, began, tmp_path):
    save_file(state_of(givens, seed=13), tmp_path / "slimming.trained.safetensors")
    keep = record_of(givens, "slimming").keep
    found = began("slimming", trained="slimming.trained.safetensors")
    assert same(found.inherited, inherit(givens.structure, state_of(givens, 13), keep))
    assert same(found.original, inherit(givens.structure, state_of(givens, 5), keep))  # the record's seed


def test_weights_of_the_methods_own_are_taken_as_they_are(givens, began, tmp_path):
    state = inherit(givens.structure, state_of(givens, 17), record_of(givens, "thinet").keep)
    save_file(dict(state), tmp_path / "own.safetensors")
    assert same(began("thinet", weights="own.safetensors").inherited, state)


def test_with_masks_the_whole_base_network_is_inherited(givens, began):
    found = began("magnitude", masked=True, keep=None)
    whole = leading(givens.structure, givens.structure.widths)
    assert same(found.inherited, inherit(givens.structure, state_of(givens, 11), whole))


def test_where_nothing_can_be_inherited_it_is_said_why(began):
    assert began("random") == Starts()
    assert began("l1", keep=None).without == "the method does not say which channels it keeps"
    given = began("l1", base_seed=None)
    assert given.inherited is not None and given.original is None
    assert given.without.startswith("the base network was not trained here")
    assert began("slimming").inherited is None


@pytest.fixture
def arms(givens):
    return Arms(
        structure=givens.structure,
        base_flops=1000,
        data=DataSource(source="digits", shape=(1, 8, 8), training=60, validation=40, seed=0, download=False),
        recipe=Recipe(epochs=8, learning_rate=0.2),
        device="cpu",
        cap=math.inf,
    )


@pytest.fixture
def candidate(givens, tmp_path):
    return Candidate(
        widths=givens.structure.widths, flops=300, params=1, built_flops=300, built_params=1,
        starts=Starts(inherited=tmp_path / "inherited", original=tmp_path / "original"),
    )  # fmt: skip


def test_each_arm_has_its_recipe_and_its_beginning(arms, candidate):
    one = {arm: arms.trainings(candidate, arm, 3) for arm in ("scratch-e", "scratch-b", "ticket", "fine-tuned")}
    assert one["scratch-e"][None].recipe == one["ticket"][None].recipe == arms.recipe
    assert one["scratch-b"][None].recipe.epochs == int(8 * 1000 / 300)
    assert list(one["fine-tuned"]) == list(RATES)
    tuned = [training.recipe for training in one["fine-tuned"].values()]
    assert [recipe.learning_rate for recipe in tuned] == pytest.approx([0.2 * rate for rate in RATES])
    assert {(recipe.epochs, recipe.schedule) for recipe in tuned} == {(2, "constant")}
    assert one["scratch-e"][None].initial is one["scratch-b"][None].initial is None
    assert one["ticket"][None].initial == candidate.starts.original
    assert {training.initial for training in one["fine-tuned"].values()} == {candidate.starts.inherited}
    assert all(training.test and training.seed == 3 for each in one.values() for training in each.values())


def test_scratch_b_is_capped_where_the_paper_caps_it(arms, candidate):
    from dataclasses import replace

    assert replace(arms, cap=2.0).trainings(candidate, "scratch-b", 3)[None].recipe.epochs == 16
    assert default_cap((3, 32, 32)) == math.inf and default_cap((3, 224, 224)) == 2.0


def test_an_arm_without_its_weights_has_no_trainings(arms, candidate):
    from dataclasses import replace

    bare = replace(candidate, starts=Starts())
    assert arms.trainings(bare, "ticket", 3) == arms.trainings(bare, "fine-tuned", 3) == {}
    assert len(arms.trainings(bare, "scratch-e", 3)) == 1
