"""How many trials a second a storage bears, and what a search spends outside of training.

    python -m tests.benchmarks.scaling                       # measure, print, write results/scaling.json
    python -m tests.benchmarks.scaling --data folder:IMAGES  # CIFAR-10 as a folder of images

Throughput: trials of the quarter-width VGG-16 (13 groups, random sampler) whose training takes no time, by 1, 2, 4 and
8 processes that joined one search, on SQLite and on PostgreSQL: asking, projecting, leases, handing in.
Overhead: a real search of that space by one worker, from the uniform anchor alone; its time minus its trainings'.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from pruneas.config import Space
from pruneas.cost.projection import uniform
from pruneas.progress import Silent
from pruneas.run.joining import plan_of, search_of
from pruneas.run.machine import hardware, versions
from pruneas.run.setting import Setting
from pruneas.search.leases import Leases
from pruneas.search.records import PLAN, Anchor
from pruneas.search.storage import address, connect
from pruneas.search.study import STUDY, open_study
from pruneas.search.worker import Place, join, lead
from pruneas.training import Job, Pool
from tests import postgres
from tests.tiny import FakePool, Givens

RESULT = Path(__file__).parent / "results" / "scaling.json"
SPACE = "cifar10-vgg16-quarter"
WORKERS = (1, 2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement of throughput")
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--space", default=SPACE, help="of the real search")
    parser.add_argument("--trials", type=int, default=24, help="of the real search: the model proposes after eight")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    measured = {
        "throughput": [
            throughput(kind, workers, given.seconds) for kind in ("sqlite", "postgresql") for workers in given.workers
        ],
        "overhead": overhead(given.space, given.data, given.trials),
        "load": load,
        "hardware": hardware("cpu", workers=1, threads=1).partition(";")[0],
        "versions": versions(),
    }
    given.out.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: measured[key] for key in ("throughput", "overhead", "load")}, indent=2))


# No-op trials -------------------------------------------------------------------------------------------------------


class Ending(FakePool):
    """Trainings that take no time, until the time is over."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.ends = time.monotonic() + seconds

    def run(self, jobs: Any, on_message: Any = None, pulse: Any = None) -> Any:
        for outcome in super().run(jobs, on_message, pulse):
            yield outcome
            if time.monotonic() > self.ends:
                return


def throughput(kind: str, workers: int, seconds: float) -> dict:
    """Trials a second of so many processes together."""
    server = postgres.Server() if kind == "postgresql" else None
    with tempfile.TemporaryDirectory() as folder:
        try:
            if server is not None:
                server.start()
            url = f"sqlite:///{folder}/study.db" if server is None else server.database()
            storage = connect(address(url))
            study = open_study(storage)
            study.set_user_attr(PLAN, {})
            leases = Leases(engine=storage.engine, study=STUDY, owner="leader", seconds=60)
            leases.create()
            noop(folder).enqueue_anchors(study)
            context = multiprocessing.get_context("spawn")
            ready, done = context.Barrier(workers), context.Queue()
            processes = [
                context.Process(target=_work, args=(url, folder, seconds, ready, done)) for _ in range(workers)
            ]
            for process in processes:
                process.start()
            took = max(done.get() for _ in processes)
            for process in processes:
                process.join()
            trials = sum(hold.is_done for hold in leases.holds().values())
            storage.engine.dispose()
        finally:
            if server is not None:
                server.stop()
    return {"storage": kind, "workers": workers, "trials": trials, "per_second": trials / took}


def noop(folder: str) -> Any:
    space = Space.load(SPACE)
    givens = Givens.of(space.network.reference, shape=tuple(space.network.input))
    return givens.search(Path(folder), anchors={"uniform": givens.uniform}, num_trials=10**6, workers=1)


def _work(url: str, folder: str, seconds: float, ready: Any, done: Any) -> None:
    search = noop(folder)
    storage = connect(address(url))
    place = Place(url=address(url), study=STUDY)
    ready.wait()
    began = time.monotonic()
    join(search, place, storage, Ending(seconds), Silent(), lambda images: None)
    done.put(time.monotonic() - began)


# A real search ------------------------------------------------------------------------------------------------------


def nothing(report: Any) -> None:
    """A job that starts the fork server."""


def overhead(name: str, data: str, trials: int) -> dict:
    """Seconds of a search, and of its trainings: the optimisation and the validation, without starting a process,
    loading images or building and counting the network."""
    given = {"search.trials": trials, "compute.workers": 1} | ({"data.source": data} if name == SPACE else {})
    space = Space.load(name, given, spelling={})
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting.of(space, Path(folder), False, Silent())
        (Path(folder) / "trials").mkdir()
        widths = uniform(setting.model, setting.legal, setting.limits)
        anchors = {"uniform": Anchor(widths=setting.model.mapping(widths))}
        place = Place(url=address(Path(folder) / "study.db"), study=STUDY)
        with Pool(workers=1, threads=1) as pool:
            list(pool.run([Job(key="warm up", function=nothing, arguments={})]))
            began = time.monotonic()
            search, plan = search_of(setting, anchors, Path(folder)), plan_of(setting, anchors, place.lease)
            records = lead(search, place, plan, pool, Silent(), lambda images: None)
            seconds = time.monotonic() - began
    training = sum(record.seconds for record in records)
    return {
        "space": name,
        "trials": len(records),
        "epochs": setting.trial_recipe.epochs,
        "seconds": seconds,
        "training_seconds": training,
        "outside": 1 - training / seconds,
    }


if __name__ == "__main__":
    main()
