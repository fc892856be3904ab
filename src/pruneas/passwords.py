"""Passwords in storage URLs: they are used to connect, and never written or shown."""

from __future__ import annotations

import re

_USER = re.compile(r"(://[^:/@?\s]*):\S*@")
"""The user of a URL, and all up to the last @: a password may hold one that should have been written as %40."""
_PARAMETER = re.compile(r"([?&]password=)[^&\s]*", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """A text with every password in its URLs left out: `postgresql://ann:***@host/studies`."""
    return _PARAMETER.sub(r"\1***", _USER.sub(r"\1:***@", text))
