import errno
import os

import pytest

from pruneas.config import Space
from pruneas.errors import RunError
from pruneas.run import folder as folder_module
from pruneas.run.folder import check, default_folder, held, is_answered, located, prepare, read_json, settings
from tests.tiny import space_file


@pytest.fixture
def space(tmp_path):
    return Space.load(space_file(tmp_path))


def changed(tmp_path, **overrides):
    return Space.load(tmp_path / "tiny.toml", {key.replace("__", "."): value for key, value in overrides.items()})


def test_equal_settings_have_one_folder_however_they_are_written(tmp_path, space):
    assert default_folder(space).name.startswith("tiny-0.5-")
    assert default_folder(changed(tmp_path, budget=0.5)) == default_folder(space)
    assert default_folder(changed(tmp_path, budget="0.50")) == default_folder(space)
    assert default_folder(changed(tmp_path, search__trials=7)) == default_folder(space)
    assert default_folder(changed(tmp_path, compute__seed=1)) != default_folder(space)
    assert default_folder(changed(tmp_path, budget="0.5000001")) != default_folder(space)


def test_paths_mean_the_same_from_anywhere(tmp_path, space, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = changed(tmp_path, data__source="folder:images", network__weights="w.pth")
    assert located(relative).data.source == f"folder:{tmp_path / 'images'}"
    assert located(relative).network.weights == str(tmp_path / "w.pth")
    absolute = changed(tmp_path, data__source=f"folder:{tmp_path}/images", network__weights=f"{tmp_path}/w.pth")
    assert settings(relative) == settings(absolute)


def test_a_run_is_made_found_again_and_refused_to_others(tmp_path, space):
    run = tmp_path / "run"
    assert not check(run, space)
    prepare(run, space, fresh=False)
    assert check(run, space)
    assert check(run, changed(tmp_path, search__trials=9))
    with pytest.raises(RunError, match=r"holds a run with other settings \(finalists.seeds: 2 there, 4 now\)"):
        check(run, changed(tmp_path, finalists__seeds=4))


def test_a_run_goes_on_elsewhere_with_other_workers_on_images_that_lie_elsewhere(tmp_path, space):
    here = changed(tmp_path, data__source=f"folder:{tmp_path}/images", compute__workers=2)
    there = changed(tmp_path, data__source="folder:/elsewhere/images", compute__workers=4)
    prepare(tmp_path / "run", here, fresh=False)
    assert check(tmp_path / "run", there)
    assert is_answered(tmp_path / "run", here) and not is_answered(tmp_path / "run", there)  # are they the same images?
    prepare(tmp_path / "run", there, fresh=False)
    assert is_answered(tmp_path / "run", there)
    assert Space.load(tmp_path / "run" / "space.toml").data.source == "folder:/elsewhere/images"


def test_the_default_folder_has_one_name_wherever_it_is_asked_for(tmp_path, space, monkeypatch):
    relative = changed(tmp_path, data__source="folder:images")
    names = set()
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        names |= {
            default_folder(relative),
            default_folder(changed(tmp_path, data__source="folder:images", compute__workers=3)),
        }
    assert len(names) == 1
    assert default_folder(changed(tmp_path, data__source="folder:others")) not in names


def test_extending_is_written_down(tmp_path, space):
    run = tmp_path / "run"
    prepare(run, space, fresh=False)
    prepare(run, changed(tmp_path, search__trials=9), fresh=False)
    assert Space.load(run / "space.toml").search.trials == 9


def test_fresh_deletes_a_run_and_nothing_else(tmp_path, space):
    run = tmp_path / "run"
    prepare(run, space, fresh=False)
    (run / "trials" / "00000.json").write_text("{}")
    prepare(run, changed(tmp_path, finalists__seeds=4), fresh=True)
    assert list((run / "trials").iterdir()) == []
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").write_text("")
    with pytest.raises(RunError, match="found mine; give another --run"):
        prepare(other, space, fresh=True)


def test_fresh_deletes_a_finished_run(finished, tmp_path):
    run = finished.copied(tmp_path)
    space = Space.load(run.folder / "space.toml")
    prepare(run.folder, space, fresh=True)
    assert sorted(path.name for path in run.folder.rglob("*") if path.is_file()) == [".lock", "space.toml"]


def test_fresh_spares_a_folder_that_only_has_a_space_file_and_what_lies_beside_a_run(tmp_path, space):
    """A user's own space.toml, with --run . and --fresh, once cost the project around it."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "space.toml").write_text(space.to_toml())
    (project / "thesis.txt").write_text("years")
    with pytest.raises(RunError, match=r"must be a run's folder or an empty one, found space\.toml, thesis\.txt"):
        prepare(project, space, fresh=True)
    run = tmp_path / "run"
    prepare(run, space, fresh=False)
    (run / "thesis.txt").write_text("years")
    with pytest.raises(RunError, match=r"must hold nothing but the run to be deleted, found thesis\.txt"):
        prepare(run, space, fresh=True)
    assert (project / "thesis.txt").exists() and (run / "thesis.txt").exists()


def test_a_folder_that_was_being_made_is_ours(tmp_path, space):
    run = tmp_path / "run"
    (run / "trials").mkdir(parents=True)
    (run / ".space.toml.123.tmp").write_text("half")
    assert not check(run, space)


def test_one_at_a_time(tmp_path):
    run = tmp_path / "run"
    with held(run):
        with pytest.raises(RunError, match=f"process {os.getpid()} works in this run"), held(run):
            pass
        (run / "something").touch()
    with held(run):
        pass


def test_a_folder_in_which_nothing_was_begun_goes_again(tmp_path):
    with pytest.raises(ZeroDivisionError), held(tmp_path / "runs" / "a"):
        raise ZeroDivisionError
    assert not (tmp_path / "runs").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(ZeroDivisionError), held(tmp_path / "mine"):
        raise ZeroDivisionError
    assert (tmp_path / "mine").exists()


def test_a_read_only_disk_is_told(tmp_path, monkeypatch):
    def refusing(*arguments, **more):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "run")

    monkeypatch.setattr(folder_module.Path, "mkdir", refusing)
    with pytest.raises(RunError, match="run: cannot be written: Read-only file system; give another folder"):
        with held(tmp_path / "run"):
            pass


def test_without_a_lock_of_the_system_it_works_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "fcntl", None)
    with held(tmp_path / "run"), held(tmp_path / "run"):
        pass


def test_a_file_that_is_no_json_is_told(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run\.json: cannot be read"):
        read_json(tmp_path / "run.json")
    with pytest.raises(RunError, match="is missing"):
        read_json(tmp_path / "no.json")
