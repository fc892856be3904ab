"""`pruneas dashboard`: optuna-dashboard on a run's study, while it runs or after."""

import contextlib
import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pruneas.errors import PruneasError, RunError
from pruneas.passwords import without_passwords

if TYPE_CHECKING:
    import wsgiref.simple_server

    import sqlalchemy

SECONDS_BETWEEN_NOTES = 3.0


def dashboard(
    target: Annotated[
        str, typer.Argument(metavar="RUN|URL", help="The run's folder, or the URL of its storage.", show_default=False)
    ],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0: any free one.", min=0, max=65535)] = 8080,
) -> None:
    """Show trials in the browser (optuna-dashboard), each with its widths in a note. Ctrl-C ends it.

    Of a finished run's folder, the study has a note with the verdict and the figures of the report.
    """
    from pruneas.run.place import place_of

    url, _ = place_of(target)
    artifacts = Path(target) / "artifacts"
    if "://" not in target:
        _note_study(Path(target))
    with served(url, artifacts if "://" not in target else None, host, port) as server:
        typer.echo(f"http://{host}:{server.server_port}/dashboard   (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended", err=True)


def _note_study(run: Path) -> None:
    """A finished run's verdict and figures on the study's page; without them the dashboard is of use, too."""
    from pruneas.run.report import note_study

    try:
        note_study(run)
    except PruneasError as error:
        typer.echo(f"pruneas: the study has no note: {error}", err=True)


@contextlib.contextmanager
def served(
    url: "sqlalchemy.URL", artifacts: Path | None, host: str, port: int
) -> Iterator["wsgiref.simple_server.WSGIServer"]:
    """A server on that port. optuna-dashboard's own answers one request at a time, so this is not it."""
    import socketserver
    import wsgiref.simple_server

    import optuna
    import optuna_dashboard

    from pruneas.search.notes import write_notes
    from pruneas.search.storage import connect

    class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
        daemon_threads = True

    class Quiet(wsgiref.simple_server.WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    storage = connect(url, create=False)
    store = None
    if artifacts is not None and artifacts.is_dir():
        store = optuna.artifacts.FileSystemArtifactStore(str(artifacts))
    app: Callable[..., Any] = optuna_dashboard.wsgi(storage, artifact_store=store)
    try:
        server = wsgiref.simple_server.make_server(host, port, app, server_class=Server, handler_class=Quiet)
    except OSError as error:
        hint = "; choose another one with --port, or 0 for any" if error.errno == errno.EADDRINUSE else ""
        raise RunError(f"cannot listen on {host}, port {port}: {error.strerror or error}{hint}") from error
    ended = threading.Event()

    def keep_notes() -> None:
        told = ""
        while True:
            try:
                write_notes(storage)
            except Exception as error:  # a study deleted this moment, a storage away: it is looked at again
                if (text := without_passwords(str(error).splitlines()[0] if str(error) else repr(error))) != told:
                    typer.echo(f"pruneas: notes of trials have to wait: {text}", err=True)
                told = text
            if ended.wait(SECONDS_BETWEEN_NOTES):
                return

    thread = threading.Thread(target=keep_notes, daemon=True)
    with server:
        thread.start()
        try:
            yield server
        finally:
            ended.set()
            thread.join()
            storage.engine.dispose()
