"""Which trade of each symbol is its newest (docs: "24hr ticker price change statistics")."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import msgspec

from bintrades.core.newest_ids import NewestIds
from bintrades.errors import NotOfferedError
from bintrades.exchange.binance.rest import RestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.exchange.binance.market import Market
    from bintrades.exchange.binance.rest import RestClient

_NONE = -1
"""The id that stands for none: there was no trade within 24 hours."""

_NOT_FOUND = 404
_UNKNOWN_SYMBOL = -1121

_IdOrNone = Annotated[int, msgspec.Meta(ge=_NONE, le=2**63 - 2)]


class UnlistedNameError(RestError):
    """A request named a symbol that is not listed. It is the last one that names any."""


class _Ticker(msgspec.Struct):
    symbol: str
    last_id: msgspec.Raw = msgspec.field(name="lastId", default=msgspec.Raw())
    """Decoded only of symbols that were asked for: what others have hurts nobody."""


_decode_id = msgspec.json.Decoder(_IdOrNone).decode


class NewestTrades:
    """Asks for the newest ids of many symbols in one request. Calls come from one thread."""

    def __init__(self, rest: RestClient, market: Market, now: Callable[[], int]) -> None:
        self._rest = rest
        self._market = market
        self._now = now
        self._has_unlisted = False  # a name that is unknown fails a request that has it

    def weight(self, count: int) -> int:
        """Return what ids() of so many symbols costs of the minute's weight."""
        for most, weight in self._market.newest_ids_weights:
            if count <= most and not self._has_unlisted:
                return weight
        return self._market.newest_ids.weight

    def ids(self, symbols: Sequence[str]) -> NewestIds:
        """Return the newest id of each of *symbols* that the answer names.

        Raises RestError, also for an answer without a time; UnlistedNameError once at most, since
        all are asked for then; NotOfferedError for a host that has no such statistics.
        """
        most_named = max((most for most, _ in self._market.newest_ids_weights), default=0)
        is_named = len(symbols) <= most_named and not self._has_unlisted
        names = json.dumps(list(symbols), separators=(",", ":"), ensure_ascii=False)
        try:
            rows = self._rest.get(
                self._market.newest_ids, {"symbols": names} if is_named else {}, list[_Ticker]
            )
        except RestError as error:
            if error.status == _NOT_FOUND:
                raise NotOfferedError(str(error)) from error
            if error.code == _UNKNOWN_SYMBOL and is_named:
                self._has_unlisted = True  # all are asked for from now on
                raise UnlistedNameError(str(error), status=error.status, code=error.code) from error
            raise
        said_at = self._rest.said_at
        if said_at is None:
            raise RestError("the answer with the newest trades does not say when it was given")
        return NewestIds(_among(symbols, rows), said_at, self._now())


def _among(symbols: Sequence[str], rows: Sequence[_Ticker]) -> dict[str, int | None]:
    """Return the newest ids of *symbols*; raises RestError if the answer has two of one."""
    wanted = set(symbols)
    ids: dict[str, int | None] = {}
    for row in rows:
        if row.symbol in wanted:
            try:
                last_id = _decode_id(row.last_id)
            except msgspec.MsgspecError as error:
                raise RestError(f"{row.symbol}: its newest trade has no id: {error}") from error
            newest = None if last_id == _NONE else last_id
            if ids.setdefault(row.symbol, newest) != newest:
                raise RestError(f"{row.symbol}: the answer has two newest trades of it")
    return ids
