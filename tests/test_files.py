"""Files are whole or not there."""

import json
from pathlib import Path

import pytest

from pruneas.files import replacing, write_json


def test_json_is_written_whole_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for value in ({"a": [1, None, 0.5]}, {"b": "ü"}):
        write_json(path, value)
        assert json.loads(path.read_text(encoding="utf-8")) == value
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]


def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


def test_values_that_json_cannot_hold_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert not list(tmp_path.iterdir())


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        pass
