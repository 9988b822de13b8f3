"""The options of the configuration file: the only table of them.

What is read, the defaults, the messages, the documentation and etc/bintrades.ini all come from
the fields below. Addresses and limits of a market are the exchange's own: see options_of.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bintrades.config import types as own
from bintrades.exchange.registry import EXCHANGES
from bintrades.options import types
from bintrades.options.option import Option
from bintrades.util.logs import LogFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bintrades.exchange.port import MarketFacts
    from bintrades.options.types import OptionType

BINANCE = EXCHANGES["binance"].markets
"""The markets that [binance] market may name."""

DEFAULT_MARKET = BINANCE["spot"]


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
        "include", "BTCUSDT, ETHUSDT", own.symbols(required=True), "the symbols to collect"
    )
    exclude: tuple[str, ...] = _option(
        "exclude", "", own.symbols(required=False), "symbols to leave out of those"
    )


@dataclass(frozen=True)
class BarsConfig:
    """The section [bars]."""

    interval_ms: int = _option("interval", "10s", own.interval(), "the length of a bar")
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
        "enabled", "mongodb", own.store_names(), "where bars go, besides the journal"
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
    format: LogFormat = _option(  # noqa: RUF009 - a field
        "format", "json", types.choice(*LogFormat), "the form of a line"
    )
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
