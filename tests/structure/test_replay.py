"""Constructors that receive other sizes while a factory runs."""

import pytest
import torch
from torch import nn

from pruneas.structure.replay import constructors, sizes_of


@pytest.mark.parametrize(
    ("layer", "shapes", "expected"),
    [
        (nn.Conv2d(3, 5, 3), {"weight": (4, 2, 3, 3)}, {"in_channels": 2, "out_channels": 4}),
        (nn.Conv1d(6, 10, 3, groups=2), {"weight": (8, 2, 3)}, {"in_channels": 4, "out_channels": 8}),
        (nn.Conv2d(5, 5, 3, groups=5), {"weight": (3, 1, 3, 3)}, {"in_channels": 3, "out_channels": 3, "groups": 3}),
        (nn.Conv2d(5, 10, 3, groups=5), {"weight": (6, 1, 3, 3)}, {"in_channels": 3, "out_channels": 6, "groups": 3}),
        (nn.ConvTranspose2d(5, 7, 3), {"weight": (4, 3, 3, 3)}, {"in_channels": 4, "out_channels": 3}),
        (nn.ConvTranspose2d(6, 10, 3, groups=2), {"weight": (4, 3, 3, 3)}, {"in_channels": 4, "out_channels": 6}),
        (nn.Linear(5, 7), {"weight": (3, 2), "bias": (3,)}, {"in_features": 2, "out_features": 3}),
        (nn.BatchNorm2d(5), {"weight": (3,), "running_mean": (3,)}, {"num_features": 3}),
        (nn.BatchNorm2d(5, affine=False), {"running_mean": (3,)}, {"num_features": 3}),
        (nn.GroupNorm(2, 6), {"weight": (4,)}, {"num_channels": 4}),
        (nn.LayerNorm(5), {"weight": (3,)}, {"normalized_shape": (3,)}),
        (nn.PReLU(5), {"weight": (3,)}, {"num_parameters": 3}),
        (nn.RMSNorm(5), {"weight": (3,)}, {"normalized_shape": (3,)}),
        (nn.InstanceNorm2d(5, affine=True), {"weight": (3,)}, {"num_features": 3}),
        (nn.Embedding(11, 5), {"weight": (11, 3)}, {"num_embeddings": 11, "embedding_dim": 3}),
        (nn.Bilinear(5, 7, 3), {"weight": (2, 4, 6)}, {"in1_features": 4, "in2_features": 6, "out_features": 2}),
        (nn.LayerNorm(5, elementwise_affine=False), {}, {}),
        (nn.Conv2d(3, 5, 3), {"bias": (4,)}, {}),
    ],
)
def test_sizes_are_read_off_the_shapes(layer: nn.Module, shapes: dict, expected: dict) -> None:
    assert sizes_of(layer, shapes) == expected


def test_a_multiplier_of_depthwise_filters_is_kept() -> None:
    with pytest.raises(ValueError, match="5 output channels, must be a multiple of 2"):
        sizes_of(nn.Conv2d(5, 10, 3, groups=5), {"weight": (5, 1, 3, 3)})


def test_arguments_are_replaced_however_they_were_given() -> None:
    def factory() -> list[nn.Module]:
        return [nn.Conv2d(3, 5, 3, bias=False), nn.Linear(out_features=5, in_features=7), nn.BatchNorm2d(5)]

    asked = [{"out_channels": 2}, {"in_features": 4}, {}]
    with constructors(lambda index: asked[index]) as layers:
        made = factory()
    assert layers == made
    assert made[0].weight.shape == (2, 3, 3, 3)
    assert made[0].bias is None
    assert made[1].weight.shape == (5, 4)
    assert made[2].num_features == 5


def test_layers_of_derived_classes_count_once() -> None:
    class Mine(nn.Conv2d):
        def __init__(self, channels: int) -> None:
            super().__init__(channels, channels, 1)

    with constructors(lambda _: {"out_channels": 2}) as layers:
        mine = Mine(5)
        nn.SyncBatchNorm(3)
    assert len(layers) == 2
    assert mine.weight.shape == (2, 5, 1, 1)


def test_nothing_is_loaded_meanwhile_and_everything_afterwards() -> None:
    layer = nn.Linear(2, 2)
    state = {name: torch.ones_like(tensor) for name, tensor in layer.state_dict().items()}
    with constructors():
        layer.load_state_dict(state)
        assert not torch.equal(layer.weight, state["weight"])
    layer.load_state_dict(state)
    assert torch.equal(layer.weight, state["weight"])


def test_constructors_are_restored_after_an_error() -> None:
    before = nn.Linear.__init__
    with pytest.raises(ZeroDivisionError), constructors():
        raise ZeroDivisionError
    assert nn.Linear.__init__ is before
