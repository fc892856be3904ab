"""Writing files so that no half-written one is ever taken for a whole one."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; what was written there is flushed and renamed to `path` if nothing raised."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all; folders that are missing are made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def copy_once(source: Path, target: Path) -> None:
    """Copy a file that is there and has not been copied yet."""
    if source.exists() and not target.exists():
        copy_file(source, target)


def write_text(path: Path, text: str) -> None:
    """Write a text, UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value that JSON can hold."""
    write_text(path, json.dumps(value, indent=2) + "\n")
