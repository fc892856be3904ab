import pytest

from pruneas.report.records import ArmRecord, DataRecord, ResultRecord

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
        limit=1_237_772,
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
