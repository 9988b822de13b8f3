"""Symbols that come and go while others are collected: their series, and when these may end.

Everything happens on the thread that ingests: the series are its own, and it tells the feed what to
carry. So a symbol has its series before the first message of it can be asked for, and loses it
after the last one was handled. No clock: time is an input.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from bintrades.core.series import NEVER
from bintrades.core.write_batch import WriteBatch
from bintrades.model import id_ranges
from bintrades.model.symbol_record import LeftBecause

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from bintrades.core.aggregator import Aggregator
    from bintrades.core.symbol_changes import NewSymbol, SymbolsChanged
    from bintrades.core.write_batch import Checkpoint
    from bintrades.exchange.events import Connected, StreamsAdded, StreamsRemoved
    from bintrades.model.symbol_record import SymbolRecord

log = logging.getLogger(__name__)

_LOOK_EVERY_MS = 500
_WHOLE_WITHIN_MS = 600_000
_CLOSED_WITHIN_MS = 5_000
"""How long a symbol that leaves is still collected after the end of its last bar: until that is
proven and its gaps are repaired, and where nothing of that is asked for."""


@dataclass(frozen=True, slots=True)
class SymbolHooks:
    """What changes of symbols call, on the thread that ingests."""

    on_wanted: Callable[[Sequence[str]], None]
    """Their streams are to be carried."""

    on_unwanted: Callable[[Sequence[str]], None]
    """Their streams are to be carried no longer."""

    on_halted: Callable[[frozenset[str]], None]
    """No data is to be expected of these, nor of others that were."""

    on_begun: Callable[[Sequence[str]], None]
    """They have a series now."""

    on_ended: Callable[[Sequence[str]], None]
    """They have one no longer."""


NO_SYMBOL_HOOKS = SymbolHooks(*[lambda _symbols: None] * 5)
"""For an aggregator whose symbols stay the same."""


@dataclass(slots=True)
class _Leaving:
    """A symbol that is to leave, once its bars through *until* are whole."""

    record: SymbolRecord | None
    until: int  # on the exchange's clock; 0: unknown
    since: int  # monotonic
    is_unwanted: bool = False  # whether the feed was told


class SymbolChanges:
    """Begins and ends series. Every call comes from one thread; *now* is monotonic.

    *checkpoint_of* returns where a symbol was when it was last collected. Where not *is_repairing*
    nobody asks for proofs or missing trades, and nothing waits for them.
    """

    def __init__(
        self,
        aggregator: Aggregator,
        hooks: SymbolHooks,
        *,
        checkpoint_of: Callable[[str], Checkpoint | None],
        utc: Callable[[], int],
        is_repairing: bool,
    ) -> None:
        self._aggregator = aggregator
        self._hooks = hooks
        self._interval = aggregator.interval_ms
        self._checkpoint_of = checkpoint_of
        self._utc = utc
        self._is_repairing = is_repairing
        self._carried: dict[str, set[str]] = {}  # the symbols of each connection
        self._leaving: dict[str, _Leaving] = {}
        self._unlisted: set[str] = set()  # of those
        self._looked_at = 0

    @property
    def is_waiting_for_proof(self) -> bool:
        """Whether a symbol waits for a proof in order to leave."""
        return any(not each.is_unwanted for each in self._leaving.values())

    @property
    def unlisted(self) -> Collection[str]:
        """Symbols that leave and that the exchange does not know: it has no word on them."""
        return self._unlisted

    @property
    def leaving_count(self) -> int:
        """Symbols that are about to leave."""
        return len(self._leaving)

    def connected(self, event: Connected) -> None:
        """Count a connection. One that began before a symbol left may name it still."""
        symbols = self._known(event.symbols)
        self._carried[event.connection] = symbols
        self._aggregator.connected(symbols, event.at)

    def disconnected(self, connection: str, at: int) -> None:
        """Count one less; unknown if its reader was stopped while the inbox was full."""
        symbols = self._carried.pop(connection, None)
        if symbols is not None:
            self._aggregator.disconnected(symbols, at)

    def streams_added(self, event: StreamsAdded) -> None:
        """Have a connection carry more symbols."""
        carried = self._carried.get(event.connection)
        if carried is not None:
            new = self._known(event.symbols) - carried
            carried |= new
            self._aggregator.carried(new, event.at)

    def streams_removed(self, event: StreamsRemoved) -> None:
        """Have a connection carry fewer."""
        carried = self._carried.get(event.connection)
        if carried is not None:
            gone = carried.intersection(event.symbols)
            carried -= gone
            self._aggregator.carried_no_more(gone)

    def change(self, event: SymbolsChanged) -> WriteBatch:
        """Begin what is new, note what is to end; return what is to be put on record at once."""
        begun = [new for new in event.added if self._begin(new, event.at)]
        if begun:
            symbols = [new.key.symbol for new in begun]
            self._hooks.on_begun(symbols)
        if event.added:
            self._hooks.on_wanted([new.key.symbol for new in event.added])
        if event.halted is not None:
            self._hooks.on_halted(event.halted)
        clock = self._aggregator.clock(event.at)
        until = clock - clock % self._interval + self._interval if clock else 0
        for symbol in event.left:
            if symbol in self._aggregator.symbols and symbol not in self._leaving:
                record = event.records.get(symbol)
                self._leaving[symbol] = _Leaving(record, until, event.at)
                if record is not None and record.left_because is LeftBecause.UNLISTED:
                    self._unlisted.add(symbol)
        records = {
            symbol: record
            for symbol, record in event.records.items()
            if symbol not in self._leaving
        }
        return WriteBatch(symbols=records, listing=event.listing)

    def tick(self, now: int) -> WriteBatch | None:
        """End what may end; return what is to be written down of it. Call it often."""
        if not self._leaving or now - self._looked_at < _LOOK_EVERY_MS:
            return None
        self._looked_at = now
        ready = [
            symbol
            for symbol, each in self._leaving.items()
            if not each.is_unwanted and self._may_leave(symbol, each, now)
        ]
        if ready:
            for symbol in ready:
                self._leaving[symbol].is_unwanted = True
            self._hooks.on_unwanted(ready)
        ended = [
            symbol
            for symbol, each in self._leaving.items()
            if each.is_unwanted and not self._aggregator.series[symbol].is_carried
        ]
        return self._end(ended) if ended else None

    def _known(self, symbols: Iterable[str]) -> set[str]:
        return {symbol for symbol in symbols if symbol in self._aggregator.symbols}

    def _begin(self, new: NewSymbol, at: int) -> bool:
        """Begin a series, unless it has not ended; return whether it begins."""
        symbol = new.key.symbol
        if symbol in self._aggregator.symbols:
            self._leaving.pop(symbol, None)
            self._unlisted.discard(symbol)
            return False
        checkpoint = self._checkpoint_of(symbol)
        self._aggregator.add_series(new.key, checkpoint, since=new.since, now=at)
        return True

    def _may_leave(self, symbol: str, leaving: _Leaving, now: int) -> bool:
        """Whether all that can be had of a symbol is had, or has not come for long enough."""
        longest = _WHOLE_WITHIN_MS if self._is_repairing else _CLOSED_WITHIN_MS
        if now - leaving.since - self._interval >= longest:
            return True
        return self._is_settled(symbol, leaving) and not (
            self._is_repairing and self._has_gaps(symbol)
        )

    def _has_gaps(self, symbol: str) -> bool:
        """Whether trades are missing that are asked for."""
        missing = id_ranges(self._aggregator.series[symbol].gap_set.missing)
        return any(not gap.is_abandoned for gap in missing)

    def _is_settled(self, symbol: str, leaving: _Leaving) -> bool:
        has_word = symbol not in self._unlisted
        return self._aggregator.is_settled(symbol, leaving.until, has_word=has_word)

    def _end(self, symbols: Sequence[str]) -> WriteBatch:
        changes = WriteBatch()
        for symbol in symbols:
            leaving = self._leaving.pop(symbol)
            is_whole = self._is_settled(symbol, leaving)
            self._unlisted.discard(symbol)
            missing = len(self._aggregator.series[symbol].gap_set.missing)
            changes.update(self._aggregator.remove_series(symbol, leaving.until or NEVER))
            if leaving.record is not None:
                changes.symbols[symbol] = msgspec.structs.replace(
                    leaving.record, left_ms=self._utc()
                )
            log.info(
                "a symbol has left: its bars are stored, its stream is no longer subscribed",
                extra={
                    "event": "symbol_left",
                    "symbol": symbol,
                    "because": leaving.record.left_because if leaving.record else None,
                    "is_last_bar_proven": is_whole,
                    "gaps": missing,
                },
            )
        self._hooks.on_ended(symbols)
        return changes
