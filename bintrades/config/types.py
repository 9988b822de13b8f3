"""Types of options that only the configuration has: intervals, symbols, names of stores."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from bintrades.exchange.shards import MOST_SHARDS, Shard
from bintrades.options.types import FaultyValueError, OptionType, choice, duration
from bintrades.util.durations import UNITS_MS, format_duration
from bintrades.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SHARD_VARIABLE = "BINTRADES_SHARD"
"""The environment variable that says which shard a process is, and how many there are."""

_SEPARATORS = re.compile(r"[\s,]+")
_PLUGIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_API_KEY = re.compile(r"[A-Za-z0-9_-]{8,256}")
_DAY_MS = UNITS_MS["d"]
_ASCII_UPPER = {lower: lower - 32 for lower in range(ord("a"), ord("z") + 1)}


def interval() -> OptionType:
    """The length of a bar in milliseconds: whole seconds, and a day is whole bars."""
    within_a_day = duration("1s", "1d")

    def parse(text: str) -> int:
        value_ms = int(within_a_day.parse(text))
        if value_ms % 1_000 or _DAY_MS % value_ms:
            raise ValueError(f"a day is not a whole number of {format_duration(value_ms)}")
        return value_ms

    return OptionType(parse, "1s to 1d, whole seconds that divide a day")


def api_key() -> OptionType:
    """A key as the exchange makes them, or nothing."""

    def parse(text: str) -> str:
        key = text.strip()  # a variable that was read from a file may end with a line end
        if key and not _API_KEY.fullmatch(key):
            raise ValueError("is no key: one has 8 letters and digits or more")
        return key

    return OptionType(parse, "a key, such as ${BINANCE_API_KEY}, or nothing")


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
            raise FaultyValueError(faults, good)
        return good

    return OptionType(parse, "symbols or patterns with * and ?, such as BTCUSDT, *USDC")


def shard() -> OptionType:
    """One of several collectors, counted from 1, or None."""

    def parse(text: str) -> Shard | None:
        if not text:
            return None
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if not found:
            raise ValueError("not two numbers with a slash between them")
        number, count = int(found[1]), int(found[2])
        if count > MOST_SHARDS:
            raise ValueError(f"more than {MOST_SHARDS}")
        if not 1 <= number <= count:
            raise ValueError(f"not one of 1/{count} to {count}/{count}")
        return Shard(number, count)

    return OptionType(parse, "a number from 1 on and how many there are, such as 2/5, or nothing")


def offered(market: str, values: Sequence[str], elsewhere: Iterable[str]) -> OptionType:
    """One of what *market* offers; others may offer what is *elsewhere*."""
    one_of = choice(*values)
    others = {value.lower() for value in elsewhere}

    def parse(text: str) -> str:
        if text.lower() in others and text.lower() not in map(str.lower, values):
            raise ValueError(f"the market {market} does not offer it")
        return str(one_of.parse(text))

    return OptionType(parse, one_of.allowed)


def age(market: str, longest_ms: int | None) -> OptionType:
    """How old what *market* is asked for may be; longest_ms: as far back as it tells anything."""
    if longest_ms is None:
        return duration("0ms", "365d")
    longest = format_duration(longest_ms)
    given = duration("0ms", longest)
    return OptionType(given.parse, f"{given.allowed}, for the market {market} tells no more")


def plugin_name() -> OptionType:
    """The name of a storage plugin."""

    def parse(text: str) -> str:
        if not _PLUGIN_NAME.fullmatch(text):
            raise ValueError("is not a plugin's name")
        return text

    return OptionType(parse, "the name of a plugin, such as mongodb")


def store_names() -> OptionType:
    """Names of stores, in any number."""

    def parse(text: str) -> tuple[str, ...]:
        names = _words(text)
        good = tuple(name for name in dict.fromkeys(names) if _PLUGIN_NAME.fullmatch(name))
        faults = [
            f"{one_line(name, 40)!r} is not a plugin's name"
            for name in dict.fromkeys(names)
            if name not in good
        ]
        faults += [f"{name!r} is there more than once" for name in good if names.count(name) > 1]
        if faults:
            raise FaultyValueError(faults, good)
        return good

    return OptionType(parse, "names of plugins, such as mongodb, each once, or nothing")


def _words(text: str) -> list[str]:
    return [word for word in _SEPARATORS.split(text) if word]


def _strange_character(name: str) -> str:
    """Return the first character of *name* that no symbol and no pattern has, or nothing."""
    return next((char for char in name if not _may_be_in_a_pattern(char)), "")


def _may_be_in_a_pattern(char: str) -> bool:
    if char.isascii():
        return char.isalnum() or char in "-_.*?"
    return unicodedata.category(char)[0] in "LMNS"
