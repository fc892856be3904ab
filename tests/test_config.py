import re
import tomllib
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pruneas.config import Space, _line_of, shipped_spaces
from pruneas.errors import SpaceError

SMALLEST = """\
schema = 1
[network]
reference = "pruneas:vgg11"
input = [3, 32, 32]
[data]
source = "cifar10"
"""

SOURCES = "'digits', 'cifar10', 'cifar10:ROOT', 'cifar100', 'cifar100:ROOT' or 'folder:PATH'"


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def complaints(path, overrides=None):
    with pytest.raises(SpaceError) as caught:
        Space.load(path, overrides)
    if isinstance(path, str):
        return list(caught.value.complaints)
    return [text.replace(str(path), "mine.toml") for text in caught.value.complaints]


def test_the_shipped_spaces_are_the_promised_ones():
    assert set(shipped_spaces()) == {
        "digits",
        "cifar10-vgg16-quarter",
        "cifar10-vgg16",
        "cifar10-resnet56",
        "imagenet-resnet50",
    }


@pytest.mark.parametrize("name", shipped_spaces())
def test_a_shipped_space_is_valid_complete_and_survives_its_own_toml(name, tmp_path):
    space = Space.load(name)
    assert space.name == name
    copy = tmp_path / "space.toml"
    copy.write_text(space.to_toml(), encoding="utf-8")
    assert Space.load(copy) == space
    # Complete: each key stands in the file, if only as a comment for those without a value.
    text = shipped_spaces()[name].read_text(encoding="utf-8")
    for line in space.to_toml().splitlines():
        key = line.split(" = ")[0]
        assert key in ("", "name", "[generators.options]") or key in text, key


def test_digits_is_the_default():
    assert Space.load().network.input == (1, 8, 8)


def test_what_a_file_leaves_out_has_defaults(write):
    space = Space.load(write(SMALLEST))
    assert (space.name, space.budget, space.search.trials, space.data.training) == ("mine", "0.5", 40, None)
    assert space.generators.methods == ("uniform", "l1", "slimming")


def test_overrides_replace_single_values_and_a_plus_adds_to_a_list(write):
    path = write(SMALLEST + '[widths]\nfreeze = ["a"]\n')
    space = Space.load(path, {"budget": 0.25, "search.trials": 7, "widths.freeze+": ["b*"], "network.input": (1, 8, 8)})
    assert space.budget == 0.25
    assert space.search.trials == 7
    assert space.widths.freeze == ("a", "b*")
    assert space.network.input == (1, 8, 8)


def test_options_of_a_generator_that_a_flag_leaves_out_are_dropped(write):
    path = write(SMALLEST + "[generators.options.slimming]\npull = 1e-4\n")
    assert Space.load(path).generators.options == {"slimming": {"pull": 1e-4}}
    assert Space.load(path, {"generators.methods": ["l1"]}).generators.options == {}


def test_all_complaints_come_at_once_each_with_its_place(write):
    path = write(
        """\
schema = 1
budgett = "0.5"
trials = 4
[network]
reference = "pruneas:vgg11"
[data]
source = "cifr10"
[recipe]
epochs = 1.5
flip = 1
[search]
trials = "many"
[finalist]
seeds = 3
"""
    )
    assert complaints(path) == [
        "mine.toml:2: budgett: is not a key; did you mean 'budget'?",
        "mine.toml:3: trials: is not a key here; it belongs in [search]",
        "mine.toml:4: network.input: is missing; must be a list of sizes of at least 1, such as [3, 32, 32]",
        f"mine.toml:7: data.source: must be {SOURCES}, got 'cifr10'",
        "mine.toml:9: recipe.epochs: must be an integer of at least 1, got 1.5",
        "mine.toml:10: recipe.flip: must be true or false, got 1",
        "mine.toml:12: search.trials: must be an integer of at least 1, got 'many'",
        "mine.toml:13: finalist: is not a key; did you mean 'finalists'?",
    ]


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"search.trials": 0}, "--trials: must be an integer of at least 1, got 0"),
        ({"finalists.seeds": 1}, "--seeds: must be an integer of at least 2 (a spread needs two), got 1"),
        ({"compute.seed": -1}, "--seed: must be an integer of at least 0 and below 2147483648, got -1"),
        ({"compute.device": "gpu"}, "--device: must be 'auto', 'cpu', 'cuda' or 'cuda:N', got 'gpu'"),
        ({"generators.methods": ["l1", "l1"]}, "--generators: must name each method once, got 'l1' more than once"),
        (
            {"generators.methods": [""]},
            "--generators: must be a list of at least one method, such as ['uniform', 'l1'], got ['']",
        ),
        ({"network.input": [3, 0]}, "--input: must be a list of sizes of at least 1, such as [3, 32, 32], got [3, 0]"),
        ({"finalists.count": 0}, "finalists.count: must be an integer of at least 1, got 0"),
        (
            {"data.validation": 1.5},
            "data.validation: must be a number of images of at least 1, or a share in (0, 1), got 1.5",
        ),
        ({"search.fidelity": 0}, "search.fidelity: must be a number in (0, 1], got 0"),
        ({"recipe.crop": 32}, "recipe.crop: the margin (recipe.crop = 32) must be below the image's size (32 x 32)"),
    ],
)
def test_an_impossible_override_is_told_by_its_flag(write, overrides, complaint):
    assert complaints(write(SMALLEST), overrides) == [complaint]


@pytest.mark.parametrize("budget", ["abc", "0", "2", 0, -1, True, ""])
def test_a_budget_that_is_none_is_told_with_what_would_be_right(write, budget):
    (complaint,) = complaints(write(SMALLEST), {"budget": budget})
    assert re.fullmatch(r"--budget: must be a share of the base network's FLOPs in \(0, 1\].*, got .*", complaint)


def test_a_network_that_is_no_reference_is_told_with_its_form(write):
    (complaint,) = complaints(write(SMALLEST), {"network.reference": "vgg16"})
    assert complaint.startswith("--network: must be like 'pruneas:vgg16'")
    assert complaint.endswith("got 'vgg16'")


def test_values_that_exclude_each_other_are_told_beside_wrong_types(write):
    path = write(
        SMALLEST
        + """\
training = 10
[recipe]
momentum = 0.0
epochs = "x"
[widths]
multiple_of = 8
at_most = {"features.*" = 4}
[widths.at_least]
"features.0" = 16
"classifier" = 0
[generators.options.slmming]
pull = 1e-4
"""
    )
    assert complaints(path) == [
        "mine.toml:8: recipe.nesterov: must be false where momentum is 0, got true",
        "mine.toml:10: recipe.epochs: must be an integer of at least 1, got 'x'",
        "mine.toml:15: widths.at_least.features.0: must not be above widths.at_most 'features.*' = 4, got 16",
        "mine.toml:16: widths.at_least.classifier: must be a width of at least 1, got 0",
        "mine.toml:17: generators.options.slmming: is not among generators.methods; did you mean 'slimming'?",
    ]


def test_a_space_made_in_python_is_held_to_the_same():
    data = tomllib.loads(SMALLEST) | {"recipe": {"momentum": 0.0}}
    with pytest.raises(ValidationError, match=r"recipe\.nesterov: must be false where momentum is 0"):
        Space.model_validate(data)


def test_another_version_of_the_format_is_refused(write):
    assert complaints(write(SMALLEST.replace("1", "2", 1))) == [
        "mine.toml:1: schema: must be 1, the version this pruneas reads, got 2"
    ]


def test_a_mistake_in_the_syntax_is_told_with_its_line(write):
    assert complaints(write("schema = 1\nbudget = \n")) == ["mine.toml:2: is not TOML: invalid value (column 10)"]
    assert complaints(write("schema = 1\nx = [1")) == ["mine.toml:2: is not TOML: unclosed array (at the end)"]


def test_an_unknown_space_is_told_with_the_nearest():
    (complaint,) = complaints("digitz")
    assert complaint.startswith("--space: no file and no shipped search space is called 'digitz' (shipped: cifar10-")
    assert complaint.endswith("; did you mean 'digits'?")


def test_files_that_cannot_be_read_are_told(tmp_path):
    assert complaints(tmp_path) == ["mine.toml: cannot be read: Is a directory"]
    path = tmp_path / "latin.toml"
    path.write_bytes(b"schema = 1 # \xe9\n")
    (complaint,) = complaints(path)
    assert "must be UTF-8 text" in complaint


def test_lines_are_found_under_headers_dotted_keys_and_quotes():
    text = 'a = 1\n[t]\n# b = 0\nb = [\n  1,\n]\n[t."u.v"]\n"c d" = 2\n[ w . x ]\ny.z = 3\n'
    assert _line_of(text, ("a",)) == 1
    assert _line_of(text, ("t", "b", "0")) == 4
    assert _line_of(text, ("t", "missing")) == 2
    assert _line_of(text, ("t", "u.v", "c d")) == 8
    assert _line_of(text, ("w", "x", "y", "z")) == 10
    assert _line_of(text, ("nowhere",)) is None


@patch("pruneas.config.OPTIONS", {})  # as of another package's generator, whose options are its own matter
@given(
    glob=st.text(st.characters(codec="utf-8"), min_size=1),
    width=st.integers(1, 2**40),
    rate=st.floats(1e-300, 1e300),
)
def test_any_value_survives_toml(glob, width, rate):
    data = tomllib.loads(SMALLEST)
    space = Space.model_validate(
        data
        | {
            "name": "x",
            "widths": {"at_least": {glob: width}, "freeze": [glob]},
            "recipe": {"learning_rate": rate},
            "generators": {"options": {"l1": {"a": glob, "b": True, "c": width, "d": rate}}},
        }
    )
    assert Space.model_validate(tomllib.loads(space.to_toml())) == space


def test_options_of_the_built_in_generators_are_checked(write):
    path = write(SMALLEST + '[generators.options.slimming]\npull = "abc"\npul = 1\n')
    assert complaints(path) == [
        "mine.toml:8: generators.options.slimming.pull: must be a number above 0, got 'abc'",
        "mine.toml:9: generators.options.slimming.pul: slimming has no such option; did you mean 'pull'?",
    ]


def test_spaces_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Space.load().search.trials = 3  # type: ignore[misc]


def test_the_readable_places_of_shipped_files_are_their_names(monkeypatch, tmp_path):
    import pruneas.config

    broken = tmp_path / "digits.toml"
    broken.write_text(SMALLEST + "[search]\ntrials = 'many'\n", encoding="utf-8")
    monkeypatch.setattr(pruneas.config, "shipped_spaces", lambda: {"digits": Path(broken)})
    assert complaints("digits") == ["digits.toml:8: search.trials: must be an integer of at least 1, got 'many'"]
