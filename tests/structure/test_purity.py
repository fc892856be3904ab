"""Tracing looks and does not touch: the network, the global state and the next trace are as if it had not been."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import googlenet, mobilenet_v3_small
from torchvision.ops import StochasticDepth

from pruneas.architecture import Reference
from pruneas.errors import StructureError
from pruneas.structure.build import analyse, structure_of
from pruneas.structure.confirm import confirmed
from pruneas.structure.replay import SIZED
from tests.nets import INPUT, NETS, image

SIDE = image(3, 32, 32)


class Noisy(nn.Module):
    """Draws random numbers by itself, and runs an auxiliary head in training mode alone."""

    def __init__(self, fails: str = "") -> None:
        super().__init__()
        self.a, self.norm, self.aux = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1)
        self.deep, self.inner = StochasticDepth(0.5, "row"), Inner(fails)
        self.fc = nn.Linear(6, 2)
        self.register_buffer("seen", torch.zeros(6))

    def forward(self, x: torch.Tensor) -> Any:
        x = self.deep(self.norm(self.a(x))) * torch.rand(1)
        self.seen += x.mean((0, 2, 3))
        logits = self.fc(self.inner(x).mean((2, 3)))
        return (logits, self.aux(x)) if self.training else logits


class Inner(nn.Module):
    def __init__(self, fails: str) -> None:
        super().__init__()
        self.conv, self.fails = nn.Conv2d(6, 6, 1), fails

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        if self.fails == "always" or (self.fails == "in training" and self.training):
            raise ZeroDivisionError("on purpose")
        return -x if self.fails == "by value" and x.sum().item() > 0 else x


def touched(network: nn.Module) -> nn.Module:
    """With hooks of a user's own, unequal modes, a frozen layer, gradients, and statistics that are not the first."""
    network.train()
    for index, module in enumerate(network.modules()):
        module.training = index % 3 != 1
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(silent)
            module.register_forward_pre_hook(silent)
    for index, parameter in enumerate(network.parameters()):
        parameter.requires_grad_(index % 4 != 1)
        if index % 4 == 2:
            parameter.grad = torch.ones_like(parameter)
    for buffer in network.buffers():
        buffer += 1
    return network


def silent(*_: Any) -> None:
    """A hook that changes nothing."""


HOOKS = [name for name in vars(nn.Module()) if name.endswith("hooks") and name != "_is_full_backward_hook"]


def snapshot(network: nn.Module) -> dict[str, Any]:
    """Everything about a network and around it that tracing could change, as comparable values."""
    found: dict[str, Any] = {}
    tensors = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    for name, tensor in tensors:
        grad = None if tensor.grad is None else tensor.grad.tolist()
        found[name] = (id(tensor), tensor.data_ptr(), tensor._version, tensor.requires_grad, grad)
        found[f"{name}: values"] = tensor.detach().clone().numpy().tobytes()
    for name, module in network.named_modules():
        plain = {key: value for key, value in vars(module).items() if isinstance(value, int | float | str | tuple)}
        hooks = {kind: list(getattr(module, kind).items()) for kind in HOOKS}
        found[f"module {name}"] = (type(module), sorted(vars(module)), plain, hooks)
    found["all modules' hooks"] = [len(vars(torch.nn.modules.module)[name]) for name in GLOBAL_HOOKS]
    found["random"] = torch.get_rng_state().tolist()
    found["random elsewhere"] = (random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2])
    found["constructors"] = [layer.__init__ for layer in SIZED] + [nn.Module.load_state_dict]
    found["modes"] = (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads())
    return found


GLOBAL_HOOKS = ["_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks"]


def held(network: nn.Module, work: Callable[[], object]) -> None:
    before = snapshot(network)
    work()
    after = snapshot(network)
    assert [key for key in before if before[key] != after.get(key)] == []
    assert before.keys() == after.keys()


@pytest.mark.parametrize("make", [NETS["Auxiliary"].factory, NETS["Shared"].factory, mobilenet_v3_small, Noisy])
def test_tracing_leaves_everything_as_it_was(make: Callable[[], nn.Module]) -> None:
    network = touched(make())
    held(network, lambda: structure_of(network, Reference("tests:it", {}), SIDE))


@pytest.mark.slow
def test_tracing_a_network_with_auxiliary_heads_leaves_everything_as_it_was() -> None:
    network = touched(googlenet(init_weights=False, aux_logits=True))
    held(network, lambda: structure_of(network, Reference("tests:it", {}), image(3, 224, 224)))


@pytest.mark.parametrize("fails", ["always", "by value", "in training"])
def test_tracing_that_fails_does_so_too(fails: str) -> None:
    network = touched(Noisy(fails))

    def trace() -> None:
        with pytest.raises(StructureError):
            structure_of(network, Reference("tests:it", {}), SIDE)

    held(network, trace)


def test_confirming_leaves_the_global_state_as_it_was() -> None:
    structure = analyse(NETS["Auxiliary"].reference, INPUT)
    held(nn.Identity(), lambda: confirmed(structure))


def test_a_traced_network_computes_and_learns_as_before() -> None:
    network = NETS["Auxiliary"].factory()
    images = torch.randn(2, 3, 11, 13)

    def learned() -> list[torch.Tensor]:
        torch.manual_seed(0)
        network.zero_grad()
        logits, more = network.train()(images)
        (logits.square().sum() + more.square().sum()).backward()
        return [logits, more, *[parameter.grad for parameter in network.parameters()]]

    before = [tensor.detach().clone() for tensor in learned()]
    structure_of(network, Reference("tests:it", {}), INPUT)
    assert all(torch.equal(was, now) for was, now in zip(before, learned(), strict=True))


PRINTING = """
import sys
import torch
torch.set_num_threads(int(sys.argv[1]))
from pruneas.architecture import Input, Reference
from pruneas.structure.build import analyse
for network in sys.argv[2:]:
    print(analyse(Reference.parse(network), (Input((3, 64, 64)),)).fingerprint)
"""


def test_fingerprints_are_those_of_any_process_and_number_of_threads() -> None:
    networks = ["torchvision:mobilenet_v3_small", "torchvision:shufflenet_v2_x0_5", "pruneas:resnet20"]
    here = [analyse(Reference.parse(network), image(3, 64, 64)).fingerprint for network in networks]
    found = subprocess.run(
        [sys.executable, "-c", PRINTING, str(torch.get_num_threads() % 2 + 1), *networks],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert found.stdout.split() == here
