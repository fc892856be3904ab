"""Rebuilt networks are initialised as the factory would have done at these widths: held against the formulas of each
family, and against factories that take narrower widths as arguments."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torchvision.models.densenet import DenseNet
from torchvision.models.efficientnet import EfficientNet, _efficientnet_conf
from torchvision.models.regnet import BlockParams, RegNet
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.vgg import VGG, cfgs, make_layers

from pruneas.architecture import Reference
from pruneas.networks import make
from pruneas.structure.build import analyse, build_widths
from pruneas.structure.groups import Structure
from tests.nets import image, random_widths

Formula = Callable[[nn.Module], float]
"""The standard deviation of a layer's weight or bias."""
SIDE = 64


def fans(layer: nn.Module) -> tuple[int, int]:
    """Fan-in and fan-out as PyTorch's initialisers see them: grouped convolutions have the fan-out of all parts."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    kernel = math.prod(layer.kernel_size)
    return layer.in_channels // layer.groups * kernel, layer.out_channels * kernel


def kaiming_in(layer: nn.Module) -> float:
    return math.sqrt(2 / fans(layer)[0])


def kaiming_out(layer: nn.Module) -> float:
    return math.sqrt(2 / fans(layer)[1])


def usual(layer: nn.Module) -> float:
    """PyTorch's own: uniform within 1 / sqrt(fan-in), weights and biases."""
    return math.sqrt(1 / (3 * fans(layer)[0]))


def uniform_out(layer: nn.Module) -> float:
    return math.sqrt(1 / (3 * fans(layer)[1]))


def sigmoid_out(layer: nn.Module) -> float:
    """Kaiming, uniform, fan-out, with the sigmoid's gain, which is one."""
    return math.sqrt(1 / fans(layer)[1])


def always(deviation: float) -> Formula:
    return lambda layer: deviation


def own(otherwise: float) -> Formula:
    """Inception's: a deviation written on the layer itself."""
    return lambda layer: getattr(layer, "stddev", otherwise)


ZERO = always(0.0)
Formulas = tuple[Formula, Formula, Formula, Formula]
"""Convolutions' weights and biases, linear layers' weights and biases."""
FAMILIES: Mapping[str, Formulas] = {
    "pruneas:vgg16(width=0.5)": (kaiming_out, ZERO, always(0.01), ZERO),
    "pruneas:resnet20": (kaiming_out, ZERO, usual, usual),
    "torchvision:resnet18": (kaiming_out, ZERO, usual, usual),
    "torchvision:resnet50": (kaiming_out, ZERO, usual, usual),
    "torchvision:resnext50_32x4d": (kaiming_out, ZERO, usual, usual),
    "torchvision:mobilenet_v2": (kaiming_out, ZERO, always(0.01), ZERO),
    "torchvision:mobilenet_v3_large": (kaiming_out, ZERO, always(0.01), ZERO),
    "torchvision:efficientnet_b0": (kaiming_out, ZERO, uniform_out, ZERO),
    "torchvision:regnet_x_400mf": (kaiming_out, ZERO, always(0.01), ZERO),
    "torchvision:regnet_y_400mf": (kaiming_out, usual, always(0.01), ZERO),  # SE's biases are left alone
    "torchvision:densenet121": (kaiming_in, ZERO, usual, ZERO),
    "torchvision:mnasnet1_0": (kaiming_out, ZERO, sigmoid_out, ZERO),
    "torchvision:shufflenet_v2_x1_0": (usual, usual, usual, usual),
    "torchvision:squeezenet1_1": (
        lambda layer: 0.01 if layer.out_channels == 1000 else kaiming_in(layer),
        ZERO,
        ZERO,
        ZERO,
    ),
    "torchvision:vgg11_bn": (kaiming_out, ZERO, always(0.01), ZERO),
    "torchvision:googlenet(init_weights=True)": (always(0.01), ZERO, always(0.01), usual),
    "torchvision:inception_v3(init_weights=True)": (own(0.1), ZERO, own(0.1), usual),
    "torchvision:convnext_tiny": (always(0.02), ZERO, always(0.02), ZERO),
}
SIDES = {"torchvision:inception_v3(init_weights=True)": 299, "torchvision:vgg11_bn": 32}
QUICK = [
    "pruneas:vgg16(width=0.5)",
    "torchvision:mobilenet_v3_large",
    "torchvision:densenet121",
    "torchvision:regnet_y_400mf",
]


def analysed(network: str) -> Structure:
    side = SIDES.get(network, SIDE)
    return analyse(Reference.parse(network), image(3, side, side))


def check_family(network: str, seed: int) -> None:
    """Every value of every layer. Deviations are known to 5 of their own; means are zero, tensors of fewer than 30
    values tell nothing."""
    structure = analysed(network)
    rebuilt = build_widths(structure, random_widths(structure, seed), seed=seed)
    conv, conv_bias, linear, linear_bias = FAMILIES[network]
    expected: dict[str, float] = {}
    for name, module in rebuilt.named_modules():
        if isinstance(module, _BatchNorm | nn.LayerNorm):
            assert (module.weight == 1).all() and (module.bias == 0).all(), name
            if isinstance(module, _BatchNorm):
                assert (module.running_mean == 0).all() and (module.running_var == 1).all(), name
        elif isinstance(module, _ConvNd | nn.Linear):
            of_weight, of_bias = (conv, conv_bias) if isinstance(module, _ConvNd) else (linear, linear_bias)
            expected |= {f"{name}.weight": of_weight(module), f"{name}.bias": of_bias(module)}
    for name, parameter in rebuilt.named_parameters():
        values = parameter.detach().double()
        if name.endswith("layer_scale"):
            assert (parameter == 1e-6).all(), name
        elif name in expected and expected[name] == 0:
            assert not values.any(), name
        elif name in expected and values.numel() >= 30:
            margin = 5 / math.sqrt(2 * values.numel())
            assert values.square().mean().sqrt() == pytest.approx(expected[name], rel=margin), name
            assert abs(values.mean()) < 5 * expected[name] / math.sqrt(values.numel()), name
        else:
            owner = rebuilt.get_submodule(name.rpartition(".")[0])
            assert name in expected or isinstance(owner, _BatchNorm | nn.LayerNorm), f"{name} is not of any formula"


@pytest.mark.parametrize("network", QUICK)
def test_every_value_has_the_deviation_of_the_factorys_formula(network: str) -> None:
    check_family(network, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("network", FAMILIES)
def test_every_value_of_every_family_has_the_deviation_of_its_formula(network: str, seed: int) -> None:
    check_family(network, seed)


def narrow_vgg() -> nn.Module:
    """Half as wide but for the last convolution, whose width the first linear layer holds as a constant."""
    *layers, last, pool = cfgs["A"]
    return VGG(make_layers([v if v == "M" else v // 2 for v in layers] + [last, pool], batch_norm=True))


def narrow_efficientnet() -> nn.Module:
    setting, _ = _efficientnet_conf("efficientnet_b0", width_mult=0.5, depth_mult=1.0)
    return EfficientNet(setting, 0.2)


def narrow_regnet() -> nn.Module:
    whole = BlockParams.from_init_params(depth=16, w_0=48, w_a=27.89, w_m=2.09, group_width=8, se_ratio=0.25)
    whole.widths, whole.group_widths = [w // 2 for w in whole.widths], [w // 2 for w in whole.group_widths]
    return RegNet(whole, norm_layer=partial(nn.BatchNorm2d, eps=1e-05, momentum=0.1))


def reference(name: str) -> Callable[[], nn.Module]:
    return partial(make, Reference.parse(name))


NARROWER: Mapping[str, Callable[[], nn.Module]] = {
    "torchvision:mobilenet_v2": reference("torchvision:mobilenet_v2(width_mult=0.5)"),
    "torchvision:mnasnet1_0": reference("torchvision:mnasnet0_5"),
    "torchvision:densenet121": partial(DenseNet, 16, (6, 12, 24, 16), 32),
    "torchvision:shufflenet_v2_x1_0": reference("torchvision:shufflenet_v2_x0_5"),
    "torchvision:mobilenet_v3_large": reference("torchvision:mobilenet_v3_large(width_mult=0.5)"),
    "torchvision:efficientnet_b0": narrow_efficientnet,
    "torchvision:regnet_y_400mf": narrow_regnet,
    "pruneas:resnet56": reference("pruneas:resnet56(width=0.5)"),
    "pruneas:vgg19": reference("pruneas:vgg19(width=0.3)"),
    "torchvision:resnet50": reference("torchvision:resnet50(width_per_group=32)"),
    "torchvision:resnext50_32x4d": partial(ResNet, Bottleneck, [3, 4, 6, 3], groups=32, width_per_group=3),
    "torchvision:wide_resnet50_2": reference("torchvision:resnet50"),
    "torchvision:vgg11_bn": narrow_vgg,
    "torchvision:convnext_base": reference("torchvision:convnext_small"),
}
"""Networks, and factories of their own family that were told to be narrower."""
SOON = list(NARROWER)[:4]


def widths_of(structure: Structure, network: nn.Module) -> dict[str, int]:
    """The widths that give this network's shapes, solved for."""
    shapes = {name: tuple(tensor.shape) for name, tensor in network.named_parameters()}
    dimensions = [(name, dim) for name in shapes for dim in range(len(shapes[name]))]
    forms = [structure.form(dimension) for dimension in dimensions]
    sizes = np.array([shapes[name][dim] - form.constant for (name, dim), form in zip(dimensions, forms, strict=True)])
    found, *_ = np.linalg.lstsq(np.stack([form.coefficients for form in forms]), sizes, rcond=None)
    return dict(zip(structure.widths, np.round(found).astype(int).tolist(), strict=True))


def check_narrower(network: str) -> None:
    structure = analysed(network)
    torch.manual_seed(7)
    direct = NARROWER[network]()
    widths = widths_of(structure, direct)
    assert widths != structure.widths
    same, other = (build_widths(structure, widths, seed=seed).state_dict() for seed in (7, 8))
    made = direct.state_dict()
    assert {name: tensor.shape for name, tensor in made.items()} == {name: t.shape for name, t in same.items()}
    assert [name for name in made if not torch.equal(made[name], same[name])] == []
    largest = sorted(made, key=lambda name: made[name].numel())[-4:]
    for name in largest:
        a, b = (state[name].flatten()[:50_000].numpy() for state in (made, other))
        assert not np.array_equal(a, b)
        assert ks_2samp(a, b).pvalue > 1e-3, name


@pytest.mark.parametrize("network", SOON)
def test_rebuilding_draws_what_a_factory_does_that_takes_these_widths(network: str) -> None:
    check_narrower(network)


@pytest.mark.slow
@pytest.mark.parametrize("network", NARROWER)
def test_rebuilding_any_family_draws_what_its_narrower_factory_does(network: str) -> None:
    check_narrower(network)


@pytest.mark.parametrize(("network", "last"), [("resnet18", "bn2"), ("resnet50", "bn3")])
def test_gammas_that_begin_at_zero_do_so_at_any_width(network: str, last: str) -> None:
    structure = analysed(f"torchvision:{network}(zero_init_residual=True)")
    rebuilt = build_widths(structure, random_widths(structure, seed=4), seed=4)
    for name, module in rebuilt.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == (0.0 if name.endswith(last) else 1.0)).all(), name


def test_seeds_decide_every_drawn_value() -> None:
    structure = analysed("torchvision:shufflenet_v2_x1_0")
    widths = random_widths(structure, seed=5)
    first, again, other = (dict(build_widths(structure, widths, seed=seed).named_parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if first[name].numel() > 1 and first[name].std() > 0]
    assert len(drawn) > 50
    assert not any(torch.equal(first[name], other[name]) for name in drawn)
