"""Which trade of each symbol is its newest (docs: "24hr ticker price change statistics")."""

from __future__ import annotations

import json
import logging
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from bintrades.core.newest_ids import NewestIds
from bintrades.errors import NotOfferedError
from bintrades.exchange.binance.rest import RestError
from bintrades.util.logs import LimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bintrades.exchange.binance.market import Market
    from bintrades.exchange.binance.rest import RestClient

log = logging.getLogger(__name__)

_NONE = -1
"""The id that stands for none: there was no trade within 24 hours."""

_BAD_REQUEST, _NOT_FOUND = 400, 404

_SHOWN_SYMBOLS = 5
_REPORT_EVERY_S = 600.0

_IdOrNone = Annotated[int, msgspec.Meta(ge=_NONE, le=2**63 - 2)]


class RefusedNamesError(RestError):
    """A request that names symbols was refused for what it says. It is the last one that does.

    One of them is not listed (-1121), or their names are not understood (-1100, -1130).
    """


class _Ticker(msgspec.Struct):
    symbol: str
    last_id: msgspec.Raw = msgspec.field(name="lastId", default=msgspec.Raw())
    """Decoded only of symbols that were asked for: what others have hurts nobody."""


_OneOrMore: Any = _Ticker | list[_Ticker]

_decode_id = msgspec.json.Decoder(_IdOrNone).decode


class NewestTrades:
    """Asks for the newest ids of many symbols in one request. Calls come from one thread."""

    def __init__(self, rest: RestClient, market: Market, now: Callable[[], int]) -> None:
        self._rest = rest
        self._market = market
        self._now = now
        self._limited = LimitedLog(log, every_s=_REPORT_EVERY_S)
        self._names_none = False  # a name that is unknown fails a request that has it

    def weight(self, count: int) -> int:
        """Return what ids() of so many symbols costs of the minute's weight."""
        for most, weight in self._market.newest_ids_weights:
            if count <= most and not self._names_none:
                return weight
        return self._market.newest_ids.weight

    def ids(self, symbols: Sequence[str]) -> NewestIds:
        """Return the newest id of each of *symbols* that the answer names.

        One whose row cannot be used is left out. Raises RestError, also for an answer without a
        time, or without any row that can be used; RefusedNamesError once at most, since all are
        asked for then; NotOfferedError for a host that has no such statistics.
        """
        most_named = max((most for most, _ in self._market.newest_ids_weights), default=0)
        is_named = 0 < len(symbols) <= most_named and not self._names_none
        params = self._names(symbols) if is_named else {}
        try:
            # COIN-M answers with a list even where one was named, USD-M with that one.
            answer: _Ticker | list[_Ticker] = self._rest.get(
                self._market.newest_ids, params, _OneOrMore
            )
        except RestError as error:
            if error.status == _NOT_FOUND:
                raise NotOfferedError(str(error)) from error
            if error.status == _BAD_REQUEST and is_named:
                self._names_none = True  # all are asked for from now on
                raise RefusedNamesError(str(error), status=error.status, code=error.code) from error
            raise
        rows = answer if isinstance(answer, list) else [answer]
        said_at = self._rest.said_at
        if said_at is None:
            raise RestError("the answer with the newest trades does not say when it was given")
        return NewestIds(self._among(symbols, rows), said_at, self._now())

    def _names(self, symbols: Sequence[str]) -> dict[str, str]:
        """Return what a request that names *symbols* says."""
        if self._market.newest_ids_take_one:
            return {"symbol": symbols[0]}
        return {"symbols": json.dumps(list(symbols), separators=(",", ":"), ensure_ascii=False)}

    def _among(self, symbols: Sequence[str], rows: Sequence[_Ticker]) -> dict[str, int | None]:
        """Return the newest ids of *symbols*, without those of which the answer says none, or two.

        Raises RestError if it says nothing else.
        """
        wanted = set(symbols)
        ids: dict[str, int | None] = {}
        odd: dict[str, str] = {}
        for row in rows:
            if row.symbol not in wanted:
                continue
            try:
                last_id = _decode_id(row.last_id)
            except msgspec.MsgspecError as error:
                odd[row.symbol] = f"{row.symbol}: its newest trade has no id: {error}"
                continue
            newest = None if last_id == _NONE else last_id
            if ids.setdefault(row.symbol, newest) != newest:
                odd[row.symbol] = f"{row.symbol}: the answer has two newest trades of it"
        if odd:
            self._report(odd, is_all=odd.keys() >= ids.keys())
        return {symbol: newest for symbol, newest in ids.items() if symbol not in odd}

    def _report(self, odd: Mapping[str, str], *, is_all: bool) -> None:
        """Say which rows cannot be used, and why of the first; raise it if those *is_all*."""
        reason = next(iter(odd.values()))
        if is_all:
            raise RestError(reason)
        self._limited.warning(
            "newest_id_rejected",
            "the exchange does not say which trade is the newest of some symbols; nothing is proven"
            " of these",
            symbols=", ".join(islice(odd, _SHOWN_SYMBOLS)),
            error=reason,
        )
