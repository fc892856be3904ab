"""The channel selection as a layer."""

import pytest
import torch

from pruneas.networks.selection import ChannelSelection


def test_it_passes_all_channels_to_begin_with_and_then_those_of_its_index() -> None:
    selection, maps = ChannelSelection(5), torch.randn(2, 5, 3, 4)
    assert torch.equal(selection(maps), maps)
    selection.index = torch.tensor([1, 4])
    assert torch.equal(selection(maps), maps[:, [1, 4]])


def test_the_state_carries_its_index_and_nothing_that_is_learned() -> None:
    selection, other = ChannelSelection(5), ChannelSelection(2)
    other.index = torch.tensor([0, 3])
    selection.index = selection.index[:2]
    selection.load_state_dict(other.state_dict())
    assert selection.index.tolist() == [0, 3]
    assert not list(selection.parameters())
    with pytest.raises(RuntimeError, match="size mismatch for index"):
        ChannelSelection(5).load_state_dict(other.state_dict())
