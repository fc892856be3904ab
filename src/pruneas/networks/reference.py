"""From a reference to its factory, and from there to a network."""

import contextlib
import importlib
import importlib.metadata
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_iter

from pruneas.architecture import Inputs, Reference
from pruneas.errors import NetworkError
from pruneas.networks import densenet, preresnet, resnet, resnet50, vgg
from pruneas.networks.bounded import bounded

Factory = Callable[..., nn.Module]

NETWORKS: dict[str, Factory] = {
    "vgg": vgg.vgg,
    "vgg11": vgg.vgg11,
    "vgg16": vgg.vgg16,
    "vgg19": vgg.vgg19,
    "resnet20": resnet.resnet20,
    "resnet32": resnet.resnet32,
    "resnet56": resnet.resnet56,
    "resnet110": resnet.resnet110,
    "preresnet110": preresnet.preresnet110,
    "preresnet164": preresnet.preresnet164,
    "densenet40": densenet.densenet40,
    "densenet_bc100": densenet.densenet_bc100,
    "vgg16_gap": vgg.vgg16_gap,
    "resnet50": resnet50.resnet50,
    "preresnet50": preresnet.preresnet50,
}


def make(reference: Reference, *, trusted: bool = True) -> nn.Module:
    """A freshly initialised network, by running the factory. One that is not trusted may take so much memory only.

    Raises NetworkError where the factory is missing, raises, or returns something else than a module.
    """
    factory = _factory(reference)
    try:
        with contextlib.nullcontext() if trusted else bounded():
            network = factory(**reference.arguments)
    except Exception as error:
        raise NetworkError(
            f"network {reference}: its factory raised {type(error).__name__}: {error} ({_last_line(error)})"
        ) from error
    if not isinstance(network, nn.Module):
        raise NetworkError(
            f"network {reference}: the factory must return a torch.nn.Module, it returned {type(network).__name__}"
        )
    return network


def usual_shape(reference: Reference) -> tuple[int, int, int]:
    """The image (channels, height, width) that a network of torchvision's or timm's is used with.

    The smallest that torchvision has weights for, the one in timm's configuration; 3x224x224 where they say nothing.
    Nothing is fetched.
    """
    zoo, _, name = reference.name.partition(":")
    if zoo == "torchvision":
        from torchvision import models

        weights = models.get_model_weights(name) if name in models.list_models(module=models) else ()
        sides = [each.transforms.keywords.get("crop_size", 224) for each in weights]
        return (3, min(sides, default=224), min(sides, default=224))
    try:
        import timm
    except ModuleNotFoundError:
        return (3, 224, 224)  # `make` says what is missing
    known = timm.get_pretrained_cfg(name)
    return (3, 224, 224) if known is None else known.input_size


def examples(inputs: Inputs, *, batch: int = 1, device: torch.device | str = "cpu") -> list[torch.Tensor]:
    """Zeros that a network takes as its arguments: (batch, *shape) each."""
    types = {"float32": torch.float32, "int64": torch.int64}
    return [torch.zeros(batch, *each.shape, dtype=types[each.dtype], device=device) for each in inputs]


def tensors_of(output: Any) -> Iterator[torch.Tensor]:
    """The tensors of a network's output: nested, or in mappings, dataclasses and objects of its own."""
    for leaf in tree_iter(output):
        if isinstance(leaf, torch.Tensor):
            yield leaf
        elif isinstance(leaf, Mapping):  # of a class of its own, which the tree does not open
            yield from tensors_of(list(leaf.values()))
        elif is_dataclass(leaf) and not isinstance(leaf, type):  # those with slots have no dictionary
            yield from tensors_of([getattr(leaf, each.name) for each in fields(leaf)])
        elif hasattr(leaf, "__dict__") and not isinstance(leaf, nn.Module | type):
            yield from tensors_of(vars(leaf))


def provider(reference: Reference) -> str:
    """The package that a reference's factory comes from, with its version: 'torchvision 0.29.2'."""
    package = reference.name.partition(":")[0].partition(".")[0]
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} (no version)"


def _factory(reference: Reference) -> Factory:
    package, _, name = reference.name.partition(":")
    if package == "pruneas":
        return _from_table(reference, name, NETWORKS)
    if package == "torchvision":
        from torchvision import models

        builder = _from_table(
            reference, name, {known: models.get_model_builder(known) for known in models.list_models()}
        )
        # Detectors and segmenters fetch the weights of their backbone unless they are told not to.
        is_fetching = "weights_backbone" in inspect.signature(builder).parameters
        return partial(builder, weights_backbone=None) if is_fetching else builder
    if package == "timm":
        return _from_timm(reference, name)
    if package.partition(".")[0] in sys.stdlib_module_names:
        raise NetworkError(f"network {reference}: {package!r} is of Python's own library, which makes no networks")
    if str(Path.cwd()) not in sys.path:  # a module beside the user's data, as other command-line tools find it
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.import_module(package)
        for part in name.split("."):
            found = getattr(found, part)
            if isinstance(found, ModuleType):
                raise NetworkError(f"network {reference}: {part!r} is a module; modules stand before the colon")
    except ModuleNotFoundError as error:
        raise NetworkError(
            f"network {reference}: there is no module {error.name!r} here or among the installed packages; "
            "zoo networks are written 'pruneas:NAME', 'torchvision:NAME' or 'timm:NAME'"
        ) from error
    except AttributeError as error:
        raise NetworkError(f"network {reference}: module {package!r} has nothing called {name!r}") from error
    except NetworkError:
        raise
    except Exception as error:
        raise NetworkError(
            f"network {reference}: importing {package!r} raised {type(error).__name__}: {error} ({_last_line(error)})"
        ) from error
    if not callable(found):
        raise NetworkError(f"network {reference}: {name!r} must be callable, found {type(found).__name__}")
    return found


def _from_timm(reference: Reference, name: str) -> Factory:
    """What makes one of timm's networks, freshly initialised; a tag after a dot (`resnet50.a1_in1k`) sets its options.

    Names of the hub (`hf-hub:...`) do not come here: a reference holds one colon.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise NetworkError(f"network {reference}: timm is not installed: pip install 'pruneas[timm]'") from error
    for argument in ("pretrained", "checkpoint_path"):
        if reference.arguments.get(argument):
            raise NetworkError(
                f"network {reference}: {argument}: a network is made freshly initialised, and given its weights "
                "by --weights FILE"
            )
    plain, _, tag = name.partition(".")
    _from_table(reference, plain, dict.fromkeys(timm.list_models(), nn.Identity))
    if tag and name not in timm.list_pretrained(f"{plain}.*"):
        raise NetworkError(f"network {reference}: timm knows no tag {tag!r} of {plain}")
    return partial(timm.create_model, name)


def _from_table(reference: Reference, name: str, table: dict[str, Factory]) -> Factory:
    if name not in table:
        near = get_close_matches(name, table, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(sorted(table)[:12])}, ..."
        raise NetworkError(f"network {reference}: there is no network called {name!r}; {hint}")
    return table[name]


def _last_line(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "no place known"
