"""Types of options: how a text becomes a value, and how to say what is allowed.

A type of your own is an OptionType(parse, allowed); parse raises ValueError for what is wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from bintrades.util.durations import parse_duration
from bintrades.util.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_HIGHEST_PORT = 65_535
_UNITS_BYTES = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
_BOOLEANS = {"yes": True, "true": True, "on": True, "1": True} | {
    "no": False,
    "false": False,
    "off": False,
    "0": False,
}


@dataclass(frozen=True, slots=True)
class OptionType:
    """What an option may be; parse returns the value or raises ValueError with what is wrong.

    Where several things are wrong, that may be a FaultyValueError.
    """

    parse: Callable[[str], Any]
    allowed: str


class FaultyValueError(ValueError):
    """Several things are wrong; of a list, good has the words that are right."""

    def __init__(self, faults: Sequence[str], good: tuple[str, ...] = ()) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults
        self.good = good


def text(*, required: bool = False) -> OptionType:
    """Any text, or any but none."""

    def parse(given: str) -> str:
        if required and not given:
            raise ValueError("is empty")
        return given

    return OptionType(parse, "any text" if required else "any text, or nothing")


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


def optional_duration(lowest: str, highest: str) -> OptionType:
    """A duration within bounds in milliseconds, or nothing, which is None."""
    given = duration(lowest, highest)
    return OptionType(
        lambda text: given.parse(text) if text else None, f"{given.allowed}, or nothing"
    )


def size(lowest: str, highest: str) -> OptionType:
    """A number of bytes within bounds, which belong to it, or 0."""
    lowest_bytes, highest_bytes = _bytes(lowest), _bytes(highest)

    def parse(text: str) -> int:
        value = _bytes(text)
        return value and _within(value, lowest_bytes, highest_bytes, "small", "large")

    return OptionType(parse, f"{lowest} to {highest}, or 0")


def _bytes(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,15})(KB|MB|GB)", text, re.IGNORECASE)
    if found:
        return int(found[1]) * _UNITS_BYTES[found[2].upper()]
    if text.strip("0") or not text:
        raise ValueError("not a whole number with a unit (KB, MB, GB), such as 50MB")
    return 0


def url(*schemes: str, added_paths: Sequence[str] = ()) -> OptionType:
    """The address of a host, perhaps with a path; no slash at its end, and none of *added_paths*.

    These are put after it by whoever uses it.
    """
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
        if rest.rstrip("/").endswith(tuple(f"/{path}" for path in added_paths)):
            raise ValueError("ends with a path that is added by itself")
        return text.rstrip("/")

    return OptionType(parse, f"{allowed}, a host, perhaps a :port")


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


class HostAndPort(NamedTuple):
    """Where a server listens; port 0: at any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as an address has it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen_address() -> OptionType:
    """A host and a port to listen at, or nothing, which is None."""

    def parse(text: str) -> HostAndPort | None:
        if not text:
            return None
        host, _, port = text.rpartition(":")
        if not re.fullmatch(r"\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+", host):
            raise ValueError("does not begin with a host and a colon")
        if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > _HIGHEST_PORT:
            raise ValueError("does not end with a port")
        return HostAndPort(host.strip("[]"), int(port))

    return OptionType(parse, "a host and a port, such as 127.0.0.1:8787 or [::1]:8787, or nothing")


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
