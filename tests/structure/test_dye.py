"""Dye tracing, operator by operator: what unites, what ties, what freezes, and that nothing is skipped in silence."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruneas.architecture import Reference
from pruneas.errors import StructureError
from pruneas.structure.build import structure_of
from pruneas.structure.dye import DyeTensor, Trace, trace_network
from pruneas.structure.groups import Structure
from pruneas.structure.planes import Plane
from tests.nets import NETS, image

Forward = Callable[["Two", torch.Tensor], torch.Tensor]


class Two(nn.Module):
    """image 3 -> conv a 6 -> whatever `forward` does between -> conv b 5 -> output"""

    def __init__(self, between: Forward, into: int = 6) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(into, 5, 3, padding=1)
        self.between = between
        self.vector = nn.Parameter(torch.ones(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.between(self, self.a(x) * self.vector.view(-1, 1, 1)))


def structure(between: Forward, into: int = 6) -> Structure:
    return structure_of(Two(between, into), Reference("tests:two", {}), image(3, 4, 5))


def reasons(found: Structure) -> dict[str, str]:
    return {f"{fixed.parameter}.{fixed.dim}": fixed.reason for fixed in found.fixed}


def groups(between: Forward, into: int = 6) -> dict[str, int]:
    return structure(between, into).widths


@pytest.mark.parametrize(
    "between",
    [
        lambda self, x: F.relu(x),
        lambda self, x: F.relu_(x),
        lambda self, x: F.hardswish(x) + 1.0,
        lambda self, x: x.half().float().contiguous().clone(),
        lambda self, x: F.dropout(x, 0.5, self.training),
        lambda self, x: x.softmax(dim=1) - x.mean(dim=1, keepdim=True),
        lambda self, x: x / x.norm(dim=1, keepdim=True),
        lambda self, x: x / torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True),
        lambda self, x: x * self.vector.view(1, -1, 1, 1) + self.vector[None, :, None, None],
        lambda self, x: x.permute(0, 2, 3, 1).mul(self.vector).permute(0, 3, 1, 2),
        lambda self, x: torch.where(x > 0, x, x.exp() - 1),
        lambda self, x: F.interpolate(F.max_pool2d(x, 2), scale_factor=2),
        lambda self, x: F.avg_pool2d(x, 3, 1, 1) + x,
        lambda self, x: x.flip(3).roll(1, dims=2),
        lambda self, x: x.flatten(2).unflatten(2, (4, 5)),
        lambda self, x: x[:, :, ::2],
        lambda self, x: x.expand(3, -1, -1, -1),
        lambda self, x: x.unsqueeze(1).squeeze(1),
        lambda self, x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
        lambda self, x: x.std(dim=(2, 3), keepdim=True),
        lambda self, x: x.amax(dim=3, keepdim=True),
        lambda self, x: x.max(dim=3, keepdim=True).values,
        lambda self, x: x - x.min(),
        lambda self, x: x + torch.zeros_like(x) + x.new_ones(1),
    ],
)
def test_operators_that_keep_channels_apart_leave_one_free_group(between: Forward) -> None:
    found = structure(between)
    assert found.widths == {"a": 6}
    assert "b.weight.1" not in reasons(found)


@pytest.mark.parametrize(
    ("between", "into", "expected"),
    [
        (lambda self, x: torch.cat(x.chunk(2, 1)[::-1], 1), 6, {"a": 3}),
        (lambda self, x: torch.cat(x.split([2, 4], 1)[::-1], 1), 6, {"a": 6}),
        (lambda self, x: x.view(1, 3, 2, 4, 5).transpose(1, 2).reshape(1, 6, 4, 5), 6, {"a": 2}),
        (lambda self, x: x.view(1, 3, 2, 1, 4, 5).sum(1).flatten(1, 2), 2, {"a": 2}),
        (lambda self, x: x.view(1, 3, 2, 1, 4, 5).mul(2).view(1, 6, 4, 5), 6, {"a": 2}),
        (lambda self, x: F.group_norm(x, 2), 6, {"a": 3}),
        (lambda self, x: torch.cat([x, x], 1), 12, {"a": 6}),
        (lambda self, x: torch.stack([x, x], 2).flatten(1, 2), 12, {"a": 6}),
        (lambda self, x: x.repeat(1, 2, 1, 1), 12, {"a": 6}),
        (lambda self, x: x[:, :4], 4, {"a": 4, "a[1]": 2}),
        (lambda self, x: x[:, [5, 3]], 2, {"a": 4, "a[1]": 2}),
        (lambda self, x: F.pad(x, (0, 0, 0, 0, 2, 0)), 8, {"a": 6}),
        (lambda self, x: torch.cat([torch.ones(1, 2, 4, 5), x], 1), 8, {"a": 6}),
        (lambda self, x: x.view(1, 3, 2, 20).amax(1).view(1, 2, 4, 5), 2, {"a": 2}),
        (lambda self, x: x.view(1, 3, 2, 20).amax(2).view(1, 3, 4, 5), 3, {"a": 2}),
        (lambda self, x: x.flatten(1).view(1, 6, 4, 5), 6, {"a": 6}),
        (lambda self, x: F.pad(x, (1, 2, 0, 1)), 6, {"a": 6}),
        (lambda self, x: F.max_pool2d(F.pad(x, (1, 2, 0, 1), value=-9.0), 2), 6, {"a": 6}),
        (lambda self, x: torch.cat([x, x[:, :, :1] * 2], 2), 6, {"a": 6}),
        (lambda self, x: F.pixel_unshuffle(x[..., :4], 2), 24, {"a": 6}),
        (lambda self, x: F.unfold(x, 3, padding=1).view(1, 54, 4, 5), 54, {"a": 6}),
        (lambda self, x: F.fold(F.unfold(x, 3), (4, 5), 3), 6, {"a": 6}),
        (lambda self, x: F.glu(x, 1), 3, {"a": 3}),
        (lambda self, x: x + (x.flatten(2) @ x.mean(1).view(-1, 20, 1).softmax(1)).unsqueeze(3), 6, {"a": 6}),
        (lambda self, x: x * x[:, :1], 6, {"a": 6}),
    ],
)
def test_operators_that_move_channels_carry_their_dyes_along(
    between: Forward, into: int, expected: dict[str, int]
) -> None:
    assert groups(between, into) == expected


def test_a_view_into_three_parts_ties_both_counts_that_the_code_holds() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 30, 1), nn.Conv2d(30, 5, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x).view(1, 2, 3, -1, 4, 5).transpose(1, 2).reshape(1, -1, 4, 5))

    assert structure_of(Wide(), Reference("tests:wide", {}), image(3, 4, 5)).widths == {"a": 5}


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda self, x: x.sort(dim=1).values, "aten.sort has no rule here"),
        (lambda self, x: torch.fft.fft(x).real, "aten._fft_r2c has no rule here"),
        (lambda self, x: x.flatten(2) @ x.flatten(2).transpose(1, 2) @ x.flatten(2), "a product of two activations"),
        (lambda self, x: F.scaled_dot_product_attention(x, x, x), "a product of two activations"),
        (lambda self, x: torch.einsum("bchw,bchw->bchw", x, x), "einsum, whose count fvcore rounds"),
    ],
)
def test_operators_that_freeze_what_they_touch_are_named(between: Forward, reason: str) -> None:
    found = structure(lambda self, x: between(self, x).view(x.shape[0], 6, 4, -1))
    assert found.widths == {}
    assert reason in reasons(found)["a.weight.0"]
    assert "test_dye.py:" in reasons(found)["a.weight.0"]


def test_what_is_summed_into_one_number_belongs_together() -> None:
    found = structure(lambda self, x: x.flatten(1).view(1, 20, 6).sum(2)[:, :6, None, None])
    assert found.widths == {"a": 6}
    assert found.groups[0].elastic  # every channel ends up in a sum with the next one


def test_writing_into_a_constant_freezes_what_is_written() -> None:
    def padded(self: Two, x: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(1, 6, 4, 5)
        out[:, :6] = x
        return out

    found = structure(padded)
    assert found.widths == {}
    assert "copy_ writes into a constant" in reasons(found)["a.weight.0"]


def test_writing_into_a_part_what_has_channels_of_its_own_joins_them() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(6, 5, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            y[:, 1:5] += self.b(x)
            y[:, :, 0] = 1.0
            return self.c(y)

    assert structure_of(Written(), Reference("tests:written", {}), image(3, 4, 5)).widths == {"a": 2, "a[1]": 4}


def test_writing_into_a_part_freezes_the_whole() -> None:
    def written(self: Two, x: torch.Tensor) -> torch.Tensor:
        x[:, :4][:, 1:] += 1.0  # a view of a view
        return x

    found = structure(written)
    assert found.widths == {}
    assert "add_ writes into a part of a tensor" in reasons(found)["a.weight.0"]


def test_what_meets_the_input_is_fixed_in_every_dimension() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 5, 1)
            self.before, self.after = nn.Parameter(torch.zeros(3, 4, 5)), nn.Parameter(torch.zeros(6, 4, 5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x + self.before) + self.after)

    found = structure_of(Positions(), Reference("tests:positions", {}), image(3, 4, 5))
    before = [fixed.reason for fixed in found.fixed if fixed.parameter == "before"]
    assert before == ["the network's input"] * 3
    after = {fixed.dim: fixed.reason for fixed in found.fixed if fixed.parameter == "after"}
    assert sorted(after) == [1, 2]
    assert set(after.values()) == {"the network's input"}
    assert found.widths == {"a": 6}


def test_depthwise_filters_of_padding_cannot_change() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.each, self.b = nn.Conv2d(3, 5, 1), nn.Conv2d(7, 7, 1, groups=7), nn.Conv2d(7, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.each(F.pad(self.a(x), (0, 0, 0, 0, 0, 2))))

    found = structure_of(Padded(), Reference("tests:padded", {}), image(3, 4, 5))
    assert found.widths == {"a": 5}
    sizes = {fixed.parameter: fixed.size for fixed in found.fixed if "constant" in fixed.reason}
    assert sizes == {"each.weight": 2, "each.bias": 2, "b.weight": 2}


def test_a_gate_of_one_channel_binds_nothing() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.gate, self.b = nn.Conv2d(3, 5, 1), nn.Conv2d(3, 1, 1), nn.Conv2d(5, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x) * self.gate(x))

    assert structure_of(Gate(), Reference("tests:gate", {}), image(3, 4, 5)).widths == {"a": 5}


def test_data_dependent_code_is_refused_with_its_line() -> None:
    def depends(self: Two, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum().item() > 0 else -x

    with pytest.raises(StructureError, match=r"network tests:two at input 3x4x5: .*test_dye\.py:\d+"):
        structure(depends)


def test_networks_that_fail_are_refused_with_their_line() -> None:
    def fails(self: Two, x: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError("on purpose")

    with pytest.raises(StructureError, match=r"ZeroDivisionError: on purpose \(.*test_dye\.py:\d+\)"):
        structure(fails)


def test_networks_that_fail_in_training_mode_are_told_so() -> None:
    class Torn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.aux = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 2, 9)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.a(x)
            return self.aux(x) if self.training else x

    with pytest.raises(StructureError, match=r"cannot be traced in training mode, which parts of it need: aten\.conv"):
        structure_of(Torn(), Reference("tests:torn", {}), image(3, 4, 5))


def test_tracing_leaves_the_network_as_it_was() -> None:
    network = NETS["Auxiliary"].factory()  # traced in both modes
    network.train()
    network.a[1].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    trace_network(network, [torch.empty(1, 3, 11, 13)])
    assert network.training and not network.a[1].training
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


class TwoNames(nn.Module):
    """One module under two names, which also keeps a buffer from its first call on."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 3, 1)
        self.b = self.a

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not hasattr(self, "kept"):
            self.register_buffer("kept", self.a.weight.sum())
        return self.b(self.a(x)) * self.kept


def test_modules_of_two_names_and_buffers_made_on_the_way_leave_no_dyes_behind() -> None:
    network = TwoNames()
    weight = network.a.weight
    trace_network(network, [torch.empty(1, 3, 5, 7)])
    assert network.a.weight is weight
    assert list(network.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    assert all(module._compiled_call_impl is None for module in network.modules())


def test_dyes_along_a_dimension_of_size_one_and_of_one_dye() -> None:
    trace = Trace()
    tensor = DyeTensor((1, 3, 7), (Plane.along(np.array([4, 5, 6]), 1, 3),), trace)
    assert [dyes.tolist() for dyes in map(tensor.along, range(3)) if dyes is not None] == [[0], [4, 5, 6], [0] * 7]
    frozen = DyeTensor((1, 3), (Plane.of(np.full((1, 3), 9)),), trace)
    assert [dyes.tolist() for dyes in map(frozen.along, range(2)) if dyes is not None] == [[9], [9, 9, 9]]
    mixed = DyeTensor((2, 3), (Plane.of(np.arange(1, 7).reshape(2, 3)),), trace)
    assert mixed.along(0) is None and mixed.along(1) is None
    weight = DyeTensor((2, 3), (Plane.along(np.array([1, 2]), 0, 2), Plane.along(np.array([3, 4, 5]), 1, 2)), trace)
    along = [weight.along(dim) for dim in (0, 1, -1)]
    assert [dyes.tolist() for dyes in along if dyes is not None] == [[1, 2], [3, 4, 5], [3, 4, 5]]
    assert sorted(weight.dyes().tolist()) == [1, 2, 3, 4, 5]


def test_ties_need_equal_parts() -> None:
    trace = Trace()
    trace.tie(np.arange(1, 7), 4)
    assert trace.edges == []
    trace.tie(np.arange(1, 7), 3)
    assert [(a.tolist(), b.tolist()) for a, b in trace.edges] == [([1, 2, 1, 2], [3, 4, 5, 6])]
