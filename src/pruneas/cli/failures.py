"""How a command's failures are told: a sentence on stderr and an exit code, a traceback only for mistakes of ours."""

import errno
import functools
import sys
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import typer

from pruneas.errors import PruneasError, SpaceError
from pruneas.passwords import command_line, without_passwords

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED = 130

_SYSTEM = {
    errno.ENOSPC: "the disk is full; make room and give the same command again, it goes on where it was",
    errno.EDQUOT: "the disk quota is used up; make room and give the same command again, it goes on where it was",
    errno.EROFS: "the file system is read-only (--run chooses the run's folder)",
    errno.EACCES: "permission denied (--run chooses the run's folder)",
    errno.EPERM: "not permitted (--run chooses the run's folder)",
}
# SQLite and safetensors give no errno; Optuna wraps the former in errors of its own.
_TEXTS = {
    "database or disk is full": errno.ENOSPC,
    "No space left on device": errno.ENOSPC,
    "readonly database": errno.EROFS,
    "Read-only file system": errno.EROFS,
}


def told(command: Callable[P, R]) -> Callable[P, R]:
    """The command, with its failures told and turned into exit codes."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except PruneasError as error:
            _tell(_text(error))
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            typer.echo("", err=True)
            _tell(f"interrupted, nothing that was finished is lost. To go on:\n  {command_again()}")
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError:
            raise
        except Exception as error:
            text = system_failure(error)
            if text is None:
                raise
            _tell(text)
            raise typer.Exit(1) from error

    return wrapper


def command_again() -> str:
    """The command that was typed, without `--fresh`, which would begin anew instead of going on."""
    return command_line(["pruneas", *(argument for argument in sys.argv[1:] if argument != "--fresh")])


def system_failure(error: BaseException) -> str | None:
    """What the system refused, in words; None if the error, with all that caused it, is not of that kind."""
    for cause in _causes(error):
        code = cause.errno if isinstance(cause, OSError) else None
        if code not in _SYSTEM and not isinstance(cause, OSError):
            code = next((known for text, known in _TEXTS.items() if text in str(cause)), None)
        if code in _SYSTEM:
            name = cause.filename if isinstance(cause, OSError) else None
            return f"{name}: {_SYSTEM[code]}" if name is not None else _SYSTEM[code]
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _text(error: PruneasError) -> str:
    if isinstance(error, SpaceError) and len(error.complaints) > 1:
        return f"{len(error.complaints)} things are wrong:\n{error}"
    return str(error)


def _tell(text: str) -> None:
    lines = without_passwords(text).splitlines() or [""]
    typer.echo(f"pruneas: {lines[0]}", err=True)
    for line in lines[1:]:
        typer.echo(f"  {line}" if not line.startswith("  ") else line, err=True)
