"""What Torch-Pruning and FastNAS make of a network at a budget, read as widths.

Each is called as its own documentation does it, and decides by itself which channels go. They count FLOPs in their own
way and stop somewhere below what they were asked for; so what they give is scaled, as it is, to what the budget allows
by fvcore's count: nobody is behind for FLOPs that were not spent.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pruneas.cost.model import Widths
from pruneas.errors import StructureError
from pruneas.generators import Generated, Method, Task

STEPS = 400
"""Of Torch-Pruning: its own script's steps from the whole network to nothing."""
IMAGES = 1024
"""Of the training images, on which FastNAS scores."""


def torch_pruning(task: Task) -> Generated:
    """Group norms over the whole network, a step at a time until the budget is met.

    As in `examples/reproduce/main.py` of Torch-Pruning: `GroupMagnitudeImportance`, global pruning, the classifier
    left alone.
    """
    import torch_pruning as tp

    network = task.network().eval()
    with _told("torch-pruning"):
        pruner = tp.pruner.BasePruner(
            network,
            _example(task),
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            global_pruning=True,
            pruning_ratio=1.0,
            max_pruning_ratio=1.0 - float((task.legal.lowest / task.model.base_widths).max()),
            iterative_steps=STEPS,
            ignored_layers=_classifiers(network),
        )
    for _ in range(STEPS):
        with _told("torch-pruning"):
            pruner.step()
        widths = _widths(task, network)
        if task.limits.fit(task.model, widths):
            break
    return Generated(widths=task.project(widths.astype(np.float64)))


def fastnas(task: Task) -> Generated:
    """The sensitivity of the loss to every width alone, one threshold for all of them by bisection.

    As in the documentation of ModelOpt, with channels in steps of one (its default of 32 leaves small networks as they
    are), scored by minus the log-loss of training images.
    """
    import modelopt.torch.prune as mtp

    assert task.images is not None
    if task.share is not None or "flops" not in task.limits.most:
        raise StructureError(f"fastnas: must have a budget of FLOPs, which it counts; got {task.limits}")
    batches = list(task.some_images(IMAGES, 256))

    @torch.no_grad()
    def score(network: nn.Module) -> float:
        losses = [float(F.cross_entropy(network(images), labels, reduction="sum")) for images, labels in batches]
        return -sum(losses) / sum(len(labels) for _, labels in batches)

    share = task.limits.most["flops"] / task.model.base.flops
    with tempfile.TemporaryDirectory() as folder, _silence(), _told("fastnas"):
        network, _ = mtp.prune(
            task.network().to(task.device).eval(),
            mode=[("fastnas", _rules())],
            constraints={"flops": f"{100 * share:.3f}%"},
            dummy_input=_example(task).to(task.device),
            config={
                "data_loader": None,
                "score_func": score,
                "checkpoint": str(Path(folder) / "sensitivities.pth"),
                "verbose": False,
            },
        )
    return Generated(widths=task.project(_widths(task, network).astype(np.float64)))


def _rules() -> dict[str, dict[str, object]]:
    """FastNAS's own rules of its search space, with steps of one channel."""
    from modelopt.torch.prune.fastnas import FastNASConfig

    rules = FastNASConfig().model_dump()
    for kind in rules.values():
        for rule in kind.values():
            for divisor in ("channel_divisor", "feature_divisor"):
                if rule is not None and divisor in rule:
                    rule[divisor] = 1
    return rules


def _widths(task: Task, network: nn.Module) -> Widths:
    """The widths of a network that was made narrower. Shape (groups,).

    A parameter's size is a sum of widths, each as often as its group's channels lie in it, and of what cannot change.
    """
    sizes = {name: parameter.shape for name, parameter in network.named_parameters()}
    dimensions = [(name, dim) for name, dim in task.structure.layouts if name in sizes]
    forms = [task.structure.form(dimension) for dimension in dimensions]
    found = [sizes[name][dim] for name, dim in dimensions]
    changing = np.array([form.coefficients for form in forms])
    solved, *_ = np.linalg.lstsq(changing, np.array(found) - [form.constant for form in forms], rcond=None)
    widths = solved.round().astype(np.int64)
    if [form.at(widths) for form in forms] != found:
        raise StructureError(f"sizes that are no widths of this network's groups; the nearest are {widths.tolist()}")
    return widths


def _example(task: Task) -> torch.Tensor:
    (given,) = task.structure.inputs
    return torch.zeros(1, *given.shape)


def _classifiers(network: nn.Module) -> list[nn.Module]:
    """The last linear layer: its outputs are the classes."""
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1:]


@contextlib.contextmanager
def _told(tool: str) -> Iterator[None]:
    """A network that the tool cannot work on is the user's to hear of, whatever the tool raises."""
    try:
        yield
    except Exception as error:
        raise StructureError(f"{tool} cannot work on this network: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without the progress bars and warnings that are printed on the way."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        with contextlib.redirect_stderr(io.StringIO()):
            yield


TORCH_PRUNING = Method(
    name="torch-pruning",
    summary="Torch-Pruning 1.6: group norms over the whole network, step by step",
    needs=frozenset({"weights"}),
    generate=torch_pruning,
)
FASTNAS = Method(
    name="fastnas",
    summary="ModelOpt 0.47's FastNAS: the loss's sensitivity to every width alone, one threshold",
    needs=frozenset({"weights", "data"}),
    generate=fastnas,
)
