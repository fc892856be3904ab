"""How the zoo's networks are initialised [He2015]."""

from torch import nn


def initialise(network: nn.Module, *, gamma: float = 1.0) -> None:
    """Convolutions by fan-out [He2015, eq. 14] with biases of zero; batch-norm scales begin at `gamma`.

    [He2015] Delving Deep into Rectifiers, arXiv 1502.01852
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.constant_(module.weight, gamma)


def scaled(channels: int, width: float) -> int:
    """A layer's channels where every layer is scaled by `width`: rounded, at least one."""
    return max(1, round(channels * width))
