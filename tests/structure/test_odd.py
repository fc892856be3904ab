"""Networks written in unusual ways: what is found, and that all of it holds when they are rebuilt."""

from collections.abc import Callable

import pytest
import torch

from pruneas.architecture import Reference
from pruneas.cost.count import count
from pruneas.cost.model import CostModel
from pruneas.errors import StructureError
from pruneas.networks import make
from pruneas.structure.build import analyse, build_widths, shapes_at, structure_of
from pruneas.structure.confirm import confirmed
from tests.nets import image
from tests.structure.coverage import both_ways, random_widths
from tests.structure.odd import ODD, REFUSED, Odd


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.factory.__name__)
def test_what_can_change_is_found_and_holds_when_it_does(odd: Odd) -> None:
    structure = confirmed(analyse(odd.reference, odd.inputs))
    assert {name: width for name, width in structure.widths.items() if name not in structure.frozen} == odd.free
    assert set(structure.frozen) == set(odd.frozen)
    for name, reason in odd.frozen.items():
        assert reason in structure.frozen[name]
    for parameter, reason in odd.fixed.items():
        assert any(reason in fixed.reason for fixed in structure.fixed if fixed.parameter == parameter)

    model = CostModel.of(structure, make(odd.reference))
    for seed in (1, 2):
        widths = random_widths(structure, seed)
        network = build_widths(structure, widths, seed=seed)
        shapes = shapes_at(structure, widths)
        named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        assert {name: tuple(named[name].shape) for name in shapes} == shapes
        recounted, vector = count(network, odd.inputs), model.vector(widths)
        assert (int(model.flops(vector)), int(model.params(vector))) == (recounted.flops, recounted.params)
        found = structure_of(network, structure.network, structure.inputs)
        wanted = [(group.name, widths[group.name], group.members) for group in structure.groups]
        assert [(group.name, group.width, group.members) for group in found.groups] == wanted
        both_ways(network, odd.inputs)


@pytest.mark.parametrize(("factory", "complaint"), REFUSED.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_what_cannot_be_traced_is_one_clear_error(factory: Callable[[], torch.nn.Module], complaint: str) -> None:
    with pytest.raises(StructureError, match=complaint):
        analyse(Reference(f"tests.structure.odd:{factory.__name__}", {}), image(3, 8, 6))
