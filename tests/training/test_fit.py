import math
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pruneas.errors import TrainingError
from pruneas.training import EpochRecord, Images, Recipe, evaluate, fit, resolve_precision

RECIPE = Recipe(epochs=2, batch_size=13, learning_rate=0.1, crop=1, precision="float32")


def net(seed: int = 0, dropout: float = 0.0) -> nn.Module:
    """3 x 7 x 11 -> 3 logits."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    )


def weights(model):
    return [value.clone() for value in model.state_dict().values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_fit_is_a_plain_training_loop_step_for_step(small):
    recipe = Recipe(epochs=3, batch_size=13, learning_rate=0.1, crop=2, precision="float32")
    model, plain, after_steps = net(), net(), []
    result = fit(model, small, recipe, seed=11, after_step=lambda network: after_steps.append(weights(network)))

    generator = torch.Generator().manual_seed(11)
    black = torch.zeros(53, 3, 7 + 4, 11 + 4, dtype=torch.uint8)
    black[:, :, 2:-2, 2:-2] = small.train.images
    velocity = [torch.zeros_like(parameter) for parameter in plain.parameters()]
    step = 0
    losses = []
    for _ in range(3):
        order = torch.randperm(53, generator=generator).tolist()
        tops, lefts = torch.randint(5, (2, 53), generator=generator).tolist()
        mirrored = (torch.rand(53, generator=generator) < 0.5).tolist()
        losses.append(0.0)
        for start in (0, 13, 26, 39):  # the 53rd image is left out
            batch = order[start : start + 13]
            images = []
            for place, index in enumerate(batch, start):
                image = black[index, :, tops[place] : tops[place] + 7, lefts[place] : lefts[place] + 11].float() / 255
                image = (image - torch.tensor(small.mean)[:, None, None]) / torch.tensor(small.std)[:, None, None]
                images.append(image.flip(2) if mirrored[place] else image)
            progress = (step + 0.5) / 12
            rate = 0.1 * (progress / 0.25 if progress < 0.25 else (1 - progress) / 0.75)
            target = torch.full((13, 3), 0.1 / 3).scatter(1, small.train.labels[batch][:, None], 0.9 + 0.1 / 3)
            loss = -(target * plain(torch.stack(images)).log_softmax(1)).sum(1).mean()
            gradients = torch.autograd.grad(loss, list(plain.parameters()))
            with torch.no_grad():
                for parameter, gradient, v in zip(plain.parameters(), gradients, velocity, strict=True):
                    gradient = gradient + 5e-4 * parameter
                    v.mul_(0.9).add_(gradient)
                    parameter -= rate * (gradient + 0.9 * v)
            for found, expected in zip(after_steps[step], weights(plain), strict=True):
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
            losses[-1] += loss.item() / 4
            step += 1
    assert step == len(after_steps)
    assert [record.train_loss for record in result.epochs] == pytest.approx(losses, abs=1e-5)
    assert result.epochs[-1].learning_rate == pytest.approx(0.1 * (0.5 / 12) / 0.75)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_seed_gives_the_same_bits_and_another_does_not(small, precision):
    recipe = Recipe(epochs=3, batch_size=13, crop=2, precision=precision)
    first, second, other = net(dropout=0.2), net(dropout=0.2), net(dropout=0.2)
    fit(first, small, recipe, seed=3)
    torch.rand(7)  # what the caller draws meanwhile does not matter
    fit(second, small, recipe, seed=3)
    fit(other, small, recipe, seed=4)
    assert same(first, second)
    assert not same(first, other)


def test_a_training_leaves_the_callers_random_numbers_alone(small):
    torch.manual_seed(0)
    expected = torch.rand(3)
    model = net()
    torch.manual_seed(0)
    fit(model, small, RECIPE, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_it_learns_what_can_be_learned(small):
    model = net()
    result = fit(model, small, Recipe(epochs=20, batch_size=13, learning_rate=0.1, crop=1), seed=0)
    assert result.epochs[-1].validation_accuracy == 1.0
    assert evaluate(model, small.test, mean=small.mean, std=small.std).accuracy == 1.0


def test_records_count_epochs_images_and_seconds(small):
    seen: list[EpochRecord] = []
    result = fit(net(), small, RECIPE, seed=0, after_epoch=seen.append)
    assert result.epochs == tuple(seen)
    assert [record.epoch for record in seen] == [1, 2]
    assert result.images == 2 * 4 * 13
    assert result.precision == "float32"
    assert 0 < result.train_seconds <= result.seconds
    assert result.images_per_second == pytest.approx(result.images / result.train_seconds)


def test_a_training_set_below_one_batch_is_one_batch(small):
    data = type(small)(**{name: getattr(small, name) for name in small.__slots__} | {"train": small.train.first(7)})
    assert fit(net(), data, RECIPE, seed=0).images == 2 * 7


def test_the_hook_after_a_step_sees_and_may_change_weights(small):
    steps = []

    def clear(model):
        with torch.no_grad():
            model[0].weight[2] = 0.0
        steps.append(1)

    model = net()
    fit(model, small, RECIPE, seed=0, after_step=clear)
    assert len(steps) == 8
    assert not model[0].weight[2].any()


def test_a_penalty_moves_weights_but_is_not_in_the_reported_loss(small):
    plain, shrunk = net(), net()
    recipe = Recipe(epochs=1, batch_size=53, learning_rate=0.1, crop=1, precision="float32")
    without = fit(plain, small, recipe, seed=0)
    penalised = fit(shrunk, small, recipe, seed=0, penalty=lambda model: 0.5 * model[1].weight.abs().sum())
    assert penalised.epochs[0].train_loss == without.epochs[0].train_loss
    # One step of 0.1 x 2 / 3 (its middle) with nesterov's 1.9: the gradient of the penalty is 0.5.
    torch.testing.assert_close(plain[1].weight - shrunk[1].weight, torch.full((5,), 0.1 * (0.5 / 0.75) * 1.9 * 0.5))


def test_a_model_keeps_its_mode_and_gets_its_memory_format_back(small):
    model = net().eval()
    fit(model, small, RECIPE, seed=0)
    assert not model.training
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    model.train()
    evaluate(model, small.test, mean=small.mean, std=small.std)
    assert model.training


def test_a_loss_that_is_not_finite_is_an_error_that_says_when(small):
    with pytest.raises(
        TrainingError,
        match=r"epoch 1 of 2: the training loss must be finite, got nan at .*rate 0.075 \(peak 0.1",
    ):
        fit(net(), small, RECIPE, seed=0, penalty=lambda model: model[0].weight.sum() * math.nan)


def test_a_network_that_puts_out_no_logits_is_an_error(small):
    class Odd(nn.Module):
        def forward(self, x):
            return "a cat"

    with pytest.raises(TrainingError, match=r"must put out a tensor of logits \(n, classes\), got str"):
        evaluate(Odd(), small.test, mean=small.mean, std=small.std)


def test_auxiliary_heads_count_three_tenths(small):
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net()

        def forward(self, x):
            logits = self.body(x)
            return (logits, logits, None) if self.training else logits

    recipe = Recipe(epochs=1, batch_size=53, crop=0, precision="float32")
    one, two = fit(net(), small, recipe, seed=0), fit(TwoHeads(), small, recipe, seed=0)
    assert two.epochs[0].train_loss == pytest.approx(1.3 * one.epochs[0].train_loss)


def test_a_score_is_counted_over_all_images(small):
    class Constant(nn.Module):
        def forward(self, x):
            return torch.tensor([2.0, 1.0, 0.0]).expand(len(x), 3)

    score = evaluate(Constant(), small.test, mean=small.mean, std=small.std)
    assert (score.accuracy, score.num_images) == (7 / 19, 19)  # labels 0 1 2 0 1 2 ... of 19: 7, 6, 6
    total = math.log(sum(math.exp(x) for x in (2.0, 1.0, 0.0)))
    assert score.loss == pytest.approx(total - (7 * 2 + 6 * 1) / 19)


def test_a_score_does_not_depend_on_how_images_are_batched(small):
    model = net().eval()
    count = 700  # 7 x 11 pixels: more than one batch would need 3405 images, so repeat some
    index = torch.arange(7 * count) % 19
    many = Images(store=small.test.store, labels=small.test.labels[index], rows=index)
    images = (small.test.images.float() / 255 - torch.tensor(small.mean)[:, None, None]) / torch.tensor(small.std)[
        :, None, None
    ]
    with torch.no_grad():
        logits = model(images)[index]
    score = evaluate(model, many, mean=small.mean, std=small.std, precision="float32")
    assert score.accuracy == (logits.argmax(1) == many.labels).double().mean().item()
    assert score.loss == pytest.approx(F.cross_entropy(logits, many.labels).item(), abs=1e-5)


def test_no_images_cannot_be_scored(small):
    with pytest.raises(ValueError, match="images must not be empty"):
        evaluate(net(), small.test.first(0), mean=small.mean, std=small.std)


def test_automatic_precision_keeps_depthwise_and_convolution_free_networks_in_float32(monkeypatch):
    module = sys.modules["pruneas.training.fit"]  # the package's attribute `fit` is the function
    monkeypatch.setattr(module, "_cpu_multiplies_bfloat16", lambda: True)
    assert resolve_precision("auto", net(), "cpu") == "bfloat16"
    assert resolve_precision("auto", nn.Conv2d(6, 6, 3, groups=6), "cpu") == "float32"
    assert resolve_precision("auto", nn.Linear(3, 3), "cpu") == "float32"
    assert resolve_precision("bfloat16", nn.Linear(3, 3), "cpu") == "bfloat16"
    monkeypatch.setattr(module, "_cpu_multiplies_bfloat16", lambda: False)
    assert resolve_precision("auto", net(), "cpu") == "float32"
    with pytest.raises(ValueError, match="precision must be one of"):
        resolve_precision("float16", net(), "cpu")


@pytest.mark.gpu
def test_a_gpu_takes_the_same_decisions(small):
    recipe = Recipe(epochs=2, batch_size=13, crop=1, learning_rate=0.01, precision="float32")
    cpu, cuda = net(), net()
    fit(cpu, small, recipe, seed=0)
    fit(cuda, small, recipe, seed=0, device="cuda")
    for a, b in zip(weights(cpu), weights(cuda.cpu()), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


def test_a_training_that_has_had_enough_ends_as_if_it_had_no_more_epochs_also_from_its_checkpoint(small, tmp_path):
    whole, short, again = net(), net(), net()
    recipe, seen = replace(RECIPE, epochs=4), []
    enough = fit(short, small, recipe, seed=5, is_enough=lambda epochs: len(epochs) == 2, checkpoint=tmp_path / "c")
    full = fit(whole, small, recipe, seed=5)
    assert [epoch.epoch for epoch in enough.epochs] == [1, 2]
    assert [e.validation_loss for e in enough.epochs] == [e.validation_loss for e in full.epochs[:2]]
    assert enough.images * 2 == full.images
    found = fit(
        again, small, recipe, seed=5, is_enough=lambda epochs: len(epochs) == 2, checkpoint=tmp_path / "c",
        after_step=seen.append,
    )  # fmt: skip
    assert seen == [], "killed after its last epoch, it trains no more"
    assert found.epochs == enough.epochs
    assert same(again, short)
