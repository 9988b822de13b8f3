"""The options of the configuration file: the only table of them.

What is read, the defaults, the messages, the documentation and etc/bintrades.ini all come from
the fields below. Addresses and limits of a market are the exchange's own: see options_of.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bintrades.exchange.registry import EXCHANGES
from bintrades.options import types
from bintrades.options.option import Option
from bintrades.options.types import BadWordsError, OptionType
from bintrades.util.durations import UNITS_MS, format_duration
from bintrades.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bintrades.exchange.port import MarketFacts

BINANCE = EXCHANGES["binance"].markets
"""The markets that [binance] market may name."""

DEFAULT_MARKET = BINANCE["spot"]

PLUGIN = "plugin"
"""The option of a store's section that is ours: it names the plugin whose object the store is."""

_SEPARATORS = re.compile(r"[\s,]+")
_PLUGIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_DAY_MS = UNITS_MS["d"]
_ASCII_UPPER = {lower: lower - 32 for lower in range(ord("a"), ord("z") + 1)}

_EXAMPLE_HEAD = """\
; The configuration of bintrades: every option, each with its default.
;
; Durations are whole numbers with ms, s, m, h or d, lists have commas, spaces or lines between.
; ${NAME} in a value is the environment variable NAME: a place for passwords. What comes from one
; in the section of a store is shown as *** in the log and everywhere else.
; Relative paths start at the folder of this file, or at its parent when that folder is called etc;
; also in the sections of stores.
"""
_EXAMPLE_STORES = """\
; One section for each store. The store NAME is one of the plugin NAME; with plugin = KIND in its
; section it is one of the plugin KIND, so that a plugin can store into several places.
"""


def _option(
    name: str, default: str, type_: OptionType, meaning: str, *, is_commented_out: bool = False
) -> Any:
    return _field(Option(name, default, meaning, type_, is_commented_out=is_commented_out))


def _option_of_market(option: Callable[[MarketFacts], Option]) -> Any:
    """Return a field whose default or bounds are the market's."""
    return _field(option(DEFAULT_MARKET), option)


def _field(option: Option, of_market: Callable[[MarketFacts], Option] | None = None) -> Any:
    return dataclasses.field(
        default_factory=partial(option.type.parse, option.default),
        metadata={"option": option, "of_market": of_market},
    )


def interval() -> OptionType:
    """The length of a bar in milliseconds: whole seconds, and a day is whole bars."""
    within_a_day = types.duration("1s", "1d")

    def parse(text: str) -> int:
        value_ms = int(within_a_day.parse(text))
        if value_ms % 1_000 or _DAY_MS % value_ms:
            raise ValueError(f"a day is not a whole number of {format_duration(value_ms)}")
        return value_ms

    return OptionType(parse, "1s to 1d, whole seconds that divide a day")


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
            raise BadWordsError(faults, good)
        return good

    return OptionType(parse, "names of plugins, such as mongodb, each once, or nothing")


@dataclass(frozen=True)
class BinanceConfig:
    """The section [binance]: what is collected from where, and over which connections."""

    market: str = _option("market", "spot", types.choice(*BINANCE), "the market to collect")
    stream: str = _option("stream", "trade", types.choice("trade"), "the stream of each symbol")
    stream_url: str = _option_of_market(
        lambda market: Option(
            "stream_url",
            market.stream_url,
            "where the streams are",
            types.url("wss", "ws", added_paths=market.added_paths),
        )
    )
    rest_url: str = _option_of_market(
        lambda market: Option(
            "rest_url",
            market.rest_url,
            "where lost trades are asked for",
            types.url("https", "http", added_paths=market.added_paths),
        )
    )
    redundancy: int = _option(
        "redundancy", "1", types.whole_number(1, 4), "connections for each group of symbols"
    )
    streams_per_connection: int = _option_of_market(
        lambda market: Option(
            "streams_per_connection",
            str(min(400, market.max_streams)),
            "symbols of one group",
            types.whole_number(1, market.max_streams),
        )
    )
    rotate_after_ms: int = _option_of_market(
        lambda market: Option(
            "rotate_after",
            "23h",
            "age at which a connection is replaced; the exchange cuts it at"
            f" {market.connection_life}",
            types.duration("1s", market.connection_life),
        )
    )
    coalesce_ms: int = _option(
        "coalesce",
        "25ms",
        types.duration("0ms", "1s"),
        "rest before each read, so that frames gather",
    )
    silence_timeout_ms: int = _option(
        "silence_timeout",
        "30s",
        types.duration("100ms", "1h"),
        "a connection without data for so long is replaced",
    )


@dataclass(frozen=True)
class SymbolsConfig:
    """The section [symbols]: names and patterns, ASCII letters upper-case."""

    include: tuple[str, ...] = _option(
        "include", "BTCUSDT, ETHUSDT", symbols(required=True), "the symbols to collect"
    )
    exclude: tuple[str, ...] = _option(
        "exclude", "", symbols(required=False), "symbols to leave out of those"
    )


@dataclass(frozen=True)
class BarsConfig:
    """The section [bars]."""

    interval_ms: int = _option("interval", "10s", interval(), "the length of a bar")
    grace_ms: int = _option(
        "grace",
        "500ms",
        types.duration("0ms", "1d"),
        "how long a bar waits for late trades after its end, at most one interval",
    )


@dataclass(frozen=True)
class RepairConfig:
    """The section [repair]."""

    enabled: bool = _option("enabled", "yes", types.boolean(), "fetch lost trades over REST")
    max_age_ms: int = _option(
        "max_age",
        "6h",
        types.duration("0ms", "365d"),
        "how far back they are fetched after downtime, on the exchange's clock",
    )
    weight_share: int = _option(
        "weight_share",
        "50",
        types.whole_number(1, 100),
        "percent of the exchange's request weight per minute that may be used for it",
    )


@dataclass(frozen=True)
class JournalConfig:
    """The section [journal]; the path is absolute once loaded."""

    path: Path = _option(  # noqa: RUF009 - a field
        "path", "var/bintrades.journal", types.path(), "the local file that every bar goes to first"
    )
    retention_ms: int = _option(
        "retention",
        "3d",
        types.duration("1s", "3650d"),
        "how long a bar that every store has is kept, since it was last written; without a store,"
        " bars leave only where this is set",
        is_commented_out=True,  # whoever only empties [stores] enabled has not asked for it
    )
    checkpoint_every_ms: int = _option(
        "checkpoint_every",
        "1s",
        types.duration("10ms", "1m"),
        "how often open bars are saved at most; of more than 10 symbols, one is saved once a bar of"
        " it closed, its gaps changed, 500 trades came or a minute passed",
    )


@dataclass(frozen=True)
class PluginsConfig:
    """The section [plugins]; the path is absolute once loaded."""

    path: Path = _option(  # noqa: RUF009 - a field
        "path", "plugins", types.path(), "the folder of drop-in plugins"
    )


@dataclass(frozen=True)
class StoresConfig:
    """The section [stores]."""

    enabled: tuple[str, ...] = _option(
        "enabled", "mongodb", store_names(), "where bars go, besides the journal"
    )
    shutdown_timeout_ms: int = _option(
        "shutdown_timeout",
        "10s",
        types.duration("0ms", "1h"),
        "how long a stop waits for the stores; what is left stays in the journal",
    )


@dataclass(frozen=True)
class LoggingConfig:
    """The section [logging]; file is absolute once loaded, None for stderr."""

    level: str = _option(
        "level",
        "INFO",
        types.choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        "the least severe lines to write",
    )
    format: str = _option("format", "json", types.choice("json", "text"), "the form of a line")
    file: Path | None = _option(  # noqa: RUF009 - a field
        "file", "", types.optional_path(), "where lines go; nothing: to stderr"
    )


SECTIONS: dict[str, type[Any]] = {
    "binance": BinanceConfig,
    "symbols": SymbolsConfig,
    "bars": BarsConfig,
    "repair": RepairConfig,
    "journal": JournalConfig,
    "plugins": PluginsConfig,
    "stores": StoresConfig,
    "logging": LoggingConfig,
}
"""The sections that are ours, in the order of the example file."""


def options_of(market: MarketFacts) -> dict[str, dict[str, Option]]:
    """Return every option by its section and its name, as it is where *market* is collected."""
    return {
        section: {option.name: option for option in _declared(kind, market)}
        for section, kind in SECTIONS.items()
    }


def _declared(section: type[Any], market: MarketFacts) -> Iterator[Option]:
    for field in dataclasses.fields(section):
        of_market = field.metadata["of_market"]
        yield field.metadata["option"] if of_market is None else of_market(market)


OPTIONS = options_of(DEFAULT_MARKET)
"""Every option as it is for the default market, for documentation."""


def example_text(stores: Mapping[str, Sequence[Option]]) -> str:
    """Return a configuration file with every option, what it means and may be, and its default.

    *stores* has the options that each store to be shown declares, by its name.
    """
    parts = [_EXAMPLE_HEAD]
    parts += [_example_section(section, OPTIONS[section].values()) for section in OPTIONS]
    parts.append(_EXAMPLE_STORES)
    parts += [_example_section(f"store:{name}", stores[name]) for name in stores]
    return "\n".join(parts)


def _example_section(section: str, options: Iterable[Option]) -> str:
    return f"[{section}]\n" + "\n".join(map(_example_of, options))


def _example_of(option: Option) -> str:
    setting = f"{option.name} = {option.default}".rstrip()
    if option.is_commented_out:
        setting = f"; default: {option.default}\n;{setting}"
    return f"; {option.meaning}\n; allowed: {option.type.allowed}\n{setting}\n"


def _words(text: str) -> list[str]:
    return [word for word in _SEPARATORS.split(text) if word]


def _strange_character(name: str) -> str:
    """Return the first character of *name* that no symbol and no pattern has, or nothing."""
    return next((char for char in name if not _may_be_in_a_pattern(char)), "")


def _may_be_in_a_pattern(char: str) -> bool:
    if char.isascii():
        return char.isalnum() or char in "-_.*?"
    return unicodedata.category(char)[0] in "LMNS"
