"""All series of one market: trades in, bars and checkpoints out. Pure.

The same batches at the same times give the same bars.
"""

from __future__ import annotations

import decimal
from bisect import bisect_right
from heapq import heappop, heappush, nlargest
from itertools import islice
from typing import TYPE_CHECKING

from bintrades.core.aggregate_series import AggregateSeries, ApproximateSeries
from bintrades.core.exchange_clock import MAX_CLOCK_JUMP_MS, ExchangeClock, Witness
from bintrades.core.freshness import Freshness
from bintrades.core.ledger import Ledger
from bintrades.core.proof import LAG_MS
from bintrades.core.series import (
    DUPLICATE,
    EXCLUDED,
    NEVER,
    NEXT,
    PARTLY_KNOWN,
    RENUMBERED,
    SAVE_WITHIN_MS,
    UNWANTED,
    Awaited,
    Series,
)
from bintrades.core.series_with_fillers import SeriesWithFillers
from bintrades.core.write_batch import WriteBatch
from bintrades.model import EXACT, IdLaw

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence, Set

    from bintrades.core.backfill_result import BackfillResult
    from bintrades.core.newest_ids import NewestIds
    from bintrades.core.series import Taken
    from bintrades.core.write_batch import Checkpoint
    from bintrades.model import Gap, SeriesKey, Trade

_SAVES_APART_MS = 7  # of series that are added one after the other
_WATCHED = 3  # symbols that trade all the time, of which a stale word lacks trades
_TRADED_WITHIN_MS = 50_000  # before the exchange is asked: later on, a word may lack those trades
_WITNESSES = 20  # that are asked about while the exchange seems to be behind
_CLOSED_AT_ONCE = 250  # so that the first of thousands need not wait for the last


class Aggregator:
    """Builds the bars of all series of one market. Every call comes from one thread.

    Times called *now* are milliseconds on any clock that never goes back; all others are
    milliseconds since the epoch on the exchange's clock. Raises ValueError for series that it
    cannot tell apart by their symbols, or of which no ledger can be kept.
    """

    def __init__(self, keys: Iterable[SeriesKey], *, interval_ms: int, grace_ms: int) -> None:
        keys = _of_one_market(keys)
        self._interval = interval_ms
        self._grace = grace_ms
        self._changes = WriteBatch()
        self.series = {key.symbol: self._make_series(key) for key in keys}
        """All series, by symbol."""
        self._wakes_at = dict.fromkeys(self.series, NEVER)  # the earliest of each in _wakes
        self._spread_saves()
        self._clock = ExchangeClock()
        self._unsaved: dict[str, Series] = {}  # with trades or gaps that were not collected yet
        self._wakes: list[tuple[int, str]] = []  # a heap: when which symbol may have a bar due
        self._collected_through = ""  # the last symbol of whose bars only some were collected
        self._collected_bars = 0
        self.amended_count = 0  # bars that trades came to after they had closed, so far
        self._listens_since: int | None = None  # when the first connection was there; monotonic
        self._has_begun = False  # whether a trade has come since the start
        self.has_just_begun = False  # and nothing was collected since
        self.trade_count = 0
        self.duplicate_count = 0
        self.excluded_count = 0
        self.repaired_count = 0
        self.foreign_count = 0  # trades of symbols that nobody asked for
        self._awaiting: dict[str, Series] = {}  # of which the exchange has a trade that is to come
        self._freshness = Freshness()  # of what the exchange says of its newest trades
        self.lagging: list[str] = []  # symbols that it is behind with, for whoever reports it
        self.dead_streams: list[str] = []  # symbols whose stream brings nothing, likewise
        self.renumbered: list[str] = []  # symbols whose ids restarted, for whoever reports it

    @property
    def symbols(self) -> Set[str]:
        """What bars are built of."""
        return self.series.keys()

    @property
    def interval_ms(self) -> int:
        """The length of a bar."""
        return self._interval

    @property
    def bar_count(self) -> int:
        """Bars for the stores so far, without amendments."""
        return self._collected_bars + len(self._changes.finished)

    @property
    def waiting_bar_count(self) -> int:
        """Bars for the stores that were not collected yet."""
        return len(self._changes.finished) + len(self._changes.amendments)

    @property
    def open_bar_count(self) -> int:
        """Bars that still take trades."""
        return sum(series.open_bar_count for series in self.series.values())

    @property
    def unproven_count(self) -> int:
        """Symbols of which a closed bar is not proven to have all of its trades."""
        return sum(series.is_unproven for series in self.series.values())

    def resume(self, checkpoints: Mapping[str, Checkpoint]) -> None:
        """Continue where the journal ends; call it before the first trade."""
        for symbol in checkpoints.keys() & self.series.keys():
            series = self._make_series(self.series[symbol].key, checkpoints[symbol])
            self.series[symbol] = series
            self._wake(series, series.due)
        self._spread_saves()

    def add_series(
        self,
        key: SeriesKey,
        checkpoint: Checkpoint | None = None,
        *,
        since: int | None = None,
        now: int,
    ) -> None:
        """Begin a series while others go on, or go on with one that has a *checkpoint*.

        Of one that has none, all trades since the interval of *since* are wanted; None: of now. It
        costs the same however many there are. Raises ValueError as the constructor does, and for
        a series that is there already.
        """
        if key.symbol in self.series:
            raise ValueError(f"{key.symbol} has a series already")
        _of_one_market([*islice((each.key for each in self.series.values()), 1), key])
        self._wakes_at[key.symbol] = NEVER
        series = self.series[key.symbol] = self._make_series(key, checkpoint)
        series.save_delay_ms = len(self.series) * _SAVES_APART_MS % (SAVE_WITHIN_MS // 2)
        clock = self._clock.at(now)
        if self._has_begun and series.want_since(clock if since is None else min(since, clock)):
            self._unsaved[series.symbol] = series
        self._wake(series, series.due)

    def remove_series(self, symbol: str, until: int = NEVER) -> WriteBatch:
        """End a series, and return all of it that was not collected, its open bars as well.

        Its last checkpoint is among it: add_series() with that goes on where it has ended. What
        came of *until* and later is left out, where that leaves no half a bar.
        """
        series = self.series[symbol]
        if until != NEVER and type(series) is Series and series.key.id_law is IdLaw.DENSE:
            series.give_up_since(until)
        series.finish_open()
        changes = self._collect({symbol: series})
        del self.series[symbol], self._wakes_at[symbol]
        self._awaiting.pop(symbol, None)
        self._freshness.forget(symbol)
        return changes

    def is_settled(self, symbol: str, until: int, *, has_word: bool = True) -> bool:
        """Whether all trades until then are known, and every bar that ends by *until* has closed.

        Also where there is no such bar: the trades of one may have been lost on the way. Where the
        exchange *has* no *word* on it, those of its bars have to do.
        """
        series = self.series[symbol]
        if self._clock.is_confirmed:
            series.settle_proof()
        closes_later = series.due > until + self._grace
        is_proven = series.is_proven(until) if has_word else not series.is_unproven
        return closes_later and is_proven and symbol not in self._awaiting

    def connected(self, symbols: Iterable[str], now: int) -> None:
        """Count a connection that carries *symbols*: their clocks run from here on."""
        self._clock.connected(now)
        if self._listens_since is None:
            self._listens_since = now
        self.carried(symbols, now)

    def disconnected(self, symbols: Iterable[str], now: int) -> None:
        """Count one less: without one, a clock stands still."""
        self._clock.disconnected(now)
        self.carried_no_more(symbols)

    def carried(self, symbols: Iterable[str], now: int) -> None:
        """Count a connection that carries *symbols* too, beside those that it has carried."""
        for symbol in symbols:
            series = self.series[symbol]
            series.connected(now)
            self._wake(series, series.due)

    def carried_no_more(self, symbols: Iterable[str]) -> None:
        """Count a connection that carries *symbols* no longer, but goes on."""
        for symbol in symbols:
            self.series[symbol].disconnected()

    def clock(self, now: int) -> int:
        """Return the exchange's time; 0 before the first trade."""
        return self._clock.at(now)

    def confirmed_clock(self, now: int) -> int:
        """Return the exchange's time for what cannot be undone; 0: not confirmed yet."""
        return self._clock.confirmed_at(now)

    def add(self, trades: Sequence[Trade], now: int) -> None:
        """Take trades in the order in which they came, received at *now*."""
        if not trades:
            return
        market_time, is_set_back = self._clock.judge(trades[0], trades[-1], now)
        if is_set_back:
            self._set_clock_back(market_time)
        if not self._has_begun:
            self._begin(market_time)
        series_of = self.series
        others = 0
        with decimal.localcontext(EXACT):
            for trade in trades:
                try:
                    series = series_of[trade.symbol]
                except KeyError:
                    self.foreign_count += 1
                    others += 1
                    continue
                event_time = trade.event_time
                if event_time > market_time:
                    if event_time > market_time + MAX_CLOCK_JUMP_MS:
                        event_time = self._clock.leap(Witness.of(trade), market_time)
                    market_time = event_time
                taken = series.take(trade, event_time, market_time, now)
                if taken is not NEXT:
                    others += 1
                    self._record(taken, series)
        self.trade_count += len(trades) - others
        self._clock.advance(market_time, now)

    def fill(self, result: BackfillResult) -> None:
        """Take what the exchange answered about a gap; of a series that has ended it is nothing."""
        series = self.series.get(result.symbol)
        if series is None:
            return
        if result.restarted_at is not None and series.restart_ids(result.restarted_at):
            self.renumbered.append(series.symbol)
        self.repaired_count += series.fill(result)
        self._unsaved[series.symbol] = series
        self._wake(series, series.due)

    def settle_approximated(self, symbol: str, first_id: int, last_id: int) -> None:
        """Have bars of *symbol* be of trades again for which aggregates stood in."""
        series = self.series.get(symbol)
        if series is not None:
            series.settle_approximated(first_id, last_id)
            self._unsaved[symbol] = series

    def lose(self, symbol: str, gaps: Sequence[Gap]) -> None:
        """Have trades of *symbol* be missing again: the bars that held them are lost."""
        self._changes.lose(symbol, gaps)
        series = self.series.get(symbol)
        if series is not None:
            series.lose(gaps)
            self._unsaved[symbol] = series

    def on_newest_ids(self, newest: NewestIds) -> bool:
        """Take the exchange's word on its newest trades; return whether it proves anything.

        It does not if it is older than it may be, lacking a trade that it should know, unless
        witnesses show that it is behind with few symbols only: then it proves nothing of those.
        Nor does it if it was given at another time than trades show.
        """
        said_at, now = newest.said_at, newest.answered_at
        if self._clock.contradicts(said_at, now):
            return False
        shown_at = self._clock.shown(said_at, now)
        self._clock.observe(shown_at, now)
        if not self._has_begun and self._has_listened_for(LAG_MS, now):
            self._begin(self._clock.at(self._listens_since or now))
        words = self._words(newest)
        lacking = _lacking(words, said_at)
        if lacking:
            words = [each for each in words if each[0].symbol not in lacking]
        witness_count = _count_witnesses(words, said_at) if lacking else 0
        if not self._freshness.believes(newest.ids, said_at, lacking, witness_count):
            return False
        self.lagging += self._freshness.unreported(lacking)
        for series, trade_id in words:
            if self._clock.is_confirmed:
                series.settle_proof()
            if series.take_newest_id(trade_id, shown_at - LAG_MS, said_at, now):
                self._awaiting[series.symbol] = series
            self._unsaved[series.symbol] = series
        return True

    def mark_newest(self) -> None:
        """Remember the newest trades, by which a stale word is known: call it every few seconds."""
        for series in self.series.values():
            series.mark_newest()

    @property
    def suspects(self) -> Collection[str]:
        """The symbols of which the exchange's last words lacked a trade."""
        return self._freshness.suspects

    def mark_witnesses(self, now: int) -> list[str]:
        """Choose the symbols to ask about as well, in order to know a stale word from a fresh one.

        Call it when the exchange is asked. They are a few that trade all the time, since of quiet
        ones a stale word lacks nothing that is known. If the last word was behind, they are the
        symbols that it was behind with as well, and those that have traded last.
        """
        return [*dict.fromkeys([*self._watched(now), *self._mark_witnesses()])]

    def _watched(self, now: int) -> list[str]:
        since = self._clock.at(now) - _TRADED_WITHIN_MS
        trading = (each for each in self.series.values() if each.remembered_time() > since)
        watched = nlargest(_WATCHED, trading, key=Series.remembered_time)
        return [series.symbol for series in watched]

    def _mark_witnesses(self) -> list[str]:
        suspects = self._freshness.suspects
        if not suspects:
            return []
        count = _WITNESSES + len(suspects)  # which may be among them, and in step by now
        witnesses = nlargest(count, self.series.values(), key=Series.last_heard_at)
        for series in witnesses:
            series.mark_asked()
        return [*suspects, *(series.symbol for series in witnesses)]

    def unproven(self, now: int, older_than_ms: int) -> list[str]:
        """Return the symbols with a bar that is not proven to be whole, or no proof of late."""
        clock = self._clock.at(now)
        if self._clock.is_confirmed:
            for series in self.series.values():
                series.settle_proof()
        return [
            name for name, each in self.series.items() if each.needs_proof(clock, older_than_ms)
        ]

    def on_unusable(self, symbol: str, trade_id: int | None, now: int) -> bool:
        """Record a trade of *symbol* in a message that cannot be used; return whether it is known.

        Otherwise the exchange has to be asked which trade it was.
        """
        series = self.series.get(symbol)
        if series is None:
            return True
        is_known = series.observe_unusable(trade_id, self._clock.at(now))
        if is_known:
            self._unsaved[symbol] = series
        return is_known

    def advance(self, now: int) -> None:
        """Close the bars of symbols that have nothing to say, once their time has passed.

        It costs what there is to close, not what there are symbols: call it as often as you like,
        and again at once when next_look_in is 0, since one call closes only so many.
        """
        if self._awaiting:
            self._settle_awaited(now)
        market_time = self._clock.at(now)
        finished = self._changes.finished
        enough = len(finished) + _CLOSED_AT_ONCE
        while self._wakes and self._wakes[0][0] <= market_time and len(finished) < enough:
            wakes_at, symbol = heappop(self._wakes)
            if wakes_at == self._wakes_at.get(symbol):  # else it is over
                self._wakes_at[symbol] = NEVER
                series = self.series[symbol]
                self._wake(series, series.close_due(market_time, now))

    def next_look_in(self, now: int) -> int:
        """Return in how many milliseconds advance may have something to do, trades aside."""
        if not self._wakes or not self._clock.is_running:
            return NEVER
        return self._clock.delay_until(self._wakes[0][0], now)

    def collect(self, *, is_last: bool = False) -> WriteBatch:
        """Return everything that changed since it was last collected.

        What concerns one symbol always comes together, here and below: its bars for the stores
        and its checkpoint. One without the other would count trades twice after a restart, or
        lose them. The last call finishes the open bars as well.
        """
        self.has_just_begun = False
        if not is_last:
            return self._collect({**self._unsaved, **self._with_news()})
        for series in self.series.values():
            series.finish_open()
        return self._collect(self.series)

    def collect_due(self, now: int) -> WriteBatch:
        """Return what must be saved now: all that is news, and what has grown for long enough.

        A trade that is in no bar yet may wait, since a crash loses nothing that cannot be had
        again. A symbol is due when a bar of it has finished or was amended, when what is missing
        of it has changed, after 500 trades or within a minute.
        """
        if self._clock.is_confirmed:
            for series in self._unsaved.values():
                series.settle_proof()
        due = {name: each for name, each in self._unsaved.items() if each.must_be_saved(now)}
        return self._collect({**due, **self._with_news()})

    def collect_bars(self, limit: int | None = None) -> WriteBatch:
        """Return the bars for the stores, with the checkpoints of their symbols.

        Those of at most *limit* symbols come at once: in the order of their names, each time from
        where the last ones ended, round and round. The journal's rows lie in that order, and each
        commit writes every page of which it has changed a row.
        """
        names = sorted({key[0] for key in (*self._changes.finished, *self._changes.amendments)})
        if limit is not None and len(names) > limit:
            start = bisect_right(names, self._collected_through)
            names = [*names[start:], *names[:start]][:limit]
            self._collected_through = names[-1]
        return self._collect({symbol: self.series[symbol] for symbol in names})

    def _make_series(self, key: SeriesKey, checkpoint: Checkpoint | None = None) -> Series:
        return series_class(key)(
            key,
            self._changes,
            checkpoint,
            interval_ms=self._interval,
            grace_ms=self._grace,
        )

    def _spread_saves(self) -> None:
        """Have symbols that are saved because time has passed not all be saved in one moment."""
        for number, series in enumerate(self.series.values()):
            series.save_delay_ms = number * (SAVE_WITHIN_MS // 2) // len(self.series)

    def _words(self, newest: NewestIds) -> list[tuple[Series, int | None]]:
        """Return each series that the exchange's word names, with the id of its newest trade."""
        known = self.series
        return [(known[name], trade_id) for name, trade_id in newest.ids.items() if name in known]

    def _has_listened_for(self, ms: int, now: int) -> bool:
        """Whether a trade would have come by now: where one comes, it shows where to begin."""
        return self._listens_since is not None and now - self._listens_since >= ms

    def _settle_awaited(self, now: int) -> None:
        """Look which trades of those that the exchange has did not come in time: they are gaps."""
        for symbol, series in list(self._awaiting.items()):
            found = series.settle_awaited(now)
            if found is Awaited.STILL:
                continue
            del self._awaiting[symbol]
            self._unsaved[symbol] = series
            if found is Awaited.NOT_SENT:
                self.dead_streams.append(symbol)

    def _begin(self, time: int) -> None:
        """Want all trades since the current interval began, of symbols that have not traded yet.

        That they are wanted must outlast a crash.
        """
        self._has_begun = self.has_just_begun = True
        for series in self.series.values():
            if series.want_since(time):
                self._unsaved[series.symbol] = series

    def _set_clock_back(self, time: int) -> None:
        for series in self.series.values():
            series.set_clock_back(time)
            self._wakes_at[series.symbol] = NEVER  # it was to be looked at by the wrong clock
            self._wake(series, series.due)
            self._unsaved[series.symbol] = series

    def _record(self, taken: Taken, series: Series) -> None:
        """Follow up what a trade has changed."""
        if taken is DUPLICATE:
            self.duplicate_count += 1
            return
        if taken is RENUMBERED:
            self.duplicate_count += 1  # its id had been seen, of another trade
            self.renumbered.append(series.symbol)
        if taken is EXCLUDED:
            self.excluded_count += 1
        elif taken not in (UNWANTED, PARTLY_KNOWN):
            self.trade_count += 1
        self._unsaved[series.symbol] = series
        if series.due < self._wakes_at[series.symbol]:
            self._wake(series, series.due)

    def _wake(self, series: Series, at: int) -> None:
        """Have a symbol looked at when the market's clock is at *at*, unless it is earlier."""
        if at < self._wakes_at[series.symbol]:
            self._wakes_at[series.symbol] = at
            heappush(self._wakes, (at, series.symbol))

    def _with_news(self) -> dict[str, Series]:
        """Return the symbols of whose checkpoints there is something to tell beside them."""
        changes = self._changes
        names = [key[0] for key in (*changes.finished, *changes.amendments, *changes.attempts)]
        names += [each[0] for each in changes.resolved]
        names += [symbol for symbol, _ in changes.reopened]
        return {symbol: self.series[symbol] for symbol in names}

    def _collect(self, chosen: Mapping[str, Series]) -> WriteBatch:
        is_confirmed = self._clock.is_confirmed
        for symbol, series in chosen.items():
            self._unsaved.pop(symbol, None)
            if is_confirmed:
                series.settle_proof()
            series.checkpoint()
        # How ids ceased to be missing goes together with the ledger that lacks them no longer.
        taken = self._changes.take(chosen)
        self._collected_bars += len(taken.finished)
        self.amended_count += len(taken.amendments)
        return taken


def series_class(key: SeriesKey) -> type[Series]:
    """Return what takes the trades of a series: by what its stream brings and its ids mean."""
    if not key.is_of_aggregates:
        return Series if key.id_law is IdLaw.DENSE else SeriesWithFillers
    return ApproximateSeries if key.is_approximate else AggregateSeries


def _lacking(words: Iterable[tuple[Series, int | None]], said_at: int) -> dict[str, int]:
    """Return, by symbol, a trade that the exchange's word should have and lacks."""
    return {
        series.symbol: lacked_id
        for series, trade_id in words
        if (lacked_id := series.lacked_by(trade_id, said_at)) is not None
    }


def _count_witnesses(words: Iterable[tuple[Series, int | None]], said_at: int) -> int:
    """Return of how many symbols the exchange's word has a trade of a moment ago."""
    return sum(series.is_witness(trade_id, said_at) for series, trade_id in words)


def _of_one_market(keys: Iterable[SeriesKey]) -> list[SeriesKey]:
    """Return *keys*, or raise ValueError: their symbols must tell them apart."""
    keys = list(keys)
    markets = {(key.exchange, key.market, key.stream) for key in keys}
    if len(markets) > 1:
        raise ValueError(f"series of more than one market: {sorted(markets)}")
    if len({key.symbol for key in keys}) < len(keys):
        raise ValueError("more than one series of one symbol")
    for key in keys:
        if key.id_law not in Ledger.LAWS:
            raise ValueError(f"{key}: no ledger counts by this law")
    return keys
