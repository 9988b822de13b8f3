"""Secrets of the configuration kept out of what is shown, logged and stored."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

HIDDEN = "***"
"""Stands in the place of a secret."""

_SHORTEST_SECRET = 4  # to hide a shorter one would spoil every text
_NO_SECRETS = {"bintrades", "mongodb", "localhost", "127.0.0.1", "true", "false"}
_USER_INFO = re.compile(
    r"""://
    (?: [^\s/?\#"'<>]{0,500}@
      | [^\s:/@"'<>]{1,500}:(?!\d*(?:[/?\#\s"'<>,;)]|$))[^\s"'<>]{0,500}@ )  # a / in it, no port
    """,
    re.VERBOSE,
)
_PASSWORD = re.compile(r"://[^\s:/@]*:(\S+)@")
_ASSIGNED = re.compile(
    r"""((?:password|passwd|pwd|secret|token|api_?key)\s?=\s?)"""
    r"""(?!\(default\))('[^']*'|"[^"]*"|[^\s'",;&)]+)""",  # an option that is not set
    re.IGNORECASE,
)
_nothing = re.compile(r"(?!)")
_secrets = _nothing
_remembered: set[str] = set()


def remember_secrets(values: Iterable[str]) -> None:
    """Have redact() hide *values* from now on, and no others. Any thread.

    Values that are too short or too common to be hidden everywhere are left out.
    """
    _remembered.clear()
    remember_more_secrets(values)


def remember_more_secrets(values: Iterable[str]) -> None:
    """Have redact() hide *values* as well. Any thread."""
    global _secrets  # a process has one configuration, and one log
    _remembered.update(value for value in values if unquote(value) not in _NO_SECRETS)
    _secrets = _pattern_of(_remembered)


def hide(text: str, values: Iterable[str]) -> str:
    """Return *text* with *** for each of *values*, however it is quoted or encoded there."""
    return _pattern_of(values).sub(HIDDEN, text)


def passwords_of_uris(text: str) -> set[str]:
    """Return the password of each URI in *text*, as it stands there and as it is meant."""
    passwords = _PASSWORD.findall(text)
    return {*passwords, *map(unquote, passwords)}


def redact(text: str) -> str:
    """Return *text* with *** for secrets of the configuration, and for user and password of URIs.

    Also for what follows password= and its like, as in the connection strings of some servers.
    """
    text = _secrets.sub(HIDDEN, text)
    text = _USER_INFO.sub(f"://{HIDDEN}@", text)
    return _ASSIGNED.sub(rf"\1{HIDDEN}", text)


def redacted(value: Any) -> Any:
    """Return *value*, as json.loads makes it, with every text in it redacted; not the names."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [redacted(each) for each in value]
    if isinstance(value, dict):
        return {name: redacted(each) for name, each in value.items()}
    return value


def _pattern_of(values: Iterable[str]) -> re.Pattern[str]:
    """Return what finds each of *values* that is long enough to be hidden."""
    secrets = {
        form
        for value in values
        for meant in (value, unquote(value))  # as a URI has it, servers and libraries decode it
        if len(meant) >= _SHORTEST_SECRET
        for form in _forms(meant)
    }
    longest_first = sorted(secrets, key=lambda secret: (-len(secret), secret))
    return re.compile("|".join(map(_pattern, longest_first))) if secrets else _nothing


def _forms(secret: str) -> Iterable[str]:
    """Yield *secret* as it may stand in a message: as it is, in a repr, in JSON."""
    yield secret
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]


def _pattern(secret: str) -> str:
    """Return what finds *secret*; a number (a port, say) is not found inside of a longer one.

    Also where any of its characters are percent-encoded: each library leaves others as they are.
    """
    pattern = "".join(map(_char_pattern, secret))
    return rf"(?<!\d){pattern}(?!\d)" if secret.isdecimal() else pattern


def _char_pattern(char: str) -> str:
    """Return what finds *char* as it is, or as it may stand in a URI."""
    if char.isascii() and char.isalnum():
        return char
    encoded = quote(char, safe="", errors="replace")
    if encoded == char:  # - . _ and ~, which are never encoded
        return re.escape(char)
    forms = [f"(?i:{encoded})", re.escape(char)]  # a % is the beginning of its %25
    return f"(?:{'|'.join([*forms, re.escape('+')] if char == ' ' else forms)})"
