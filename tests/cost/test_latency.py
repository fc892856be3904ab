import pytest

from pruneas.architecture import Input
from pruneas.cost.latency import LEAST_ROUNDS, MOST_ROUNDS, WARM_UP, measure, pass_of, processor
from tests.nets import INPUT, NETS


class Clock:
    """Passes take what they are said to take."""

    def __init__(self) -> None:
        self.now = 0.0

    def takes(self, *seconds: float):
        left = list(seconds)

        def run() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run

    def __call__(self) -> float:
        return self.now


def test_medians_and_quartiles_are_of_the_rounds_after_warming_up():
    clock = Clock()
    slow_start = [5.0] * WARM_UP + [0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007]
    found = measure({"a": clock.takes(*slow_start), "b": clock.takes(1.0)}, seconds=0.0, clock=clock)
    assert found["a"].rounds == LEAST_ROUNDS == 7
    assert (found["a"].low, found["a"].median, found["a"].high) == pytest.approx((2.5, 4.0, 5.5))
    assert found["b"].median == pytest.approx(1000)
    assert str(found["a"]) == "4 (2.5 to 5.5)"


def test_quick_passes_are_timed_often_slow_ones_for_the_time_given():
    clock = Clock()
    assert measure({"a": clock.takes(0.001)}, clock=clock)["a"].rounds == MOST_ROUNDS
    assert measure({"a": clock.takes(0.25)}, seconds=2.0, clock=clock)["a"].rounds == 9


def test_a_pass_runs_the_network_in_evaluation_mode_on_a_batch():
    network = NETS["Chain"].factory().train()
    seen = []
    network.register_forward_hook(lambda module, given, out: seen.append((module.training, len(given[0]))))
    pass_of(network, INPUT, batch=3, device="cpu")()
    assert seen == [(False, 3)]
    assert isinstance(INPUT[0], Input)


def test_the_processor_has_a_name():
    assert processor()
