"""Where a verification takes bars and klines from. No thread.

Bars come from the journal or from a store that can be read, klines from the exchange or from
whatever else is a KlineSource.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from msgspec.structs import replace

from bintrades.core.spans import clipped
from bintrades.errors import BintradesError, ExchangeError, NotToldError
from bintrades.util.backoff import Backoff
from bintrades.util.clocks import now_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from bintrades.core.spans import Span
    from bintrades.exchange.port import RateBudget, Reference
    from bintrades.journal.reader import JournalReader
    from bintrades.model import Bar, Kline, TradeRange
    from bintrades.stores.store import Store

T = TypeVar("T")

_NO_LIMIT = 2**31
_ATTEMPTS = 4
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 20.0
_LONGEST_BLOCK_MS = 5 * 60_000
_LONGEST_SILENCE_MS = 10 * 60_000


class BarSource(Protocol):
    """Bars, and what is known of where there are none."""

    def bars(self, symbol: str, since_ms: int, until_ms: int) -> list[Bar]:
        """Return the bars with since_ms <= open time < until_ms, oldest first.

        Raises BintradesError.
        """

    def covered(self, symbol: str, since_ms: int, until_ms: int) -> Sequence[Span]:
        """Return in which parts of that time an interval without a bar had no trades.

        Raises BintradesError.
        """

    def surplus(self, symbol: str, since_ms: int, until_ms: int) -> Collection[int]:
        """Return when bars of that time open where the exchange is known to have no trades.

        Raises BintradesError.
        """


class KlineSource(Protocol):
    """The exchange's own sums."""

    @property
    def may_be_revised(self) -> bool:
        """Whether klines of a moment ago may not be final, and another answer may differ."""

    def intervals_ms(self, symbol: str) -> Sequence[int]:
        """Return the lengths of the klines that it has of *symbol*, the longest first."""

    def klines(self, symbol: str, interval_ms: int, since_ms: int, until_ms: int) -> list[Kline]:
        """Return the klines with since_ms <= open time < until_ms, oldest first.

        An interval may be left out. Raises BintradesError.
        """


class JournalBars:
    """The bars in a journal.

    *coverage* returns in which spans an interval of a symbol without a bar had no trades.
    """

    def __init__(self, reader: JournalReader, coverage: Callable[[str], Sequence[Span]]) -> None:
        self._reader = reader
        self._coverage = coverage
        _, self._interval_ms = reader.scope()

    def bars(self, symbol: str, since_ms: int, until_ms: int) -> list[Bar]:
        """Return the bars that open in that time, oldest first. Raises JournalError."""
        return self._reader.bars(symbol, since_ms, until_ms, _NO_LIMIT)

    def covered(self, symbol: str, since_ms: int, until_ms: int) -> Sequence[Span]:
        """Return what is covered, and of which no bar has left the journal. Raises JournalError."""
        pruned = self._reader.pruned_through(symbol)
        kept_since_ms = 0 if pruned is None else pruned + self._interval_ms
        return clipped(self._coverage(symbol), max(since_ms, kept_since_ms), until_ms)

    def surplus(self, symbol: str, since_ms: int, until_ms: int) -> Collection[int]:
        """Return where the journal knows that the exchange has no trades. Raises JournalError."""
        return self._reader.surplus(symbol, since_ms, until_ms)


class StoreBars:
    """The bars of *market* in a store that can be read; *coverage* is that of the journal.

    Bars that the store is still to get are not held against it.
    """

    def __init__(
        self,
        store: Store,
        options: Mapping[str, str],
        reader: JournalReader,
        coverage: Callable[[str], Sequence[Span]],
        market: str,
    ) -> None:
        self._store = store
        self._market = market
        self._coverage = coverage
        self._options = options
        self._reader = reader
        self._market, self._interval_ms = reader.scope()

    def bars(self, symbol: str, since_ms: int, until_ms: int) -> list[Bar]:
        """Return the bars that open in that time, oldest first. Raises BintradesError.

        One of which the store is still to get a better version is that version, and incomplete.
        """
        stored = {
            bar.open_time_ms: bar
            for bar in self._read(symbol, since_ms, until_ms)
            if (bar.market, bar.interval_ms) == (self._market, self._interval_ms)
        }
        if self._reader.store(self._store.name).waiting_bars:
            for bar in self._reader.bars(symbol, since_ms, until_ms, _NO_LIMIT):
                known = stored.get(bar.open_time_ms)
                if known is None or bar.rank > known.rank:
                    stored[bar.open_time_ms] = replace(bar, is_complete=False)
        return [stored[open_time] for open_time in sorted(stored)]

    def _read(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Bar]:
        try:
            yield from self._store.read(symbol, since_ms, until_ms, self._market)
        except BintradesError:
            raise
        except Exception as error:
            reason = self._store.without_secrets(str(error), self._options)
            raise BintradesError(f"{self._store.name} cannot be read: {reason}") from error

    def covered(self, symbol: str, since_ms: int, until_ms: int) -> Sequence[Span]:
        """Return what the journal has proven. Raises JournalError."""
        return clipped(self._coverage(symbol), since_ms, until_ms)

    def surplus(self, symbol: str, since_ms: int, until_ms: int) -> Collection[int]:
        """Return where the journal knows that the exchange has no trades. Raises JournalError."""
        return self._reader.surplus(symbol, since_ms, until_ms)


class ExchangeKlines:
    """Klines and trades over REST, within the exchange's limits: it waits where it must.

    A request that fails is made again, with growing waits. Where nothing is answered any more, no
    attempt is made a second time, and after some minutes none at all.
    """

    may_be_revised = True

    def __init__(
        self,
        reference: Reference,
        budget: RateBudget,
        *,
        now: Callable[[], int] = now_ms,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._reference = reference
        self._budget = budget
        self._now = now
        self._sleep = sleep
        self._silent_since: int | None = None  # when requests began to fail, all since then

    def intervals_ms(self, symbol: str) -> Sequence[int]:  # noqa: ARG002 - the same for each
        """Return the lengths of klines that the exchange has, the longest first."""
        return self._reference.kline_intervals_ms

    def klines(self, symbol: str, interval_ms: int, since_ms: int, until_ms: int) -> list[Kline]:
        """Return the klines of that time, oldest first. Raises ExchangeError."""
        found: list[Kline] = []
        while since_ms < until_ms:
            page = self._klines_from(symbol, interval_ms, since_ms, until_ms)
            if not page:
                break  # what is left has none
            found += page
            since_ms = page[-1].open_time_ms + interval_ms
        return found

    def trades(self, symbol: str, since_ms: int, until_ms: int) -> Sequence[TradeRange]:
        """Return all trades of that time, lowest id first. Raises ExchangeError."""

        def ask() -> Sequence[TradeRange]:
            trades = self._reference.trades_between(symbol, since_ms, until_ms, self._may_ask)
            if trades is None:
                raise ExchangeError(f"{symbol}: its trades may not be asked for now")
            return trades

        return self._with_attempts(ask)

    def _klines_from(
        self, symbol: str, interval_ms: int, since_ms: int, until_ms: int
    ) -> Sequence[Kline]:
        def ask() -> Sequence[Kline]:
            self._may_ask(self._reference.klines_weight(interval_ms, since_ms, until_ms))
            return self._reference.klines(symbol, interval_ms, since_ms, until_ms)

        return self._with_attempts(ask)

    def _with_attempts(self, ask: Callable[[], T]) -> T:
        """Return what *ask* does; raises the ExchangeError of the last attempt."""
        silent_since = self._silent_since
        if silent_since is not None and self._now() - silent_since > _LONGEST_SILENCE_MS:
            raise ExchangeError("the exchange has not answered for so long that it is not asked")
        backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        attempts = _ATTEMPTS if silent_since is None else 1
        while True:
            try:
                answer = ask()
            except NotToldError:
                raise  # however often it is asked
            except ExchangeError:
                attempts -= 1
                if attempts <= 0:
                    self._silent_since = self._now() if silent_since is None else silent_since
                    raise
                self._sleep(backoff.next_wait_s())
            else:
                self._silent_since = None
                return answer

    def _may_ask(self, weight: int) -> bool:
        """Wait until *weight* may be spent, and return True. Raises ExchangeError."""
        while wait_ms := self._budget.wait_ms(weight, self._now()):
            if wait_ms > _LONGEST_BLOCK_MS:
                raise ExchangeError(
                    f"the exchange wants no requests for {wait_ms // 60_000} minutes:"
                    f" {self._budget.last_error}"
                )
            self._sleep(wait_ms / 1000)
        return True
