"""The README's generator of one's own, run as another package's: found by its entry point, and searched with."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pruneas.config import Space
from pruneas.errors import SpaceError
from pruneas.generators import Task, find_methods
from tests.benchmarks.tables import README
from tests.tiny import SPACE, pruneas, space_file

GENERATORS = """
[generators]
methods = ["uniform", "peak"]
"""
SECTION = README.read_text(encoding="utf-8").split("## Write your own generator\n")[1].split("\n## ")[0]


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    return found


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package as pip leaves it: its module, and a dist-info with what its pyproject.toml says of entry points."""
    site = tmp_path / "site"
    (site / "mypackage").mkdir(parents=True)
    (site / "mypackage" / "__init__.py").touch()
    (site / "mypackage" / "peak.py").write_text(block("python"), encoding="utf-8")
    info = site / "mypackage-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypackage\nVersion: 1.0\n")
    heading, entry = re.fullmatch(r'\[project\.entry-points\."(.*)"\]\n(.*)\n', block("toml")).groups()
    (info / "entry_points.txt").write_text(f"[{heading}]\n{entry.replace(chr(34), '')}\n")
    monkeypatch.syspath_prepend(str(site))
    return site


def test_it_has_less_than_forty_lines() -> None:
    assert len(block("python").splitlines()) < 40


def test_it_is_found_by_its_entry_point_and_does_what_it_says(installed: Path, task: Callable[..., Task]) -> None:
    uniform, peak = find_methods(["peak"], {})
    assert (uniform.name, peak.name) == ("uniform", "peak")
    given = task("Chain")
    assert given.state is not None
    found = peak(given)
    largest = given.state["a.0.weight"].abs().reshape(5, -1).amax(1).numpy()
    assert found.ranking is not None and found.keep is not None
    assert found.ranking.scores["a.0"] == pytest.approx(largest / largest.mean())
    assert found.keep["a.0"] == sorted(np.argsort(-largest)[: given.model.mapping(found.widths)["a.0"]].tolist())
    residual = task("resnet20", "0.5")
    assert (
        0.9 * residual.limits.most["flops"]
        < residual.model.flops(peak(residual).widths)
        <= residual.limits.most["flops"]
    )


def test_near_misses_are_told(installed: Path, tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="there is no generator called 'peek'; did you mean 'peak'"):
        find_methods(["peek"], {})


def test_a_search_space_names_it_and_the_search_runs_it(installed: Path, tmp_path: Path) -> None:
    space = space_file(tmp_path, SPACE.replace("trials = 5", "trials = 3") + GENERATORS)
    assert Space.load(space).generators.methods == ("uniform", "peak")
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    done = pruneas("search", "--space", str(space), "--run", "run", "--quiet", cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "generators" / "peak.json").read_text(encoding="utf-8"))
    assert (record["method"], record["scope"]) == ("peak", "network")
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert "peak" in json.dumps(result)
