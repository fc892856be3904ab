import dataclasses

import pytest

from pruneas.report.records import (
    ArmRecord,
    DataRecord,
    FixedRecord,
    LatencyRecord,
    NetworkRecord,
    ResultRecord,
    TimingRecord,
)
from pruneas.report.run import CurveRecord, ProposalRecord, RunRecords
from pruneas.search.importance import Importance
from pruneas.search.records import TrialRecord

BARELY = (-0.01, 0.03)
GROUPS = ("features.0", "features.3", "features.7")


def made_up_arm(name, role, widths, accuracies, **more):
    """An arm with made-up numbers: nothing here was measured."""
    return ArmRecord(
        **{
            "name": name,
            "origin": name,
            "role": role,
            "widths": dict(zip(GROUPS, widths, strict=True)),
            "flops": 1_234_567,
            "flops_share": 0.4987,
            "params": 45_678,
            "seeds": tuple(range(len(accuracies))),
            "test_accuracies": tuple(accuracies),
            "validation_accuracies": tuple(accuracies),
            "difference": None,
            "interval": None,
            "seconds": 12.5,
            **more,
        }
    )


@pytest.fixture
def made_up():
    """A result with made-up numbers: nothing here was measured."""
    return ResultRecord(
        network="pruneas:vgg(layout=[16, 'M', 32], channels=1)",
        input=(1, 8, 8),
        data=DataRecord(name="made up", fingerprint="0" * 16, training=1000, validation=250, test=500),
        budget="0.5",
        limits={"flops": 1_237_772},
        base_widths=dict(zip(GROUPS, (16, 32, 64), strict=True)),
        base_flops=2_475_545,
        base_params=91_234,
        arms=(
            made_up_arm("base", "base", (16, 32, 64), (0.95,), flops=2_475_545, flops_share=1.0),
            made_up_arm("uniform", "uniform", (11, 22, 45), (0.90, 0.91, 0.92)),
            made_up_arm("slimming", "generator", (8, 28, 30), (0.91, 0.92, 0.93), difference=0.01, interval=BARELY),
            made_up_arm(
                "search #17",
                "winner",
                (16, 16, 20),
                (0.9512, 0.9512, 0.9512),
                origin="search",
                difference=0.0412,
                interval=(0.0212, 0.0612),
            ),
        ),
        winner="search #17",
        verdict="The found widths are better than uniform scaling (a made-up sentence).",
        smallest_detectable=0.0151,
        test_sampling_error=0.0096,
        confidence=0.95,
        num_trials=24,
        num_distinct=23,
        seconds=65.4,
        hardware="2 imaginary cores",
        versions={"torch": "0.0"},
        command="pruneas search --budget 0.5",
        seed=0,
        trial_epochs=8,
        epochs=16,
        notes=("the group [classifier] cannot change",),
    )


LAYERS = {"features.0": 1_000_000, "features.3": 1_400_000, "norm": 5, "pool": 5, "classifier": 75_535}


def made_up_trial(number, accuracy, *, origin="search", widths=(16, 16, 20), copied_from=None, failure=None):
    return TrialRecord(
        number=number,
        origin=origin,
        widths=dict(zip(GROUPS, widths, strict=True)),
        flops=1_200_000 + number,
        params=45_000 - 100 * number,
        seed=number,
        accuracy=accuracy,
        loss=None if accuracy is None else 1 - accuracy,
        curve=() if accuracy is None else (accuracy - 0.1, accuracy),
        seconds=2.0,
        images=0 if copied_from is not None else 2000,
        copied_from=copied_from,
        failure=failure,
    )


def made_up_curve(name, stage, seed, *accuracies):
    return CurveRecord(
        name=name, stage=stage, seed=seed, accuracies=tuple(enumerate(accuracies, 1)), images=4000, seconds=3.0
    )  # fmt: skip


def made_up_timing(name, flops_share, median):
    return TimingRecord(
        name=name,
        flops_share=flops_share,
        where="an imaginary CPU",
        batch=64,
        median=median,
        low=0.95 * median,
        high=1.05 * median,
    )


@pytest.fixture
def made_up_run(made_up):
    """A finished run with made-up numbers: nothing here was measured. One trial failed, one repeats another."""
    arms = tuple(
        dataclasses.replace(
            arm,
            layer_flops=LAYERS if arm.role == "base" else {name: cost // 2 for name, cost in LAYERS.items()},
            layer_params={"features.0": 144, "classifier": 650},
        )
        for arm in made_up.arms
    )
    return RunRecords(
        folder="runs/made up",
        network_reference=made_up.network,
        input=made_up.input,
        data="made up",
        budget=made_up.budget,
        limits=made_up.limits,
        asked_trials=24,
        sampler="gp",
        epochs=2,
        finalists=5,
        seeds=3,
        command=made_up.command,
        seed=0,
        hardware=made_up.hardware,
        versions=made_up.versions,
        seconds=65.4,
        failure=None,
        result=dataclasses.replace(made_up, arms=arms),
        network=NetworkRecord(
            network=made_up.network,
            provider="pruneas 0.0",
            widths=made_up.base_widths,
            flops=made_up.base_flops,
            params=made_up.base_params,
            layer_flops=LAYERS,
            layer_params={"features.0": 144, "classifier": 650},
            kept={"features.0": "reshaping <mixes> its channels"},
            fixed=(FixedRecord(parameter="classifier.weight", size=10, reason="the network puts it out"),),
            unremovable={},
            uncounted={"aten::tanh": 3},
        ),
        latency=LatencyRecord(
            threads=2,
            timings=(
                made_up_timing("base", 1.0, 10.0),
                made_up_timing("uniform", 0.5, 5.2),
                made_up_timing("search #17", 0.5, 8.0),
            ),
        ),
        proposals=tuple(
            ProposalRecord(
                method=arm.name,
                widths=arm.widths,
                removed=(),
                flops=arm.flops,
                params=arm.params,
                images=0 if arm.name == "uniform" else 4000,
                seconds=1.0,
                notes=(),
            )
            for arm in made_up.arms[1:3]
        ),
        left_out={},
        trials=(
            made_up_trial(0, 0.70, origin="uniform", widths=(11, 22, 45)),
            made_up_trial(1, 0.75, origin="slimming", widths=(8, 28, 30)),
            made_up_trial(2, 0.72, widths=(10, 20, 30)),
            made_up_trial(3, None, widths=(1, 1, 1), failure="diverged: the loss is <nan>"),
            made_up_trial(4, 0.75, origin="search", widths=(8, 28, 30), copied_from=1),
            made_up_trial(17, 0.82),
        ),
        curves=(
            made_up_curve("search #17", "selection", 1, 0.5, 0.8),
            made_up_curve("slimming", "selection", 1, 0.5, 0.7),
            made_up_curve("uniform", "test", 5, 0.4, 0.6),
            made_up_curve("search #17", "test", 5, 0.5, 0.9),
            made_up_curve("search #17", "test", 6, 0.9),
        ),
        importances=(
            Importance(group="features.0", value=0.05, chance=0.02, direction=-0.4),
            Importance(group="features.3", value=0.01, chance=0.02, direction=0.1),
        ),
        base_training=made_up_curve("base", "base", 0, 0.5, 0.9),
    )
