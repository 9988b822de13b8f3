"""The records of futures to check bars by: klines, and single trades as far as they can be had.

An aggregate of futures has the time of its first trade only, and covers ids that are none: bars
that are made again take single trades. The newest are told to everybody, older ones to those who
send an API key. Ids that a page answers around are no trades (docs: "Old Trades Lookup").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.errors import NotToldError
from bintrades.exchange.binance.reference import Reference
from bintrades.exchange.binance.rest import RestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.model import TradeRange


_MOST_EMPTY = 8
"""Pages without a trade, where a symbol begins; more are taken for an outage: each is dear."""


class FuturesReference(Reference):
    """A Reference, see exchange.port, of a market whose aggregates are not exact."""

    def trades_between(
        self, symbol: str, since_ms: int, until_ms: int, may_ask: Callable[[int], bool]
    ) -> Sequence[TradeRange] | None:
        """Return every trade of a span, of the newest ones or, with a key, of all by id.

        Raises NotToldError where the newest do not reach back so far, and there is no key that
        helps, or all of it is too long ago.
        """
        try:
            return self._trades_between(symbol, since_ms, until_ms, may_ask)
        except RestError as error:
            if error.is_final:
                raise NotToldError(str(error)) from error
            raise

    def _trades_between(
        self, symbol: str, since_ms: int, until_ms: int, may_ask: Callable[[int], bool]
    ) -> Sequence[TradeRange] | None:
        start, end = since_ms - DISORDER_MS, until_ms + DISORDER_MS
        if not may_ask(self._rest.market.recent_trades.weight):
            return None
        trades = self._ask(lambda: self._past_trades.recent(symbol))
        if not trades:  # nobody asks for trades of a symbol that never had any
            raise RestError(
                f"{symbol}: the exchange names no trade at all, as it does in an outage"
            )
        if trades[0].time >= start:
            older = self._before(symbol, start, end, trades, may_ask)
            if older is None:
                return None
            trades = list(older)
        if trades[-1].time < end and not self._confirm_newest(
            symbol, trades[-1], until_ms, may_ask
        ):
            return None
        return [each for each in trades if since_ms <= each.time < until_ms]

    def _before(
        self,
        symbol: str,
        start: int,
        end: int,
        recent: Sequence[TradeRange],
        may_ask: Callable[[int], bool],
    ) -> Sequence[TradeRange] | None:
        """Return the trades from one before *start* on, up to one from *end* on or the newest.

        *recent* are the newest, none of which is from before. None: that may not be asked for.
        """
        if recent[0].first_id == 0:
            return recent
        if not self._rest.has_key:
            raise NotToldError(
                f"{symbol}: single trades from before {recent[0].time} are told only to those who"
                " send an API key; set [binance] api_key"
            )
        if not may_ask(self._aggregates_weight):
            return None
        aggregates = self._ask(lambda: self._past_trades.page_from(symbol, start_ms=start))
        first = next((each.trades for each in aggregates if each.trades is not None), None)
        if first is None:
            raise RestError(f"{symbol}: the answers disagree on which trades were at {start}")
        return self._by_id(symbol, first.first_id, start, end, recent, may_ask)

    def _by_id(
        self,
        symbol: str,
        first_id: int,
        start: int,
        end: int,
        recent: Sequence[TradeRange],
        may_ask: Callable[[int], bool],
    ) -> Sequence[TradeRange] | None:
        """Return the trades around *start* to *end*, page by page; *first_id* is near the first.

        A page is a range of ids: one with few rows is not the last. The next one begins at its last
        row, since it may lack what is behind that: no trade is passed over where an answer ends.
        """
        endpoint = self._rest.market.historical_trades
        page_ids = endpoint.max_rows
        begins = from_id = max(0, first_id - page_ids // 10)  # some of these are trades
        found: list[TradeRange] = []
        empty_count = 0
        while True:
            if not may_ask(endpoint.weight):
                return None
            page = self._page_of_ids(symbol, from_id, page_ids)
            new = page if not found else page[1:]
            empty_count += not new
            if not new and (found or empty_count > _MOST_EMPTY):
                raise RestError(
                    f"{symbol}: the exchange has no trade of {page_ids} ids from {from_id} on, as"
                    " in an outage"
                )
            if from_id == begins > 0 and (not page or page[0].time >= start):
                # What is there may be before all trades: look further back for one from before.
                begins = from_id = max(0, begins - page_ids)
                continue
            if not page:
                from_id += page_ids
                continue
            if found and page[0] != found[-1]:
                raise RestError(f"{symbol}: the answers disagree on trade {from_id}")
            found += new
            last_id = from_id = found[-1].last_id
            if found[-1].time >= end:
                return found
            if last_id > recent[-1].last_id:
                raise RestError(f"{symbol}: the answers disagree on which trade is the newest")
            if last_id >= recent[0].first_id:
                return [*found, *(each for each in recent if each.first_id > last_id)]

    def _page_of_ids(self, symbol: str, from_id: int, page_ids: int) -> list[TradeRange]:
        trades = self._ask(lambda: self._past_trades.trades_from(symbol, from_id, page_ids))
        return [each for each in trades if each.first_id < from_id + page_ids]
