"""Seeds follow from what they are for, and from nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from pruneas.seeds import derive

PURPOSES = st.lists(st.integers() | st.text(), max_size=3)


def test_seeds_are_the_same_on_every_machine() -> None:
    assert derive(0) == 804681139
    assert derive(7, "trial", 3) == 718693615


@given(st.integers(), PURPOSES)
def test_seeds_fit_every_generator(run_seed: int, purpose: list[int | str]) -> None:
    assert 0 <= derive(run_seed, *purpose) < 2**31
    assert derive(run_seed, *purpose) == derive(run_seed, *purpose)


def test_purposes_get_seeds_of_their_own() -> None:
    seeds = {derive(seed, purpose, index) for seed in range(5) for purpose in ("trial", "test") for index in range(50)}
    assert len(seeds) == 500
