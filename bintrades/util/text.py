"""Foreign text (of the exchange, servers, plugins, files) made safe to show and to keep.

Nothing in it moves a terminal's cursor or begins a line that looks like ours, and no secret of the
configuration is in it.
"""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from bintrades.util.redaction import HIDDEN, redact

if TYPE_CHECKING:
    from collections.abc import Iterable

_ANY_USER_INFO = re.compile(
    r"(//)[^\s:/@]*:[^@]*@(?:\S*@)?"  # a password may have spaces and slashes in it
    r"|(//|(?<![\w+.-])[a-z][\w+.-]*:(?!//))\S*@",  # also without the slashes, or a mere user:...@
    re.IGNORECASE,
)


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


def can_be_said(error: BaseException) -> bool:
    """Whether both texts of *error*, which may be made by code of others, can be had."""
    try:
        return bool(str(error) + repr(error))
    except (Exception, SystemExit):
        return False
