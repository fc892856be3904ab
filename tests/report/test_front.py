import io
from dataclasses import replace

import pytest
from rich.console import Console

from pruneas.report.front import FrontPoint, FrontRecord, front_table


def results(record, *pairs):
    """The result at several budgets, as (share of the FLOPs, accuracy) of the winner."""
    found = []
    for share, accuracy in pairs:
        winner = record.arm(record.winner)
        changed = replace(
            winner,
            flops=int(share * record.base_flops),
            flops_share=share,
            test_accuracies=(accuracy,) * len(winner.seeds),
        )
        arms = tuple(changed if arm is winner else arm for arm in record.arms)
        found.append(replace(record, budget=str(share), arms=arms))
    return found


def test_what_costs_no_less_and_is_worse_is_dominated(made_up):
    front = FrontRecord.of(results(made_up, (0.3, 0.8), (0.5, 0.79), (0.7, 0.9)))
    assert [point.is_dominated for point in front.points] == [False, True, False]
    assert [point.accuracy for point in front.points] == pytest.approx([0.8, 0.79, 0.9])
    assert front.base_accuracy == made_up.by_role("base").mean


def test_equal_points_do_not_dominate_each_other(made_up):
    front = FrontRecord.of(results(made_up, (0.3, 0.8), (0.3, 0.8)))
    assert not any(point.is_dominated for point in front.points)


def test_a_front_is_read_back(made_up):
    front = FrontRecord.of(results(made_up, (0.3, 0.8), (0.5, 0.9)))
    assert FrontRecord.from_json(front.to_json()) == front
    assert isinstance(front.points[0], FrontPoint)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "points": [{}]}'])
def test_anything_else_is_no_front(text):
    with pytest.raises(ValueError, match=r"."):
        FrontRecord.from_json(text)


def test_a_line_a_budget_and_one_for_the_base(made_up):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(front_table(FrontRecord.of(results(made_up, (0.3, 0.8), (0.5, 0.79)))))
    text = console.export_text()
    assert "80.00" in text
    assert "79.00 ± 0.00 -" in text
    assert "base" in text
