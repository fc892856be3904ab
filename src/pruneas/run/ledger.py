"""What a run has cost, over all its sessions, and what this one still has to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pruneas.errors import RunError
from pruneas.files import write_json
from pruneas.progress import Observer
from pruneas.run.folder import read_json

SAVE_EVERY = 5.0
"""Seconds; so much of a run's time is lost at most when it is killed."""


class Ledger:
    """Counts images and seconds; keeps the seconds, and facts about the run, in `run.json`, and what ended it if it
    failed.

    Work is counted in images, each time one is trained on. What stages have left is reckoned when the session begins
    and replaced by the exact amount when each stage does.
    """

    def __init__(
        self,
        path: Path,
        facts: Mapping[str, Any],
        left: Mapping[str, float],
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._facts, self._observer, self._clock = path, facts, observer, clock
        self._left = dict(left)
        self._stage = ""
        self._done = 0.0
        self._began = self._saved = clock()
        self._before = _seconds(path)
        self.save()

    @property
    def seconds(self) -> float:
        """Of the whole run, over all its sessions."""
        return self._before + self._clock() - self._began

    @property
    def images_left(self) -> float:
        return sum(self._left.values())

    def begin(self, stage: str, images: float) -> None:
        """A stage begins with so many images to train on; the one before has nothing left (trainings may fail)."""
        self._left[self._stage] = 0.0
        self._stage = stage
        self._left[stage] = images

    def work(self, images: int) -> None:
        """So many images were trained on."""
        self._done += images
        self._left[self._stage] = max(0.0, self._left.get(self._stage, 0.0) - images)
        self._observer.work(self._done, self._done + self.images_left)
        if self._clock() - self._saved > SAVE_EVERY:
            self.save()

    def spare(self, images: int) -> None:
        """So many images of this stage need not be trained on."""
        self._left[self._stage] = max(0.0, self._left.get(self._stage, 0.0) - images)
        self._observer.work(self._done, self._done + self.images_left)

    def save(self, *, failure: str | None = None) -> None:
        self._saved = self._clock()
        ended = {} if failure is None else {"failure": failure}
        write_json(self._path, {**self._facts, "seconds": self.seconds, **ended})


def _seconds(path: Path) -> float:
    """The seconds of earlier sessions."""
    if not path.exists():
        return 0.0
    try:
        return float(read_json(path)["seconds"])
    except (TypeError, KeyError, ValueError) as error:
        raise RunError(f"{path}: must hold the run's seconds; delete it and give the search's command again") from error
