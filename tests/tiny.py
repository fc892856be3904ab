"""A search small enough for tests: 200 of scikit-learn's digits, three layers, two epochs. And how to run it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pruneas.architecture import Budget, Reference
from pruneas.cost.limits import Limits
from pruneas.cost.model import CostModel
from pruneas.cost.projection import uniform
from pruneas.cost.widths import LegalWidths, WidthRules
from pruneas.networks import make
from pruneas.progress import Silent
from pruneas.search.records import Anchor
from pruneas.search.storage import address
from pruneas.search.study import STUDY
from pruneas.search.train import Training, TrainingRecord
from pruneas.search.trials import Search
from pruneas.search.worker import Place, lead
from pruneas.structure.build import structure_of
from pruneas.training import DataSource, Outcome, Recipe
from tests.nets import image

NETWORK = 'pruneas:vgg(layout=[5, 7, "M", 11], channels=1)'

SPACE = f"""
schema = 1
name = "tiny"
budget = "0.5"
[network]
reference = '{NETWORK}'
input = [1, 8, 8]
[data]
source = "digits"
training = 200
validation = 100
[recipe]
epochs = 2
batch_size = 20
crop = 1
flip = false
[search]
trials = 5
fidelity = 0.5
[finalists]
count = 2
seeds = 2
"""

ANSI_FREE = {"TERM": "dumb", "NO_COLOR": "1"}


def children_seconds() -> float:
    """Of the processor, by all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pruneas", *arguments]


IN_FOREGROUND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell starts with it ignored
from pruneas.cli import main
main()
"""


def pruneas(*arguments, cwd, timeout=240, **environment):
    """The command line in a process of its own."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | ANSI_FREE | environment,
    )


def space_file(folder: Path, text: str = SPACE) -> Path:
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return path


def stopped(arguments, *, cwd, after: float, how: signal.Signals) -> tuple[int, str]:
    """The command line in a process group of its own, to all of which a signal is sent; its exit code and stderr."""
    with subprocess.Popen(
        [sys.executable, "-c", IN_FOREGROUND, *arguments],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | ANSI_FREE,
    ) as process:
        time.sleep(after)
        if process.poll() is None:
            os.killpg(process.pid, how)
        return process.wait(timeout=240), process.stderr.read()


def until(condition, seconds=120):
    """Wait for what another process or thread does."""
    for _ in range(int(seconds / 0.1)):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("has not come true")


def outcome_of(run: Path) -> dict:
    """Everything of a finished run that must not depend on when it was interrupted: no times, no notes."""

    def timeless(value):
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if k not in ("seconds", "command", "notes")}
        return [timeless(inner) for inner in value] if isinstance(value, list) else value

    names = ["trials", "selection", "test", "generators", "best"]
    files = [run / "result.json", *(path for name in names for path in sorted((run / name).glob("*.json")))]
    return {str(path.relative_to(run)): timeless(json.loads(path.read_text())) for path in files}


@dataclass
class FakePool:
    """Stands in for processes that train: scores come from the widths, and a crash where one is asked for.

    `crash_after` counts trainings; `fails` says which widths cannot be trained, and how; `made` makes a record up.
    """

    crash_after: int | None = None
    fails: object = None
    num_trained: int = 0
    workers: int = 1
    made: Callable[[Training], TrainingRecord] | None = None

    def run(self, jobs, on_message=None, pulse=None):
        for job in jobs:
            if pulse is not None:
                pulse()
            if job is None:
                time.sleep(0.01)
                continue
            if self.num_trained == self.crash_after:
                raise KeyboardInterrupt
            training = job.arguments["training"]
            self.num_trained += 1
            failed = self.fails(job.key, training) if self.fails else None
            if failed is not None:
                yield failed
            else:
                yield Outcome(key=job.key, value=(self.made or made_up_training)(training))


def made_up_training(training) -> TrainingRecord:
    widths = np.array(list(training.widths.values()), dtype=float)
    accuracy = float(np.tanh(widths @ np.arange(1, len(widths) + 1) / 100)) + training.seed % 97 / 1e4
    return TrainingRecord(
        widths=dict(training.widths),
        flops=training.flops,
        params=training.params,
        seed=training.seed,
        epochs=({"epoch": 1, "validation_accuracy": accuracy},),
        validation_accuracy=accuracy,
        validation_loss=1 - accuracy,
        test_accuracy=accuracy if training.test else None,
        test_loss=1 - accuracy if training.test else None,
        seconds=0.0,
        images=1,
        precision="float32",
    )


@dataclass(frozen=True)
class Givens:
    """The tiny network, traced."""

    structure: object
    model: CostModel
    legal: LegalWidths
    limits: Limits

    @classmethod
    def of(cls, reference: str = NETWORK, budget: str = "0.5", shape=(1, 8, 8), **rules) -> Givens:
        parsed = Reference.parse(reference)
        network = make(parsed)
        structure = structure_of(network, parsed, image(*shape))
        model = CostModel.of(structure, network)
        legal = LegalWidths.of(structure, WidthRules(**rules))
        return cls(structure, model, legal, Limits.of(Budget.parse(budget), model, legal))

    @property
    def most(self):
        return self.limits.most["flops"]

    @property
    def uniform(self):
        return uniform(self.model, self.legal, self.limits)

    def search(self, folder: Path, **changes) -> Search:
        (folder / "trials").mkdir(parents=True, exist_ok=True)
        values = {
            "structure": self.structure,
            "model": self.model,
            "legal": self.legal,
            "limits": self.limits,
            "anchors": {"uniform": self.uniform, "l1": np.array([2, 6, 9])},
            "data": DataSource(source="digits", shape=(1, 8, 8), training=200, validation=100, seed=0, download=False),
            "recipe": Recipe(epochs=1, batch_size=20),
            "num_trials": 6,
            "sampler": "random",
            "tie": "group",
            "searches_blocks": False,
            "seed": 0,
            "device": "cpu",
            "workers": 2,
            "folder": folder,
        }
        values |= changes
        values["anchors"] = {
            name: anchor if isinstance(anchor, Anchor) else Anchor(widths=self.model.mapping(anchor))
            for name, anchor in values["anchors"].items()
        }
        return Search(**values)


def led(search: Search, pool=None, observer=None, *, lease: float = 60.0, **more):
    """The search, done with its study in its folder."""
    place = Place(url=address(search.folder / "study.db"), study=STUDY, lease=lease)
    return lead(search, place, {}, pool or FakePool(), observer or Silent(), lambda images: None, **more)
