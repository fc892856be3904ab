"""What each pruning method gives as an architecture, by the bench protocol: widths, accuracy from scratch, compute.

    python tests/benchmarks/generators.py --data folder:PATH [--work FOLDER] [--only METHOD ...] [--workers N]

VGG-16 at a quarter of its width on 15,000 training and 2,500 validation images of CIFAR-10, 12 epochs, three seeds, the
10,000 test images once a training; sparse structure selection, which needs residual blocks, on ResNet-20. Every
method at 50 % and 30 % of the FLOPs. Methods whose widths are uniform scaling's are trained from the weights that they
keep in place of fresh ones: a constant rate for a quarter of the epochs, the best of three rates by validation.
Guided pruning learns from what slimming found at the same budget, guided sparsification from magnitude's masks.

Stops at any time and goes on when given again: whatever is finished lies in results/generators/, one file a method and
budget; what is under way in the work folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from pruneas.architecture import Architecture
from pruneas.config import Space
from pruneas.files import write_json
from pruneas.generators import METHODS
from pruneas.report.live import PlainLines
from pruneas.run.generate import generate
from pruneas.run.machine import hardware, versions
from pruneas.run.setting import Setting
from pruneas.search.propose import GeneratorRecord, masked_name
from pruneas.search.train import CHECKPOINT, Progress, Training, TrainingRecord, save_state, train
from pruneas.seeds import derive
from pruneas.structure.build import inherit
from pruneas.structure.masks import mask_path
from pruneas.training import Job, Pool

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "generators"
BUDGETS = ("0.5", "0.3")
NUM_SEEDS = 3
RATES = (0.003, 0.01, 0.03)
"""Of fine-tuning, as shares of the peak rate."""
LEARN_FROM = {"guided": "slimming", "guided-sparsity": "magnitude"}
PROTOCOL = {"data.training": 15000, "data.validation": 2500, "recipe.epochs": 12}
RESNET = {"network.reference": "pruneas:resnet20", "recipe.learning_rate": 0.15}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A method at a budget. `arm` is 'scratch' or 'fine-tuned'; accuracies are of the test set, one a seed.

    `images` and `seconds` are what generating took, without the base network's training; `rates` the fine-tuning rate
    that validation chose for each seed.
    """

    method: str
    network: str
    budget: str
    arm: str
    widths: dict[str, int]
    removed: list[str]
    base_widths: dict[str, int]
    flops: int
    params: int
    base_flops: int
    base_params: int
    images: int
    seconds: float
    accuracies: list[float]
    validation: list[float]
    rates: list[float] | None
    training_seconds: list[float]
    epochs: int
    training_images: int
    seeds: list[int]
    hardware: str
    versions: dict[str, str]


def rows_of(method: str, space: Space, work: Path, pool: Pool) -> None:
    """Write the rows of a method that are missing."""
    missing = [budget for budget in BUDGETS if not _row_path(method, budget).exists()]
    if not missing:
        return
    with PlainLines() as lines:
        run = work / ("resnet20" if method == "sss" else "vgg16")
        if method in LEARN_FROM:
            files = {budget: _learned(method, budget, space, run, lines) for budget in missing}
        else:
            files = generate(space, method, budgets=missing, run=run, command="benchmark", observer=lines)
        setting = Setting.of(space.model_copy(update={"budget": "1.0"}), run, False, lines)
    for budget, file in files.items():
        record = GeneratorRecord.read(file.with_name(file.name.replace(".architecture.json", ".json")))
        row = _trained(method, budget, Architecture.load(file), record, setting, work, pool)
        RESULTS.mkdir(parents=True, exist_ok=True)
        write_json(_row_path(method, budget), asdict(row))
        print(f"{method} at {budget}: {' '.join(f'{100 * accuracy:.2f}' for accuracy in row.accuracies)}", flush=True)


def _learned(method: str, budget: str, space: Space, run: Path, lines: PlainLines) -> Path:
    """The architecture of a method that learns from another one's, which is made first where it is missing."""
    teacher = LEARN_FROM[method]
    whole = generate(space, teacher, budgets=[budget], run=run, command="benchmark", observer=lines)[budget]
    masked = whole.with_name(masked_name(teacher, budget))
    source = Architecture.load(masked if masked.exists() else whole)
    masks = {} if source.mask is None else {source.mask: mask_path(masked)}
    asked = {"sources": [source], "masks": masks, "budgets": [budget], "run": run, "command": "benchmark"}
    return generate(space, method, **asked, observer=lines)[budget]


def _trained(
    method: str,
    budget: str,
    architecture: Architecture,
    record: GeneratorRecord,
    setting: Setting,
    work: Path,
    pool: Pool,
) -> Row:
    tuned = method in METHODS and METHODS[method].uniform_widths and method != "uniform"
    folder = work / "trainings" / f"{method}@{budget}"
    folder.mkdir(parents=True, exist_ok=True)
    initial = _inherited(record, setting, folder) if tuned else None
    recipe = setting.recipe
    recipes = {rate: recipe.fine_tune(rate=rate) for rate in RATES} if tuned else {1.0: recipe}
    seeds = [derive(0, "benchmark", index) for index in range(NUM_SEEDS)]
    jobs: list[Job] = []
    paths = {(seed, rate): folder / f"{seed}-{rate:g}.json" for seed in seeds for rate in recipes}
    for (seed, rate), path in paths.items():
        if not path.exists():
            training = Training(
                structure=setting.structure,
                widths={**setting.structure.widths, **architecture.widths},
                removed=architecture.removed,
                flops=record.flops,
                params=record.params,
                data=setting.source,
                recipe=recipes[rate],
                seed=seed,
                device=setting.device,
                initial=initial,
                test=True,
                checkpoint=path.with_suffix(CHECKPOINT),
            )
            jobs.append(Job(key=str(path), function=train, arguments={"training": training}))
    for outcome in pool.run(jobs, _told):
        if outcome.failure is not None:
            raise SystemExit(f"{outcome.key}: {outcome.failure}")
        write_json(Path(outcome.key), outcome.value.to_json())
    found = {key: TrainingRecord.from_json(json.loads(path.read_text())) for key, path in paths.items()}
    best = {seed: max(recipes, key=lambda rate: found[seed, rate].validation_accuracy) for seed in seeds}
    chosen = [found[seed, best[seed]] for seed in seeds]
    return Row(
        method=method,
        network=str(setting.structure.network),
        budget=budget,
        arm="fine-tuned" if tuned else "scratch",
        widths=dict(record.widths),
        removed=list(record.removed),
        base_widths=dict(setting.structure.widths),
        flops=record.flops,
        params=record.params,
        base_flops=setting.model.base.flops,
        base_params=setting.model.base.params,
        images=record.images,
        seconds=record.seconds,
        accuracies=[training.test_accuracy or 0.0 for training in chosen],
        validation=[training.validation_accuracy for training in chosen],
        rates=[best[seed] for seed in seeds] if tuned else None,
        training_seconds=[training.seconds for training in chosen],
        epochs=len(chosen[0].epochs),
        training_images=len(setting.data.train),
        seeds=seeds,
        hardware=hardware(setting.device, setting.workers, setting.space.compute.threads),
        versions=versions(),
    )


def _inherited(record: GeneratorRecord, setting: Setting, folder: Path) -> Path:
    """The weights that a method leaves in the small network: its own, or those of the base's channels that it keeps."""
    generators = setting.folder / "generators"
    if record.weights is not None:
        return generators / record.weights
    assert record.keep is not None
    path = folder / "inherited.safetensors"
    state = load_file(setting.folder / "base" / "weights.safetensors")
    save_state(inherit(setting.structure, state, record.keep, record.removed), path)
    return path


def _told(key: str, message: Any) -> None:
    if isinstance(message, Progress) and message.accuracy is not None:
        print(f"{key} {message.epoch:g}/{message.epochs} {message.accuracy:.4f}", file=sys.stderr, flush=True)


def _row_path(method: str, budget: str) -> Path:
    return RESULTS / f"{method}@{budget}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder:PATH, or cifar10[:ROOT]")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-generators"))
    parser.add_argument("--only", nargs="+", default=list(METHODS))
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    space = Space.load("cifar10-vgg16-quarter", {**PROTOCOL, "data.source": given.data})
    resnet = Space.load("cifar10-vgg16-quarter", {**PROTOCOL, **RESNET, "data.source": given.data})
    with Pool(workers=given.workers, threads=1) as pool:
        for method in given.only:
            rows_of(method, resnet if method == "sss" else space, given.work, pool)


if __name__ == "__main__":
    main()
