"""Search-space files: TOML in, validated frozen records out, every complaint at once and each with its place.

    space = Space.load("digits", {"search.trials": 40})

A file says everything about a search (`search_spaces/` holds complete, commented ones); what it leaves out has the
defaults below. What a file names (network, images) is looked up by those who use it, not here: nothing heavy is
imported, so that a mistake is answered at once. Generators are known by name (`catalogue.py`).
"""

from __future__ import annotations

import copy
import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pruneas.architecture import Budget, Reference
from pruneas.catalogue import GENERATORS, OPTIONS, Tie, other_generators
from pruneas.errors import BudgetError, NetworkError, SpaceError
from pruneas.recipe import Recipe as _Recipe

FLAGS: Mapping[str, str] = {
    "budget": "--budget",
    "network.reference": "--network",
    "network.input": "--input",
    "network.weights": "--weights",
    "data.source": "--data",
    "recipe.epochs": "--epochs",
    "widths.freeze": "--freeze",
    "generators.methods": "--generators",
    "search.trials": "--trials",
    "search.sampler": "--sampler",
    "search.tie": "--tie",
    "search.blocks": "--blocks",
    "search.stopping": "--stopping",
    "finalists.seeds": "--seeds",
    "compute.seed": "--seed",
    "compute.device": "--device",
    "compute.workers": "--workers",
}
"""How the command line spells the keys that it can override."""

Path_ = tuple[str, ...]


def _budget(value: str | float) -> str | float:
    try:
        Budget.parse(value)
    except BudgetError as error:
        raise ValueError(f"{str(error).removeprefix(f'budget {str(value).strip()!r}: ')}, got {value!r}") from error
    return value


def _reference(value: str) -> str:
    try:
        Reference.parse(value)
    except NetworkError as error:
        raise ValueError(f"{str(error).removeprefix(f'network {value!r}: ')}, got {value!r}") from error
    return value


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"must name each method once, got {', '.join(map(repr, twice))} more than once")
    return values


def _generators(values: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [value for value in values if value not in GENERATORS]
    if unknown:  # only then are the installed packages looked through
        known = [*GENERATORS, *other_generators()]
        for value in unknown:
            if value not in known:
                hint = _nearest(value, known) or f"; there are {', '.join(known)}"
                raise ValueError(f"there is no generator called {value!r}{hint}")
    return values


def _number_or_share(value: float) -> float:
    if not (0 < value < 1 or (isinstance(value, int) and value >= 1)):
        raise ValueError(f"must be a number of images of at least 1, or a share in (0, 1), got {value!r}")
    return value


# Each type says in `description` what a value must be; every complaint about it is made of that.
Count = Annotated[int, Field(ge=1, description="an integer of at least 1")]
Whole = Annotated[int, Field(ge=0, description="an integer of at least 0")]
Fraction = Annotated[float, Field(ge=0, lt=1, description="a number in [0, 1)")]
Share = Annotated[float, Field(gt=0, le=1, description="a number in (0, 1]")]
Switch = Annotated[bool, Field(description="true or false")]
Name = Annotated[str, Field(min_length=1)]
WidthTable = Annotated[
    dict[Name, Annotated[int, Field(ge=1)]],
    Field(description="a table of group globs, each with a width of at least 1"),
]

_ITEM = {
    "at_least": "a width of at least 1",
    "at_most": "a width of at least 1",
    "options": "a table [generators.options.METHOD] of numbers, texts, true and false",
}
"""What one entry must be, where a key holds a table of the user's own keys."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Network(_Table):
    reference: Annotated[
        str,
        AfterValidator(_reference),
        Field(description="a network such as 'pruneas:vgg16' or 'package.module:factory'"),
    ]
    input: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(strict=False, min_length=1, description="a list of sizes of at least 1, such as [3, 32, 32]"),
    ]
    weights: Annotated[str, Field(min_length=1, description="the path of a weights file")] | None = None


class Data(_Table):
    source: Annotated[
        str,
        Field(
            pattern=r"^(digits|cifar100?(:.+)?|folder:.+)$",
            description="'digits', 'cifar10', 'cifar10:ROOT', 'cifar100', 'cifar100:ROOT' or 'folder:PATH'",
        ),
    ]
    training: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="a number of images of at least 1 (left out: all that validation leaves)"
    )
    validation: Annotated[
        int | float,
        AfterValidator(_number_or_share),
        Field(description="a number of images of at least 1, or a share in (0, 1)"),
    ] = 0.2


_DEFAULT = _Recipe(epochs=12)


class Recipe(_Table):
    """What a file may say of `pruneas.recipe.Recipe`, with its defaults."""

    epochs: Count = _DEFAULT.epochs
    batch_size: Annotated[int, Field(ge=2, description="an integer of at least 2 (batch norm needs two)")] = (
        _DEFAULT.batch_size
    )
    learning_rate: Annotated[float, Field(gt=0, description="a number above 0")] = _DEFAULT.learning_rate
    momentum: Fraction = _DEFAULT.momentum
    nesterov: Switch = _DEFAULT.nesterov
    weight_decay: Annotated[float, Field(ge=0, description="a number of at least 0")] = _DEFAULT.weight_decay
    warmup: Fraction = _DEFAULT.warmup
    schedule: Annotated[
        Literal["one-cycle", "cosine", "step", "constant"],
        Field(description="'one-cycle', 'cosine', 'step' or 'constant'"),
    ] = _DEFAULT.schedule
    milestones: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=1, description="a number in (0, 1)")], ...],
        Field(strict=False, description="a list of shares of the training, in (0, 1)"),
    ] = _DEFAULT.milestones
    decay: Share = _DEFAULT.decay
    label_smoothing: Fraction = _DEFAULT.label_smoothing
    max_norm: Annotated[float, Field(ge=0, description="a number of at least 0")] = _DEFAULT.max_norm
    average: Fraction = _DEFAULT.average
    crop: Whole = _DEFAULT.crop
    flip: Switch = _DEFAULT.flip
    cutout: Whole = _DEFAULT.cutout
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"], Field(description="'auto', 'float32' or 'bfloat16'")
    ] = _DEFAULT.precision


class Widths(_Table):
    multiple_of: Count = 1
    minimum: Share = 0.0625
    freeze: Annotated[tuple[Name, ...], Field(strict=False, description="a list of globs of group names")] = ()
    at_least: WidthTable = {}
    at_most: WidthTable = {}


class Generators(_Table):
    methods: Annotated[
        tuple[Name, ...],
        AfterValidator(_distinct),
        AfterValidator(_generators),
        Field(strict=False, min_length=1, description="a list of at least one method, such as ['uniform', 'l1']"),
    ] = ("uniform", "l1", "slimming")
    options: Annotated[
        dict[str, dict[str, bool | int | float | str]],
        Field(description="tables [generators.options.METHOD] of numbers, texts and true or false"),
    ] = {}


class Search(_Table):
    trials: Count = 40
    fidelity: Share = 0.34
    sampler: Annotated[
        Literal["gp", "tpe", "cma", "nsga2", "random"], Field(description="'gp', 'tpe', 'cma', 'nsga2' or 'random'")
    ] = "gp"
    tie: Annotated[Tie, Field(description="'group', 'stage' or 'mixture'")] = "group"
    blocks: Switch = False
    stopping: Switch = False


class Finalists(_Table):
    count: Count = 5
    seeds: Annotated[int, Field(ge=2, description="an integer of at least 2 (a spread needs two)")] = 3


class Compute(_Table):
    seed: Annotated[int, Field(ge=0, lt=2**31, description="an integer of at least 0 and below 2147483648")] = 0
    device: Annotated[
        str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="'auto', 'cpu', 'cuda' or 'cuda:N'")
    ] = "auto"
    workers: Annotated[int, Field(ge=0, description="an integer of at least 0 (0: one per core, two at most)")] = 0
    threads: Count = 1
    compile: Annotated[Literal["auto", "on", "off"], Field(description="'auto', 'on' or 'off'")] = "auto"


class Space(_Table):
    """One search, completely described. `name` is the file's unless the file says another; runs are called after it."""

    schema_: Annotated[Literal[1], Field(alias="schema", description="1, the version this pruneas reads")]
    name: Annotated[
        str, Field(pattern=r"^[\w.-]+$", description="a name of letters, digits, dots, dashes and underscores")
    ] = "search"
    budget: Annotated[
        str | float,
        AfterValidator(_budget),
        Field(
            description="a share of the base network's FLOPs in (0, 1], an amount such as '120MFLOPs', 'params=2.5M', "
            "'memory=1.5MB' or 'latency=3ms', or several of them: '0.5+latency=3ms'"
        ),
    ] = "0.5"
    network: Annotated[Network, Field(description="a table [network] with reference and input")]
    data: Annotated[Data, Field(description="a table [data] with a source")]
    recipe: Annotated[Recipe, Field(description="a table [recipe]")] = Recipe()
    widths: Annotated[Widths, Field(description="a table [widths]")] = Widths()
    generators: Annotated[Generators, Field(description="a table [generators]")] = Generators()
    search: Annotated[Search, Field(description="a table [search]")] = Search()
    finalists: Annotated[Finalists, Field(description="a table [finalists]")] = Finalists()
    compute: Annotated[Compute, Field(description="a table [compute]")] = Compute()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for paths, text in _contradictions(self.model_dump(by_alias=True)):
            raise ValueError(f"{'.'.join(paths[0])}: {text}")
        return self

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = "digits",
        overrides: Mapping[str, Any] | None = None,
        *,
        spelling: Mapping[str, str] = FLAGS,
    ) -> Space:
        """The space of that shipped name or file, with single values replaced.

        Overrides are dotted keys, `{"search.trials": 20}`; a key with a plus, `"widths.freeze+"`, adds to the file's
        list. Complaints about them begin with their spelling, those about the file with its name and line. Options of
        generators that an override leaves out are dropped.

        Raises SpaceError with every complaint.
        """
        place, text = _read(name_or_path)
        try:
            given = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SpaceError([_syntax_complaint(place, text, error)]) from error
        given.setdefault("name", re.sub(r"[^\w.-]+", "-", Path(name_or_path).stem) or "search")
        unused = _options_without_method(given)
        overridden = {tuple(key.removesuffix("+").split(".")) for key in overrides or {}}
        given = _overridden(given, overrides or {})

        found: dict[Path_, str] = dict(unused)
        space = None
        try:
            space = cls.model_validate(given)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                if detail["loc"]:
                    path, complaint = _complaint(given, detail)
                    found.setdefault(path, complaint)
        for paths, complaint in _contradictions(_settled(given, found)):
            found.setdefault(next((path for path in paths if _is_within(path, overridden)), paths[0]), complaint)
        if space is not None and not found:
            return space

        complaints = []
        for path, complaint in found.items():
            key = ".".join(path)
            if flag := next((".".join(o) for o in overridden if path[: len(o)] == o), None):
                complaints.append((0, f"{spelling.get(flag, flag)}: {complaint}"))
            else:
                line = _line_of(text, path)
                complaints.append((line or 10**9, f"{place}{f':{line}' if line else ''}: {key}: {complaint}"))
        raise SpaceError([complaint for _, complaint in sorted(complaints)])

    def to_toml(self) -> str:
        """The complete space as TOML, defaults included; `load` reads it back to an equal space."""
        return "\n".join(_toml_lines(self.model_dump(by_alias=True, exclude_none=True))) + "\n"


def shipped_spaces() -> dict[str, Path]:
    """The search spaces that come with pruneas, by name."""
    here = Path(__file__).resolve()
    # A wheel carries them inside the package, an editable install leaves them at the top of the repository.
    folder = next((f for f in (here.parent / "search_spaces", here.parents[2] / "search_spaces") if f.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.toml"))} if folder else {}


def _read(name_or_path: str | Path) -> tuple[str, str]:
    """What complaints call the file, and its text."""
    shipped = shipped_spaces()
    path = shipped.get(str(name_or_path), Path(name_or_path))
    place = path.name if str(name_or_path) in shipped else str(path)
    try:
        return place, path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        near = difflib.get_close_matches(path.stem, shipped, 1, 0.5)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        fact = f"no file and no shipped search space is called {str(path)!r} (shipped: {', '.join(shipped)})"
        raise SpaceError([f"--space: {fact}{hint}"]) from error
    except UnicodeDecodeError as error:
        raise SpaceError([f"{place}: must be UTF-8 text: {error.reason} at byte {error.start}"]) from error
    except OSError as error:
        raise SpaceError([f"{place}: cannot be read: {error.strerror}"]) from error


def _syntax_complaint(place: str, text: str, error: tomllib.TOMLDecodeError) -> str:
    match = re.fullmatch(r"(.*) \((?:at line (\d+), column (\d+)|at end of document)\)", str(error), re.DOTALL)
    fact, line, column = match.groups() if match else (str(error), None, None)
    where = f"column {column}" if column else "at the end"
    return f"{place}:{line or len(text.splitlines())}: is not TOML: {fact[:1].lower()}{fact[1:]} ({where})"


def _overridden(given: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(dict(given))
    for key, value in overrides.items():
        *tables, last = key.removesuffix("+").split(".")
        table = result
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                break  # the file has something else in the table's place, and a complaint comes of it
        else:
            before = table.get(last, [])
            if key.endswith("+") and isinstance(before, list):
                value = [*before, *value]
            table[last] = list(value) if isinstance(value, tuple) else value
    generators = result.get("generators")
    if "generators.methods" in overrides and isinstance(generators, dict):
        options, methods = generators.get("options"), generators["methods"]
        if isinstance(options, dict) and isinstance(methods, list):
            generators["options"] = {name: value for name, value in options.items() if name in methods}
    return result


def _options_without_method(given: Mapping[str, Any]) -> Iterator[tuple[Path_, str]]:
    """Complaints about the file's options that name none of its methods (before any flag takes methods away)."""
    table = given.get("generators")
    table = table if isinstance(table, dict) else {}
    options, methods = table.get("options", {}), table.get("methods", list(Generators().methods))
    if isinstance(options, dict) and isinstance(methods, list):
        for name in options:
            if name not in methods:
                known = [method for method in methods if isinstance(method, str)]
                yield ("generators", "options", name), f"is not among generators.methods{_nearest(name, known)}"


def _contradictions(tables: Mapping[str, Any]) -> Iterator[tuple[list[Path_], str]]:
    """Values that are right alone but not together: their paths, and the complaint. Values may be missing."""
    widths, recipe = tables.get("widths", {}), tables.get("recipe", {})
    shape = tables.get("network", {}).get("input", ())
    for low, least in widths.get("at_least", {}).items():
        for high, most in widths.get("at_most", {}).items():
            if least > most and (fnmatchcase(low, high) or fnmatchcase(high, low)):
                yield (
                    [("widths", "at_least", low), ("widths", "at_most", high)],
                    f"must not be above widths.at_most {high!r} = {most}, got {least}",
                )
    if recipe.get("nesterov") and recipe.get("momentum") == 0:
        yield [("recipe", "nesterov")], "must be false where momentum is 0, got true"
    for method, options in tables.get("generators", {}).get("options", {}).items():
        if (known := OPTIONS.get(method)) is None:
            continue  # another package's: it says itself what it takes
        for name, value in options.items():
            path = ("generators", "options", method, name)
            if name not in known:
                yield [path], f"{method} has no such option{_nearest(name, list(known))}"
            elif isinstance(value, bool | str) or not value > 0:
                yield [path], f"must be {known[name]}, got {value!r}"
    if len(shape) == 3 and recipe.get("crop", 0) >= min(shape[1:]):
        text = f"the margin (recipe.crop = {recipe['crop']}) must be below the image's size ({shape[1]} x {shape[2]})"
        yield [("recipe", "crop"), ("network", "input")], text


def _settled(given: Mapping[str, Any], wrong: Mapping[Path_, str]) -> dict[str, Any]:
    """The tables with defaults filled in and without the values that were complained about."""
    result: dict[str, Any] = {}
    for name, field in Space.model_fields.items():
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, _Table)):
            continue
        table = given.get(name, {}) if isinstance(given.get(name, {}), dict) else {}
        result[name] = {}
        for key, inner in field.annotation.model_fields.items():
            if key not in table:
                if not inner.is_required():
                    result[name][key] = inner.get_default(call_default_factory=True)
            elif (name, key) not in wrong:
                value = table[key]
                if isinstance(value, dict):
                    value = {k: v for k, v in value.items() if (name, key, k) not in wrong}
                result[name][key] = value
    return result


def _complaint(given: Mapping[str, Any], detail: Any) -> tuple[Path_, str]:
    """The path of the value that pydantic complained about, and the complaint in our words."""
    model: type[_Table] | None = Space
    path: Path_ = ()
    must_be = ""
    value: Any = given
    for part in detail["loc"]:
        if model is not None:
            field = next((f for n, f in model.model_fields.items() if part == (f.alias or n)), None)
            if field is not None:
                must_be = field.description or ""
                is_table = isinstance(field.annotation, type) and issubclass(field.annotation, _Table)
                model = cast("type[_Table]", field.annotation) if is_table else None
        elif not (isinstance(value, dict) and part in value):
            break  # an index into a list, or pydantic's name for a member of a union
        else:
            must_be = _ITEM[path[1]] if len(path) == 2 else "a number, a text, true or false"
        path = (*path, str(part))
        value = value.get(part) if isinstance(value, dict) else None
    if detail["type"] == "extra_forbidden":
        return path, _unknown(path)
    if detail["type"] == "missing":
        return path, f"is missing; must be {must_be}"
    if detail["type"] == "value_error":
        return path, str(detail["ctx"]["error"])
    return path, f"must be {must_be}, got {_spelled(value)}"


def _unknown(path: Path_) -> str:
    *tables, key = path
    owner = Space.model_fields[tables[0]].annotation if tables else Space
    known = [field.alias or name for name, field in cast("type[_Table]", owner).model_fields.items()]
    if near := _nearest(key, known):
        return f"is not a key{near}"
    for name, field in Space.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, _Table) and key in inner.model_fields:
            return f"is not a key here; it belongs in [{name}]"
    return f"is not a key; known: {', '.join(known)}"


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def _is_within(path: Path_, prefixes: set[Path_]) -> bool:
    return any(path[: len(prefix)] == prefix for prefix in prefixes)


def _spelled(value: Any) -> str:
    """A value as the file would write it, shortened; texts in single quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_KEY = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_KEYS = rf"{_KEY}(?:\s*\.\s*{_KEY})*"


def _line_of(text: str, path: Path_) -> int | None:
    """The line of a key, or else of the innermost table on its path that has one; tomllib does not tell."""
    table: Path_ = ()
    best: tuple[int, int | None] = (0, None)
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(rf"\s*\[+\s*({_KEYS})\s*\]", line):
            here = table = _split(header[1])
        elif entry := re.match(rf"\s*({_KEYS})\s*=", line):
            here = (*table, *_split(entry[1]))
        else:
            continue
        if len(here) > best[0] and here == path[: len(here)]:
            best = (len(here), number)
    return best[1]


def _split(keys: str) -> Path_:
    return tuple(part.strip("\"'") for part in re.findall(_KEY, keys))


def _toml_lines(table: Mapping[str, Any], path: Path_ = ()) -> Iterator[str]:
    """The lines of a table: its own values first, then its tables, each under a header."""
    for key, value in table.items():
        if not isinstance(value, dict):
            yield f"{_toml_key(key)} = {_toml_value(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            here = (*path, key)
            yield ""
            yield f"[{'.'.join(map(_toml_key, here))}]"
            yield from _toml_lines(value, here)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml_value(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    return repr(value)
