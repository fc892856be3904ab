"""Uniform sparsification [Liu2019, section 5]: every weight goes with the same probability, wherever it is.

The baseline of methods that mask single weights, as uniform scaling is that of methods that choose widths. Its widths
are uniform scaling's.

[Liu2019] Rethinking the Value of Network Pruning, arXiv 1810.05270
"""

import numpy as np

from pruneas.generators.method import Generated, Method, Task
from pruneas.generators.sparse import convolutions, cut


def generate(task: Task) -> Generated:
    """Masks drawn by the task's seed, one threshold for the whole network."""
    rng = np.random.default_rng(task.seed)
    lasting = {name: rng.random(task.structure.shapes[name]) for name in convolutions(task.structure)}
    return Generated(widths=task.uniform(), masks=cut(task, lasting))


METHOD = Method(
    name="uniform-sparsity",
    summary="masks drawn with the same probability everywhere: the baseline of masks",
    needs=frozenset(),
    generate=generate,
    uniform_widths=True,
)
