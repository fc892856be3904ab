import dataclasses
import json

import pytest

from pruneas.recipe import Recipe


def test_one_cycle_rises_and_falls_in_straight_lines():
    recipe = Recipe(epochs=1)
    assert [recipe.factor(progress) for progress in (0.0, 0.125, 0.25, 0.625, 1.0)] == [0.0, 0.5, 1.0, 0.5, 0.0]


def test_one_cycle_without_warm_up_starts_at_the_peak():
    recipe = Recipe(epochs=1, warmup=0.0)
    assert recipe.factor(0.0) == 1.0
    assert recipe.factor(0.5) == 0.5


def test_a_constant_schedule_stays_at_the_peak_after_its_warm_up():
    recipe = Recipe(epochs=1, schedule="constant", warmup=0.5)
    assert [recipe.factor(progress / 4) for progress in range(5)] == [0.0, 0.5, 1.0, 1.0, 1.0]


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
        ({"schedule": "zigzag"}, "schedule must be one of one-cycle, cosine, step, constant, got 'zigzag'"),
        ({"label_smoothing": 1.0}, "label_smoothing must be in"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"crop": -1}, "crop must be at least 0"),
        ({"precision": "half"}, "precision must be one of auto, float32, bfloat16, got 'half'"),
    ],
)
def test_an_impossible_recipe_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        Recipe(**{"epochs": 1} | change)


def test_cosine_and_steps():
    cosine = Recipe(epochs=1, schedule="cosine", warmup=0.2)
    assert [cosine.factor(p) for p in (0.1, 0.2, 0.6, 1.0)] == pytest.approx([0.5, 1.0, 0.5, 0.0])
    steps = Recipe(epochs=160, schedule="step", warmup=0.0)
    assert [steps.factor(p) for p in (0.0, 0.49, 0.5, 0.74, 0.75, 0.99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert Recipe(epochs=1, schedule="step", milestones=(0.3,), decay=0.5, warmup=0.0).factor(0.9) == 0.5


def test_the_papers_arms():
    big = Recipe(epochs=160, schedule="step", warmup=0.0, learning_rate=0.1)
    assert big.scratch_e() == big
    assert [big.scratch_b(ratio).epochs for ratio in (1.519, 1.1157, 1.3791, 1.1883, 1.6273)] == [
        243,
        178,
        220,
        190,
        260,
    ]
    assert Recipe(epochs=90).scratch_b(1.316, cap=2).epochs == 118
    assert Recipe(epochs=90).scratch_b(3.23, cap=2).epochs == 180
    tuned = big.fine_tune()
    assert (tuned.epochs, tuned.learning_rate, tuned.factor(0.0), tuned.factor(0.99)) == (40, 0.001, 1.0, 1.0)
    with pytest.raises(ValueError, match="flops_ratio must be at least 1"):
        big.scratch_b(0.5)
