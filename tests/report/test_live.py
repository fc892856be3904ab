import io
import time

from rich.console import Console

from pruneas.progress import Observer, TrialLine
from pruneas.report.live import LiveView, PlainLines, TimeLeft


class FakeClock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def made_up_trial(number, accuracy=0.5, **more):
    cost = {"flops": 1_234_567, "budget_share": 0.998, "params": 45_600}
    return TrialLine(number=number, origin="l1", accuracy=accuracy, seconds=3.2, **cost, **more)


def events(view: Observer):
    view.stage("generators", "training the base", 1)
    view.anchors({"uniform": {"a": 3, "b": 5}}, {"a": 4, "b": 8})
    view.training("base", 1, 2, 0.5)
    view.training("base", 2, 2, 0.6)
    view.trained("base")
    view.stage("search", "candidates", 3)
    view.trial(made_up_trial(0, 0.7612))
    view.trial(made_up_trial(1, 0.7, copied_from=0))
    view.trial(made_up_trial(2, None, failure="the loss became [nan]"))
    view.trained("trial 2")
    view.note("a [bold] word")


def test_plain_lines_tell_stages_trials_and_notes_but_no_epochs():
    stream = io.StringIO()
    with PlainLines(stream) as view:
        events(view)
    assert stream.getvalue().splitlines() == [
        "generators: training the base (1 training)",
        "widths of base: 4 8",
        "widths of uniform: 3 5",
        "trained base: validation accuracy 60.00 %",
        "search: candidates (3 trainings)",
        "trial 0 (l1): 99.8 % of the budget, 1.23 M FLOPs, 45.6 k params: 76.12 %, best so far",
        "trial 1 (l1): 99.8 % of the budget, 1.23 M FLOPs, 45.6 k params: 70.00 % (same as 0)",
        "trial 2 (l1): 99.8 % of the budget, 1.23 M FLOPs, 45.6 k params: failed: the loss became [nan]",
        "note: a [bold] word",
    ]


def test_plain_lines_give_a_sign_of_life_after_half_a_minute():
    stream, clock = io.StringIO(), FakeClock()
    with PlainLines(stream, clock) as view:
        view.stage("data", "folder:pictures", 0)
        view.decoding(256, 60_000)
        clock.now += 30
        view.decoding(512, 60_000)
        view.decoding(60_000, 60_000)
        view.stage("scratch-e", "1 architecture", 1)
        view.work(0, 9000)
        clock.now += 20
        view.training("scratch-e, seed 1", 1, 3, 0.5, 2.3456, 1234.5)
        view.work(3000, 9000)
        clock.now += 10
        view.training("scratch-e, seed 1", 1.5, 3, None, None, 1200.0)
        view.training("scratch-e, seed 1", 1.6, 3, None, None, 1200.0)
        view.trained("scratch-e, seed 1")
    assert stream.getvalue().splitlines() == [
        "data: folder:pictures",
        "decoded 512 of 60,000 images",
        "decoded 60,000 of 60,000 images",
        "scratch-e: 1 architecture (1 training)",
        "scratch-e, seed 1: epoch 1/3, 1,200 images/s, loss 2.346, 50.00 %; about 30 s left",
        "trained scratch-e, seed 1: validation accuracy 50.00 %; about 30 s left",
    ]


def test_the_live_view_shows_speed_loss_accuracy_and_what_is_decoded():
    def shown(view):
        stream = io.StringIO()
        Console(file=stream, width=80).print(view._render())
        return stream.getvalue()

    with LiveView(Console(file=io.StringIO(), width=80, force_terminal=True), FakeClock()) as view:
        view.stage("data", "folder:pictures", 0)
        view.decoding(512, 60_000)
        assert "512/60,000 images decoded" in shown(view)
        view.decoding(60_000, 60_000)
        assert "decoded" not in shown(view)
        view.training("search #23, seed 1", 1, 12, 0.5, 2.3456, 12345.6)
        view.training("search #23, seed 1", 1.5, 12, None, None, 12001.0)
        (running,) = [line for line in shown(view).splitlines() if "epoch" in line]
    assert running.rstrip().endswith("epoch 1/12  12,001 images/s  loss 2.346  50.00 %")
    assert len(running) <= 80


def test_the_live_view_shows_the_last_trials_the_best_and_what_runs():
    clock = FakeClock()
    console = Console(file=io.StringIO(), width=80, height=40, force_terminal=True, color_system=None)
    with LiveView(console, clock) as view:
        events(view)
        for number in range(3, 20):
            view.trial(made_up_trial(number))
        view.work(100, 1000)
        clock.now += 60
        view.work(200, 1000)
        view.training("trial 20", 2, 8, 0.5)
        shown = io.StringIO()
        Console(file=shown, width=80).print(view._render())
    lines = [line.rstrip() for line in shown.getvalue().splitlines()]
    assert "best so far: 0 (l1): 99.8 % of the budget, 1.23 M FLOPs, 45.6 k params: 76.12 %" in lines
    assert [int(line.split()[0]) for line in lines if line.endswith("l1    50.00 %")] == list(range(8, 20))
    (progress,) = [line for line in lines if line.startswith("search")]
    assert "1/3 trainings" in progress and "1 min gone" in progress and "8 min left" in progress
    (running,) = [line for line in lines if line.startswith("trial 20")]
    assert "epoch 2/8" in running and "50.00 %" in running
    assert max(map(len, lines)) <= 80
    assert "a [bold] word" in console.file.getvalue()


def test_the_clock_goes_on_while_nothing_is_told():
    shown = io.StringIO()
    with LiveView(Console(file=shown, force_terminal=True)) as view:
        view.work(1, 2)
        before = len(shown.getvalue())
        time.sleep(1.2)
        assert len(shown.getvalue()) > before


def test_the_time_left_is_reckoned_from_what_was_watched():
    clock = FakeClock()
    left = TimeLeft(clock)
    assert left.seconds() is None
    left.update(500, 1000)  # a resumed run: half was done before
    assert left.seconds() is None
    clock.now += 10
    left.update(600, 1000)
    assert left.seconds() == 40
    clock.now += 15
    assert left.seconds() == 25
    clock.now += 100
    assert left.seconds() == 0
    left.begin()  # that took 100 seconds for nothing: the next stage has a pace of its own
    assert left.seconds() is None
    left.update(600, 1000)
    clock.now += 4
    left.update(700, 1000)
    assert left.seconds() == 12


def test_what_is_extrapolated_is_said_and_is_no_best():
    stream = io.StringIO()
    with PlainLines(stream) as view:
        view.trial(made_up_trial(0, 0.7612))
        view.trial(made_up_trial(1, 0.8, stopped_after=3))
        view.trial(made_up_trial(2, 0.77))
    first, second, third = (line.partition("params: ")[2] for line in stream.getvalue().splitlines())
    assert first == "76.12 %, best so far"
    assert second == "about 80.00 %, stopped after epoch 3"
    assert third == "77.00 %, best so far"
