"""What a worker checks before it works; whole workers are in test_workers.py."""

import json
import threading
import time

import optuna
import pytest
import sqlalchemy

import pruneas
from pruneas.errors import ArchitectureError, DataError, RunError
from pruneas.progress import Silent
from pruneas.run import joining
from pruneas.run.joining import work
from pruneas.run.place import place_of, write_places
from pruneas.search.records import PLAN
from pruneas.search.storage import address, connect
from pruneas.search.study import STUDY
from pruneas.search.worker import AHEAD, OVER, Place, announce, withdraw
from tests.tiny import space_file, until


@pytest.fixture
def run(finished, tmp_path):
    return finished.copied(tmp_path).folder


def joined(run, changes, target=None, **more):
    """What a worker makes of the run's plan with changes in it, as if the search went on."""
    storage = connect(place_of(str(run))[0])
    study = optuna.load_study(study_name="pruneas", storage=storage)
    study.set_user_attr(PLAN, {**study.user_attrs[PLAN], **changes})
    study.set_user_attr(OVER, False)
    storage.engine.dispose()
    return work(target or str(run), observer=Silent(), **more)


def test_a_search_that_is_over_is_left_at_once(run):
    assert joined(run, {}) == ["pruneas"]


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"data": "0" * 32}, DataError, r"data 'digits': must be the images that the run was begun with \(0{32}\)"),
        (
            {"limits": {"flops": 1}},
            RunError,
            "is another one here than where the run was begun; install the same versions",
        ),
        ({"structure": "0"}, RunError, "is another one here than where the run was begun"),
        ({"schema": 99}, RunError, "was begun by another version of pruneas"),
        ({"space": "no = 1"}, RunError, "its settings cannot be read"),
    ],
)
def test_a_worker_of_other_images_versions_or_networks_is_told(run, changes, error, text):
    with pytest.raises(error, match=text):
        joined(run, changes)


def test_a_storage_s_network_is_trusted_no_more_than_an_architecture_file_s(run):
    space = (run / "space.toml").read_text().replace('reference = "pruneas:vgg', 'reference = "strangers:vgg')
    space = space.replace("reference = 'pruneas:vgg", "reference = 'strangers:vgg")
    assert "strangers:" in space
    url = f"sqlite:///{run / 'study.db'}"
    with pytest.raises(ArchitectureError, match="--trust strangers"):
        joined(run, {"space": space}, target=url)
    with pytest.raises(Exception, match="strangers") as told:
        joined(run, {"space": space}, target=url, trust=["strangers"])
    assert "--trust" not in str(told.value)  # it is looked for, and is not there


def test_a_worker_needs_none_of_the_packages_that_the_generators_are_of(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    space = (run / "space.toml").read_text()
    assert space.count('methods = ["uniform", ') == 1
    space = space.replace('methods = ["uniform", ', 'methods = ["uniform", "somebody-s", ')
    assert joined(run, {"space": space}) == ["pruneas"]


def test_what_a_sampler_has_pickled_is_read_where_the_user_trusts_it(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    space = (run / "space.toml").read_text()
    assert space.count('sampler = "gp"') == 1
    space = space.replace('sampler = "gp"', 'sampler = "cma"')
    with pytest.raises(RunError, match=r"'cma', keeps its state there as Python's pickle.*: --trust optuna"):
        joined(run, {"space": space})
    assert joined(run, {"space": space}, trust=["optuna"]) == ["pruneas"]


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_of_several_searches_those_that_cannot_be_joined_are_left_to_others(run):
    storage = connect(place_of(str(run))[0])
    optuna.copy_study(
        from_study_name="pruneas", from_storage=storage, to_storage=storage, to_study_name="another"
    )  # the second, by its id
    with storage.engine.begin() as connection:
        columns = "task, owner, ends, result FROM pruneas_leases"
        connection.execute(sqlalchemy.text(f"INSERT INTO pruneas_leases SELECT 'another', {columns}"))
    first, second = (optuna.load_study(study_name=name, storage=storage) for name in ("pruneas", "another"))
    plan = first.user_attrs[PLAN]
    first.set_user_attr(PLAN, plan | {"data": "0" * 32})
    for study in (first, second):
        study.set_user_attr(OVER, False)
    url, observer = f"sqlite:///{run / 'study.db'}", Notes()
    assert work(url, observer=observer) == ["another"]
    [note] = [note for note in observer.notes if "left to others" in note]
    assert "must be the images that the run was begun with" in note
    with pytest.raises(DataError, match="must be the images"):
        work(url, study="pruneas", observer=Silent())
    second.set_user_attr(OVER, False)
    second.set_user_attr(PLAN, {"schema": 99})
    with pytest.raises(DataError, match="must be the images"):
        work(url, observer=Silent())
    storage.engine.dispose()


def test_a_study_that_is_not_there_is_told(run):
    with pytest.raises(RunError, match="holds no search called 'another'"):
        work(f"sqlite:///{run / 'study.db'}", study="another", observer=Silent())


def test_a_run_names_its_storage_without_the_password(run):
    known = json.loads((run / "run.json").read_text())
    known |= {"storage": "postgresql://ann@host/studies", "study": "tiny-0.5-12345678"}
    (run / "run.json").write_text(json.dumps(known))
    url, study = place_of(str(run))
    assert (url.drivername, url.username, url.password, url.database, study) == (
        "postgresql+psycopg", "ann", None, "studies", "tiny-0.5-12345678"
    )  # fmt: skip


class Sweep:
    """A sweep's folder of one budget, whose study is announced; `work()` in a thread."""

    def __init__(self, finished, tmp_path, storage):
        self.folder = tmp_path / "sweep"
        self.folder.mkdir()
        self.run = finished.copied(tmp_path).folder.rename(self.folder / "0.5")
        write_places(self.folder, {"0.5": STUDY}, storage)
        self.place = Place(url=place_of(str(self.run))[0], study=STUDY)
        self.found, self.told = [], []
        announce(self.place, self.run, self.told.append)
        self.thread = threading.Thread(target=lambda: self.found.append(work(str(self.folder), observer=self)))

    def set(self, **attributes):
        storage = connect(self.place.url)
        study = optuna.load_study(study_name=STUDY, storage=storage)
        for name, value in attributes.items():
            study.set_user_attr(name, value)
        storage.engine.dispose()

    def stage(self, name, detail, total):
        self.told.append(detail)

    def __getattr__(self, name):
        return getattr(Silent(), name)


@pytest.fixture
def announced(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(joining, "LOOK_EVERY", 0.05)
    return Sweep(finished, tmp_path, None)


def test_a_worker_waits_for_a_search_that_is_announced_and_joins_it_when_it_begins(announced):
    announced.thread.start()
    until(lambda: announced.told)
    time.sleep(0.5)  # ten more looks
    assert announced.thread.is_alive()
    assert announced.told == ["waits until 0.5 begins"], "once"
    announced.set(**{OVER: False, AHEAD: False})
    announced.thread.join(60)
    assert announced.found == [["0.5"]]


def test_a_worker_ends_when_what_was_announced_is_withdrawn(announced):
    announced.thread.start()
    withdraw(announced.place)
    announced.thread.join(60)
    assert announced.found == [[]]


def test_the_studies_of_a_sweep_in_a_storage_are_known_from_its_folder(tmp_path):
    write_places(tmp_path, {"0.3": "tiny-0.3-1", "0.6": "tiny-0.6-2"}, "postgresql://ann:secret@host/studies")
    assert "secret" not in (tmp_path / "sweep.json").read_text()
    places = joining.places_of(str(tmp_path))
    assert {name: (url.database, study) for name, (url, study) in places.items()} == {
        "0.3": ("studies", "tiny-0.3-1"),
        "0.6": ("studies", "tiny-0.6-2"),
    }


def test_a_storage_that_cannot_be_opened_is_refused_before_anything_is_trained(tmp_path):
    nowhere = "postgresql://ann@127.0.0.1:1/studies"
    with pytest.raises(RunError, match=r"127\.0\.0\.1:1/studies: cannot be opened"):
        pruneas.search(budget="0.5", space=space_file(tmp_path), run=tmp_path / "run", storage=nowhere)
    assert not (tmp_path / "run").exists()
    with pytest.raises(RunError, match=r"127\.0\.0\.1:1/studies: cannot be opened"):
        announce(Place(url=address(nowhere), study="a study"), tmp_path, print)
