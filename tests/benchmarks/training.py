"""How fast pruneas trains beside the loop that everyone copies (usual_loop.py), and whether it learns the same.

    python -m tests.benchmarks.training --data folder:PATH [--only PART ...]   # print, write results/training.json

VGG-16 at a quarter of its width on CIFAR-10, batches of 128, on two cores. Parts, each a measurement of its own on an
otherwise idle machine, with what is compared taken in turn:

- speed: images a second of the usual loop with 0, 1 and 2 DataLoader workers, on an ImageFolder and on images in memory
  as torchvision's CIFAR10 has them; of one training by pruneas on two threads; of two at a time on one thread each.
- data: seconds of an epoch, and of as many steps on one fixed batch that is in memory already.
- workers: small candidates an hour, built, recounted, trained and judged, by one worker process and by two.
- start: seconds from the command until a first step and a first validation are done, with a warm cache.
- accuracy: both loops by the same recipe on 15,000 images, 12 epochs, five seeds each; judged on the 45,000 images
  that are not trained on, as 10,000 would add half a point of their own to every seed's spread. It goes on where it
  stopped, and times nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from scipy import stats
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder

from pruneas.architecture import Input, Reference
from pruneas.config import Space
from pruneas.cost.model import CostModel
from pruneas.files import write_json
from pruneas.networks import make
from pruneas.run.machine import hardware, versions
from pruneas.search.train import Training
from pruneas.search.train import train as train_candidate
from pruneas.structure.build import describe, structure_of
from pruneas.training import DataSet, DataSource, Job, Pool, Recipe, evaluate, fit
from tests.benchmarks import usual_loop

RESULT = Path(__file__).parent / "results" / "training.json"
NETWORK = Reference("pruneas:vgg16", {"width": 0.25, "classes": 10})
SHAPE = (3, 32, 32)
IMAGES = 5120
"""Of an epoch that is timed: 40 batches."""
ROUNDS = 3
SEEDS = range(5)
USUAL = [(kind, workers) for kind in ("ImageFolder", "in memory") for workers in (0, 1, 2)]


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{**Space.load("cifar10-vgg16-quarter").recipe.model_dump(), **changes})


def source(data: str, training: int = IMAGES, validation: int = 500) -> DataSource:
    return DataSource(source=data, shape=SHAPE, training=training, validation=validation)


# What runs in processes of its own ---------------------------------------------------------------------------------


def usual(report: Callable[[Any], None], *, data: str, kind: str, workers: int, epochs: int) -> list[float]:
    """Seconds of the epochs of the usual loop."""
    loaded = source(data).load()
    transform = usual_loop.augmentation(loaded.mean, loaded.std)
    if kind == "ImageFolder":
        files = ImageFolder(Path(data.partition(":")[2]) / "train", transform)
        dataset: Any = Subset(files, torch.randperm(len(files), generator=torch.manual_seed(0))[:IMAGES].tolist())
    else:
        dataset = usual_loop.InMemory(loaded.train.images, loaded.train.labels, transform)
    return usual_loop.train(make(NETWORK), dataset, workers=workers, seed=0, **plainly(recipe(epochs=epochs), IMAGES))


def plainly(recipe: Recipe, images: int) -> dict[str, Any]:
    """A recipe as the usual loop takes it."""
    return {
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "rate": lambda step: recipe.learning_rate_at(step, images),
        "momentum": recipe.momentum,
        "nesterov": recipe.nesterov,
        "weight_decay": recipe.weight_decay,
        "label_smoothing": recipe.label_smoothing,
    }


def ours(report: Callable[[Any], None], *, data: str, epochs: int) -> list[float]:
    """Seconds of the epochs by pruneas."""
    loaded = source(data).load()
    loaded = replace(loaded, validation=loaded.validation.first(128))
    return [epoch.seconds for epoch in fit(make(NETWORK), loaded, recipe(epochs=epochs), seed=0).epochs]


def fixed(report: Callable[[Any], None], *, data: str, rounds: int) -> list[tuple[float, float]]:
    """Seconds of an epoch, and of one on a fixed batch, in turn; the first of each warms up and is left out."""
    from pruneas.training.batches import Batches

    loaded = source(data).load()
    loaded = replace(loaded, validation=loaded.validation.first(128))
    batches = Batches(loaded, recipe(epochs=1), seed=0, device=torch.device("cpu"))
    batch = next(iter(batches.epoch()))
    steps = recipe().steps_per_epoch(IMAGES)

    def seconds() -> float:
        return fit(make(NETWORK), loaded, recipe(epochs=1), seed=0).epochs[0].seconds

    found = []
    for _ in range(1 + rounds):
        real = seconds()
        with mock.patch.object(Batches, "epoch", lambda _: iter([batch] * steps)):
            found.append((real, seconds()))
    return found[1:]


def learned(report: Callable[[Any], None], *, data: str, loop: str, seed: int) -> float:
    """The accuracy that a training of 12 epochs reaches on the images it was not trained on."""
    loaded = source(data, training=15000, validation=35000).load()
    torch.manual_seed(seed)
    network = make(NETWORK)
    if loop == "pruneas":
        fit(network, replace(loaded, validation=loaded.validation.first(128)), recipe(), seed=seed)
    else:
        transform = usual_loop.augmentation(loaded.mean, loaded.std)
        dataset = usual_loop.InMemory(loaded.train.images, loaded.train.labels, transform)
        usual_loop.train(network, dataset, workers=0, seed=seed, **plainly(recipe(), len(dataset)))
    right = count = 0.0
    for part in (loaded.validation, loaded.test):
        score = evaluate(network, part, mean=loaded.mean, std=loaded.std, precision="float32")
        right, count = right + score.accuracy * len(part), count + len(part)
    return right / count


# The measurements --------------------------------------------------------------------------------------------------


def in_processes(jobs: Sequence[Job], *, workers: int, threads: int) -> list[Any]:
    """What the jobs give, in their order."""
    with Pool(workers=workers, threads=threads) as pool:
        outcomes = {outcome.key: outcome for outcome in pool.run(jobs)}
    for outcome in outcomes.values():
        if outcome.failure is not None:
            raise SystemExit(f"{outcome.key}: {outcome.failure}")
    return [outcomes[job.key].value for job in jobs]


def speed(data: str) -> dict[str, Any]:
    """Images a second. Epochs after the first count; of two at a time, those that ran beside one another."""
    found: dict[str, list[float]] = {f"usual, {kind}, {workers} workers": [] for kind, workers in USUAL}
    found |= {"one training": [], "two trainings": []}
    for _ in range(ROUNDS):
        for kind, workers in USUAL:
            job = Job(
                key="usual",
                function=usual,
                arguments={"data": data, "kind": kind, "workers": workers, "epochs": 2},
            )
            (seconds,) = in_processes([job], workers=1, threads=2)
            found[f"usual, {kind}, {workers} workers"].append(IMAGES / seconds[1])
        for name, together, threads in (("one training", 1, 2), ("two trainings", 2, 1)):
            jobs = [Job(key=str(i), function=ours, arguments={"data": data, "epochs": 4}) for i in range(together)]
            each = in_processes(jobs, workers=together, threads=threads)
            found[name].append(sum(IMAGES / statistics.median(seconds[1:3]) for seconds in each))
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    best = max((name for name in found if name.startswith("usual")), key=medians.__getitem__)
    ratios = {
        name: statistics.median(a / b for a, b in zip(found[name], found[best], strict=True))
        for name in ("one training", "two trainings")
    }
    return {"images_per_second": found, "medians": medians, "best_usual": best, "ratios": ratios, "rounds": ROUNDS}


def data_share(data: str) -> dict[str, Any]:
    job = Job(key="fixed", function=fixed, arguments={"data": data, "rounds": 2 * ROUNDS})
    (pairs,) = in_processes([job], workers=1, threads=1)
    return {"seconds": pairs, "ratio": statistics.median(real / still for real, still in pairs)}


def workers(data: str) -> dict[str, Any]:
    """Candidates of 30 to 60 % of the FLOPs, two epochs each, by one process and by two."""
    network = make(NETWORK)
    structure = structure_of(network, NETWORK, (Input(SHAPE),))
    model = CostModel.of(structure, network)
    jobs = []
    for index in range(6):
        widths = {name: round(width * (0.55 + 0.04 * index)) for name, width in structure.widths.items()}
        vector = model.vector(widths)
        training = Training(
            structure=structure,
            widths=widths,
            flops=int(model.flops(vector)),
            params=int(model.params(vector)),
            data=source(data),
            recipe=recipe(epochs=2),
            seed=index,
            device="cpu",
        )
        jobs.append(Job(key=str(index), function=train_candidate, arguments={"training": training}))
    hourly: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for count in hourly:
            with Pool(workers=count, threads=1) as pool:
                list(pool.run(jobs[:1]))  # the server has loaded torch
                began = time.perf_counter()
                outcomes = list(pool.run(jobs))
                hourly[count].append(3600 * len(jobs) / (time.perf_counter() - began))
            assert not [outcome for outcome in outcomes if outcome.failure]
    ratio = statistics.median(two / one for one, two in zip(hourly[1], hourly[2], strict=True))
    return {"candidates_per_hour": hourly, "ratio": ratio}


def start(data: str) -> dict[str, Any]:
    """Until the checkpoint after one step and its validation is on disk."""
    network = make(NETWORK)
    structure = structure_of(network, NETWORK, (Input(SHAPE),))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        architecture = Path(folder) / "architecture.json"
        architecture.write_text(describe(structure, structure.widths).to_json(), encoding="utf-8")
        space = Path(folder) / "one-step.toml"
        text = (Path(__file__).parents[2] / "search_spaces" / "cifar10-vgg16-quarter.toml").read_text(encoding="utf-8")
        space.write_text(
            text.replace("training = 12000", "training = 128").replace("validation = 2500", "validation = 100"),
            encoding="utf-8",
        )
        for round_ in range(1 + ROUNDS):
            run = Path(folder) / f"run{round_}"
            command = [sys.executable, "-m", "pruneas", "train", str(architecture), "--space", str(space)]
            command += ["--data", data, "--epochs", "1000", "--run", str(run), "--quiet", "--workers", "1"]
            began = time.perf_counter()
            process = subprocess.Popen(command)
            while not list(run.glob("**/*.checkpoint.safetensors")):
                if process.poll() is not None:
                    raise SystemExit(f"{' '.join(command)}: ended before its first epoch")
                time.sleep(0.01)
            found.append(time.perf_counter() - began)
            process.terminate()
            process.wait()
    return {"seconds": found[1:], "median": statistics.median(found[1:])}


def accuracy(data: str) -> dict[str, Any]:
    kept = _kept().get("accuracy", {})
    found: dict[str, dict[str, float]] = {loop: dict(kept.get(loop, {})) for loop in ("usual", "pruneas")}
    missing = [(loop, seed) for seed in SEEDS for loop in found if str(seed) not in found[loop]]
    jobs = [
        Job(key=f"{loop} {seed}", function=learned, arguments={"data": data, "loop": loop, "seed": seed})
        for loop, seed in missing
    ]
    with Pool(workers=1, threads=1) as pool:
        for outcome in pool.run(jobs):
            if outcome.failure is not None:
                raise SystemExit(f"{outcome.key}: {outcome.failure}")
            loop, seed = outcome.key.split()
            found[loop][seed] = outcome.value
            print(f"{outcome.key}: {100 * outcome.value:.2f}", flush=True)
            _keep("accuracy", {**found})
    usual_, ours_ = ([found[loop][str(seed)] for seed in SEEDS] for loop in ("usual", "pruneas"))
    interval = stats.ttest_ind(ours_, usual_, equal_var=False).confidence_interval(0.95)
    difference = statistics.fmean(ours_) - statistics.fmean(usual_)
    return {**found, "difference": difference, "interval": [float(interval.low), float(interval.high)]}


PARTS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "speed": speed,
    "data": data_share,
    "workers": workers,
    "start": start,
    "accuracy": accuracy,
}


def _kept() -> dict[str, Any]:
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}


def _keep(part: str, found: Mapping[str, Any]) -> None:
    write_json(RESULT, {**_kept(), part: found})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder:PATH of CIFAR-10")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    given = parser.parse_args()
    loaded: DataSet = source(given.data).load()  # so that the cache is warm
    assert len(loaded.classes) == 10
    for part in given.only:
        found = {
            "load_before": os.getloadavg()[0],
            **PARTS[part](given.data),
            "hardware": hardware("cpu", 1, 1).partition(";")[0],
            "versions": versions(),
        }
        _keep(part, found)
        told = {
            key: value for key, value in found.items() if key in ("medians", "ratios", "ratio", "median", "interval")
        }
        print(f"{part}: {json.dumps(told)}", flush=True)


if __name__ == "__main__":
    from tests.benchmarks.training import main as imported  # children find functions by the name of their module

    imported()
