"""Unstructured magnitude pruning [Han2015]: small weights go, one threshold for the whole network.

As [Liu2019] uses it: |w| of all convolution weights of the trained network is pooled (no linear layers, biases or
normalisation), once. Departures: a budget in masked FLOPs (`cost/masked.py`) in place of a share of the weights, a
layer keeps at least its largest weight, and what is left of the layers is also read as widths (`sparse.py`).

[Han2015] Learning both Weights and Connections for Efficient Neural Networks, arXiv 1506.02626
[Liu2019] Rethinking the Value of Network Pruning, arXiv 1810.05270
"""

from pruneas.generators.method import Generated, Method, Task
from pruneas.generators.sparse import convolutions, sparse


def generate(task: Task) -> Generated:
    """Masks by |w|, and widths by what they leave."""
    state = task.state or {}
    return sparse(task, {name: state[name].abs().float().cpu().numpy() for name in convolutions(task.structure)})


METHOD = Method(
    name="magnitude",
    summary="small weights masked, compared over the whole network; what is left of a layer as widths (Han 2015)",
    needs=frozenset({"weights"}),
    generate=generate,
)
