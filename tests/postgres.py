"""A real PostgreSQL for tests: a server of its own on loopback, in a temporary folder, gone with the tests."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PASSWORD = "open sesame"
"""Of the server's user, as it must not be found in any file or output; %20 in URLs."""


def missing() -> str | None:
    """Why there is no PostgreSQL here; None where there is."""
    if binaries() is None:
        return "no PostgreSQL server is installed (Debian: apt-get install postgresql)"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed (pip install 'pruneas[postgresql]')"
    return None


def binaries() -> Path | None:
    """The folder of the server's programs: Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


class Server:
    """A server in a folder of its own. PostgreSQL refuses to be run by root: `nobody` runs it then."""

    def __init__(self) -> None:
        # Not among pytest's folders: those are the user's alone, and nobody could not enter them.
        folder = Path(tempfile.mkdtemp(prefix="pruneas-postgres-"))
        self._folder, self._programs = folder / "data", binaries()
        self._user = "nobody" if os.getuid() == 0 else getpass.getuser()
        if os.getuid() == 0:
            os.chown(folder, pwd.getpwnam(self._user).pw_uid, -1)
        secret = folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._do(
            "initdb", "-D", self._folder, "-U", "tester", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync",
            "-E", "UTF8",
        )  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self._num_databases = 0

    def _do(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [self._programs / program, *map(str, arguments)], check=True, capture_output=True, user=self._who(),
            cwd=self._folder.parent,
        )  # fmt: skip

    def _who(self) -> str | None:
        return self._user if os.getuid() == 0 else None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = self._launched()
        for _ in range(600):
            if self._process.poll() is not None:  # processes of one that was killed hold its memory yet
                self._process = self._launched()
            ready = subprocess.run(
                [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
            )
            if ready.returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError((self._folder.parent / "log").read_text())

    def _launched(self) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
        }
        options = [text for key, value in settings.items() for text in ("-c", f"{key}={value}")]
        log = open(self._folder.parent / "log", "ab")
        with log:
            return subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder, *options],
                user=self._who(),
                cwd=self._folder.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End it and leave nothing behind."""
        self.kill(signal.SIGQUIT)
        shutil.rmtree(self._folder.parent, ignore_errors=True)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it at once; `start` begins it again. Its other processes end when they see that the first is gone."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://tester:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """The URL of a new, empty database."""
        import psycopg

        self._num_databases += 1
        name = f"test{self._num_databases}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)
