"""The options of the configuration file: the only table of them.

What is read, the defaults, the messages, the documentation and etc/bintrades.ini all come from
the fields below.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bintrades.exchange.registry import EXCHANGES
from bintrades.options import types as kinds

if TYPE_CHECKING:
    from pathlib import Path

    from bintrades.options.types import OptionType

_BINANCE = EXCHANGES["binance"].markets
_SPOT = _BINANCE["spot"]

_EXAMPLE_HEAD = """\
; The configuration of bintrades: every option, each with its default.
;
; Durations are whole numbers with ms, s, m, h or d, lists have commas, spaces or lines between.
; ${NAME} in a value is the environment variable NAME: a place for passwords. What comes from one
; in the section of a store is shown as *** in the log and everywhere else.
; Relative paths start at the folder of this file, or at its parent when that folder is called etc;
; also in the sections of stores.
"""
_EXAMPLE_STORES = """
; One section for each store, handed to it as it stands here.
[store:mongodb]
; options of the connection (TLS, user, replica set, write concern) go into the uri
uri = mongodb://127.0.0.1:27017
database = bintrades
collection = bars
"""


@dataclass(frozen=True, slots=True)
class Option:
    """An option as it stands in the file: what it means, may be, and is when it is left out.

    One that says more by standing there than its default does is commented out in the example.
    """

    name: str
    default: str
    kind: OptionType
    meaning: str
    is_commented_out: bool = False


def _option(
    name: str, default: str, kind: OptionType, meaning: str, *, is_commented_out: bool = False
) -> Any:
    return dataclasses.field(
        default_factory=partial(kind.parse, default),
        metadata={"option": Option(name, default, kind, meaning, is_commented_out)},
    )


@dataclass(frozen=True)
class BinanceConfig:
    """The section [binance]: what is collected from where, and over which connections."""

    market: str = _option("market", "spot", kinds.choice(*_BINANCE), "the market to collect")
    stream: str = _option("stream", "trade", kinds.choice("trade"), "the stream of each symbol")
    stream_url: str = _option(
        "stream_url", _SPOT.stream_url, kinds.url("wss", "ws"), "where the streams are"
    )
    rest_url: str = _option(
        "rest_url", _SPOT.rest_url, kinds.url("https", "http"), "where lost trades are asked for"
    )
    redundancy: int = _option(
        "redundancy", "1", kinds.whole_number(1, 4), "connections for each group of symbols"
    )
    streams_per_connection: int = _option(
        "streams_per_connection",
        "400",
        kinds.whole_number(1, _SPOT.max_streams),
        "symbols of one group",
    )
    rotate_after_ms: int = _option(
        "rotate_after",
        "23h",
        kinds.duration("1s", "24h"),
        "age at which a connection is replaced; the exchange cuts it at 24h",
    )
    coalesce_ms: int = _option(
        "coalesce",
        "25ms",
        kinds.duration("0ms", "1s"),
        "rest before each read, so that frames gather",
    )
    silence_timeout_ms: int = _option(
        "silence_timeout",
        "30s",
        kinds.duration("100ms", "1h"),
        "a connection without data for so long is replaced",
    )


@dataclass(frozen=True)
class SymbolsConfig:
    """The section [symbols]: names and patterns, ASCII letters upper-case."""

    include: tuple[str, ...] = _option(
        "include", "BTCUSDT, ETHUSDT", kinds.symbols(required=True), "the symbols to collect"
    )
    exclude: tuple[str, ...] = _option(
        "exclude", "", kinds.symbols(required=False), "symbols to leave out of those"
    )


@dataclass(frozen=True)
class BarsConfig:
    """The section [bars]."""

    interval_ms: int = _option("interval", "10s", kinds.interval(), "the length of a bar")
    grace_ms: int = _option(
        "grace",
        "500ms",
        kinds.duration("0ms", "1d"),
        "how long a bar waits for late trades after its end, at most one interval",
    )


@dataclass(frozen=True)
class RepairConfig:
    """The section [repair]."""

    enabled: bool = _option("enabled", "yes", kinds.boolean(), "fetch lost trades over REST")
    max_age_ms: int = _option(
        "max_age",
        "6h",
        kinds.duration("0ms", "365d"),
        "how far back they are fetched after downtime, on the exchange's clock",
    )
    weight_share: int = _option(
        "weight_share",
        "50",
        kinds.whole_number(1, 100),
        "percent of the exchange's request weight per minute that may be used for it",
    )


@dataclass(frozen=True)
class JournalConfig:
    """The section [journal]; the path is absolute once loaded."""

    path: Path = _option(  # noqa: RUF009 - a field
        "path", "var/bintrades.journal", kinds.path(), "the local file that every bar goes to first"
    )
    retention_ms: int = _option(
        "retention",
        "3d",
        kinds.duration("1s", "3650d"),
        "how long a bar that every store has is kept, since it was last written; without a store,"
        " bars leave only where this is set",
        is_commented_out=True,  # whoever only empties [stores] enabled has not asked for it
    )
    checkpoint_every_ms: int = _option(
        "checkpoint_every",
        "1s",
        kinds.duration("10ms", "1m"),
        "how often open bars are saved at most; of more than 10 symbols, one is saved once a bar of"
        " it closed, its gaps changed, 500 trades came or a minute passed",
    )


@dataclass(frozen=True)
class PluginsConfig:
    """The section [plugins]; the path is absolute once loaded."""

    path: Path = _option(  # noqa: RUF009 - a field
        "path", "plugins", kinds.path(), "the folder of drop-in plugins"
    )


@dataclass(frozen=True)
class StoresConfig:
    """The section [stores]."""

    enabled: tuple[str, ...] = _option(
        "enabled", "mongodb", kinds.store_names(), "where bars go, besides the journal"
    )
    shutdown_timeout_ms: int = _option(
        "shutdown_timeout",
        "10s",
        kinds.duration("0ms", "1h"),
        "how long a stop waits for the stores; what is left stays in the journal",
    )


@dataclass(frozen=True)
class LoggingConfig:
    """The section [logging]; file is absolute once loaded, None for stderr."""

    level: str = _option(
        "level",
        "INFO",
        kinds.choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        "the least severe lines to write",
    )
    format: str = _option("format", "json", kinds.choice("json", "text"), "the form of a line")
    file: Path | None = _option(  # noqa: RUF009 - a field
        "file", "", kinds.optional_path(), "where lines go; nothing: to stderr"
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

OPTIONS: dict[str, dict[str, Option]] = {
    section: {
        field.metadata["option"].name: field.metadata["option"]
        for field in dataclasses.fields(kind)
    }
    for section, kind in SECTIONS.items()
}
"""Every option by its section and its name, for reading and for documentation."""


def example_text() -> str:
    """Return a configuration file with every option, what it means and may be, and its default."""
    parts = [_EXAMPLE_HEAD]
    for section, options in OPTIONS.items():
        described = "\n".join(_example_of(option) for option in options.values())
        parts.append(f"\n[{section}]\n{described}")
    return "".join([*parts, _EXAMPLE_STORES])


def _example_of(option: Option) -> str:
    setting = f"{option.name} = {option.default}".rstrip()
    if option.is_commented_out:
        setting = f"; default: {option.default}\n;{setting}"
    return f"; {option.meaning}\n; allowed: {option.kind.allowed}\n{setting}\n"
