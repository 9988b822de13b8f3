"""What a market of Binance is: its facts, its messages and its backfill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bintrades.exchange.batch import Batch, Decoded
    from bintrades.exchange.binance.budget import Budget
    from bintrades.exchange.binance.rest import RestClient
    from bintrades.exchange.port import History
    from bintrades.model import IdLaw
    from bintrades.util.runtime import Runtime

_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A REST request: its path, its share of the minute's weight, the most rows it answers.

    params are part of every such request.
    """

    path: str
    weight: int
    max_rows: int = 1
    params: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Klines:
    """Where a market's klines are, and what they are called, by their lengths in milliseconds.

    Of those by which bars are checked: the longest first, the shortest last.
    """

    endpoint: Endpoint
    names: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Market:
    """All that distinguishes one market from another.

    A limit is the exchange's unless it says otherwise.
    """

    name: str
    stream: str
    """The stream of each symbol that is collected: btcusdt@trade is BTCUSDT's "trade"."""
    trade_mark: bytes
    """Is once in every message of a trade and in no other, so that a batch is searched for it."""
    decode: Callable[[Batch], Decoded]
    """Decodes what its streams bring; never raises for what messages contain."""
    make_history: Callable[[Market, RestClient, Budget, int, Runtime], History[Any]]
    """Makes its past trades: the plan of its backfill and the requests that the plan asks for.

    Given itself, the REST side and its budget, and the greatest age in milliseconds. What it needs
    of the network is imported when it is called: whoever only reads these facts needs none.
    """
    id_law: IdLaw
    stream_url: str
    stream_path: str
    """What comes after stream_url: there each message is wrapped with the name of its stream."""
    rest_url: str
    added_paths: tuple[str, ...]
    """What comes after either address, and is no part of it."""
    connection_life: str
    """After how long the exchange cuts a connection, as a duration."""
    exchange_info: Endpoint
    delisted: frozenset[str]
    """Each status of a symbol that will not be traded again."""
    historical_trades: Endpoint
    aggregate_trades: Endpoint
    newest_ids: Endpoint
    """Statistics of the last 24 hours of all symbols, which name the newest trade of each."""
    newest_ids_weights: tuple[tuple[int, int], ...]
    """What it costs for up to so many named symbols: number and weight, the fewest first."""
    weight_per_minute: int
    """REST weight of one IP address in a UTC minute."""
    max_streams: int
    """Streams of one connection."""
    max_subscribe_names: int
    """Names in one SUBSCRIBE. Ours: longer messages have vanished without an answer."""
    max_subscribe_bytes: int
    """Length of one SUBSCRIBE in UTF-8. Ours, for the same reason."""
    control_spacing_ms: int
    """Rest between two messages to the server. Ours: leaves room for pongs within 5 a second."""
    max_attempts: int
    """Attempts to connect from one IP address within attempts_window_ms."""
    attempts_window_ms: int
    recent_trades: Endpoint | None = None
    """The newest single trades, without a key."""
    historical_trades_need_key: bool = False
    """Whether older single trades are told to those only who send an API key."""
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

    def stream_name(self, symbol: str) -> str:
        """Return the name of the stream of *symbol*: 币安人生USDT has 币安人生usdt@trade.

        Only ASCII letters are lowered: lower-casing others could make a name that does not exist.
        """
        return f"{symbol.translate(_ASCII_LOWER)}@{self.stream}"
