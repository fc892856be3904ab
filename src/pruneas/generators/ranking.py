"""Rankings of channels, and the walk from a ranking to an architecture inside a budget.

Most pruning methods score channels. What they keep at a budget then follows from the scores alone: the least important
channels of the scope go, one after the other, until the network fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from pruneas.cost.limits import Limits
from pruneas.cost.model import CostModel, Widths
from pruneas.cost.projection import fill, uniform
from pruneas.cost.widths import LegalWidths
from pruneas.structure.build import Keep
from pruneas.structure.groups import Group, Member, Structure

Scope = Literal["layer", "network"]
Scores = npt.NDArray[np.float64]
"""One score a channel, larger is more important. Shape (width of the group,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Scores by group. Scope 'network': scores of all layers compare. Scope 'layer': only those of one layer do, so
    every layer keeps the same share and the widths are uniform scaling's, whatever the scores."""

    scores: Mapping[str, Scores]
    scope: Scope


def walk(ranking: Ranking, model: CostModel, legal: LegalWidths, limits: Limits) -> tuple[Widths, Keep]:
    """The widths that a ranking leaves inside a budget, and which channels they are.

    `legal.lowest` is the floor of every group: no method collapses a layer. Equal scores fall in the order of groups
    and positions. Widths: (groups,).
    """
    scores = [ranking.scores[group] for group in model.groups]
    if any(not np.isfinite(score).all() for score in scores):
        raise ValueError("a ranking's scores must be finite")
    if ranking.scope == "layer":
        widths = uniform(model, legal, limits)
    else:
        owner = np.concatenate([np.full(len(score), index) for index, score in enumerate(scores)])
        order = np.argsort(np.concatenate(scores), kind="stable")

        def remaining(removed: int) -> Widths:
            gone = np.bincount(owner[order[:removed]], minlength=len(scores))
            widths: Widths = np.clip(model.base_widths - gone, legal.lowest, legal.highest)
            return widths

        low, high = 0, len(order)  # the fewest removals that fit, by bisection: the cost never rises with them
        while low < high:
            middle = (low + high) // 2
            if limits.fit(model, legal.floor(remaining(middle).astype(np.float64))):
                high = middle
            else:
                low = middle + 1
        wanted = remaining(low).astype(np.float64)
        widths = fill(legal.floor(wanted), wanted, model, legal, limits)
    return widths, _kept(ranking, model, widths)


def walk_share(ranking: Ranking, model: CostModel, legal: LegalWidths, share: float) -> tuple[Widths, Keep]:
    """The widths that a ranking leaves when a share of all channels is to go, as the papers ask for it.

    Scope 'network': the threshold is the score at position int(total * share) of all sorted scores, and what is above
    it stays. Scope 'layer': int(width * (1 - share)) of each group stay. `legal.lowest` is the floor of every group,
    and steps round down. Widths: (groups,).
    """
    scores = [ranking.scores[group] for group in model.groups]
    if ranking.scope == "layer":
        widths = legal.floor(model.base_widths.astype(np.float64) * (1.0 - share))
    else:
        every = np.sort(np.concatenate(scores), kind="stable")
        threshold = every[min(int(len(every) * share), len(every) - 1)]
        left = np.array([int((score > threshold).sum()) for score in scores])
        widths = legal.floor(np.clip(left, legal.lowest, legal.highest).astype(np.float64))
    return widths, _kept(ranking, model, widths)


def strongest(scores: Scores, width: int) -> list[int]:
    """The channels of the highest scores, ascending; of equal ones the first."""
    return sorted(np.argsort(-scores, kind="stable")[:width].tolist())


def _kept(ranking: Ranking, model: CostModel, widths: Widths) -> Keep:
    return {group: strongest(ranking.scores[group], width) for group, width in zip(model.groups, widths, strict=True)}


def member_scores(
    structure: Structure,
    group: Group,
    members: list[Member],
    score: Callable[[Member], torch.Tensor],
    *,
    normalise: bool,
) -> Scores:
    """Mean over members of their scores of a group's channels; `score` gives (size of the member's dimension,).

    A residual stream has many members of different scale: with `normalise` each is divided by its own mean first. Where
    a channel takes several indices of a dimension, their mean counts. Shape (width,).
    """
    total = np.zeros(group.width)
    for member in members:
        sums = _channel_sums(structure, group, member, score(member)) / member.multiplicity
        total += sums / max(sums.mean(), 1e-12) if normalise else sums
    return total / len(members)


def member_sums(
    structure: Structure, group: Group, members: list[Member], values: Callable[[Member], torch.Tensor]
) -> Scores:
    """Sum over members, and over the indices that a channel takes in each, of `values`. Shape (width,)."""
    total = np.zeros(group.width)
    for member in members:
        total += _channel_sums(structure, group, member, values(member))
    return total


def _channel_sums(structure: Structure, group: Group, member: Member, values: torch.Tensor) -> Scores:
    """Sums by channel of values of a member's indices: (size of its dimension,) -> (width,)."""
    layout = structure.layouts[member.parameter, member.dim]
    mine = layout.groups == list(structure.widths).index(group.name)
    sums = np.zeros(group.width)
    np.add.at(sums, layout.positions[mine], values.detach().double().cpu().numpy()[mine])
    return sums


def producers(structure: Structure, group: Group) -> list[Member]:
    """The learned members whose filters stand for a group's channels.

    Those that produce the channels, first. Where none does (a learned vector), what goes along with them; depthwise
    filters and hand-made scales are such, too. Readers come last.
    """
    learned = [member for member in group.members if member.parameter in structure.learned]
    by_role = {role: [member for member in learned if member.role == role] for role in ("out", "along", "in")}
    return next(members for members in by_role.values() if members)


def filter_scores(
    structure: Structure,
    group: Group,
    state: Mapping[str, torch.Tensor],
    score: Callable[[torch.Tensor], torch.Tensor],
) -> Scores:
    """Scores of a group's channels by their filters, of mean 1, so that layers compare; `score` gives one a filter.

    It is handed the filters of one member, (filters, weights each). Members vote with equal weight. Shape (width,).
    """

    def of(member: Member) -> torch.Tensor:
        weight = state[member.parameter].detach().double().transpose(0, member.dim)
        return score(weight.reshape(len(weight), -1))

    scores = member_scores(structure, group, producers(structure, group), of, normalise=True)
    return scores / max(float(scores.mean()), 1e-12)
