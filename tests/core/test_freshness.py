"""Which words of the exchange are stale, and which are behind with a few symbols only.

A stale one must prove nothing, however often it comes: that is what could make a bar untrue.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.core.aggregator import Aggregator
from bintrades.core.freshness import WITNESSED_WITHIN_MS
from bintrades.core.newest_ids import NewestIds
from bintrades.core.proof import LAG_MS
from tests.core.aggregators import GRACE, MINUTE
from tests.strategies import INTERVAL, START, make_trade, spot_series

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bintrades.core.write_batch import Checkpoint

QUIET, ALSO_QUIET = "QUIETUSDT", "CALMUSDT"
BUSY = [f"BUSY{number}USDT" for number in range(30)]
LAGGARD, *OTHERS = BUSY
SECOND = 1_000
HOUR = 60 * MINUTE


class Market:
    """An exchange whose trades all came, unless they are hidden. Times are after the start."""

    def __init__(
        self, *busy: str, quiet: Iterable[str] = (QUIET, ALSO_QUIET), now: int = 0
    ) -> None:
        self.busy = busy
        self.now = self._marked_at = now
        self.symbols = [*busy, *quiet]
        self.times: dict[str, list[int]] = defaultdict(list)  # of each trade, by its id
        self.aggregator = self._new_aggregator()
        self.trade(*self.symbols)

    def _new_aggregator(self) -> Aggregator:
        aggregator = Aggregator(spot_series(self.symbols), interval_ms=INTERVAL, grace_ms=GRACE)
        aggregator.connected(self.symbols, self.now)
        return aggregator

    def trade(self, *symbols: str, is_hidden: bool = False) -> None:
        """Have *symbols* trade now."""
        trades = []
        for symbol in symbols:
            trades.append(make_trade(len(self.times[symbol]), START + self.now, symbol=symbol))
            self.times[symbol].append(self.now)
        if not is_hidden:
            self.aggregator.add(trades, self.now)

    def live(self, ms: int, *silent: str) -> None:
        """Have time pass in which all that are busy trade each second, but for the *silent*."""
        for _ in range(0, ms, SECOND):
            self.now += SECOND
            self.trade(*(symbol for symbol in self.busy if symbol not in silent))
            if self.now - self._marked_at >= 3 * SECOND:
                self._marked_at = self.now
                self.aggregator.mark_newest()

    def restart(self) -> None:
        """Have the collector begin again with what it has written."""
        written = self.saved()
        self.aggregator = self._new_aggregator()
        self.aggregator.resume(written)
        self.aggregator.connected(self.symbols, self.now)

    def newest_ids(self, at: int, **behind: int) -> dict[str, int | None]:
        """Return the newest ids as they were at a time, of those *behind* as of then."""
        ids: dict[str, int | None] = {}
        for symbol in self.symbols:
            newest = bisect_left(self.times[symbol], behind.get(symbol, at)) - 1
            ids[symbol] = None if newest < 0 else newest
        return ids

    def ask(self, lag_ms: int = 0, *, delay_ms: int = 400, **behind: int) -> bool:
        """Have the exchange say which trades are the newest, as of before *lag_ms*.

        Until it has said so, all that are busy trade once more.
        """
        self.aggregator.mark_witnesses(self.now)
        ids = self.newest_ids(self.now + delay_ms - lag_ms, **behind)
        self.now += delay_ms
        said_at = START + self.now
        self.trade(*(symbol for symbol in self.busy if symbol not in behind))
        return self.take(ids, said_at)

    def take(self, ids: Mapping[str, int | None], said_at: int) -> bool:
        return self.aggregator.on_newest_ids(NewestIds(ids, said_at, self.now))

    def saved(self) -> dict[str, Checkpoint]:
        """Return what is written down."""
        for each in self.aggregator.series.values():
            each._saved = None
        self.aggregator._unsaved.update(self.aggregator.series)
        return dict(self.aggregator.collect().checkpoints)

    def proven(self, symbol: str) -> int:
        """Return up to when *symbol* is proven."""
        return (self.saved()[symbol].proven_ms or START) - START

    def reported(self) -> list[str]:
        """Return the laggards that are to be reported."""
        found = [*self.aggregator.lagging]
        self.aggregator.lagging.clear()
        return found


def lagging_market(lag_ms: int = 40_000) -> Market:
    """Return a market in which the exchange's word is behind with one symbol, and was so once."""
    market = Market(*BUSY)
    market.live(MINUTE)
    assert not market.ask(LAGGARD=0, **{LAGGARD: market.now - lag_ms})
    market.live(6_000)
    return market


def behind_by(market: Market, ms: int, *symbols: str) -> dict[str, int]:
    return dict.fromkeys(symbols, market.now - ms)


def test_the_first_word_that_is_behind_with_a_symbol_proves_nothing() -> None:
    market = Market(*BUSY)
    market.live(MINUTE)

    assert not market.ask(**behind_by(market, 40_000, LAGGARD))

    assert market.proven(QUIET) == 0
    assert market.reported() == []
    assert [*market.aggregator.suspects] == [LAGGARD]


def test_the_next_one_proves_something_of_all_others_if_they_show_that_it_is_fresh() -> None:
    market = lagging_market()
    before = market.proven(LAGGARD)

    assert market.ask(**behind_by(market, 40_000, LAGGARD))

    assert market.proven(QUIET) == market.proven(ALSO_QUIET) == market.now - LAG_MS
    assert market.proven(LAGGARD) == before
    assert market.reported() == [LAGGARD]


def test_the_symbol_that_is_left_out_is_reported_once_for_hours_and_again_the_next_time() -> None:
    market = lagging_market()
    for _ in range(3 * 60):
        assert market.ask(**behind_by(market, 40_000, LAGGARD))
        market.live(MINUTE - 400)
    assert market.reported() == [LAGGARD]

    assert market.ask()
    market.live(MINUTE)
    assert not market.ask(**behind_by(market, 40_000, LAGGARD))
    market.live(MINUTE)
    assert market.ask(**behind_by(market, 40_000, LAGGARD))

    assert market.reported() == [LAGGARD]


def test_a_symbol_that_trades_every_few_minutes_is_reported_once_too() -> None:
    market = Market(*OTHERS, quiet=[QUIET, LAGGARD])
    market.live(MINUTE)
    market.trade(LAGGARD)
    market.live(10 * SECOND)
    assert not market.ask(**{LAGGARD: 1})
    market.live(6 * SECOND)
    for minute in range(30):
        assert market.ask(**{LAGGARD: 1})
        market.live(MINUTE)
        if minute % 3 == 0:
            market.trade(LAGGARD)
            market.live(10 * SECOND)

    assert market.reported() == [LAGGARD]


def test_a_stale_word_proves_nothing_however_often_it_comes_if_one_symbol_alone_trades() -> None:
    quiet = [f"QUIET{number}USDT" for number in range(200)]
    market = Market(LAGGARD, quiet=quiet)
    market.live(MINUTE)
    stale = market.newest_ids(market.now)
    market.trade(*quiet, is_hidden=True)

    for _ in range(200):
        market.live(6 * SECOND)
        market.aggregator.mark_witnesses(market.now)
        assert not market.take(stale, START + market.now)

    assert {each.proven_ms for name, each in market.saved().items() if name in quiet} == {START}
    assert market.reported() == []


@pytest.mark.parametrize("age_ms", [10_000, 16_000, 50_000, 90_000])
def test_a_stale_word_proves_nothing_however_often_it_comes_if_many_trade(age_ms: int) -> None:
    market = Market(*BUSY)
    market.live(2 * MINUTE)
    market.trade(QUIET, is_hidden=True)
    market.live(MINUTE)

    for _ in range(60):
        market.live(6 * SECOND)
        assert not market.ask(age_ms)

    assert market.proven(QUIET) == 0


@pytest.mark.parametrize("age_ms", [6_000, 20_000, 50_000])
def test_a_stale_word_that_is_further_behind_with_one_symbol_proves_nothing(age_ms: int) -> None:
    market = lagging_market(55_000)
    market.trade(QUIET, is_hidden=True)
    silent = OTHERS  # of which it lacks nothing therefore
    market.live(30 * SECOND, *silent)

    for _ in range(20):
        market.live(6 * SECOND, *silent)
        market.aggregator.mark_witnesses(market.now)
        ids = market.newest_ids(market.now - age_ms, **behind_by(market, 55_000, LAGGARD))
        if age_ms > 40_000:
            ids[QUIET] = 0
        market.take({**ids, QUIET: 0}, START + market.now)

    assert market.proven(QUIET) == 0


def test_that_others_trades_are_in_it_that_are_newer_than_the_lacking_one_is_not_enough() -> None:
    market = lagging_market(50_000)
    others = market.now - 500
    market.live(WITNESSED_WITHIN_MS + SECOND, *OTHERS)
    market.trade(QUIET, is_hidden=True)

    ids = market.newest_ids(others + 501, **behind_by(market, 50_000, LAGGARD))

    assert not market.take(ids, START + market.now)
    assert market.proven(QUIET) == 0


@pytest.mark.parametrize(("laggards", "witnesses"), [(1, 1), (2, 4), (3, 9), (4, 16), (10, 20)])
def test_the_more_symbols_are_behind_the_more_have_to_show_that_it_is_fresh(
    laggards: int, witnesses: int
) -> None:
    behind, fresh = BUSY[:laggards], BUSY[laggards : laggards + witnesses]
    for others, is_believed in ((fresh, False), ([*fresh, "MOREUSDT"], laggards < 10)):
        market = Market(*behind, *others)
        market.live(MINUTE)
        assert not market.ask(**behind_by(market, 40_000, *behind))
        market.live(6 * SECOND)

        answers = {market.ask(**behind_by(market, 40_000, *behind)) for _ in range(5)}

        assert answers == {is_believed}


def test_another_symbol_that_is_behind_is_another_suspicion() -> None:
    market = lagging_market()

    assert not market.ask(**behind_by(market, 40_000, OTHERS[0]))
    market.live(6_000)
    assert not market.ask(**behind_by(market, 40_000, OTHERS[0], LAGGARD))
    market.live(6_000)
    assert market.ask(**behind_by(market, 40_000, OTHERS[0], LAGGARD))

    assert sorted(market.reported()) == sorted([OTHERS[0], LAGGARD])


def test_a_suspicion_of_an_hour_ago_is_another_one() -> None:
    market = lagging_market()
    market.live(HOUR)

    assert not market.ask(**behind_by(market, 40_000, LAGGARD))


def test_after_a_restart_the_first_word_that_is_behind_is_refused_again() -> None:
    market = lagging_market()
    assert market.ask(**behind_by(market, 40_000, LAGGARD))
    proven = market.proven(QUIET)
    market.restart()
    market.live(20 * SECOND)

    assert not market.ask(**behind_by(market, 40_000, LAGGARD))
    assert market.proven(QUIET) == proven


def test_trades_from_before_a_restart_show_nothing_since_no_stream_has_brought_them() -> None:
    market = lagging_market()
    market.live(6 * SECOND, LAGGARD)
    newest = market.newest_ids(market.now + 1, **behind_by(market, 40_000, LAGGARD))
    market.restart()

    for _ in range(3):
        market.now += 200
        assert not market.take(newest, START + market.now)


def test_duplicates_of_other_connections_make_no_trade_any_younger() -> None:
    market = lagging_market()
    stale = market.newest_ids(market.now + 1, **behind_by(market, 40_000, LAGGARD))
    market.live(4 * SECOND, *OTHERS)
    for symbol in OTHERS:
        number = len(market.times[symbol]) - 1
        again = make_trade(number, START + market.times[symbol][-1], symbol=symbol)
        market.aggregator.add([again], market.now)

    assert not market.take(stale, START + market.now)


def test_a_trade_that_is_known_by_the_exchanges_word_alone_shows_nothing() -> None:
    market = Market(LAGGARD, *OTHERS[:3])
    market.live(MINUTE)
    market.trade(*OTHERS[:3], is_hidden=True)
    word = market.newest_ids(market.now + 1)
    market.live(10 * SECOND, *market.busy)
    assert market.take(word, START + market.now)
    market.aggregator.advance(market.now + LAG_MS)
    stale = {**word, LAGGARD: 5}

    for _ in range(3):
        market.now += 100
        assert not market.take(stale, START + market.now)


def test_higher_ids_of_before_a_restart_of_ids_show_nothing() -> None:
    market = Market(LAGGARD, *OTHERS[:3])
    market.live(MINUTE)
    old = {**market.newest_ids(market.now), LAGGARD: 0}
    for symbol in OTHERS[:3]:
        market.times[symbol].clear()
    market.live(20 * SECOND)
    assert set(market.aggregator.renumbered) == set(OTHERS[:3])

    for _ in range(5):
        market.live(SECOND)
        assert not market.take(old, START + market.now)


def test_a_symbol_whose_ids_have_restarted_unseen_does_not_stop_the_others() -> None:
    market = Market(*OTHERS, quiet=[QUIET, LAGGARD])
    market.live(MINUTE)
    market.trade(LAGGARD)
    market.live(10 * SECOND)

    assert not market.take({**market.newest_ids(market.now), LAGGARD: 0}, START + market.now)
    market.live(6 * SECOND)
    market.aggregator.mark_witnesses(market.now)
    assert market.take({**market.newest_ids(market.now + 1), LAGGARD: 0}, START + market.now)
    before = market.proven(LAGGARD)
    market.live(10 * MINUTE)
    assert market.take({**market.newest_ids(market.now + 1), LAGGARD: 0}, START + market.now)

    assert market.proven(QUIET) == market.now - LAG_MS
    assert market.proven(LAGGARD) == before, "a lower id proves nothing"


def test_a_few_that_trade_are_asked_about_always_and_more_while_it_seems_to_be_behind() -> None:
    market = Market(*BUSY)
    market.live(MINUTE)
    few = market.aggregator.mark_witnesses(market.now)
    assert len(few) == 3
    assert set(few) < set(BUSY)
    market.ask(**behind_by(market, 40_000, LAGGARD))
    market.live(6_000, *BUSY[:15])

    asked = market.aggregator.mark_witnesses(market.now)

    assert set(asked) >= {LAGGARD, *BUSY[15:]}
    assert QUIET not in asked
    market.ask()
    assert len(market.aggregator.mark_witnesses(market.now)) == 3


def test_symbols_that_have_not_traded_for_a_minute_show_nothing_and_are_not_asked_about() -> None:
    market = Market(*BUSY)
    market.live(MINUTE)
    market.live(MINUTE, *BUSY[1:])

    assert market.aggregator.mark_witnesses(market.now) == BUSY[:1]


def test_a_symbol_that_trades_all_the_time_is_a_witness_by_its_trade_when_it_was_asked_about() -> (
    None
):
    market = lagging_market()
    ids = market.newest_ids(market.now + 1, **behind_by(market, 40_000, LAGGARD))
    market.live(2 * SECOND)
    assert not market.take(ids, START + market.now), "nobody knows when those of before came"
    market.aggregator.mark_witnesses(market.now)
    ids = market.newest_ids(market.now + 1, **behind_by(market, 40_000, LAGGARD))
    market.live(2 * SECOND)

    assert market.take(ids, START + market.now)


@given(st.data())
def test_no_word_of_one_moment_that_lies_too_far_back_proves_anything_if_it_lacks_something(
    data: st.DataObject,
) -> None:
    names = [f"S{number}USDT" for number in range(data.draw(st.integers(2, 6)))]
    market = Market(*names, quiet=[QUIET])
    of_a_moment = st.integers(LAG_MS + SECOND, 2 * MINUTE)
    for _ in range(data.draw(st.integers(1, 8))):
        silent = data.draw(st.sets(st.sampled_from(names)))
        market.live(data.draw(st.integers(1, 40)) * SECOND, *silent)
        market.aggregator.mark_witnesses(market.now)
        market.live(data.draw(st.integers(0, 4)) * SECOND, *silent)
        ids = market.newest_ids(market.now - data.draw(of_a_moment))
        is_lacking = any(
            series.lacked_by(ids[name], START + market.now) is not None
            for name, series in market.aggregator.series.items()
        )

        assert market.take(ids, START + market.now) is not is_lacking
