"""How functions, attributes and constants are written in exported source, and what must be imported for them."""

from __future__ import annotations

import importlib
import json
import math
import operator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pruneas.errors import NetworkError

PACKAGES = ("torch", "torchvision", "timm")
"""What exported source may import."""
ELSE = "Export it as onnx or torch-export"
"""What to do with a network that cannot be written down as source."""
SPACES = {"F": functional, "torch": torch, "math": math, "operator": operator, "torch.linalg": torch.linalg}
IMPORTS = {
    "F": "from torch.nn import functional as F",
    "torch": "import torch",
    "math": "import math",
    "operator": "import operator",
    "torch.linalg": "import torch",
}


class Names:
    """Collects the imports that the names given out need."""

    def __init__(self) -> None:
        self.imports: set[str] = set()
        self._known = {
            id(value): (space, f"{space}.{name}")
            for space, module in reversed(SPACES.items())
            for name, value in vars(module).items()
            if callable(value) and not name.startswith("_")
        }

    def function(self, function: Any, place: str) -> str:
        """How a function or class is called. Raises NetworkError for one of another package."""
        if id(function) in self._known:
            space, name = self._known[id(function)]
            self.imports.add(IMPORTS[space])
            return name
        module, name = getattr(function, "__module__", None) or "", getattr(function, "__name__", "")
        if module == "builtins":
            return name
        if module.partition(".")[0] in PACKAGES and getattr(importlib.import_module(module), name, None) is function:
            self.imports.add(f"from {module} import {name}")
            return name
        raise NetworkError(
            f"{place}: its forward calls {module}.{name}, which is not of {', '.join(PACKAGES)}: it cannot be written "
            f"down as source of its own. {ELSE}"
        )

    def attribute(self, root: nn.Module, path: str) -> str:
        """How `root` reaches what lies at a dotted path: `self.features[3]`."""
        text, at = "self", root
        for part in path.split("."):
            if isinstance(at, nn.Sequential | nn.ModuleList) and part.isdigit():
                text += f"[{part}]"
            elif isinstance(at, nn.ModuleDict) and at is not root:
                text += f"[{part!r}]"
            elif part.isidentifier():
                text += f".{part}"
            else:
                text = f"getattr({text}, {part!r})"
            at = getattr(at, part)
        return text


def literal(value: Any, place: str) -> str:
    """A constant as source. Raises NetworkError for what has no such form."""
    if isinstance(value, torch.Size):
        return repr(tuple(value))
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if value is None or value is Ellipsis or isinstance(value, bool | int | float | str):
        if isinstance(value, str):
            return json.dumps(value, ensure_ascii=False)
        return "..." if value is Ellipsis else repr(value)
    if isinstance(value, tuple | list):
        inner = ", ".join(literal(each, place) for each in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
    if isinstance(value, torch.dtype | torch.memory_format):
        return str(value)
    if isinstance(value, torch.device):
        return repr(str(value))
    raise NetworkError(
        f"{place}: its forward uses a {type(value).__name__}, which cannot be written down as source. {ELSE}"
    )
