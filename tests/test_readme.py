"""The README says nothing that is not so: its tables are those of the committed results, its commands exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pruneas.architecture import Reference
from pruneas.config import shipped_spaces
from pruneas.cost.count import count
from pruneas.networks import make
from pruneas.structure.replay import uninitialised
from pruneas.subject import usual_inputs
from tests.benchmarks.tables import README, TABLE, with_tables
from tests.presets import TARGETS
from tests.test_presets import FIGURES

TEXT = README.read_text(encoding="utf-8")
COMMANDS = [
    line.removeprefix("$ ").split("#")[0].strip()
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("$ ")
]


def test_its_tables_are_made_of_the_committed_results() -> None:
    assert TABLE.search(TEXT), "the README has lost its table"
    assert with_tables(TEXT) == TEXT


SEARCHES = [part.strip() for command in COMMANDS for part in command.split("&&") if "pruneas search" in part]


@pytest.mark.parametrize("command", SEARCHES)
def test_its_search_commands_have_the_flags_they_use(command: str) -> None:
    words = shlex.split(command)
    asked = [sys.executable, "-m", "pruneas", "search", "--help"]
    shown = subprocess.run(
        asked, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"}
    ).stdout
    for flag in (word for word in words if word.startswith("--")):
        assert re.search(rf"{flag}\b", shown), f"{flag} is not a flag of pruneas search"


def test_its_first_block_is_the_two_commands_that_a_newcomer_runs() -> None:
    assert COMMANDS[0] == "pip install . && pruneas search --budget 0.5"
    assert COMMANDS[1] == "pip install '.[test]' && pytest"


def test_the_files_it_links_to_exist() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (Path(README).parent / target).exists(), target
    assert "digits" in shipped_spaces()


def test_its_look_at_a_network_is_what_the_command_prints() -> None:
    block = next(block for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL) if "pruneas inspect" in block)
    command, *shown = block.splitlines()
    words = shlex.split(command.removeprefix("$ pruneas "))
    found = subprocess.run(
        [sys.executable, "-m", "pruneas", *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "100"},
    )
    printed = [line.rstrip() for line in found.stdout.splitlines()]
    head = re.compile(r"torchvision [\w.+]+|[\d.]+ s$")  # the version and the time are the machine's
    assert head.sub("", shown[0]) == head.sub("", printed[0])
    for line in shown[1:]:
        assert line == "..." or line in printed


def row(name: str, params: int, flops: int, products: int, said: str) -> str:
    return f"| `{name}` | {params:,} | {flops / 1e6:,.1f} M | {products / 1e6:,.1f} M | {said} |"


def network_row(network: str, said: str) -> str:
    reference = Reference.parse(network)
    with uninitialised():
        found = count(make(reference), usual_inputs(reference))
    return row(network, found.params, found.flops, found.by_kind["conv"] + found.by_kind["linear"], said)


def preset_row(name: str) -> str:
    figures = FIGURES[name]
    return row(f"preset:{name}", figures.params, figures.total, figures.products, TARGETS[name].summary)


def test_its_networks_have_the_sizes_it_prints() -> None:
    rows = re.findall(r"^\| `(pruneas:.*?)` \|.*\| (.*?) \|$", TEXT, re.MULTILINE)
    assert len(rows) > 8
    for network, said in rows:
        assert network_row(network, said) in TEXT


def test_its_presets_are_all_there_with_the_sizes_it_prints() -> None:
    rows = re.findall(r"^\| `preset:.*$", TEXT, re.MULTILINE)
    assert rows == [preset_row(name) for name in TARGETS]
