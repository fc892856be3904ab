"""A run's folder: its name, its settings, who works in it, and how it is read.

runs/<name>/
  space.toml                 every setting of the run
  run.json                   versions, hardware, seed, command, seconds
  study.db                   the Optuna study (SQLite)
  base/                      the trained base network: weights and record
  generators/<method>.json   each method's widths, ranking and compute
  trials/<number>.json       every candidate
  selection/, test/          every training of the finalists
  best/                      architecture.json and weights.safetensors of the winner
  result.json                the final table as values
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pruneas.config import Space
from pruneas.errors import RunError
from pruneas.files import replacing

SPACE, RESULT, BEST = "space.toml", "result.json", "best"
EXTENDABLE = ("search.trials",)
"""Settings that may change when a run is given again: more trials extend it."""


def settings(space: Space) -> dict[str, Any]:
    """Every setting of a space by dotted key."""

    def flat(value: Any, prefix: str) -> dict[str, Any]:
        if not isinstance(value, dict) or (not value and prefix):
            return {prefix: value}
        return {
            k: v for key, inner in value.items() for k, v in flat(inner, f"{prefix}.{key}" if prefix else key).items()
        }

    found = flat(json.loads(space.model_dump_json(by_alias=True)), "")
    if found["data.source"].startswith("folder:"):  # the same folder, from wherever it is named
        found["data.source"] = f"folder:{Path(found['data.source'].removeprefix('folder:')).expanduser().resolve()}"
    return found


def default_folder(space: Space) -> Path:
    """`runs/<space>-<budget>-<hash of the settings>`, under the current folder."""
    fixed = {key: value for key, value in settings(space).items() if key not in EXTENDABLE}
    digest = hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:8]
    budget = str(space.budget).replace("=", "-")
    return Path("runs") / f"{space.name}-{budget}-{digest}"


def prepare(folder: Path, space: Space, *, fresh: bool) -> None:
    """Make the folder, or make sure that it belongs to a run of the same settings.

    Raises RunError where it holds another run (with the settings that differ), or something else than a run.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: must be a folder, found a file")
    stored = folder / SPACE
    if fresh and stored.exists():
        for path in folder.iterdir():
            if path.name != ".lock":
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if not stored.exists():
        others = [path.name for path in folder.iterdir() if path.name != ".lock"] if folder.exists() else []
        if others:
            raise RunError(
                f"{folder}: must be a run's folder or an empty one, found {', '.join(sorted(others)[:4])} and no {SPACE}"
            )
        for name in ("base", "generators", "trials", "selection", "test", BEST):
            (folder / name).mkdir(parents=True, exist_ok=True)
        with replacing(stored) as temporary:
            temporary.write_text(space.to_toml(), encoding="utf-8")
        return
    before, now = settings(Space.load(stored, spelling={})), settings(space)
    differing = [
        f"{key}: {before.get(key)!r} there, {now.get(key)!r} now"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and key not in EXTENDABLE and key != "name"
    ]
    if differing:
        raise RunError(
            f"{folder}: holds a run with other settings ({'; '.join(differing)}). Give another --run, or --fresh to "
            "delete it and begin anew"
        )
    with replacing(stored) as temporary:
        temporary.write_text(space.to_toml(), encoding="utf-8")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Work in a run's folder alone. The lock is the kernel's and goes with the process, however that ends.

    Raises RunError where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise RunError(
                f"{folder}: process {lock.read().strip() or 'unknown'} works in this run; wait for it, or give "
                "another --run"
            ) from None
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def read_json(path: Path) -> Any:
    """Raises RunError where a run's file is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path}: is missing; give the folder of a run, as printed at the end of a search") from None
    except (ValueError, OSError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from error
