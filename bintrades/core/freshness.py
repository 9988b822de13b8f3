"""Whether the exchange's word on its newest trades is fresh, judged by what it lacks. Pure.

A word that lacks a trade which it should have is stale, most likely: it comes from a cache, and
says nothing of any symbol. Or the exchange is behind with one symbol only, for hours maybe, and the
others can be believed. What tells the two apart are witnesses: symbols of which the word has a
trade of a moment ago, which no stale one can have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

WITNESSED_WITHIN_MS = 3_000
"""How old a trade may be at most for a word that has it to be fresh.

It is less than the word itself may lag: the exchange may be a moment further with one symbol than
with another.
"""

_SUSPECTED_FOR_MS = 3_600_000  # then the exchange may have a symbol no longer, or other ids of it


class _Lacked(NamedTuple):
    """A trade that the exchange's word lacked when it was given at *said_at*."""

    trade_id: int
    said_at: int

    def is_of_late(self, said_at: int) -> bool:
        return said_at - self.said_at < _SUSPECTED_FOR_MS

    def is_lacked_by(self, newest_id: int | None) -> bool:
        return newest_id is None or newest_id < self.trade_id


class Freshness:
    """Judges one word after the other."""

    def __init__(self) -> None:
        self._lacked: dict[str, _Lacked] = {}  # by symbol, until a word has the trade
        self._reported: set[str] = set()

    @property
    def suspects(self) -> Collection[str]:
        """The symbols that the last words were behind with."""
        return self._lacked.keys()

    def believes(
        self,
        ids: Mapping[str, int | None],
        said_at: int,
        lacking: Mapping[str, int],
        witness_count: int,
    ) -> bool:
        """Whether a word is believed of all symbols but those that it is *lacking* a trade of.

        It has the newest *ids*, None for no trade, and was given at *said_at*. *lacking* has a
        trade of each symbol that it should know. It is believed if the last word was behind with
        the same symbols already, and if there are more witnesses than the square of their number:
        the more there are, the more likely is a whole part of the exchange behind, and so are
        symbols of which nothing shows it.
        """
        if not lacking and not self._lacked:
            return True
        known = {
            symbol: lacked
            for symbol, lacked in self._lacked.items()
            if symbol in ids and lacked.is_of_late(said_at)
            if symbol in lacking or lacked.is_lacked_by(ids[symbol])
        }
        new = {symbol: _Lacked(trade_id, said_at) for symbol, trade_id in lacking.items()}
        self._lacked = {**known, **new}
        self._reported &= self._lacked.keys()
        if not lacking:
            return True
        return lacking.keys() <= known.keys() and witness_count > len(lacking) ** 2

    def forget(self, symbol: str) -> None:
        """Suspect *symbol* no longer: nobody asks about it."""
        self._lacked.pop(symbol, None)
        self._reported.discard(symbol)

    def unreported(self, lacking: Collection[str]) -> list[str]:
        """Return those of *lacking* that it has not returned since they became suspects."""
        new = [symbol for symbol in lacking if symbol not in self._reported]
        self._reported.update(new)
        return new
