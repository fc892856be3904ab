"""What `pruneas.search` and `pruneas search` call: go on with a run, begin one, or return a finished one at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pruneas import forking, interrupts
from pruneas.config import Space
from pruneas.progress import Observer
from pruneas.run.folder import default_folder, held, prepare
from pruneas.run.result import SearchResult, finished

if TYPE_CHECKING:
    from pruneas.cost.latency_table import LatencyTable
    from pruneas.run.generation import Generation


def search(
    space: Space,
    *,
    run: Path | None,
    fresh: bool,
    download: bool,
    command: str,
    observer: Observer,
    storage: str | None = None,
    lease: float | None = None,
    adopt: Callable[[Generation], None] | None = None,
    table: LatencyTable | None = None,
) -> SearchResult:
    """Run or go on with a search. Returns the result of a finished one at once.

    `run` is the folder (by default one named after the settings, in runs/); `fresh` begins anew; `download` allows
    missing images to be fetched; `command` is what the result says it was made with.
    `storage` is the URL of a database that other machines reach, in place of the folder's study.db; there the study has
    the name that the folder has by default. `lease`: seconds after which the trial of a worker that has not been heard
    of is another's. `adopt` brings what generators gave in another run, before they are run here;
    `table` is of latency, where it was measured before.
    """
    folder = run if run is not None else default_folder(space)
    if not fresh and (result := finished(folder, space)) is not None:
        return result
    observer.stage("start", "loading torch", 0)  # seconds; whatever needs no torch comes before
    forking.start(space.compute.threads)

    with interrupts.held_back():
        from pruneas.run.place import place_for
        from pruneas.run.setting import Setting
        from pruneas.run.stages import Run
        from pruneas.search.worker import LEASE, Place

    url, study = place_for(folder, space, storage)
    place = Place(url=url, study=study, lease=LEASE if lease is None else lease)

    with held(folder):
        # Once more: what was true before may have changed until the folder was ours.
        if not fresh and (result := finished(folder, space)) is not None:
            return result
        # Mistakes in the network, the images or the budget are found before the folder is written to, or cleared.
        setting = Setting.of(space, folder, download, observer, table=table, fresh=fresh)
        prepare(folder, space, fresh=fresh)
        return Run(setting, place, command, observer, fresh=fresh, adopt=adopt).go()
