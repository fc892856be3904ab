"""Passwords in storage URLs: they are used to connect, and never written or shown."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

_USER = r"(://[^:/?\s]*):{}@"
"""The user of a URL, which may hold an @, and all up to the last @: so may a password, and even a space."""
_IN_TEXT, _IN_ARGUMENT = re.compile(_USER.format(r"\S*")), re.compile(_USER.format(".*"), re.DOTALL)
_PARAMETER = re.compile(r"([?&][^=&\s]*password=)[^&\s]*", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """A text with every password in its URLs left out: `postgresql://ann:***@host/studies`."""
    return _PARAMETER.sub(r"\1***", _IN_TEXT.sub(r"\1:***@", text))


def without_password(argument: str) -> str:
    """The same for one argument of a command, whose end is known: a password may hold spaces there."""
    return _PARAMETER.sub(r"\1***", _IN_ARGUMENT.sub(r"\1:***@", argument))


def command_line(arguments: Sequence[str]) -> str:
    """A command as it may be written down."""
    return shlex.join(without_password(argument) for argument in arguments)
