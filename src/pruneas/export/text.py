"""The Python file: the architecture as a table, the classes, and how the weights are loaded."""

from __future__ import annotations

import json
import textwrap

from pruneas.cost.count import Count
from pruneas.export.source import source
from pruneas.export.taken import Taken


def python_text(taken: Taken, counted: Count) -> str:
    """The text of a module that needs torch, and torchvision or timm where the network calls functions of theirs."""
    written = source(taken.network, taken.architecture.inputs)
    needed = {"import torch", "from pathlib import Path", "from torch import nn", *written.imports}
    own = sorted(line for line in needed if not line.startswith(("import torch", "from torch", "from timm")))
    others = sorted(needed - set(own), key=lambda line: (line.split()[0] == "from", line))
    parts = [
        f'"""{_table(taken, counted)}"""',
        "from __future__ import annotations",
        "\n".join(own),
        "\n".join(others),
        *_constants(taken),
    ]
    return "\n\n\n".join(["\n\n".join(parts), written.classes, _load(written.root)]) + "\n"


def _table(taken: Taken, counted: Count) -> str:
    architecture = taken.architecture
    inputs = ", ".join(f"(batch, {str(each).replace('x', ', ')})" for each in architecture.inputs)
    rows = [
        (name.replace("\\", "?").replace('"""', "?"), str(base), "taken out" if here is None else str(here))
        for name, base, here in taken.widths()
    ]
    widest = max([len("layer"), *(len(name) for name, _, _ in rows)])
    table = [f"    {'layer':<{widest}}  base  here", *(f"    {n:<{widest}}  {b:>4}  {h:>4}" for n, b, h in rows)]
    cost = f"{counted.flops:,} FLOPs (a multiply-add is one, for one input, as fvcore counts)"
    paragraphs = [
        f"{architecture.network} at widths of its own: {cost}, {counted.params:,} parameters.",
        f"The base network is that of {architecture.provider}. Channels of the layers that lead a width group:",
        "\n".join(table),
        f"Input: {inputs}. The weights in the file beside this one are {taken.origin}.",
    ]
    if architecture.removed:
        paragraphs.insert(3, f"Residual branches taken out: {', '.join(architecture.removed)}.")
    if taken.mask is not None:
        paragraphs.insert(3, "Single weights are masked: zero where the architecture's mask says so.")
    filled = [each if each.startswith("    ") else textwrap.fill(each, 116) for each in paragraphs]
    return "\n\n".join(filled).replace("\\", "?").replace('"""', "?") + "\n"


def _constants(taken: Taken) -> list[str]:
    """How images are normalised and what the outputs are called, where a run says so."""
    if not taken.facts:
        return []
    normalisation = taken.facts["normalisation"]
    lines = [
        "# Images are scaled to [0, 1], then normalised: (image - MEAN) / STD, a number for each channel.",
        f"MEAN = {json.dumps(normalisation['mean'])}",
        f"STD = {json.dumps(normalisation['std'])}",
        f"CLASSES = {json.dumps(taken.facts['classes'], ensure_ascii=False)}",
    ]
    return ["\n".join(lines)]


def _load(root: str) -> str:
    return textwrap.dedent(
        f'''\
        def load(weights: str | Path | None = Path(__file__).with_suffix(".pt")) -> nn.Module:
            """The network in evaluation mode, with its weights; with None, as PyTorch initialises its layers."""
            network = {root}()
            if weights is not None:
                network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
            return network.eval()'''
    )
