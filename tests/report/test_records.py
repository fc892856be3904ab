import dataclasses
import json

import pytest

from pruneas.report.numbers import count, duration, percent, points, share
from pruneas.report.records import LatencyRecord, NetworkRecord, ResultRecord


def test_a_record_survives_json(made_up):
    assert ResultRecord.from_json(made_up.to_json()) == made_up


def test_the_networks_and_the_latencys_records_survive_json(made_up_run):
    for record in (made_up_run.network, made_up_run.latency):
        assert type(record).from_json(record.to_json()) == record
    with pytest.raises(ValueError, match="network: kept: missing"):
        data = json.loads(made_up_run.network.to_json())
        del data["kept"]
        NetworkRecord.from_json(json.dumps(data))
    with pytest.raises(ValueError, match=r"latency\.timings\[0\]\.batch: must be int, found 'one'"):
        data = json.loads(made_up_run.latency.to_json())
        data["timings"][0]["batch"] = "one"
        LatencyRecord.from_json(json.dumps(data))


def test_records_of_before_layers_were_kept_are_read(made_up):
    data = json.loads(made_up.to_json())
    for arm in data["arms"]:
        del arm["layer_flops"], arm["layer_params"]
    assert ResultRecord.from_json(json.dumps(data)) == made_up


def test_mean_and_spread_are_those_of_the_seeds_and_stand_in_the_json(made_up):
    uniform = made_up.arm("uniform")
    assert uniform.mean == pytest.approx(0.91)
    assert uniform.std == pytest.approx(0.01)  # sample standard deviation of 0.90, 0.91, 0.92
    assert made_up.arm("base").std is None
    written = json.loads(made_up.to_json())["arms"][1]
    assert (written["mean"], written["std"]) == (uniform.mean, uniform.std)


def change(**what):
    def apply(data):
        data.update(what)

    return apply


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda d: d.pop("winner"), "result: winner: missing"),
        (change(colour="red"), "result: colour: not a field"),
        (change(limits={"flops": "many"}), "result.limits.flops: must be int, found 'many'"),
        (change(seed=True), "result.seed: must be int, found True"),
        (change(schema=2), "schema: must be 1, the version this pruneas reads, found 2"),
        (change(winner="nobody"), r"result: winner must be one of the arms \['base', .*\], got 'nobody'"),
        (lambda d: d["arms"][2].update(interval=[1.0]), r"result\.arms\[2\]\.interval: must be a list, found \[1\.0\]"),
        (
            lambda d: d["arms"][0].update(role="king"),
            r"result\.arms\[0\]\.role: must be one of 'base', .*, found 'king'",
        ),
        (
            lambda d: d["arms"][1].update(seeds=[1]),
            r"result\.arms\[1\]: uniform: must have one test and one validation",
        ),
        (change(seconds=float("nan")), "result.seconds: must be finite"),
        (change(arms=3), r"result\.arms: must be a list, found 3"),
        (change(data=[]), r"result\.data: must be an object, found \[\]"),
    ],
)
def test_what_is_not_a_record_is_refused_with_its_place(made_up, spoil, text):
    data = json.loads(made_up.to_json())
    spoil(data)
    with pytest.raises(ValueError, match=text):
        ResultRecord.from_json(json.dumps(data))


def test_half_a_file_is_not_a_record(made_up):
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        ResultRecord.from_json(made_up.to_json()[:500])
    with pytest.raises(ValueError, match="must be a JSON object, found list"):
        ResultRecord.from_json("[]")


def test_two_arms_of_one_name_are_refused(made_up):
    with pytest.raises(ValueError, match="arms must have different names"):
        dataclasses.replace(made_up, arms=(*made_up.arms, made_up.arms[0]))


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00 k"), (45_678, "45.7 k"), (999_499, "999 k"), (999_500, "1.00 M"),
     (9_996, "10.0 k"), (12_345_678, "12.3 M"), (4_089_184_256, "4.09 G"), (3 * 10**15, "3000 T")],
)  # fmt: skip
def test_counts_have_three_digits_and_a_unit(number, text):
    assert count(number) == text


def test_shares_points_and_durations():
    assert (percent(0.9512), points(-0.0123), share(0.49876)) == ("95.12", "-1.23", "49.9 %")
    assert [duration(s) for s in (0.04, 9.96, 59.4, 59.6, 200, 3600, 3900, 90_000)] == [
        "0.0 s", "10 s", "59 s", "1 min", "3 min 20 s", "1 h", "1 h 5 min", "1 d 1 h",
    ]  # fmt: skip
