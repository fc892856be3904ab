"""The dashboard over HTTP, as a browser asks it."""

import json
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import optuna
import pytest

from pruneas.cli.dashboard import served
from pruneas.run.place import place_of
from pruneas.search.notes import write_notes
from pruneas.search.records import read_trials
from pruneas.search.storage import connect


@contextmanager
def answering(run):
    """Asks the dashboard of a run: a path in, its answer out."""
    url, _ = place_of(str(run))
    with served(url, run / "artifacts", "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()

        def get(path, method="GET"):
            request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}{path}", method=method)
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read().decode()

        try:
            yield get
        finally:
            server.shutdown()
            thread.join()


def until(condition, seconds=60):
    for _ in range(int(seconds * 10)):
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("has not come true")


def test_it_shows_every_trial_with_its_widths_in_a_note(finished, tmp_path):
    run = finished.copied(tmp_path).folder
    (run / "artifacts").mkdir()
    records = read_trials(run)
    with answering(run) as get:
        assert json.loads(get("/api/meta"))["artifact_is_available"]
        (study,) = json.loads(get("/api/studies"))["study_summaries"]

        def noted():
            found = json.loads(get(f"/api/studies/{study['study_id']}"))
            return found if all(trial["note"]["body"] for trial in found["trials"]) else None

        found = until(noted)
        assert get("/dashboard/").startswith("<!DOCTYPE html>")
    assert found["objective_names"] == ["validation accuracy"]
    assert len(found["trials"]) == len(records)
    for trial, record in zip(found["trials"], records, strict=True):
        body = trial["note"]["body"]
        assert f"### Trial {record.number}\n" in body
        assert (
            f"{record.flops:,} FLOPs" in body
            and "of the budget" in body
            and "Arm: from scratch, epochs: 1, seed" in body
        )
        assert ("proposed by the sampler" if record.origin == "search" else f"what {record.origin} gave") in body
        for group, width in record.widths.items():
            assert f"| {group} | {width} | " in body


def test_a_bar_is_as_long_as_its_layer_is_wide(finished, tmp_path):
    run = finished.copied(tmp_path).folder
    storage = connect(place_of(str(run))[0])
    assert write_notes(storage) == len(read_trials(run))
    study = optuna.load_study(study_name="pruneas", storage=storage)
    attributes = storage.get_study_system_attrs(study._study_id)
    body = "".join(value for key, value in sorted(attributes.items()) if key.startswith("dashboard:1:note_str"))
    widths = list(read_trials(run)[0].widths.values())
    rows = [line.split(" | ") for line in body.splitlines() if line.startswith("| features")]
    assert [row[3].count("█") for row in rows] == [round(24 * width / 11) for width in widths]
    assert [row[3].count("█") + row[3].count("░") for row in rows] == [round(24 * base / 11) for base in (5, 7, 11)]
    assert write_notes(storage) == 0  # and what somebody wrote himself stays
    storage.engine.dispose()


def test_deletion_and_odd_states_are_no_errors_of_ours(finished, tmp_path, capsys):
    run = finished.copied(tmp_path).folder
    storage = connect(place_of(str(run))[0])
    optuna.create_study(study_name="somebody's own", storage=storage).ask()
    odd = optuna.load_study(study_name="pruneas", storage=storage)
    odd.ask()  # running for ever, without any attribute
    odd.tell(odd.ask(), state=optuna.trial.TrialState.FAIL)
    odd.enqueue_trial({"x": 1.0})
    with answering(run) as get:
        studies = json.loads(get("/api/studies"))["study_summaries"]
        ids = {each["study_name"]: each["study_id"] for each in studies}
        assert set(ids) == {"pruneas", "somebody's own"}
        states = [trial["state"] for trial in json.loads(get(f"/api/studies/{ids['pruneas']}"))["trials"]]
        assert states[-3:] == ["Running", "Fail", "Waiting"]
        get(f"/api/studies/{ids['pruneas']}", method="DELETE")
        assert [each["study_name"] for each in json.loads(get("/api/studies"))["study_summaries"]] == ["somebody's own"]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"/api/studies/{ids['pruneas']}")
        time.sleep(0.5)
    storage.engine.dispose()
    assert "Traceback" not in capsys.readouterr().err
