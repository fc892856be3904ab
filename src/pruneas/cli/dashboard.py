"""`pruneas dashboard`: optuna-dashboard on a run's study, while it runs or after."""

import errno
from pathlib import Path
from typing import Annotated

import typer

from pruneas.errors import RunError


def dashboard(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0: any free one.", min=0, max=65535)] = 8080,
) -> None:
    """Show a run's trials in the browser (optuna-dashboard). Ctrl-C ends it."""
    study = run / "study.db"
    if not run.is_dir():
        raise RunError(f"{run}: there is no such folder; give the folder of a run, such as runs/digits-0.5-1a2b3c")
    if not study.is_file():
        raise RunError(f"{run}: holds no study.db; give the folder of a run whose search has begun")
    serve(study, run / "artifacts", host, port)


def serve(study: Path, artifacts: Path, host: str, port: int) -> None:
    """Serve until Ctrl-C. optuna-dashboard's own server answers one request at a time, so this is not it."""
    import socketserver
    import wsgiref.simple_server

    import optuna
    import optuna_dashboard

    class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
        daemon_threads = True

    class Quiet(wsgiref.simple_server.WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{study.resolve()}")
    store = optuna.artifacts.FileSystemArtifactStore(str(artifacts)) if artifacts.is_dir() else None
    app = optuna_dashboard.wsgi(storage, artifact_store=store)
    try:
        server = wsgiref.simple_server.make_server(host, port, app, server_class=Server, handler_class=Quiet)
    except OSError as error:
        hint = "; choose another one with --port, or 0 for any" if error.errno == errno.EADDRINUSE else ""
        raise RunError(f"cannot listen on {host}, port {port}: {error.strerror or error}{hint}") from error
    with server:
        typer.echo(f"http://{host}:{server.server_port}/dashboard   (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended", err=True)
