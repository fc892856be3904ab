"""The database that studies live in: SQLite on one machine, PostgreSQL for any number of machines.

Its tables are made by whoever begins a search; several may do so at the same moment. A database that goes away while
trials are trained is waited for.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from pruneas.errors import RunError
from pruneas.passwords import without_password, without_passwords

T = TypeVar("T")

PATIENCE = 900.0
"""Seconds for which a database that does not answer is waited for."""
LONGEST_PAUSE = 15.0
NETWORK = {"connect_timeout": 10, "keepalives_idle": 20, "keepalives_interval": 5, "keepalives_count": 4}
"""Seconds, and tries, after which a server that says nothing is taken for one that is away: else that takes hours."""
ATTEMPTS = 8
"""To make tables in a file in which others make them at the same moment."""


def address(storage: str | Path) -> sqlalchemy.URL:
    """The URL of a database: `postgresql://user@host/name`, `sqlite:///path`, or the path of a SQLite file.

    Raises RunError for anything else. SQLite paths are made absolute.
    """
    if isinstance(storage, Path):
        return sqlalchemy.URL.create("sqlite", database=str(storage.resolve()))
    try:
        url = sqlalchemy.make_url(storage)
        kind = url.get_backend_name()
    except (SQLAlchemyError, ValueError):
        kind = ""
    if kind in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if kind == "sqlite" and url.database not in (None, "", ":memory:"):
        return address(Path(str(url.database)))
    raise RunError(
        f"storage {without_password(str(storage))!r}: must be postgresql://USER@HOST/DATABASE, or sqlite:///PATH on "
        "one machine"
    )


def shown(url: sqlalchemy.URL) -> str:
    """The URL as it may be written down and shown: without its password, and without the name of the driver."""
    return _without_password(url).set(drivername=url.get_backend_name()).render_as_string()


def _without_password(url: sqlalchemy.URL) -> sqlalchemy.URL:
    query = {key: value for key, value in url.query.items() if "password" not in key.lower()}
    return url.set(query=query)._replace(password=None)


def connect(url: sqlalchemy.URL, *, create: bool = True) -> RDBStorage:
    """The database as Optuna's storage. With `create`, its tables are made where they are missing.

    SQLite: write-ahead logging with a long timeout, so that many read while one writes. Raises RunError for a file that
    is no study, a server that does not answer, a study of another version of Optuna; where `create` is False, also for
    a database without studies.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    is_file = url.get_backend_name() == "sqlite"
    settings: dict[str, Any] = {"connect_args": {"timeout": 120}}
    if not is_file:
        settings = {"connect_args": NETWORK, "pool_pre_ping": True}
    if not create and not _has_tables(url):
        where = url.database if is_file else f"storage {shown(url)}"
        raise RunError(f"{where}: holds no study; give the folder or the storage of a search that has begun")
    for attempt in range(ATTEMPTS):
        try:
            with _alone(url) if create and not is_file else contextlib.nullcontext():
                storage = RDBStorage(
                    url.render_as_string(hide_password=False),
                    engine_kwargs=settings,
                    skip_compatibility_check=True,
                    skip_table_creation=not create,
                )
            break
        except Exception as error:
            if attempt + 1 < ATTEMPTS and create and is_file and _was_made_meanwhile(error):
                time.sleep(random.uniform(0.05, 0.5))  # a clock's, not the search's: nothing depends on it
                continue
            if (told := _refused(url, error)) is not None:
                raise told from error
            raise
    if storage.get_current_version() != storage.get_head_version():
        storage.engine.dispose()
        raise RunError(_of_another_version(url))
    if is_file:

        @sqlalchemy.event.listens_for(storage.engine, "connect")
        def _(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        storage.engine.dispose()  # the next connection has the pragmas
    return storage


def patiently(
    step: Callable[[], T],
    told: Callable[[str], None],
    *,
    patience: float = PATIENCE,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """What `step` returns. As long as the database is away, it is done again, with growing pauses; `told` hears of it.

    A step must be one that can be done again after it was cut off anywhere. Raises RunError when patience ends.
    """
    began: float | None = None
    pause = 0.5
    while True:
        try:
            value = step()
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if (reason := _away(error)) is None:
                raise
            if began is None:
                began = clock()
                told(f"the storage does not answer ({reason}); waiting for it, nothing that was finished is lost")
            elif clock() - began > patience:
                raise RunError(
                    f"the storage has not answered for {clock() - began:.0f} s ({reason}). Give the same command again "
                    "when it does; finished trials are kept"
                ) from error
            sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            if began is not None:
                told(f"the storage answers again, after {clock() - began:.0f} s")
            return value


@contextlib.contextmanager
def _alone(url: sqlalchemy.URL) -> Iterator[None]:
    """Making tables while nobody else does: PostgreSQL has locks that go with the connection."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=NETWORK)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(hashtext('pruneas tables'))"))
        yield


def _was_made_meanwhile(error: BaseException) -> bool:
    texts = [str(cause).lower() for cause in _chain(error)]
    return any(word in text for text in texts for word in ("already exists", "unique", "duplicate key"))


def _has_tables(url: sqlalchemy.URL) -> bool:
    """Whether studies were ever kept in a database. Raises RunError where it cannot be opened."""
    is_file = url.get_backend_name() == "sqlite"
    if is_file and not Path(str(url.database)).is_file():
        return False  # to look would make it
    try:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args={} if is_file else NETWORK)
        return sqlalchemy.inspect(engine).has_table("studies")
    except Exception as error:
        if (told := _refused(url, error)) is not None:
            raise told from error
        raise


def _of_another_version(url: sqlalchemy.URL) -> str:
    is_file = url.get_backend_name() == "sqlite"
    place = f"{url.database}: was made" if is_file else f"storage {shown(url)}: its tables were made"
    rebuilt = ", or delete it: the study is made anew from trials/, and nothing is trained twice" if is_file else ""
    return (
        f"{place} by another version of Optuna than the {optuna.__version__} here. Bring it up to date with `optuna "
        f"storage upgrade --storage {_without_password(url).render_as_string()}`{rebuilt}"
    )


def _refused(url: sqlalchemy.URL, error: Exception) -> RunError | None:
    """What is told of a database that cannot be opened; None where the error is not about it (a full disk)."""
    reason = without_passwords(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
    is_file = url.get_backend_name() == "sqlite"
    if isinstance(error, ImportError):
        return RunError(f"storage {shown(url)}: PostgreSQL needs psycopg; pip install 'pruneas[postgresql]'")
    if not is_file and isinstance(error, DBAPIError | optuna.exceptions.StorageInternalError):
        return RunError(f"storage {shown(url)}: cannot be opened: {_away(error) or reason}")
    if isinstance(error, OperationalError):
        return None  # a full disk, a file that may not be written: nothing is wrong with the study
    if isinstance(error, SQLAlchemyError | RuntimeError):
        return RunError(
            f"{url.database}: cannot be read as an Optuna study ({reason}); delete it and give the command again: the "
            "study is made anew from trials/, and nothing is trained twice"
        )
    return None


def _away(error: BaseException) -> str | None:
    """Why the database does not answer; None if that is not what is wrong.

    For a file that is another process's lock; a full disk is not waited for, as nobody may ever make room.
    """
    for cause in _chain(error):
        if isinstance(cause, DBAPIError):
            text = without_passwords(str(cause.orig).strip())
            if isinstance(cause, OperationalError | InterfaceError) or cause.connection_invalidated:
                module = type(cause.orig).__module__
                if not module.startswith("sqlite3") or "locked" in text:
                    return text.splitlines()[0] if text else type(cause.orig).__name__
    return None


def _chain(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
