"""What an exchange is to the rest of the program. Protocols only; each exchange is behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable, Sequence
    from decimal import Decimal
    from pathlib import Path

    from bintrades.core.backfill_result import BackfillResult
    from bintrades.core.newest_ids import NewestIds
    from bintrades.exchange.batch import Batch, Decoded
    from bintrades.exchange.events import Event
    from bintrades.exchange.hosts import Hosts
    from bintrades.exchange.snapshots import ConnectionCounts, ConnectionSnapshot
    from bintrades.exchange.symbols import SymbolInfo
    from bintrades.model import GapSet, IdLaw, Kline, SeriesKey, TradeRange
    from bintrades.util.worker import Worker

RequestT = TypeVar("RequestT")
"""A request for past trades: made by an exchange's BackfillPlan, understood by its History."""


class MarketFacts(Protocol):
    """What is known of a market before anything is connected."""

    @property
    def name(self) -> str:
        """As the configuration and every bar spell it."""

    @property
    def id_law(self) -> IdLaw:
        """How its trade ids follow each other."""

    @property
    def stream_names(self) -> tuple[str, ...]:
        """Which of a symbol's streams can be collected, as configuration and journals spell them.

        The first is the default.
        """

    @property
    def time_units(self) -> tuple[str, ...]:
        """In which units its streams tell times, the default first."""

    @property
    def stream_url(self) -> str:
        """Where its streams are, if nothing else is configured."""

    @property
    def rest_url(self) -> str:
        """Where its REST side is, if nothing else is configured."""

    @property
    def hosts(self) -> tuple[Hosts, ...]:
        """Which of its hosts belong together."""

    @property
    def added_paths(self) -> tuple[str, ...]:
        """Paths that are put after an address, and so may not end it."""

    @property
    def connection_life(self) -> str:
        """After how long the exchange cuts a connection, as a duration such as 24h."""

    @property
    def max_streams(self) -> int:
        """The most symbols of one connection."""

    @property
    def weight_per_minute(self) -> int:
        """The request weight that it allows one address in a minute."""

    @property
    def history_ms(self) -> int | None:
        """How far back past trades can be asked for; None: as far as anyone wants them."""

    @property
    def has_contracts(self) -> bool:
        """Whether quantities are numbers of contracts, so that a symbol has a contract size."""

    @property
    def historical_trades_need_key(self) -> bool:
        """Whether older single trades are told to those only who send an API key."""

    @property
    def has_klines(self) -> bool:
        """Whether bars can be checked against klines of its own."""

    def is_approximate(self, stream: str) -> bool:
        """Whether all bars are that are made of that stream."""


class ExchangeOptions(Protocol):
    """Where an exchange is and how its connections are kept: its section of the configuration."""

    @property
    def market(self) -> str:
        """The market to collect, one of the exchange's."""

    @property
    def stream(self) -> str:
        """Which of a symbol's streams is collected."""

    @property
    def time_unit(self) -> str:
        """In which unit the streams are to tell times."""

    @property
    def api_key(self) -> str:
        """Sent with requests that need one; nothing: there is none."""

    @property
    def stream_url(self) -> str:
        """Where the streams are."""

    @property
    def rest_url(self) -> str:
        """Where the REST side is."""

    @property
    def redundancy(self) -> int:
        """Connections for each group of symbols."""

    @property
    def streams_per_connection(self) -> int:
        """The most symbols of one group."""

    @property
    def rotate_after_ms(self) -> int:
        """Age at which a connection is replaced."""

    @property
    def coalesce_ms(self) -> int:
        """Rest before each read, so that frames gather."""

    @property
    def shared_budget(self) -> Path | None:
        """The file by which processes on one address share its limits; None: there is one alone."""

    @property
    def silence_timeout_ms(self) -> int:
        """A connection without data for so long is replaced."""


class Feed(Protocol):
    """The streams of all symbols: what they bring goes into the inbox as events."""

    @property
    def readers(self) -> Sequence[Worker]:
        """The threads that read, those about to take over or to end included. Any thread."""

    def resubscribe(self, symbol: str) -> None:
        """Ask for the stream of *symbol* once more: it is dead. Any thread."""

    def add(self, symbols: Sequence[str]) -> None:
        """Carry *symbols* as well, and say so by events. No other symbol notices. Any thread."""

    def remove(self, symbols: Sequence[str]) -> None:
        """Carry *symbols* no longer, and say so by events. No other one notices. Any thread."""

    def expect_no_data(self, halted: frozenset[str]) -> None:
        """Take no connection for dead because *halted* symbols bring nothing. Any thread."""

    def start(self) -> None:
        """Open all connections."""

    def close(self) -> None:
        """Open no further connections; those that there are end when they are stopped."""

    def maintain(self, now: int) -> None:
        """Replace the connections that are due; call it about once a second, from one thread."""

    def snapshot(self, now: int) -> tuple[ConnectionSnapshot, ...]:
        """Return the state of each connection. Any thread."""

    def counts(self) -> ConnectionCounts:
        """Return how many connections were opened and lost since the start. Any thread."""


class Catalog(Protocol):
    """The symbols that the exchange lists."""

    def list_symbols(self) -> Sequence[SymbolInfo]:
        """Ask for every symbol of the market, delisted ones included. Raises ExchangeError."""


class RateBudget(Protocol):
    """How much may be asked of the exchange, and when; *now* is milliseconds, monotonic."""

    last_error: str | None
    """Why the last request was refused; None: it was answered."""

    def wait_ms(self, weight: int, now: int) -> int:
        """Spend *weight* and return 0, or return how long to wait before asking again."""

    def blocked_for(self, now: int) -> int:
        """Return how long nothing may be asked, milliseconds."""

    def banned_for(self, now: int) -> int:
        """Return how long this address is banned: a restarted process has to wait as well."""


class ReportedBudget(RateBudget, Protocol):
    """One that says how much of it is used."""

    @property
    def allowed(self) -> int:
        """What all requests together may weigh in a minute."""

    def used(self, now: int) -> int:
        """Return what is used of that in this minute, by whomever as far as is known."""

    def failing_for(self, now: int) -> int:
        """Return for how long every request has failed, ms; 0: the last one was answered."""


class BackfillPlan(Protocol[RequestT]):
    """Which request to make next for which gap. Pure; *clock* is the exchange's time."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is missing that will be asked for, and nothing of old is remembered."""

    def update(self, gaps: GapSet, now: int) -> None:
        """Take over what is missing of a symbol, and which ids are absent."""

    def next_request(self, now: int, clock: int) -> RequestT | BackfillResult | None:
        """Return what to ask next, or a result that needs no request; None: nothing is due."""

    def put_back(self, request: RequestT) -> None:
        """Take back a request that cannot be made now."""

    def failed(self, request: RequestT, error: str, now: int) -> BackfillResult:
        """Record that *request* was not answered."""


class History(Protocol[RequestT]):
    """Past trades of one market. Every call comes from one thread."""

    @property
    def plan(self) -> BackfillPlan[RequestT]:
        """What is asked for."""

    def weight(self, request: RequestT) -> int:
        """Return what *request* costs of the RateBudget."""

    def fetch(self, request: RequestT) -> BackfillResult:
        """Make *request* and return what the answer means. Raises ExchangeError."""

    def newest_ids_weight(self, count: int) -> int:
        """Return what newest_ids() of so many symbols costs of the RateBudget."""

    def newest_ids(self, symbols: Sequence[str]) -> NewestIds:
        """Return the newest id of each of *symbols* that the exchange names.

        Raises ExchangeError, also for an answer that does not say when it was given: a
        NotOfferedError where the host has nothing of the kind.
        """


class Reference(Protocol):
    """The exchange's own sums, and the trades to make them of again. Calls come from one thread."""

    @property
    def kline_intervals_ms(self) -> tuple[int, ...]:
        """Lengths of the klines that it has for checking bars, the longest first."""

    def klines_weight(self, interval_ms: int, since_ms: int, until_ms: int) -> int:
        """Return what klines() of such a span weighs."""

    def klines(
        self, symbol: str, interval_ms: int, since_ms: int, until_ms: int
    ) -> Sequence[Kline]:
        """Return the first klines, up to a page of them, with since_ms <= open time < until_ms.

        Oldest first; an interval may be left out. Raises ExchangeError.
        """

    def trades_between(
        self, symbol: str, since_ms: int, until_ms: int, may_ask: Callable[[int], bool]
    ) -> Sequence[TradeRange] | None:
        """Return every trade with since_ms <= T < until_ms, lowest id first.

        That the first and the last are had is proven by a trade before and one after, or there is
        none. may_ask() is given the weight of each request before it is made: None is returned
        where it says no. Raises ExchangeError: a NotToldError where that will never help.
        """


class Exchange(Protocol):
    """One market of an exchange, assembled: all that the rest of the program needs of it."""

    @property
    def market(self) -> MarketFacts:
        """Which market it is."""

    @property
    def catalog(self) -> Catalog:
        """Its symbols."""

    @property
    def budget(self) -> ReportedBudget:
        """What may be asked of its REST side."""

    def series(self, symbol: str, contract_size: Decimal | None = None) -> SeriesKey:
        """Return which series the trades of *symbol* are; contract_size is its SymbolInfo's."""

    @property
    def decode(self) -> Callable[[Batch], Decoded]:
        """Decodes what its streams bring; never raises for what messages contain. Any thread."""

    def make_feed(
        self, symbols: Sequence[str], inbox: queue.Queue[Event], on_failure: Callable[[str], None]
    ) -> Feed:
        """Return the streams of *symbols*, not started yet."""

    def make_history(self, max_age_ms: int) -> History[Any]:
        """Return the past trades; those older than *max_age_ms* are not asked for."""

    def make_reference(self) -> Reference | None:
        """Return its own sums over its trades; None: it has none that bars can be checked by."""

    def close(self) -> None:
        """Close the connections of the REST side."""
