"""Values and their JSON: what is read back, what is refused, and in which words."""

from __future__ import annotations

import dataclasses
import json
import math
import string
from keyword import iskeyword
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruneas.architecture import Architecture, Budget, Input, Limit, Reference
from pruneas.errors import ArchitectureError, BudgetError, NetworkError

NAMES = st.from_regex(r"[a-z_][a-z0-9_.]{0,9}:[a-z_][a-z0-9_.]{0,9}", fullmatch=True)
KEYS = st.from_regex(r"[a-z_][a-z0-9_]{0,7}", fullmatch=True).filter(lambda key: not iskeyword(key))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
COUNTS = st.integers(1, 2**31 - 1)
ARCHITECTURES = st.builds(
    Architecture,
    network=st.builds(Reference, NAMES, st.dictionaries(KEYS, VALUES, max_size=3)),
    provider=st.text(),
    inputs=st.lists(
        st.builds(Input, st.lists(COUNTS, min_size=1, max_size=4).map(tuple), st.sampled_from(["float32", "int64"])),
        min_size=1,
        max_size=2,
    ).map(tuple),
    structure=st.text(string.hexdigits, min_size=16, max_size=16),
    widths=st.dictionaries(st.text(), COUNTS, max_size=5),
    removed=st.lists(st.text(), max_size=2).map(tuple),
    selections=st.dictionaries(
        st.text(), st.sets(st.integers(0, 2**31 - 1), max_size=5).map(lambda kept: tuple(sorted(kept))), max_size=2
    ),
)

GOOD = {
    "schema": 1,
    "network": "pruneas:vgg16",
    "arguments": {"width": 0.25},
    "provider": "pruneas 0.1.0",
    "inputs": ["3x32x32"],
    "structure": "0123456789abcdef",
    "widths": {"features.0": 11, "features.3": 7},
    "removed": ["blocks.1"],
}


@given(ARCHITECTURES)
def test_architectures_survive_json(architecture: Architecture) -> None:
    assert Architecture.from_json(architecture.to_json()) == architecture


def test_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    architecture = Architecture.from_json(json.dumps(GOOD))
    (tmp_path / "a.json").write_text(architecture.to_json(), encoding="utf-8")
    assert Architecture.load(tmp_path / "a.json") == architecture
    assert json.loads(architecture.to_json()) == GOOD


def test_architectures_cannot_be_altered() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Architecture.from_json(json.dumps(GOOD)).provider = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value", "form"),
    [
        ("network", "vgg16", "must be 'package:factory', found 'vgg16'"),
        ("network", 5, "must be 'package:factory', found '5'"),
        ("network", "a:b; c", "must be 'package:factory'"),
        ("arguments", [1], "must be an object of keyword arguments, found '[1]'"),
        ("provider", None, "must be the providing package and its version, as text, found 'None'"),
        ("inputs", [], "must be a list of inputs such as '3x32x32', found '[]'"),
        ("inputs", ["3x0"], "must be a list of inputs such as '3x32x32'"),
        ("inputs", [3, 32], "must be a list of inputs such as '3x32x32'"),
        ("removed", "blocks.1", "must be a list of names of blocks"),
        ("selections", [1], "must be an object: group -> list of channels, ascending from 0 on, found '[1]'"),
        ("selections", {"a": [2, 1]}, "must be an object: group -> list of channels, ascending from 0 on"),
        ("selections", {"a": [1, 1]}, "must be an object: group -> list of channels, ascending from 0 on"),
        ("selections", {"a": [-1]}, "must be an object: group -> list of channels, ascending from 0 on"),
        ("selections", {"a": [False, True]}, "must be an object: group -> list of channels, ascending from 0 on"),
        ("selections", {"a": [0.0, 1]}, "must be an object: group -> list of channels, ascending from 0 on"),
        ("structure", 7, "must be the structure's fingerprint, as text"),
        ("widths", {"a": 0}, "must be an object: group -> width, found \"{'a': 0}\""),
        ("widths", {"a": True}, "must be an object: group -> width"),
        ("widths", {"a": 2**31}, "must be an object: group -> width"),
        ("widths", {"a": "8"}, "must be an object: group -> width"),
        ("widths", "x" * 500, f"found '{'x' * 80}'"),
    ],
)
def test_wrong_fields_are_named_with_what_they_must_be(field: str, value: object, form: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        Architecture.from_json(json.dumps({**GOOD, field: value}), place="best.json")
    assert str(caught.value).startswith(f"best.json: {field}: ")
    assert form in str(caught.value)


def test_selections_are_written_where_there_are_some_each_on_a_line() -> None:
    architecture = Architecture.from_json(json.dumps({**GOOD, "selections": {"select": [0, 3, 5]}}))
    assert architecture.selections == {"select": (0, 3, 5)}
    assert '"select": [0, 3, 5]\n' in architecture.to_json()
    assert "selections" not in Architecture.from_json(json.dumps(GOOD)).to_json()


def test_every_complaint_comes_at_once() -> None:
    data = {**GOOD, "widths": 3, "colour": "red"}
    del data["structure"]
    with pytest.raises(ArchitectureError) as caught:
        Architecture.from_json(json.dumps(data))
    assert str(caught.value).splitlines() == [
        "architecture: unknown field 'colour'",
        "architecture: field 'structure' is missing; it must be the structure's fingerprint, as text",
        "architecture: widths: must be an object: group -> width, found '3'",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"schema": ' + "9" * 5000 + "}", "is not JSON"),
        ("\ufeff{}", "is not JSON"),
        ("[]", "must hold a JSON object, found list"),
        ("null", "must hold a JSON object, found NoneType"),
        ("{}", "schema: must be 1, the version this pruneas reads, found None"),
        ('{"schema": 2}', "schema: must be 1, the version this pruneas reads, found 2"),
        ('{"schema": true}', "schema: must be 1, the version this pruneas reads, found True"),
    ],
)
def test_hostile_texts_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ArchitectureError, match=f"^architecture: {complaint}"):
        Architecture.from_json(text)


def test_files_that_are_missing_or_no_text_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match=r"nowhere\.json: cannot be read: .*No such file"):
        Architecture.load(tmp_path / "nowhere.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArchitectureError, match=r"binary\.json: cannot be read: .*utf-8"):
        Architecture.load(tmp_path / "binary.json")


@pytest.mark.parametrize("name", ["subprocess:call", "os:system", "builtins:exec", "os.path:join"])
def test_files_that_name_functions_of_pythons_own_library_are_not_built(name: str, tmp_path: Path) -> None:
    data = {**GOOD, "network": name, "arguments": {"args": ["touch", str(tmp_path / "harm")]}}
    with pytest.raises(ArchitectureError, match="is of Python's own library, which makes no networks"):
        Architecture.from_json(json.dumps(data)).build()
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("pruneas:vgg16", "pruneas:vgg16", {}),
        (" torchvision:resnet50 ( ) ", "torchvision:resnet50", {}),
        (
            "a.b:c.d(x=1, y=-2.5, z='t', on=True, none=None)",
            "a.b:c.d",
            {"x": 1, "y": -2.5, "z": "t", "on": True, "none": None},
        ),
        (
            "a:b(layout=[8, 'M'], pair=(3, 4), deep={'k': [1]})",
            "a:b",
            {"layout": [8, "M"], "pair": [3, 4], "deep": {"k": [1]}},
        ),
    ],
)
def test_references_are_read(text: str, name: str, arguments: dict) -> None:
    assert Reference.parse(text) == Reference(name, arguments)


@given(st.builds(Reference, NAMES, st.dictionaries(KEYS, VALUES, max_size=3)))
def test_references_are_read_as_they_are_written(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text", ["", "vgg16", "pruneas:", ":vgg16", "a:b:c", "a-b:c", "a:b)", "a:b(x=1", "pruneas/vgg"]
)
def test_what_is_no_reference_is_told_the_form(text: str) -> None:
    with pytest.raises(NetworkError, match=r"must be like 'pruneas:vgg16', 'torchvision:resnet50' or"):
        Reference.parse(text)


@pytest.mark.parametrize(
    "brackets",
    [
        "(1)", "(*a)", "(**a)", "(x=y)", "(x=f())", "(x=1j)", "(x={1})", "(x=b'')", "(x=)", "(x=1, x=2)", "()(x=1)",
        "() + f(x=1)", "(x='\0')", "(x=__import__('os').system('true'))", "(x=" + "[" * 500 + "]" * 500 + ")",
        "(x=" + "-" * 100_000 + "1)",
    ],
)  # fmt: skip
def test_what_is_no_argument_is_told_what_may_stand_there(brackets: str) -> None:
    with pytest.raises(NetworkError, match="the brackets must hold keyword arguments with numbers, strings, lists or"):
        Reference.parse(f"pruneas:vgg16{brackets}")


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("0.5", [Limit(quantity="flops", share=0.5)]),
        (0.5, [Limit(quantity="flops", share=0.5)]),
        (1, [Limit(quantity="flops", share=1.0)]),
        ("5e-1", [Limit(quantity="flops", share=0.5)]),
        ("flops=0.25", [Limit(quantity="flops", share=0.25)]),
        ("params=0.5", [Limit(quantity="params", share=0.5)]),
        ("120MFLOPs", [Limit(quantity="flops", amount=120_000_000)]),
        ("1.5 gflops", [Limit(quantity="flops", amount=1_500_000_000)]),
        ("2.5M", [Limit(quantity="flops", amount=2_500_000)]),
        ("7FLOPs", [Limit(quantity="flops", amount=7)]),
        ("flops=120", [Limit(quantity="flops", amount=120)]),
        ("params=2.5M", [Limit(quantity="params", amount=2_500_000)]),
        (" Params = 17K ", [Limit(quantity="params", amount=17_000)]),
        ("params=2", [Limit(quantity="params", amount=2)]),
        ("memory=1.5MB", [Limit(quantity="memory", amount=1_500_000)]),
        ("memory=2 kib", [Limit(quantity="memory", amount=2048)]),
        ("memory=0.5", [Limit(quantity="memory", share=0.5)]),
        ("latency=3ms", [Limit(quantity="latency", amount=3 * 10**9)]),
        ("latency=0.25µs", [Limit(quantity="latency", amount=250_000)]),
        ("latency=1e-3 s", [Limit(quantity="latency", amount=10**9)]),
        ("0.5 + params=2.5e+6", [Limit(quantity="flops", share=0.5), Limit(quantity="params", amount=2_500_000)]),
        ("latency=0.5+5e-1", [Limit(quantity="flops", share=0.5), Limit(quantity="latency", share=0.5)]),
    ],
)
def test_budgets_are_read(text: str | float, limits: list[Limit]) -> None:
    assert Budget.parse(text) == Budget(tuple(limits))


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "0.0", "2", "1.5", "-1", "-0.5", "abc", "nan", "inf", "1e400", "params=1e400", "1e400FLOPs", "1e300G",
        "100%", "50 %", "0.5FLOPs", "0.0001K", "params=0", "params=1.5", "params=2.5MFLOPs", "latency=3", "1.2.3", ".",
        "120MB", "12OM", "0,5", "1_000FLOPs", "params=", "=0.5", None, True, "١", "1\u212a",
        "latency=3B", "memory=3", "memory=3ms", "speed=0.5", "latency=1e999999999999999999999s",
    ],
)  # fmt: skip
def test_what_is_no_budget_is_refused_with_examples(text: object) -> None:
    with pytest.raises(BudgetError) as caught:
        Budget.parse(text)  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"budget {str(text).strip()!r}: must be a share of the base network's FLOPs in (0, 1] such as 0.5, or an "
        "amount such as 120MFLOPs, params=2.5M, memory=1.5MB or latency=3ms, or several of them as in 0.5+params=2.5M"
    )


def test_a_budget_limits_each_quantity_once() -> None:
    with pytest.raises(BudgetError, match=r"budget '0\.5\+1M': must limit each quantity once"):
        Budget.parse("0.5+1M")
    with pytest.raises(ValueError, match="at least one quantity"):
        Budget(())


LIMITS = st.floats(0, 1, exclude_min=True).map(lambda share: {"share": share}) | COUNTS.map(lambda n: {"amount": n})


@given(st.dictionaries(st.sampled_from(["flops", "params", "memory", "latency"]), LIMITS, min_size=1))
def test_budgets_are_read_as_they_are_written(limits: dict) -> None:
    if limits.get("params") == {"amount": 1}:
        return  # 'params=1' is all of them, not one
    ordered = [quantity for quantity in ("flops", "params", "memory", "latency") if quantity in limits]
    budget = Budget(tuple(Limit(quantity=quantity, **limits[quantity]) for quantity in ordered))
    assert Budget.parse(str(budget)) == budget
    backwards = "+".join(str(limit) for limit in reversed(budget.limits))
    assert Budget.parse(backwards) == budget


@given(st.text(max_size=20))
def test_any_text_is_a_budget_or_a_budget_error(text: str) -> None:
    try:
        Budget.parse(text)
    except BudgetError:
        pass


def test_limits_are_rounded_down() -> None:
    assert Limit.parse("0.5").most(7) == 3
    assert Limit.parse("params=5").most(7) == 5
    assert Limit.parse("1").most(7) == 7


@pytest.mark.parametrize(
    "most", [{}, {"share": 0.5, "amount": 5}, {"share": 0.0}, {"share": 1.5}, {"share": math.nan}, {"amount": 0}]
)
def test_impossible_limits_cannot_be_made(most: dict) -> None:
    with pytest.raises(ValueError, match="a limit"):
        Limit(quantity="flops", **most)
