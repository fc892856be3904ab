import warnings

import optuna
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.exc import OperationalError

from pruneas.errors import RunError
from pruneas.passwords import command_line, without_passwords
from pruneas.search.storage import address, connect, patiently, shown
from pruneas.search.study import open_study


def test_urls_are_read_and_shown_without_passwords(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    secret = address("postgresql://ann:s%40cret@host:5433/studies?password=secret&sslpassword=secret&sslmode=require")
    assert secret.drivername == "postgresql+psycopg"
    assert shown(secret) == "postgresql://ann@host:5433/studies?sslmode=require"
    assert shown(address("postgres://host/studies")) == "postgresql://host/studies"
    assert shown(address("sqlite:///a.db")) == shown(address(tmp_path / "a.db")) == f"sqlite:///{tmp_path / 'a.db'}"


@pytest.mark.parametrize(
    "text", ["mysql://ann:secret@host/x", "sqlite://", "sqlite:///:memory:", "x", "://ann:secret@"]
)
def test_storages_of_other_kinds_are_refused(text):
    with pytest.raises(RunError, match="must be postgresql://USER@HOST/DATABASE, or sqlite:///PATH") as told:
        address(text)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://ann:secret@host/x", "postgresql://ann:***@host/x"),
        ("--storage=postgresql://ann:s@cret@host/x y", "--storage=postgresql://ann:***@host/x y"),
        ("postgresql://ann:se/cr:et@host/x", "postgresql://ann:***@host/x"),
        ("postgresql://host/x?user=ann&password=secret&a=b", "postgresql://host/x?user=ann&password=***&a=b"),
        ("postgresql://host/x?sslpassword=secret&a=b", "postgresql://host/x?sslpassword=***&a=b"),
        ("postgresql://ann@server:secret@host/x", "postgresql://ann@server:***@host/x"),
        ("postgresql://ann@host:5432/x", "postgresql://ann@host:5432/x"),
        ("an address, ann@host, and http://host:80/x", "an address, ann@host, and http://host:80/x"),
    ],
)
def test_texts_lose_their_passwords(text, expected):
    assert without_passwords(text) == expected


def test_a_command_loses_passwords_with_spaces_in_them():
    command = ["pruneas", "search", "--storage", "postgresql://ann:my secret@host/x", "--network", "a b"]
    assert command_line(command) == "pruneas search --storage 'postgresql://ann:***@host/x' --network 'a b'"


def test_a_database_that_is_opened_again_is_the_same(storage):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = connect(address(storage))
        open_study(first)
        again = connect(address(storage), create=False)
        assert optuna.get_all_study_names(again) == ["pruneas"]
    for opened in (first, again):
        opened.engine.dispose()


def test_a_database_without_studies_is_told_and_left_empty(storage):
    with pytest.raises(RunError, match="holds no study; "):
        connect(address(storage), create=False)
    engine = sqlalchemy.create_engine(address(storage))
    assert sqlalchemy.inspect(engine).get_table_names() == []
    engine.dispose()


def test_a_server_that_does_not_answer_or_refuses_is_told_without_the_password(postgres_server):
    url = postgres_server.database()
    for wrong, reason in (
        (url.replace(str(postgres_server.port), "1"), "Connection refused|connection failed"),
        (url.replace("open%20sesame", "secret"), "password authentication failed"),
        (url + "x", 'database "test[0-9]+x" does not exist'),
    ):
        with pytest.raises(RunError, match=f"cannot be opened: .*({reason})") as told:
            connect(address(wrong))
        assert "sesame" not in str(told.value) and "secret" not in str(told.value)


def older(storage):
    """As if its tables had been made by an Optuna of long ago."""
    found = connect(address(storage))
    open_study(found)
    with found.engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = 'v2.4.0.a'"))
        connection.execute(sqlalchemy.text("UPDATE version_info SET library_version = '2.4.0'"))
    found.engine.dispose()


def test_tables_of_another_optuna_are_told_with_the_way_to_upgrade(storage):
    older(storage)
    with pytest.raises(
        RunError, match=r"by another version of Optuna than the .* `optuna storage upgrade --storage \S+`"
    ) as told:
        connect(address(storage))
    assert ("or delete it: the study is made anew" in str(told.value)) == storage.startswith("sqlite")
    assert "sesame" not in str(told.value)


# A database that goes away ------------------------------------------------------------------------------------------


class Flaky:
    """Fails so often, then answers."""

    def __init__(self, failures, error):
        self.failures, self.error, self.pauses, self.told, self.now = failures, error, [], [], 0.0

    def __call__(self):
        self.now += 1
        if self.failures:
            self.failures -= 1
            raise self.error
        return "answer"

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def ask(self, **more):
        return patiently(self, self.told.append, sleep=self.sleep, clock=lambda: self.now, **more)


CLOSED = "server closed the connection unexpectedly"


def away(text=CLOSED):
    error = optuna.exceptions.StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = OperationalError("SELECT", {}, psycopg.OperationalError(text))
    return error


def test_a_database_that_is_away_is_waited_for_with_growing_pauses():
    flaky = Flaky(6, away())
    assert flaky.ask() == "answer"
    assert flaky.pauses == [0.5, 1, 2, 4, 8, 15]
    assert flaky.told == [
        f"the storage does not answer ({CLOSED}); waiting for it, nothing that was finished is lost",
        "the storage answers again, after 36 s",
    ]


def test_patience_ends():
    flaky = Flaky(10**6, away())
    with pytest.raises(RunError, match=r"has not answered for \d+ s \(server closed .* Give the same command again"):
        flaky.ask(patience=100)
    assert 100 < flaky.now < 140


def test_what_is_no_absence_is_not_waited_for():
    import sqlite3

    for error in (
        OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full")),
        sqlalchemy.exc.IntegrityError("INSERT", {}, psycopg.errors.UniqueViolation()),
        optuna.exceptions.StorageInternalError("of another kind"),
    ):
        flaky = Flaky(1, error)
        with pytest.raises(type(error)):
            flaky.ask()
        assert flaky.told == []
