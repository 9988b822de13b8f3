"""What the text of an option may be: how it becomes a value, and how to say what is allowed."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bintrades.util.durations import UNITS_MS, format_duration, parse_duration
from bintrades.util.text import did_you_mean, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SEPARATORS = re.compile(r"[\s,]+")
_STORE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_BOOLEANS = {"yes": True, "true": True, "on": True, "1": True} | {
    "no": False,
    "false": False,
    "off": False,
    "0": False,
}
_DAY_MS = UNITS_MS["d"]
_ASCII_UPPER = {lower: lower - 32 for lower in range(ord("a"), ord("z") + 1)}


@dataclass(frozen=True, slots=True)
class OptionType:
    """A kind of option; parse returns the value or raises ValueError with what is wrong.

    For a list that may be BadWordsError.
    """

    parse: Callable[[str], Any]
    allowed: str


class BadWordsError(ValueError):
    """Some words of a list are wrong, each for a reason of its own; good has the others."""

    def __init__(self, faults: Sequence[str], good: tuple[str, ...]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults
        self.good = good


def choice(*values: str) -> OptionType:
    """One of *values*, in any case."""
    by_lower = {value.lower(): value for value in values}

    def parse(text: str) -> str:
        if text.lower() not in by_lower:
            raise ValueError(f"not one of these{did_you_mean(text, values)}")
        return by_lower[text.lower()]

    return OptionType(parse, ", ".join(values))


def boolean() -> OptionType:
    """Yes or no."""

    def parse(text: str) -> bool:
        if text.lower() not in _BOOLEANS:
            raise ValueError("neither yes nor no")
        return _BOOLEANS[text.lower()]

    return OptionType(parse, "yes or no")


def whole_number(lowest: int, highest: int) -> OptionType:
    """A whole number within bounds, which belong to it."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", text):
            raise ValueError("not a whole number")
        return _within(int(text), lowest, highest, "small", "large")

    return OptionType(parse, f"{lowest} to {highest}")


def duration(lowest: str, highest: str) -> OptionType:
    """A duration within bounds, which belong to it, in milliseconds."""
    lowest_ms, highest_ms = parse_duration(lowest), parse_duration(highest)

    def parse(text: str) -> int:
        return _within(parse_duration(text), lowest_ms, highest_ms, "short", "long")

    return OptionType(parse, f"{lowest} to {highest}")


def interval() -> OptionType:
    """The length of a bar in milliseconds: whole seconds, and a day is whole bars."""

    def parse(text: str) -> int:
        value_ms = _within(parse_duration(text), 1_000, _DAY_MS, "short", "long")
        if value_ms % 1_000 or _DAY_MS % value_ms:
            raise ValueError(f"a day is not a whole number of {format_duration(value_ms)}")
        return value_ms

    return OptionType(parse, "1s to 1d, whole seconds that divide a day")


def url(*schemes: str) -> OptionType:
    """The address of a host, perhaps with a path before the exchange's own; no slash at its end."""
    allowed = " or ".join(f"{scheme}://" for scheme in schemes)

    def parse(text: str) -> str:
        if not text.isprintable() or re.search(r"\s", text):
            raise ValueError("has a space or a control character in it")
        scheme, _, rest = text.partition("://")
        if scheme not in schemes:
            raise ValueError(f"does not begin with {allowed}")
        if re.search(r"[@?#\\]", rest):
            raise ValueError("has a user name, a ? or a # in it")
        if not _has_host_and_port(text):
            raise ValueError("names no host, or a port that cannot be")
        if re.search(r"/(ws|stream|api|api/v3)/*$", rest):
            raise ValueError("ends with a path that is added by itself")
        return text.rstrip("/")

    return OptionType(parse, f"{allowed}, a host, perhaps a :port")


def symbols(*, required: bool) -> OptionType:
    """Symbols and patterns, ASCII letters made upper-case, each once, in their order."""

    def parse(text: str) -> tuple[str, ...]:
        names = _words(text.translate(_ASCII_UPPER))
        if required and not names:
            raise ValueError("names no symbol")
        strange = {name: _strange_character(name) for name in names}
        faults = [
            f"{one_line(name, 40)!r}: {char!r} cannot be in a symbol"
            for name, char in strange.items()
            if char
        ]
        good = tuple(name for name, char in strange.items() if not char)
        if faults:
            raise BadWordsError(faults, good)
        return good

    return OptionType(parse, "symbols or patterns with * and ?, such as BTCUSDT, *USDC")


def store_names() -> OptionType:
    """Names of storage plugins, in any number."""

    def parse(text: str) -> tuple[str, ...]:
        names = _words(text)
        good = tuple(name for name in dict.fromkeys(names) if _STORE_NAME.fullmatch(name))
        faults = [
            f"{one_line(name, 40)!r} is not a plugin's name"
            for name in dict.fromkeys(names)
            if name not in good
        ]
        faults += [f"{name!r} is there more than once" for name in good if names.count(name) > 1]
        if faults:
            raise BadWordsError(faults, good)
        return good

    return OptionType(parse, "names of plugins, such as mongodb, each once, or nothing")


def path() -> OptionType:
    """A file or folder; ~ is the home folder."""

    def parse(text: str) -> Path:
        if not text:
            raise ValueError("names no file or folder")
        if not text.isprintable():
            raise ValueError("has a control character in it")
        try:
            return Path(text).expanduser()
        except RuntimeError as error:
            raise ValueError("the home folder is not known") from error

    return OptionType(parse, "a path, relative to the configuration's folder")


def optional_path() -> OptionType:
    """A path, or nothing."""
    given = path()
    return OptionType(
        lambda text: given.parse(text) if text else None, f"{given.allowed}, or nothing"
    )


def _within(value: int, lowest: int, highest: int, below: str, above: str) -> int:
    if value < lowest:
        raise ValueError(f"too {below}")
    if value > highest:
        raise ValueError(f"too {above}")
    return value


def _has_host_and_port(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:
        return False


def _words(text: str) -> list[str]:
    return [word for word in _SEPARATORS.split(text) if word]


def _strange_character(name: str) -> str:
    """Return the first character of *name* that no symbol and no pattern has, or nothing."""
    return next((char for char in name if not _may_be_in_a_pattern(char)), "")


def _may_be_in_a_pattern(char: str) -> bool:
    if char.isascii():
        return char.isalnum() or char in "-_.*?"
    return unicodedata.category(char)[0] in "LMNS"
