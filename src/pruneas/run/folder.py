"""A run's folder: its name, its settings, who works in it, and how it is read.

runs/<name>/
  space.toml                 every setting of the run
  run.json                   versions, hardware, seed, command, seconds
  study.db                   the Optuna study (SQLite)
  base/                      the trained base network: weights and record
  generators/<method>.json   each method's widths, ranking and compute; <method>.architecture.json beside it
  trials/<number>.json       every candidate
  selection/, test/          every training of the finalists
  best/                      architecture.json and weights.safetensors of the winner
  network.json               the base network: its layers' cost, what cannot change and why
  result.json                the final table as values
  comparison/                a comparison of its architecture and its generators', see run/compare.py
  latency.json               how long the base network, uniform scaling and the winner take on this machine
  report.html                all of it to be looked at
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from pruneas.architecture import Budget
from pruneas.config import Finalists, Generators, Search, Space
from pruneas.errors import RunError
from pruneas.files import write_text

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two processes out of one run there
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")

SPACE, RESULT, BEST, LOCK = "space.toml", "result.json", "best", ".lock"
NETWORK, LATENCY, REPORT = "network.json", "latency.json", "report.html"
COMPARED = "comparison"
FOLDERS = ("base", "generators", "trials", "selection", "test", BEST)
FILES = (
    SPACE,
    RESULT,
    LOCK,
    NETWORK,
    LATENCY,
    REPORT,
    "run.json",
    "study.db",
    "study.db-wal",
    "study.db-shm",
    "study.db-journal",
)
OURS = {*FOLDERS, *FILES, "export", "artifacts", COMPARED}
"""What a run's folder may hold: `--fresh` deletes nothing else."""
EXTENDABLE = ("search.trials",)
"""Settings that may change when a run is given again: more trials extend it."""
PLACED = ("data.source", "compute.workers", "compute.device")
"""Settings of where a run is worked on: it goes on elsewhere, if the images and the device's kind are the same."""


def located(space: Space) -> Space:
    """The space with its paths made absolute: it means the same wherever the next command is given."""

    def absolute(path: str) -> str:
        return str(Path(path).expanduser().resolve())

    kind, _, path = space.data.source.partition(":")
    weights = space.network.weights
    data = space.data.model_copy(update={"source": f"{kind}:{absolute(path)}" if path else kind})
    network = space.network.model_copy(update={"weights": None if weights is None else absolute(weights)})
    return space.model_copy(update={"data": data, "network": network})


def settings(space: Space) -> dict[str, Any]:
    """Every setting of a space by dotted key; what means the same is equal (0.5 and '0.50', a path and its folder)."""

    def flat(value: Any, prefix: str) -> dict[str, Any]:
        if not isinstance(value, dict) or (not value and prefix):
            return {prefix: value}
        return {
            k: v for key, inner in value.items() for k, v in flat(inner, f"{prefix}.{key}" if prefix else key).items()
        }

    found = flat(json.loads(located(space).model_dump_json(by_alias=True)), "")
    return found | {"budget": str(Budget.parse(space.budget))}


def settled(space: Space) -> Space:
    """The space of work that has no search: without what only a search and its budget depend on."""
    return space.model_copy(
        update={"budget": "1.0", "generators": Generators(), "search": Search(), "finalists": Finalists()}
    )


def default_folder(space: Space) -> Path:
    """`runs/<space>-<budget>-<hash of the settings>`, under the current folder."""
    budget = str(Budget.parse(space.budget)).replace("=", "-")
    return Path("runs") / f"{space.name}-{budget}-{digest(space)}"


def digest(*spaces: Space, **more: str) -> str:
    """Stands for settings in a folder's name, the same on every machine: paths as they were given, and whatever the
    number of workers and, of a run that may be extended, of trials."""
    left = {*EXTENDABLE, "compute.workers"}
    fixed = [
        {k: v for k, v in settings(space).items() if k not in left} | {"data.source": space.data.source}
        for space in spaces
    ]
    text = json.dumps([fixed, more], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def check(folder: Path, space: Space) -> bool:
    """Whether the folder holds a run of these settings; False where it holds nothing.

    Raises RunError where it holds another run (with the settings that differ), or something else than a run.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: must be a folder, found a file; give another --run")
    if not _is_run(folder):
        # A folder of ours, killed while it was made, holds nothing but empty folders.
        others = [path.name for path in folder.iterdir() if not _is_beginning(path)] if folder.exists() else []
        if others:
            raise RunError(
                f"{folder}: must be a run's folder or an empty one, found {', '.join(sorted(others)[:4])}; give "
                "another --run"
            )
        return False
    differing = [
        f"{key}: {before!r} there, {now!r} now"
        for key, (before, now) in _differing(folder, space).items()
        if key not in (*EXTENDABLE, *PLACED, "name")
    ]
    if differing:
        raise RunError(
            f"{folder}: holds a run with other settings ({'; '.join(differing)}). Give another --run, or --fresh to "
            "delete it and begin anew"
        )
    return True


def is_answered(folder: Path, space: Space) -> bool:
    """Whether what the folder holds, if it is finished, answers these settings as it is: of images or a device that
    are named otherwise it has to be looked at whether they are the same. Raises RunError as `check` does."""
    return check(folder, space) and not {"data.source", "compute.device"} & _differing(folder, space).keys()


def check_fresh(folder: Path) -> None:
    """Raises RunError where beside a run, which is to be deleted, there is something else."""
    there = sorted(folder.iterdir()) if _is_run(folder) else []
    if others := [path.name for path in there if path.name not in OURS and not _is_temporary(path)]:
        raise RunError(
            f"{folder}: must hold nothing but the run to be deleted, found {', '.join(others[:4])}; move it, or give "
            "another --run"
        )


def prepare(folder: Path, space: Space, *, fresh: bool) -> None:
    """Make the folder's inside, or write down how the settings of the run in it were extended.

    `fresh` deletes a run that is there. Raises RunError as `check` does.
    """
    if fresh and _is_run(folder):
        check_fresh(folder)
        # The settings go last: as long as they are there, the folder is known as a run's and can be deleted.
        for path in sorted(folder.iterdir(), key=lambda path: path.name == SPACE):
            if path.name != LOCK:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    check(folder, space)
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    text = located(space).to_toml()
    if not (folder / SPACE).exists() or (folder / SPACE).read_text(encoding="utf-8") != text:
        write_text(folder / SPACE, text)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Work in a run's folder alone. The lock is the kernel's and goes with the process, however that ends.

    A folder that was made for it and in which nothing was begun goes, too. Raises RunError where the folder cannot be
    made, or another process holds it. On Windows, which has no such lock, nobody is kept out.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / LOCK, "a+", encoding="utf-8")
    except FileExistsError as error:
        raise RunError(f"{folder}: must be a folder, found a file; give another --run") from error
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be written: {error.strerror}; give another folder with --run, or make room"
        ) from error
    with lock:
        try:
            if fcntl is not None:
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
        try:
            yield
        except BaseException:
            if missing and [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                with contextlib.suppress(OSError):  # someone else has begun something there
                    for path in missing:
                        path.rmdir()
            raise


def read_json(path: Path) -> Any:
    """Raises RunError where a run's file is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(
            f"{path}: is missing; give the folder of a run, as printed at the end of a search or a comparison"
        ) from None
    except (ValueError, OSError) as error:
        raise RunError(f"{path}: cannot be read: {error}; delete it and give the search's command again") from error


def made(maker: Callable[[Path], T], path: Path, kept_by: Literal["run", "comparison"] = "run") -> T:
    """What a maker reads from a file. Raises RunError where that is not what a run or a comparison keeps there."""
    try:
        return maker(path)
    except (KeyError, TypeError, ValueError) as error:
        command = "search" if kept_by == "run" else kept_by
        raise RunError(
            f"{path}: is not what a {kept_by} keeps there ({type(error).__name__}: {error}); delete it and give the "
            f"{command}'s command again: it is made again"
        ) from error


def _differing(folder: Path, space: Space) -> dict[str, tuple[Any, Any]]:
    """The settings of a run that are others now: each as it is there and now, None where there is none."""
    before, now = settings(Space.load(folder / SPACE, spelling={})), settings(space)
    pairs = {key: (before.get(key), now.get(key)) for key in sorted({*before, *now})}
    return {key: (there, here) for key, (there, here) in pairs.items() if there != here}


def _is_run(folder: Path) -> bool:
    """A run has its settings and, made before them, its folders: somebody's own space.toml alone is none."""
    return (folder / SPACE).exists() and all((folder / name).is_dir() for name in FOLDERS)


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix == ".tmp"


def _is_beginning(path: Path) -> bool:
    is_empty_folder = path.name in FOLDERS and path.is_dir() and not any(path.iterdir())
    return path.name == LOCK or is_empty_folder or _is_temporary(path)
