"""Channel pruning by regression [He2017]: LASSO chooses the channels, least squares remakes the next layer.

Rows are outputs Y of the next layer at random places of training images, and the windows X of its inputs that they are
made of. With Z_c what its present kernel makes of channel c, channels are those with beta_c != 0 where

    1/2 |Y - sum over c of beta_c Z_c|^2 + alpha |beta|_1

is smallest, alpha by bisection until as many are left as are wanted. Then the next layer's whole kernel, and its bias,
are refitted to Y by least squares. Layers follow one another: X is of the network as it is pruned by then, Y of the
base, so a layer makes up for what was lost before it. Rows are not kept, only the sums X'X and X'Y over them, from
which all else follows: they grow with the layer, as (inputs * kernel)^2, not with the images.

Departures: widths are uniform scaling's, solved from the budget (the paper sets ratios by hand). Channels of a residual
stream go from all of it (the paper samples the inputs of each block's first layer, and lets its last one make up for
the shortcut, too). All rows choose, not a random part of them. Where several layers read a group, they choose with all
their rows together; what other groups give a layer (concatenated) is taken from Y first, and refitted along. Directions
that the rows do not show stay as inherited. What counts as a next layer, and what is done without one: see `readers`.

[He2017] Channel Pruning for Accelerating Very Deep Neural Networks, arXiv 1707.06168
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import linalg
from torch import Tensor, nn

from pruneas.generators.l1 import norms
from pruneas.generators.method import Generated, Method, Task
from pruneas.generators.ranking import Ranking, Scores, filter_scores, strongest
from pruneas.generators.readers import (
    BATCH,
    captured,
    kernels,
    notes_on,
    position_of,
    random_places,
    readers_of,
    rows,
    windows,
    with_tensor,
)
from pruneas.structure.build import Keep, build_widths, inherit, surviving
from pruneas.structure.groups import Group

IMAGES = 5000
RIDGE = 1e-8  # of the mean square of an input: directions that are weaker stay as inherited
Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Of one weight, over all rows: `xx` X'X (parts, columns, columns), `xy` X'Y (parts, columns, outputs of a part).

    Parts are those of grouped convolutions. Columns are inputs of a part times the kernel; where one module alone holds
    the weight, and has a `bias`, a column of ones is last. `weight` is the present one, (parts, columns, outputs of a
    part); the present bias has been taken from Y, so in the last column it is 0. `inputs` are the base's indices of the
    columns, -1 for the last one, `outputs` those of the outputs of all parts.
    """

    xx: Array
    xy: Array
    weight: Array
    inputs: Indices
    outputs: Indices
    bias: str | None


def generate(task: Task) -> Generated:
    """Choose channels and refit what reads them, group after group."""
    assert task.state is not None
    structure, widths = task.structure, task.model.mapping(task.uniform())
    base = task.network().to(task.device).eval()
    state: dict[str, Tensor] = dict(task.state)
    keep: dict[str, Sequence[int]] = {name: range(width) for name, width in structure.widths.items()}
    scores: dict[str, Scores] = {}
    unread: list[str] = []
    for group in structure.groups:
        scores[group.name] = filter_scores(structure, group, task.state, norms)
        if widths[group.name] == group.width:
            continue
        sums = reader_sums(task, group, base, state, keep)
        gram, moment = contributions(task, group, sums)
        if not gram.any():
            unread.append(group.name)
        else:
            scores[group.name] = np.abs(select(gram, moment, widths[group.name])[0])
        keep[group.name] = strongest(scores[group.name], widths[group.name])
        indices = surviving(structure, keep)
        for name, each in sums.items():
            refitted = refit(state[name], each, indices[name, 1])
            state = with_tensor(structure, state, name, refitted[0])
            if each.bias is not None:
                bias = state[each.bias].clone()
                bias[torch.from_numpy(each.outputs)] += refitted[1].to(bias)
                state = with_tensor(structure, state, structure.aliases.get(each.bias, each.bias), bias)
    ranking = Ranking(scores=scores, scope="layer")
    found, kept = task.walk(ranking)
    state = inherit(structure, state, kept)
    return Generated(widths=found, keep=kept, ranking=ranking, state=state, notes=notes_on(unread))


def reader_sums(task: Task, group: Group, base: nn.Module, state: Mapping[str, Tensor], keep: Keep) -> dict[str, Sums]:
    """The sums of each weight that reads a group, in the network that has this state and these channels.

    `base` is the trained network, on the task's device. Weights that no image reaches are left out.
    """
    structure, indices = task.structure, surviving(task.structure, keep)
    network = build_widths(structure, {name: len(kept) for name, kept in keep.items()})
    network.load_state_dict(inherit(structure, state, keep))
    network.to(task.device).eval()
    readers = readers_of(structure, group, network)
    modules = {module: weight for weight, held in readers.items() for module in held}
    generator = torch.Generator().manual_seed(task.seed)
    xx: dict[str, Tensor] = {}
    xy: dict[str, Tensor] = {}
    for images, _ in task.some_images(int(task.option("images", IMAGES)), BATCH) if modules else ():
        before, now = captured(base, modules, images), captured(network, modules, images)
        for name, weight in modules.items():
            was, module = base.get_submodule(name), network.get_submodule(name)
            outputs = torch.from_numpy(indices[weight, 0]).to(task.device)
            for given, found in zip(before[name], now[name], strict=True):
                view = windows(module, found)
                places = random_places(view, module, generator)
                x = rows(view, module, places).flatten(2)
                wanted = _apply(was, rows(windows(was, given), was, places).flatten(2))[:, outputs]
                y = (wanted - _bias(module)).reshape(len(x), x.shape[1], -1)
                if _fits_bias(module, readers[weight]):
                    x = torch.cat([x, torch.ones_like(x[..., :1])], dim=2)
                xx[weight] = xx.get(weight, 0) + torch.einsum("rpi,rpj->pij", x, x)
                xy[weight] = xy.get(weight, 0) + torch.einsum("rpi,rpo->pio", x, y)
    return {
        weight: _sums(network, readers[weight], xx[weight], xy[weight], indices[weight, 1], indices[weight, 0])
        for weight in xx
    }


def contributions(task: Task, group: Group, sums: Mapping[str, Sums]) -> tuple[Array, Array]:
    """Z'Z (width, width) and Z'Y (width,), over the rows of all readers; Y without what is not the group's."""
    gram, moment = np.zeros((group.width, group.width)), np.zeros(group.width)
    for name, each in sums.items():
        channel = np.append(position_of(task.structure, group, name), -1)[each.inputs]
        mine = channel >= 0
        of_channel = np.zeros((len(channel), group.width))
        of_channel[mine, channel[mine]] = 1.0
        for xx, xy, weight in zip(each.xx, each.xy, each.weight, strict=True):
            gram += of_channel.T @ (weight @ weight.T * xx) @ of_channel
            moment += of_channel.T @ (weight * (xy - xx[:, ~mine] @ weight[~mine])).sum(1)
    return gram, moment


def select(gram: Array, moment: Array, count: int) -> tuple[Array, float]:
    """The beta that makes 1/2 |Y - Z beta|^2 + alpha |beta|_1 smallest, and an alpha that leaves `count` of them.

    More where no alpha leaves just so many, fewer only where not even a tiny one leaves enough. Takes Z'Z (width,
    width) and Z'Y (width,).
    """
    from sklearn.exceptions import ConvergenceWarning  # here, for loading it takes as long as loading torch
    from sklearn.linear_model import Lasso

    squares, directions = linalg.eigh(gram)
    shown = squares > 1e-12 * squares.max()
    lengths = np.sqrt(squares[shown])
    # No more rows than there are channels, with the same sums as all of them.
    z, y = lengths[:, None] * directions[:, shown].T, directions[:, shown].T @ moment / lengths
    model = Lasso(fit_intercept=False, warm_start=True, tol=1e-6)

    def fitted(alpha: float) -> Array:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # near enough to tell who is left
            found: Array = model.set_params(alpha=alpha / len(z)).fit(z, y).coef_.copy()
        return found

    low = high = float(np.abs(moment).max())  # leaves none
    least, found = 1e-9 * low, np.zeros(len(gram))
    while np.count_nonzero(found) < count and low > least:
        high, low = low, low / 2
        found = fitted(low)
    best = found, low
    for _ in range(50):
        if np.count_nonzero(best[0]) <= count:
            break
        alpha = (low + high) / 2
        found = fitted(alpha)
        if np.count_nonzero(found) >= count:
            best, low = (found, alpha), alpha
        else:
            high = alpha
    return best


def refit(weight: Tensor, sums: Sums, kept: Indices) -> tuple[Tensor, Tensor]:
    """A weight of the base's size with what survives refitted to Y, and what to add to the bias (outputs,).

    `kept`: the inputs that survive. Least squares for the difference from the present weight.
    """
    columns = np.isin(sums.inputs, kept) | (sums.inputs < 0)
    fitted = []
    for xx, xy, present in zip(sums.xx, sums.xy, sums.weight, strict=True):
        squares = xx[columns][:, columns]
        missing = xy[columns] - squares @ present[columns]
        squares[np.diag_indices(len(squares))] += max(RIDGE * np.diag(squares).mean(), 1e-300)
        fitted.append(present[columns] + linalg.solve(squares, missing, assume_a="pos"))
    new = torch.from_numpy(np.stack(fitted)).transpose(1, 2).flatten(0, 1)  # (outputs, columns)
    offset = new.new_zeros(len(new))
    if sums.bias is not None:
        new, offset = new[:, :-1], new[:, -1]
    result = weight.clone()
    to = torch.from_numpy(sums.outputs)[:, None], torch.from_numpy(kept)[None, :]
    result[to] = new.reshape(len(new), len(kept), *weight.shape[2:]).to(weight)
    return result, offset


def _sums(network: nn.Module, held: Sequence[str], xx: Tensor, xy: Tensor, inputs: Indices, outputs: Indices) -> Sums:
    module = network.get_submodule(held[0])
    weight = kernels(module)
    _, ins, size = weight.shape
    present = weight.reshape(len(xx), -1, ins * size).transpose(1, 2).cpu().numpy()
    columns, bias = np.repeat(inputs, size), None
    if _fits_bias(module, held):
        present = np.pad(present, ((0, 0), (0, 1), (0, 0)))
        columns, bias = np.append(columns, -1), f"{held[0]}.bias"
    return Sums(xx=xx.cpu().numpy(), xy=xy.cpu().numpy(), weight=present, inputs=columns, outputs=outputs, bias=bias)


def _fits_bias(module: nn.Module, held: Sequence[str]) -> bool:
    """Where several modules hold a weight, each keeps its bias."""
    return module.bias is not None and len(held) == 1


def _apply(module: nn.Module, x: Tensor) -> Tensor:
    """What the module puts out for windows (rows, parts, columns). Shape (rows, outputs)."""
    weight = kernels(module).reshape(x.shape[1], -1, x.shape[2])
    return torch.einsum("rpi,poi->rpo", x, weight).flatten(1) + _bias(module)


def _bias(module: nn.Module) -> Tensor | float:
    return module.bias.detach().double() if isinstance(module.bias, Tensor) else 0.0


METHOD = Method(
    name="regression",
    summary="LASSO picks channels, least squares refits the next layer; uniform scaling's widths (He 2017)",
    needs=frozenset({"weights", "data"}),
    generate=generate,
    options=frozenset({"images"}),
    uniform_widths=True,
)
