import dataclasses
import json

import pytest

from pruneas.training import Recipe


def test_one_cycle_rises_and_falls_in_straight_lines():
    recipe = Recipe(epochs=1)
    assert [recipe.factor(progress) for progress in (0.0, 0.125, 0.25, 0.625, 1.0)] == [0.0, 0.5, 1.0, 0.5, 0.0]


def test_one_cycle_without_warm_up_starts_at_the_peak():
    recipe = Recipe(epochs=1, warmup=0.0)
    assert recipe.factor(0.0) == 1.0
    assert recipe.factor(0.5) == 0.5


def test_a_constant_schedule_has_no_warm_up():
    recipe = Recipe(epochs=1, schedule="constant")
    assert {recipe.factor(progress / 7) for progress in range(8)} == {1.0}


def test_the_learning_rate_of_a_step_is_the_schedule_half_way_through_it():
    recipe = Recipe(epochs=2, batch_size=10, learning_rate=0.8, warmup=0.25)  # 23 images: 2 steps an epoch, 4 in all
    assert recipe.steps_per_epoch(23) == 2
    rates = [recipe.learning_rate_at(step, 23) for step in range(4)]
    assert rates == pytest.approx([0.8 * 1 / 2, 0.8 * 5 / 6, 0.8 * 3 / 6, 0.8 * 1 / 6])
    assert recipe.total_learning_rate(23) == pytest.approx(1.6)  # the area of the triangle: 0.8 x 4 / 2


def test_fewer_images_than_a_batch_are_one_step():
    assert Recipe(epochs=3, batch_size=128).steps_per_epoch(7) == 1


def test_a_recipe_is_its_json():
    recipe = Recipe(epochs=12, crop=2)
    assert Recipe(**json.loads(json.dumps(dataclasses.asdict(recipe)))) == recipe


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"learning_rate": -0.1}, "learning_rate must be positive, got -0.1"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive, got nan"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"momentum": 0.0}, "nesterov must be False where momentum is 0"),
        ({"warmup": 1.0}, r"warmup must be in \[0, 1\), got 1.0"),
        ({"schedule": "cosine"}, "schedule must be one of one-cycle, constant, got 'cosine'"),
        ({"label_smoothing": 1.0}, "label_smoothing must be in"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"crop": -1}, "crop must be at least 0"),
        ({"precision": "half"}, "precision must be one of auto, float32, bfloat16, got 'half'"),
    ],
)
def test_an_impossible_recipe_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        Recipe(**{"epochs": 1} | change)
