"""Notes of several studies; what a note says is in tests/cli/test_dashboard.py."""

import optuna
import pytest

from pruneas.run.place import place_of
from pruneas.search.notes import NOTED, write_notes
from pruneas.search.records import PLAN
from pruneas.search.storage import connect


def test_a_study_with_an_odd_plan_keeps_no_other_from_its_notes(finished, tmp_path):
    storage = connect(place_of(str(finished.copied(tmp_path).folder))[0])
    optuna.copy_study(from_study_name="pruneas", from_storage=storage, to_storage=storage, to_study_name="another")
    optuna.load_study(study_name="pruneas", storage=storage).set_user_attr(PLAN, {"base": {}})
    with pytest.raises(KeyError, match=r"epochs|widths|flops"):  # which the dashboard tells
        write_notes(storage)
    noted = {}
    for name in ("pruneas", "another"):
        study = optuna.load_study(study_name=name, storage=storage)
        known = storage.get_study_system_attrs(study._study_id)
        noted[name] = [NOTED.format(trial._trial_id) in known for trial in study.get_trials()]
    storage.engine.dispose()
    assert not any(noted["pruneas"]) and all(noted["another"]) and noted["another"]
