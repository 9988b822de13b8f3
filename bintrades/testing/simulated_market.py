"""What happened on the simulated exchange: the trades of every symbol, and their aggregates.

Pure but for one lock: every method may be called from any thread.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from bintrades.testing.market_rules import SPOT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bintrades.testing.market_rules import MarketRules

_WINDOW_MS = 100
"""In which futures aggregate fills."""


class SimulatedTrade(NamedTuple):
    """One fill. Price and quantity are the text that goes on the wire, times are milliseconds."""

    symbol: str
    trade_id: int
    price: str
    quantity: str
    time_ms: int
    event_time_ms: int
    buyer_is_maker: bool
    kind: str = ""
    """Of futures, the field X: NA, INSURANCE_FUND and ADL are ids without a fill; "": MARKET."""


FILLS = ("", "MARKET", "RPI")
"""Kinds of what REST, klines and aggregates have in them."""


class Aggregate(NamedTuple):
    """Fills as aggTrades answers them, with the same price and side.

    On spot of adjacent ids and one time, on futures within the same tenth of a second.
    """

    aggregate_id: int
    trades: tuple[SimulatedTrade, ...]


def stream_name(symbol: str, kind: str = "trade") -> str:
    """Return the name of a symbol's stream; only ASCII letters are lowered."""
    return f"{symbol.encode().lower().decode()}@{kind}"


def trade_payload(trade: SimulatedTrade, rules: MarketRules = SPOT) -> bytes:
    """Return the trade as the raw stream sends it, its fields in the order of the exchange."""
    side = "true" if trade.buyer_is_maker else "false"
    if rules.is_futures:
        return (
            f'{{"e":"trade","E":{trade.event_time_ms},"T":{trade.time_ms},"s":"{trade.symbol}",'
            f'"t":{trade.trade_id},"p":"{trade.price}","q":"{trade.quantity}",'
            f'"X":"{trade.kind or "MARKET"}","m":{side},"st":{rules.settlement}}}'
        ).encode()
    orders = f'"b":{2 * trade.trade_id},"a":{2 * trade.trade_id + 1},' if rules.name == "us" else ""
    return (
        f'{{"e":"trade","E":{trade.event_time_ms},"s":"{trade.symbol}","t":{trade.trade_id},'
        f'"p":"{trade.price}","q":"{trade.quantity}",{orders}"T":{trade.time_ms},'
        f'"m":{side},"M":true}}'
    ).encode()


class SimulatedMarket:
    """The exchange's own record, from which REST answers; `recorded` counts the trades.

    It keeps fills: of what else uses up an id, of futures, nothing but that is known.
    It keeps the newest *keep* trades of each symbol, and of *history* trades of all symbols each
    one's equal share (up to twice as many for a while). Methods that take a symbol raise KeyError
    if it is not listed.
    """

    def __init__(
        self,
        symbols: Iterable[str] | Mapping[str, str],
        first_trade_id: int,
        keep: int = 1_000_000,
        history: int | None = None,
        rules: MarketRules = SPOT,
        contract_sizes: Mapping[str, int] | None = None,
    ) -> None:
        self.rules = rules
        self._contract_sizes = contract_sizes or {}
        self._lock = threading.Lock()
        self._first_trade_id = first_trade_id
        self._keep = keep
        self._history = history
        self.recorded = 0
        self.newest_event_ms = 0
        """Event time of the newest trade; 0 before the first."""
        self._books: dict[str, _Book] = {}
        self._unlisted: set[str] = set()
        statuses = symbols if isinstance(symbols, Mapping) else dict.fromkeys(symbols, "TRADING")
        for symbol, status in statuses.items():
            self.list_symbol(symbol, status)

    def list_symbol(self, symbol: str, status: str = "TRADING") -> None:
        """List a symbol, or change the status of a listed one."""
        with self._lock:
            self._book(symbol).status = status
            self._unlisted.discard(symbol)

    def unlist_symbol(self, symbol: str) -> None:
        """Have the list of symbols lack one; its trades stay known."""
        with self._lock:
            self._unlisted.add(symbol)

    def statuses(self) -> dict[str, str]:
        """Return every listed symbol with its status, in the order of listing."""
        with self._lock:
            return {
                symbol: book.status
                for symbol, book in self._books.items()
                if symbol not in self._unlisted
            }

    def contract_size(self, symbol: str) -> int:
        """Return what a contract is worth in the quote asset: 100 of BTC, 10 unless said."""
        return self._contract_sizes.get(symbol, 100 if symbol.startswith("BTC") else 10)

    def skip_ids(self, symbol: str, count: int) -> None:
        """Use up *count* ids that no trade will ever have: a hole of the exchange itself."""
        with self._lock:
            self._books[symbol].next_id += count

    def new_trade(
        self,
        symbol: str,
        price: str,
        quantity: str,
        time_ms: int,
        event_time_ms: int,
        buyer_is_maker: bool,
        kind: str = "",
    ) -> SimulatedTrade:
        """Record a trade, or what else happens, under the symbol's next id."""
        with self._lock:
            book = self._books[symbol]
            trade = SimulatedTrade(
                symbol, book.next_id, price, quantity, time_ms, event_time_ms, buyer_is_maker, kind
            )
            self._record(trade)
            return trade

    def record(self, trade: SimulatedTrade) -> None:
        """Record a trade that has an id, listing its symbol; an id already known stays as it is."""
        with self._lock:
            self._record(trade)

    def page(
        self, symbol: str, from_id: int | None, limit: int, hidden: int = 0
    ) -> list[SimulatedTrade]:
        """Return at most *limit* trades from an id on, or the newest ones.

        The *hidden* newest trades are not known yet.
        """
        with self._lock:
            trades = self._books[symbol].trades
            end = max(0, len(trades) - hidden)
            start = end - limit if from_id is None else bisect_left(trades, from_id, key=_trade_id)
            return trades[max(0, start) : min(end, max(0, start) + limit)]

    def page_of_ids(
        self, symbol: str, from_id: int, limit: int, hidden: int = 0
    ) -> list[SimulatedTrade]:
        """Return the trades of so many ids on from one, as futures do: fewer than the limit where
        ids have none.
        """
        page = self.page(symbol, from_id, limit, hidden)
        return [trade for trade in page if trade.trade_id < from_id + limit]

    def close_aggregates(self, symbol: str) -> int:
        """Have no later trade belong to an aggregate that is there; return the next one's id."""
        with self._lock:
            book = self._book(symbol)
            book.aggregate()
            book.closed_aggregate_id = book.next_aggregate_id - 1
            return book.next_aggregate_id

    def between(self, symbol: str, since_ms: int, until_ms: int) -> list[SimulatedTrade]:
        """Return the trades that happened within these times, ends included, by id."""
        with self._lock:
            trades = self._books[symbol].trades
            return [trade for trade in trades if since_ms <= trade.time_ms <= until_ms]

    def aggregates(self, symbol: str, hidden: int = 0, from_id: int = 0) -> list[Aggregate]:
        """Return the aggregates from one on, by id, without those that a *hidden* newest trade
        belongs to.
        """
        with self._lock:
            book = self._books[symbol]
            book.aggregate()
            hidden_ids = {trade.trade_id for trade in book.trades[-hidden:]} if hidden else set()
            found = book.aggregates[bisect_left(book.aggregates, from_id, key=_aggregate_id) :]
            return [each for each in found if each.trades[-1].trade_id not in hidden_ids]

    def forgotten(self, symbol: str) -> SimulatedTrade | None:
        """Return the newest trade that is not kept any more; None while all are."""
        with self._lock:
            return self._books[symbol].forgotten

    def _record(self, trade: SimulatedTrade) -> None:
        book = self._book(trade.symbol)
        keep = self._keep
        if self._history is not None:
            keep = min(keep, max(1, self._history // len(self._books)))
        if trade.kind in FILLS:
            book.record(trade, keep)
            self.recorded += 1
        else:
            book.next_id = max(book.next_id, trade.trade_id + 1)
        self.newest_event_ms = max(self.newest_event_ms, trade.event_time_ms)

    def _book(self, symbol: str) -> _Book:
        book = self._books.get(symbol)
        if book is None:
            book = self._books[symbol] = _Book(self._first_trade_id, self.rules)
        return book


@dataclass
class _Book:
    """One symbol. The first `aggregated` trades are in `aggregates`, which grow when asked for."""

    next_id: int
    rules: MarketRules
    status: str = "TRADING"
    trades: list[SimulatedTrade] = field(default_factory=list)
    aggregates: list[Aggregate] = field(default_factory=list)
    aggregated: int = 0
    first_aggregate_id: int = 1
    closed_aggregate_id: int = 0
    forgotten: SimulatedTrade | None = None

    @property
    def next_aggregate_id(self) -> int:
        return self.aggregates[-1].aggregate_id + 1 if self.aggregates else self.first_aggregate_id

    def record(self, trade: SimulatedTrade, keep: int) -> None:
        if trade.trade_id >= self.next_id or not self.trades:
            self.trades.append(trade)
            self.next_id = trade.trade_id + 1
            if len(self.trades) > 2 * keep:
                self._trim(keep)
            return
        place = bisect_left(self.trades, trade.trade_id, key=_trade_id)
        if place == len(self.trades) or self.trades[place].trade_id != trade.trade_id:
            self.trades.insert(place, trade)
            self.aggregates.clear()
            self.aggregated = 0

    def aggregate(self) -> None:
        for trade in self.trades[self.aggregated :]:
            newest = self.aggregates[-1] if self.aggregates else None
            if newest is not None and self._belongs(trade, newest):
                self.aggregates[-1] = newest._replace(trades=(*newest.trades, trade))
            else:
                self.aggregates.append(Aggregate(self.next_aggregate_id, (trade,)))
        self.aggregated = len(self.trades)

    def _belongs(self, trade: SimulatedTrade, aggregate: Aggregate) -> bool:
        first, last = aggregate.trades[0], aggregate.trades[-1]
        if (
            aggregate.aggregate_id <= self.closed_aggregate_id
            or trade.price != first.price
            or trade.buyer_is_maker != first.buyer_is_maker
        ):
            return False
        if self.rules.is_futures:
            return trade.time_ms // _WINDOW_MS == first.time_ms // _WINDOW_MS
        return trade.trade_id == last.trade_id + 1 and trade.time_ms == first.time_ms

    def _trim(self, keep: int) -> None:
        self.aggregate()
        self.forgotten = self.trades[-keep - 1]
        del self.trades[:-keep]
        self.aggregated = len(self.trades)
        oldest_id = self.trades[0].trade_id
        del self.aggregates[: bisect_left(self.aggregates, oldest_id, key=_first_id)]
        self.first_aggregate_id = self.aggregates[0].aggregate_id if self.aggregates else 1


def _trade_id(trade: SimulatedTrade) -> int:
    return trade.trade_id


def _aggregate_id(aggregate: Aggregate) -> int:
    return aggregate.aggregate_id


def _first_id(aggregate: Aggregate) -> int:
    return aggregate.trades[0].trade_id
