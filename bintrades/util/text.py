"""Foreign text (of the exchange, servers, plugins, files) made safe to show and to keep.

Nothing in it moves a terminal's cursor or begins a line that looks like ours, and no secret of the
configuration is in it.
"""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

HIDDEN = "***"

_SHORTEST_SECRET = 4  # to hide a shorter one would spoil every text
_NO_SECRETS = {"bintrades", "mongodb", "localhost", "127.0.0.1", "true", "false"}
_USER_INFO = re.compile(
    r"""://
    (?: [^\s/?\#"'<>]{0,500}@
      | [^\s:/@"'<>]{1,500}:(?!\d*(?:[/?\#\s"'<>,;)]|$))[^\s"'<>]{0,500}@ )  # a / in it, no port
    """,
    re.VERBOSE,
)
_ANY_USER_INFO = re.compile(
    r"(//)[^\s:/@]*:[^@]*@(?:\S*@)?"  # a password may have spaces and slashes in it
    r"|(//|(?<![\w+.-])[a-z][\w+.-]*:(?!//))\S*@",  # also without the slashes, or a mere user:...@
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"://[^\s:/@]*:(\S+)@")
_ASSIGNED = re.compile(
    r"""((?:password|passwd|pwd|secret|token|api_?key)\s?=\s?)('[^']*'|"[^"]*"|[^\s'",;&)]+)""",
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


def storable(text: str) -> str:
    """Return *text* without secrets, and such that every database can keep it."""
    return redact(text).encode(errors="backslashreplace").decode()


def printable(text: str) -> str:
    """Return *text* with line ends, control and unencodable characters escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def showable(text: str) -> str:
    """Return *text* on one line, printable and without secrets: for tables and logs."""
    return printable(redact(text))


def showable_input(text: str) -> str:
    """Return user input as showable() does, with *** for user and password of an address.

    Even of one that is written wrongly: rather too much is hidden than too little.
    """
    line = " ".join(text.splitlines())
    return showable(_ANY_USER_INFO.sub(lambda match: f"{match[1] or match[2]}{HIDDEN}@", line))


def one_line(text: str, width: int = 80) -> str:
    """Return *text* as a message can show it: one line, printable, no password, not endless."""
    shown = showable_input(" ".join(text.split()))
    return shown if len(shown) <= width else shown[: width - 3] + "..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" with the nearest of *known*, or nothing when none is near."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


def redacted(value: Any) -> Any:
    """Return *value*, as json.loads makes it, with every text in it redacted; not the names."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [redacted(each) for each in value]
    if isinstance(value, dict):
        return {name: redacted(each) for name, each in value.items()}
    return value


def as_json(value: Any, indent: int | None = None) -> str:
    """Return *value* as JSON that a terminal can show: letters as they are, the rest escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    lines = text.split("\n")  # json has escaped every other line end
    return "\n".join(map(_escaped, lines))


def _escaped(line: str) -> str:
    if line.isprintable():
        return line
    # As JSON has it, which escapes everything but DEL by itself when it may.
    return "".join(
        char if char.isprintable() else json.dumps(char)[1:-1].replace("\x7f", r"\u007f")
        for char in line
    )


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
