"""One tiny search, run once through the command line and looked at by many tests."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import postgres
from tests.tiny import Givens, pruneas, space_file


@dataclass(frozen=True)
class Finished:
    """`folder` is the run's, `cwd` where the command was given; `again(*flags)` gives it again."""

    cwd: Path
    folder: Path
    stdout: str
    stderr: str

    def again(self, *flags, **environment):
        return pruneas("search", "--space", "tiny.toml", "--run", "run", *flags, cwd=self.cwd, **environment)

    def copied(self, where: Path) -> "Finished":
        """The same run in a folder of its own, to be changed or damaged."""
        shutil.copytree(self.cwd, where / "copy")
        return Finished(cwd=where / "copy", folder=where / "copy" / "run", stdout=self.stdout, stderr=self.stderr)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A whole search of about ten seconds. Not to be changed: see `copied`."""
    cwd = tmp_path_factory.mktemp("finished")
    space_file(cwd)
    found = pruneas("search", "--space", "tiny.toml", "--run", "run", "--json", cwd=cwd)
    assert found.returncode == 0, found.stderr
    return Finished(cwd=cwd, folder=cwd / "run", stdout=found.stdout, stderr=found.stderr)


@pytest.fixture(scope="session")
def givens() -> Givens:
    """The tiny network, traced once."""
    return Givens.of()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A PostgreSQL server on loopback."""
    if (reason := postgres.missing()) is not None:
        pytest.skip(reason)
    server = postgres.Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new, empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'storage.db'}"
    return request.getfixturevalue("postgres_server").database()
