import pytest

from pruneas.report.folding import fold, listed


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["fc"], "fc"),
        (["layer1.0.conv1", "layer1.1.conv1", "layer1.2.conv1"], "layer1.{0-2}.conv1"),
        (["features.0", "features.3", "features.4"], "features.{0,3-4}"),
        (["a.0.b", "a.0.c"], "a.0.b, a.0.c"),  # a difference in words is one
        (["conv", "a1", "fc", "a2"], "conv, a{1-2}, fc"),  # where the first of them stands
        (["layer01", "layer02"], "layer01, layer02"),  # a range would drop the zero
        (["1.a", "2.b"], "1.a, 2.b"),
    ],
)
def test_names_that_differ_in_one_number_are_one(names, text):
    assert listed(names) == text


def test_a_name_goes_with_the_most_others_and_then_with_those_that_differ_further_left():
    names = ["s1.0.conv1", "s1.0.conv2", "s1.1.conv1", "s1.1.conv2", "s1.2.conv1", "s1.2.conv2"]
    assert listed(names) == "s1.{0-2}.conv1, s1.{0-2}.conv2"
    assert listed(["a1.b1", "a1.b2", "a2.b1", "a2.b2"]) == "a{1-2}.b1, a{1-2}.b2"


def test_only_what_is_alike_comes_together():
    assert fold(["a.0", "a.1", "a.2"], [8, 16, 8]) == [("a.{0,2}", [0, 2]), ("a.1", [1])]


def test_every_name_is_in_one_place():
    names = [f"block{i}.{j}.conv{k}" for i in range(3) for j in range(i + 1) for k in (1, 2)]
    found = sorted(index for _, members in fold(names) for index in members)
    assert found == list(range(len(names)))
