"""Windows of what layers read: against the layers themselves, call by call, and whose readers are which."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from pruneas.generators import METHODS, Task
from pruneas.generators.readers import captured, kernels, random_places, readers_of, rows, windows

Tasks = Callable[..., Task]
LAYERS = [
    (nn.Conv2d(6, 10, 3, padding=1), (6, 7, 5)),
    (nn.Conv2d(6, 10, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 2)), (6, 7, 5)),
    (nn.Conv2d(6, 10, 3, groups=2, bias=False), (6, 7, 5)),
    (nn.Conv2d(6, 10, (5, 3), padding="same", dilation=(1, 2)), (6, 7, 5)),
    (nn.Conv2d(6, 10, 3, padding="valid"), (6, 7, 5)),
    (nn.Conv2d(6, 10, 3, padding=(1, 2), padding_mode="reflect"), (6, 7, 5)),
    (nn.Conv2d(6, 10, 3, padding=2, padding_mode="circular"), (6, 7, 5)),
    (nn.Conv1d(6, 4, 3, stride=2, padding=1), (6, 9)),
    (nn.Conv3d(2, 4, (1, 3, 2), padding=(0, 1, 1)), (2, 3, 4, 5)),
    (nn.Linear(6, 4), (6,)),
    (nn.Linear(6, 4), (3, 6)),
    (nn.Linear(6, 4), (3, 2, 6)),
]


@pytest.mark.parametrize(("module", "shape"), LAYERS, ids=lambda each: str(each).replace(" ", ""))
def test_windows_times_kernels_are_what_the_layer_puts_out(module: nn.Module, shape: tuple[int, ...]) -> None:
    module = module.double()
    inputs = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    view = windows(module, inputs)
    with torch.no_grad():
        out = module(inputs)
    out = out.reshape(4, -1, out.shape[-1]) if isinstance(module, nn.Linear) else out.flatten(2).transpose(1, 2)
    places = torch.arange(out.shape[1]).expand(4, -1)
    seen = rows(view, module, places)
    parts = seen.shape[1]
    mine = torch.einsum("rpik,poik->rpo", seen, kernels(module).unflatten(0, (parts, -1))).flatten(1)
    bias = module.bias if module.bias is not None else 0.0
    torch.testing.assert_close((mine + bias).detach(), out.reshape(-1, out.shape[-1]))


def test_places_reach_every_window_and_repeat_with_the_seed() -> None:
    module = nn.Conv2d(1, 1, 3)
    view = windows(module, torch.zeros(90, 1, 4, 5))
    places = random_places(view, module, torch.Generator().manual_seed(0))
    assert places.shape == (90, 10) and places.unique().tolist() == list(range(2 * 3))
    assert torch.equal(places, random_places(view, module, torch.Generator().manual_seed(0)))


def test_windows_are_no_copy() -> None:
    inputs = torch.zeros(2, 3, 50, 50)
    view = windows(nn.Conv2d(3, 1, 7), inputs)
    assert view.shape == (2, 44, 44, 3, 7, 7)
    assert view.untyped_storage().nbytes() == inputs.untyped_storage().nbytes()


class Hidden(nn.Module):
    """Runs its layer twice, the second time by keyword, and changes in place what the layer has read."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        x.mul_(0)
        return self.layer(input=y)


def test_inputs_are_captured_call_by_call_as_they_were() -> None:
    network, x = Hidden().train(), torch.randn(2, 3)
    was = x.clone()
    found = captured(network, ["layer", "unused"], x)
    assert [each.shape for each in found["layer"]] == [(2, 3), (2, 3)] and found["unused"] == []
    assert torch.equal(found["layer"][0], was)
    assert torch.equal(found["layer"][1], network.layer(was))


def test_hooks_are_taken_off_whatever_happens() -> None:
    network = Hidden()
    with pytest.raises(RuntimeError):
        captured(network, ["layer"], torch.randn(2, 4))
    assert not network.layer._forward_pre_hooks


@pytest.mark.parametrize(
    ("name", "group", "expected"),
    [
        ("Chain", "a.0", {"b.0.weight": ["b.0"]}),
        ("Chain", "b.0", {"fc.weight": ["fc"]}),
        ("Residual", "stem.0", {"a.0.weight": ["a.0"], "fc.weight": ["fc"]}),
        ("Depthwise", "stem.0", {"point.0.weight": ["point.0"]}),
        ("Grouped", "stem.0", {"halves.0.weight": ["halves.0"]}),
        ("Shared", "stem.0", {"again.0.weight": ["again.0"], "a.weight": ["a", "b"]}),
        ("Upsampled", "a.0", {}),  # a transposed convolution
        ("Functional", "kernel", {}),  # a weight without a module
    ],
)
def test_readers_are_the_layers_that_take_a_groups_channels(
    task: Tasks, name: str, group: str, expected: dict[str, list[str]]
) -> None:
    given = task(name)
    found = next(each for each in given.structure.groups if each.name == group)
    assert readers_of(given.structure, found, given.network()) == expected


@pytest.mark.parametrize("method", ["thinet", "regression"])
def test_a_group_that_nothing_reads_is_told(task: Tasks, method: str) -> None:
    assert METHODS[method](task("Chain")).notes == ()
    (note,) = METHODS[method](task("Upsampled")).notes
    assert "by their L1 norm" in note and "a.0" in note
