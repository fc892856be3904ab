"""What comes with pruneas, by name and without importing it, so that a wrong name is answered at once.

The generators themselves are in `pruneas.generators`, the networks in `pruneas.networks`, which load torch; tests hold
the tables equal.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Literal

GENERATORS: Mapping[str, str] = {
    "uniform": "the same share of every layer: the baseline",
    "random": "random widths and channels: a baseline",
    "uniform-sparsity": "masks drawn with the same probability everywhere: the baseline of masks",
    "l1": "L1 norms of the trained filters, compared over the whole network (Li 2017)",
    "fpgm": "distances to the other filters of a layer, compared over the whole network (He 2019)",
    "taylor": "first-order change of the loss without a channel, over the whole network (Molchanov 2019)",
    "thinet": "what the next layer misses least goes, scaled to make up; uniform scaling's widths (Luo 2017)",
    "regression": "LASSO picks channels, least squares refits the next layer; uniform scaling's widths (He 2017)",
    "sfp": "training that zeroes the smallest filters each epoch; uniform scaling's widths (He 2018)",
    "slimming": "sparse training of batch-norm scales, one threshold for the whole network (Liu 2017)",
    "sss": "trained scales on residual branches; those with small scales are taken out (Huang 2018)",
    "magnitude": "small weights masked, compared over the whole network; what is left of a layer as widths (Han 2015)",
    "guided": "widths of pruned networks, averaged over each stage, as a design for this one (Liu 2019)",
    "guided-sparsity": "masks drawn by how often pruned networks keep each place of a kernel in each stage (Liu 2019)",
}

LAYER = "1 (channels compare within their layer alone), or left out"
IMAGES = "a number above 0"

OPTIONS: Mapping[str, Mapping[str, str]] = {
    "uniform": {},
    "random": {},
    "uniform-sparsity": {},
    "l1": {"layer": LAYER},
    "fpgm": {"layer": LAYER},
    "taylor": {"images": IMAGES},
    "thinet": {"images": IMAGES},
    "regression": {"images": IMAGES},
    "sfp": {},
    "slimming": {"pull": "a number above 0"},
    "sss": {"gamma": "a number above 0"},
    "magnitude": {},
    "guided": {},
    "guided-sparsity": {},
}
"""The options of each, all of them positive numbers so far, with what they must be."""

Tie = Literal["group", "stage", "mixture"]
SAMPLERS: Mapping[str, str] = {
    "gp": "a Gaussian process and its expected improvement",
    "tpe": "a tree of Parzen estimators",
    "cma": "evolution of a covariance matrix",
    "nsga2": "an evolutionary algorithm",
    "random": "independent draws: a baseline",
}
TIES: Mapping[Tie, str] = {
    "group": "a multiplier of its own for every group",
    "stage": "one multiplier for all groups of a stage",
    "mixture": "a mixture of what the generators gave, with a multiplier for every stage",
}

LARGE_IMAGES = frozenset({"vgg16_gap", "resnet50", "preresnet50"})
"""The networks of pruneas that take images of 224x224; the others take 32x32."""


def other_generators() -> list[str]:
    """Names of generators that installed packages add through the entry-point group `pruneas.generators`."""
    return sorted(entry.name for entry in entry_points(group="pruneas.generators"))
