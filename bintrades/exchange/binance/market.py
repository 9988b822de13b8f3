"""What a market of Binance is: its facts, its messages and its backfill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bintrades.model import SeriesKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bintrades.exchange.batch import Batch, Decoded
    from bintrades.exchange.binance.budget import Budget
    from bintrades.exchange.binance.rest import RestClient
    from bintrades.exchange.hosts import Hosts
    from bintrades.exchange.port import History
    from bintrades.model import IdLaw
    from bintrades.util.runtime import Runtime

MILLISECOND, MICROSECOND = "millisecond", "microsecond"
"""In which a stream tells times."""

_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A REST request: its path, its share of the minute's weight, the most rows it answers.

    params are part of every such request. needs_key: it is answered only with an API key.
    """

    path: str
    weight: int
    max_rows: int = 1
    params: tuple[tuple[str, str], ...] = ()
    needs_key: bool = False


@dataclass(frozen=True, slots=True)
class Klines:
    """Where a market's klines are, and what they are called, by their lengths in milliseconds.

    Of those by which bars are checked: the longest first, the shortest last.
    """

    endpoint: Endpoint
    names: Mapping[int, str]
    weights: tuple[tuple[int, int], ...] = ()
    """What a limit of up to so many weighs, the fewest first, where fewer weigh less."""

    def limit(self, rows: int) -> int:
        """Return the limit to ask *rows* klines with: the largest that weighs no more."""
        return next((most for most, _ in self.weights if rows <= most), self.endpoint.max_rows)

    def weight(self, rows: int) -> int:
        """Return what a request for *rows* klines weighs."""
        return next((weight for most, weight in self.weights if rows <= most), self.endpoint.weight)


@dataclass(frozen=True, slots=True)
class Stream:
    """A kind of stream that each symbol of a market has: btcusdt@trade is BTCUSDT's "trade"."""

    name: str
    path: str
    """What comes after the address: there each message is wrapped with the name of its stream."""
    mark: bytes
    """Is once in every message of it and in no other, so that a batch is searched for it."""
    decode: Callable[[Batch], Decoded]
    """Decodes what it brings; never raises for what messages contain."""

    def name_of(self, symbol: str) -> str:
        """Return the name of the stream of *symbol*: 币安人生USDT has 币安人生usdt@trade.

        Only ASCII letters are lowered: lower-casing others could make a name that does not exist.
        """
        return f"{symbol.translate(_ASCII_LOWER)}@{self.name}"


@dataclass(frozen=True, slots=True)
class Market:
    """All that distinguishes one market from another.

    A limit is the exchange's unless it says otherwise.
    """

    name: str
    streams: tuple[Stream, ...]
    """Those that can be collected; the first is the default."""
    time_units: tuple[str, ...]
    """In which its streams tell times, the default first."""
    make_history: Callable[[Market, Stream, RestClient, Budget, int, Runtime], History[Any]]
    """Makes its past trades: the plan of its backfill and the requests that the plan asks for.

    Given itself, the stream that is collected, the REST side and its budget, and the greatest age
    in milliseconds. What it needs of the network is imported when it is called: whoever only reads
    these facts needs none.
    """
    id_law: IdLaw
    stream_url: str
    rest_url: str
    hosts: tuple[Hosts, ...]
    """Which of its hosts belong together."""
    added_paths: tuple[str, ...]
    """What comes after either address, and is no part of it."""
    connection_life: str
    """After how long the exchange cuts a connection, as a duration."""
    exchange_info: Endpoint
    delisted: frozenset[str]
    """Each status of a symbol that will not be traded again. Of others, only TRADING has trades."""
    historical_trades: Endpoint
    aggregate_trades: Endpoint
    recent_trades: Endpoint
    """The newest single trades, without a key."""
    newest_ids: Endpoint
    """Statistics of the last 24 hours of all symbols, which name the newest trade of each."""
    newest_ids_weights: tuple[tuple[int, int], ...]
    """What it costs for up to so many named symbols: number and weight, the fewest first."""
    weight_pool: str
    """Whose requests count together: markets of one pool share its weight."""
    weight_per_minute: int
    """REST weight of one IP address in a UTC minute, unless the exchange says otherwise."""
    max_streams: int = 1_024
    """Streams of one connection."""
    max_subscribe_names: int = 200
    """Names in one SUBSCRIBE. Ours: longer messages have vanished without an answer."""
    max_subscribe_bytes: int = 3_900
    """Length of one SUBSCRIBE in UTF-8. Ours, for the same reason."""
    control_spacing_ms: int = 500
    """Rest between two messages to the server. Ours: leaves room for pongs within 5 a second."""
    max_attempts: int = 300
    """Attempts to connect from one IP address within attempts_window_ms: documented for spot."""
    attempts_window_ms: int = 300_000
    newest_ids_take_one: bool = False
    """Whether a request for newest ids names one symbol or none, and no list of them."""
    has_contracts: bool = False
    """Whether quantities are numbers of contracts, so that a symbol has a contract size."""
    history_ms: int | None = None
    """How far back past trades can be asked for; None: as far as anyone wants them."""
    klines: Klines | None = None
    """Klines over the same trades as the stream has, where there are some."""
    open_rest_url: str | None = None
    """A REST side for places that the exchange does not serve, and its streams."""
    open_stream_url: str | None = None

    @property
    def has_klines(self) -> bool:
        """Whether bars can be checked against klines of its own."""
        return self.klines is not None

    @property
    def historical_trades_need_key(self) -> bool:
        """Whether older single trades are told to those only who send an API key."""
        return self.historical_trades.needs_key

    @property
    def stream_names(self) -> tuple[str, ...]:
        """The names of the streams that can be collected; the first is the default."""
        return tuple(stream.name for stream in self.streams)

    def is_approximate(self, stream: str) -> bool:
        """Whether all bars are that are made of that stream."""
        return SeriesKey("binance", self.name, "", stream, self.id_law).is_approximate

    def stream(self, name: str) -> Stream:
        """Return the stream of that name. Raises KeyError."""
        return {stream.name: stream for stream in self.streams}[name]
