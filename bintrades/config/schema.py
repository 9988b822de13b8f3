"""The options of the configuration file: the only table of them.

What is read, the defaults, the messages, the documentation and etc/bintrades.ini all come from
the fields below. The exchanges are those of the registry, each with a section of its name, and
markets, addresses and limits are the exchange's own: see options_of.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from bintrades.config import types as own
from bintrades.exchange.registry import EXCHANGES
from bintrades.options import types
from bintrades.options.option import Option
from bintrades.util.logs import LogFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from bintrades.exchange.port import MarketFacts
    from bintrades.exchange.shards import Shard
    from bintrades.options.types import OptionType


class Place(NamedTuple):
    """What is collected: an exchange, by the name of its section, and one of its markets."""

    exchange: str
    market: MarketFacts

    @classmethod
    def of(cls, exchange: str, market: str | None = None) -> Place:
        """Return a market by its name in any case; the exchange's first where none is called so."""
        markets = EXCHANGES[exchange].markets
        name = next((name for name in markets if name.lower() == (market or "").lower()), None)
        return cls(exchange, markets[name or next(iter(markets))])

    @property
    def markets(self) -> Iterable[MarketFacts]:
        """All markets of the exchange."""
        return EXCHANGES[self.exchange].markets.values()


DEFAULT_EXCHANGE = next(iter(EXCHANGES))
DEFAULT_PLACE = Place.of(DEFAULT_EXCHANGE)


def _option(
    name: str, default: str, type_: OptionType, meaning: str, *, is_commented_out: bool = False
) -> Any:
    return _field(Option(name, default, meaning, type_, is_commented_out=is_commented_out))


def _option_of(option: Callable[[Place], Option]) -> Any:
    """Return a field whose default or bounds are those of the exchange or the market."""
    return _field(option(DEFAULT_PLACE), option)


def _field(option: Option, of_place: Callable[[Place], Option] | None = None) -> Any:
    return dataclasses.field(
        default_factory=partial(option.type.parse, option.default),
        repr=not option.is_secret,
        metadata={"option": option, "of_place": of_place},
    )


@dataclass(frozen=True)
class ExchangeConfig:
    """The section of an exchange: what is collected from where, and over which connections."""

    market: str = _option_of(
        lambda place: Option(
            "market",
            Place.of(place.exchange).market.name,
            "the market to collect",
            types.choice(*EXCHANGES[place.exchange].markets),
        )
    )
    stream: str = _option_of(
        lambda place: Option(
            "stream",
            place.market.stream_names[0],
            "the stream of each symbol; aggTrade has fewer messages, and on futures not the exact"
            " times and numbers of trades",
            own.offered(
                place.market.name,
                place.market.stream_names,
                (name for other in place.markets for name in other.stream_names),
            ),
        )
    )
    time_unit: str = _option_of(
        lambda place: Option(
            "time_unit",
            place.market.time_units[0],
            "of the times on the streams; those of bars are milliseconds",
            own.offered(
                place.market.name,
                place.market.time_units,
                (unit for other in place.markets for unit in other.time_units),
            ),
        )
    )
    api_key: str = _field(
        Option(
            "api_key",
            "",
            "for older single trades of futures and of Binance.US; a key without any permission"
            " will do",
            own.api_key(),
            is_secret=True,
        )
    )
    stream_url: str = _option_of(
        lambda place: Option(
            "stream_url",
            place.market.stream_url,
            "where the streams are",
            types.url("wss", "ws", added_paths=place.market.added_paths),
        )
    )
    rest_url: str = _option_of(
        lambda place: Option(
            "rest_url",
            place.market.rest_url,
            "where lost trades are asked for",
            types.url("https", "http", added_paths=place.market.added_paths),
        )
    )
    redundancy: int = _option(
        "redundancy", "1", types.whole_number(1, 4), "connections for each group of symbols"
    )
    streams_per_connection: int = _option_of(
        lambda place: Option(
            "streams_per_connection",
            str(min(400, place.market.max_streams)),
            "symbols of one group",
            types.whole_number(1, place.market.max_streams),
        )
    )
    rotate_after_ms: int = _option_of(
        lambda place: Option(
            "rotate_after",
            "23h",
            "age at which a connection is replaced; the exchange cuts it at"
            f" {place.market.connection_life}",
            types.duration("1s", place.market.connection_life),
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
    shared_budget: Path | None = _option(  # noqa: RUF009 - a field
        "shared_budget",
        "",
        types.optional_path(),
        "a file, such as var/bintrades.budget, the same for all processes on this address: they"
        " keep to its limits together",
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
    shard: Shard | None = _option(  # noqa: RUF009 - a field
        "shard",
        "",
        own.shard(),
        "of several collectors that share these symbols, which one this is and how many there are;"
        " nothing: it has all; --shard and the environment variable BINTRADES_SHARD win",
    )
    refresh_ms: int = _option(
        "refresh",
        "5m",
        types.duration("0ms", "1d"),
        "how often the exchange is asked which symbols there are: listings that fit are collected,"
        " what is delisted ends; 0s: only at the start and on SIGHUP, which reads this section"
        " again",
    )

    @property
    def shard_name(self) -> str | None:
        """Which shard this is, such as 2/5; None: it has all symbols."""
        return None if self.shard is None else str(self.shard)


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
    max_age_ms: int = _option_of(
        lambda place: Option(
            "max_age",
            "6h",
            "how far back they are fetched after downtime, on the exchange's clock",
            own.age(place.market.name, place.market.history_ms),
        )
    )
    weight_share: int = _option(
        "weight_share",
        "50",
        types.whole_number(1, 100),
        "percent of the exchange's request weight per minute that may be used for it",
    )


@dataclass(frozen=True)
class ProofConfig:
    """The section [proof]."""

    every_ms: int = _option(
        "every",
        "1m",
        types.duration("10s", "1h"),
        "how often the exchange is asked for the newest trade ids, where bars of quiet symbols wait"
        " for proof that they are complete",
    )


@dataclass(frozen=True)
class AuditConfig:
    """The section [audit]."""

    enabled: bool = _option_of(
        lambda place: Option(
            "enabled",
            "yes" if place.market.has_klines else "no",
            "compare bars with the exchange's own klines, some minutes later, all day",
            types.boolean(),
        )
    )
    weight_share: int = _option(
        "weight_share",
        "5",
        types.whole_number(1, 100),
        "percent of the exchange's request weight per minute that it may use, out of that of"
        " [repair]",
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
class HttpConfig:
    """The section [http]; listen is None where nobody is to ask."""

    listen: types.HostAndPort | None = _option(  # noqa: RUF009 - a field
        "listen",
        "127.0.0.1:8787",
        types.listen_address(),
        "where it may be asked how it is: /healthz, /readyz, /metrics, /status; a port of its own"
        " for each collector; nothing: nowhere",
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
        "format",
        "auto",
        types.choice(*LogFormat),
        "the form of a line; auto: text on a terminal, else json",
    )
    file: Path | None = _option(  # noqa: RUF009 - a field
        "file", "", types.optional_path(), "where lines go; nothing: to stderr"
    )
    rotate_at_bytes: int = _option(
        "rotate_at",
        "50MB",
        types.size("64KB", "100GB"),
        "size at which that file is renamed, with .1 behind its name, and a new one begun; 0:"
        " never, as where logrotate does so",
    )
    keep: int = _option(
        "keep", "10", types.whole_number(0, 1000), "how many renamed files are kept"
    )


SECTIONS: dict[str, type[Any]] = {
    "symbols": SymbolsConfig,
    "bars": BarsConfig,
    "repair": RepairConfig,
    "proof": ProofConfig,
    "audit": AuditConfig,
    "journal": JournalConfig,
    "plugins": PluginsConfig,
    "stores": StoresConfig,
    "http": HttpConfig,
    "logging": LoggingConfig,
}
"""The sections that are ours beside that of the exchange, in the order of the example file."""


def options_of(place: Place) -> dict[str, dict[str, Option]]:
    """Return every option by its section and its name, as it is where *place* is collected."""
    sections: dict[str, type[Any]] = {place.exchange: ExchangeConfig, **SECTIONS}
    return {
        section: {option.name: option for option in _declared(kind, place)}
        for section, kind in sections.items()
    }


def _declared(section: type[Any], place: Place) -> Iterator[Option]:
    for field in dataclasses.fields(section):
        of_place = field.metadata["of_place"]
        yield field.metadata["option"] if of_place is None else of_place(place)


OPTIONS = options_of(DEFAULT_PLACE)
"""Every option as it is for the default market of the default exchange, for documentation."""
