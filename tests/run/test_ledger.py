import json

import pytest

from pruneas.errors import RunError
from pruneas.progress import Silent
from pruneas.run.ledger import SAVE_EVERY, Ledger


class Watch(Silent):
    def __init__(self):
        self.told = []

    def work(self, done, total):
        self.told.append((done, total))


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_what_is_left_is_reckoned_for_this_session_alone(tmp_path):
    watch = Watch()
    ledger = Ledger(tmp_path / "run.json", {}, {"search": 300, "test": 200}, watch)
    ledger.begin("search", 100)  # two thirds were done before the run was interrupted
    ledger.work(40)
    assert watch.told[-1] == (40, 300)
    ledger.begin("test", 150)  # a training of the search failed: its images are not waited for
    ledger.work(150)
    assert watch.told[-1] == (190, 190)


def test_seconds_add_up_over_sessions_and_are_saved_while_it_goes_on(tmp_path):
    clock = Clock()
    path = tmp_path / "run.json"
    ledger = Ledger(path, {"seed": 3}, {"test": 10}, Watch(), clock)
    ledger.begin("test", 10)
    clock.now += SAVE_EVERY + 1
    ledger.work(1)
    assert json.loads(path.read_text()) == {"seed": 3, "seconds": SAVE_EVERY + 1}
    again = Ledger(path, {"seed": 3}, {}, Watch(), clock)
    clock.now += 2
    assert again.seconds == SAVE_EVERY + 3


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"seconds": "x"}'])
def test_a_file_without_its_seconds_is_told(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=r"run\.json: .*delete it and give the search's command again"):
        Ledger(tmp_path / "run.json", {}, {}, Watch())
