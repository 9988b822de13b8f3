"""Verification against an exchange that is late, revises, leaves out and fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bintrades.core.verification import Outcome
from bintrades.exchange.binance.kline_dump import open_dumps
from bintrades.pipeline.verification import (
    NO_ANSWER,
    SETTLED_AFTER_MS,
    TOO_RECENT,
    Tally,
    Verification,
)
from bintrades.pipeline.verification_sources import ExchangeKlines
from bintrades.util.durations import parse_duration
from tests.kline_dumps import DAY_MS, dump_row
from tests.klines import MINUTE_MS, SECOND_MS, klines_of
from tests.recordings import END_MS, START_MS, generate_recording, open_recording, real_folder
from tests.references import KLINES_WEIGHT, FreeBudget, TradesReference, recorded_trades
from tests.strategies import INTERVAL, bars_of, make_trade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from bintrades.core.spans import Span
    from bintrades.core.verification import Difference
    from bintrades.model import Bar, Kline, Trade

FIRST = START_MS // MINUTE_MS * MINUTE_MS + MINUTE_MS
LAST = END_MS // MINUTE_MS * MINUTE_MS
LATER = LAST + 2 * SETTLED_AFTER_MS
BTC = "BTCUSDT"


class ListedBars:
    """Bars in memory, of symbols that are covered in *spans*."""

    def __init__(self, bars: Iterable[Bar], spans: Sequence[Span] = ((FIRST, LAST),)) -> None:
        self.by_time = {(bar.symbol, bar.open_time_ms): bar for bar in bars}
        self.spans = spans
        self.surplus_at: set[int] = set()
        """Open times of bars where the exchange has no trades."""

    def bars(self, symbol: str, since_ms: int, until_ms: int) -> list[Bar]:
        """Return the bars of that time, oldest first."""
        keys = [key for key in self.by_time if key[0] == symbol and since_ms <= key[1] < until_ms]
        return [self.by_time[key] for key in sorted(keys)]

    def covered(self, symbol: str, since_ms: int, until_ms: int) -> Sequence[Span]:  # noqa: ARG002
        """Return what is covered of that time."""
        parts = [(max(since, since_ms), min(until, until_ms)) for since, until in self.spans]
        return [(since, until) for since, until in parts if since < until]

    def surplus(self, symbol: str, since_ms: int, until_ms: int) -> set[int]:  # noqa: ARG002
        """Return where the exchange is known to have no trades."""
        return {time for time in self.surplus_at if since_ms <= time < until_ms}


@pytest.fixture(scope="module", params=["generated", "real"])
def trades(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Trade]:
    """Return the trades of eleven minutes of two symbols."""
    if request.param == "generated":
        recording = generate_recording(tmp_path_factory.mktemp("recorded") / "spot_20240808")
        return recorded_trades(recording.trades)
    folder = real_folder()
    if folder is None:
        pytest.skip("nobody has put the real recording here")
    return recorded_trades(open_recording(folder).trades)


class Run:
    """One verification of one symbol, and what came of it."""

    def __init__(
        self,
        bars: ListedBars,
        reference: TradesReference,
        span: Span = (FIRST, LAST),
        *,
        utc: Callable[[], int] = lambda: LATER,
        **options: Any,
    ) -> None:
        self.clock = 0
        self.waits: list[float] = []
        self.budget = FreeBudget()
        source = ExchangeKlines(reference, self.budget, now=self._now, sleep=self._sleep)
        self._requests = reference.asked
        verification = Verification(bars, source, INTERVAL, utc=utc, **options)
        self.tally = Tally()
        self.differences: list[Difference] = [
            each for page in verification.verify(BTC, *span, self.tally) for each in page
        ]

    def _now(self) -> int:
        return self.clock + 10_000 * len(self._requests)  # each takes its time

    def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock += int(seconds * 1_000) + 1

    @property
    def places(self) -> list[tuple[int, int]]:
        """Where something differs: open time and length."""
        return [(each.open_time_ms, each.interval_ms) for each in self.differences]

    @property
    def is_equal(self) -> bool:
        """Whether all of that time is equal."""
        return not self.differences and self.tally.equal_ms == self.tally.total_ms == LAST - FIRST


def btc(trades: Iterable[Trade]) -> list[Trade]:
    """Return the trades of BTCUSDT."""
    return [trade for trade in trades if trade.symbol == BTC]


def listed(trades: Iterable[Trade]) -> ListedBars:
    """Return the bars of *trades*."""
    return ListedBars(bars_of(trades).values())


def a_trade_within(trades: Iterable[Trade]) -> Trade:
    """Return a trade in the middle of a bar in the middle of a minute, one of many there."""
    opens = FIRST + 3 * MINUTE_MS + 20_000
    members = [each for each in btc(trades) if opens <= each.time < opens + INTERVAL]
    assert len(members) > 4
    return members[len(members) // 2]


@pytest.mark.parametrize("by_bar", [False, True])
def test_recorded_bars_are_what_the_exchange_has(trades: list[Trade], by_bar: bool) -> None:
    run = Run(listed(trades), TradesReference(trades, LATER), by_bar=by_bar)

    assert run.is_equal


def without(trades: list[Trade]) -> list[Trade]:
    """Lose a trade."""
    lost = a_trade_within(trades)
    return [each for each in trades if each != lost]


def doubled(trades: list[Trade]) -> list[Trade]:
    """Count a trade twice."""
    return [*trades, a_trade_within(trades)]


@pytest.mark.parametrize("fault", [without, doubled])
@pytest.mark.parametrize("by_bar", [False, True])
def test_a_lost_and_a_doubled_trade_are_found_in_their_bar(
    trades: list[Trade], fault: Callable[[list[Trade]], list[Trade]], by_bar: bool
) -> None:
    run = Run(listed(fault(trades)), TradesReference(trades, LATER), by_bar=by_bar)

    wrong = a_trade_within(trades).time // INTERVAL * INTERVAL
    assert run.places == [(wrong, INTERVAL)]
    assert run.tally.different_ms == (INTERVAL if by_bar else MINUTE_MS)
    assert run.tally.equal_ms == LAST - FIRST - run.tally.different_ms
    ours, theirs = run.differences[0].fields["trade_count"]
    assert abs(int(ours or 0) - int(theirs or 0)) == 1


def test_a_bar_moved_by_one_interval_is_found_in_both(trades: list[Trade]) -> None:
    bars = listed(trades)
    opens = a_trade_within(trades).time // INTERVAL * INTERVAL
    moved = bars.by_time.pop((BTC, opens))
    bars.by_time[BTC, opens + INTERVAL] = replace(moved, open_time_ms=opens + INTERVAL)

    run = Run(bars, TradesReference(trades, LATER))

    assert run.places == [(opens, INTERVAL), (opens + INTERVAL, INTERVAL)]


def test_a_bar_moved_to_where_none_is_is_found_though_its_minute_is_equal() -> None:
    trades = [make_trade(1, FIRST + 5_000), make_trade(2, FIRST + 45_000)]
    bars = listed(trades)
    moved = bars.by_time.pop((BTC, FIRST))
    bars.by_time[BTC, FIRST + INTERVAL] = replace(moved, open_time_ms=FIRST + INTERVAL)

    run = Run(bars, TradesReference(trades, LATER))

    assert run.places == [(FIRST, INTERVAL), (FIRST + INTERVAL, INTERVAL)]
    assert run.tally.different_ms == MINUTE_MS


def test_a_bar_that_is_not_there_is_found(trades: list[Trade]) -> None:
    bars = listed(trades)
    opens = a_trade_within(trades).time // INTERVAL * INTERVAL
    del bars.by_time[BTC, opens]

    assert Run(bars, TradesReference(trades, LATER)).places == [(opens, INTERVAL)]


def test_without_klines_of_a_second_the_minute_is_what_differs(trades: list[Trade]) -> None:
    reference = TradesReference(trades, LATER, (MINUTE_MS,))

    run = Run(listed(without(trades)), reference)

    assert run.places == [(a_trade_within(trades).time // MINUTE_MS * MINUTE_MS, MINUTE_MS)]


def test_where_nobody_can_tell_which_bar_is_wrong_it_is_not_checked() -> None:
    trades = [make_trade(1, FIRST + 5_000)]
    bars = listed(trades)
    moved = bars.by_time.pop((BTC, FIRST))
    bars.by_time[BTC, FIRST + INTERVAL] = replace(moved, open_time_ms=FIRST + INTERVAL)

    run = Run(bars, TradesReference(trades, LATER, (MINUTE_MS,)))

    assert run.differences == []
    assert run.tally.not_checked_ms == {Outcome.SUSPECT: MINUTE_MS}


def test_a_minute_in_which_a_bar_contradicts_itself_is_not_equal_without_all_its_klines() -> None:
    trades = [make_trade(1, FIRST + 1_000), make_trade(3, FIRST + 2_000)]
    reference = TradesReference(trades, LATER)
    reference.revise = lambda kline: (
        None if (kline.open_time_ms, kline.interval_ms) == (FIRST + 5_000, SECOND_MS) else kline
    )

    run = Run(listed(trades), reference)

    assert run.differences == []
    assert run.tally.not_checked_ms == {Outcome.SUSPECT: MINUTE_MS}


def test_a_kline_that_is_revised_the_second_time_makes_no_difference(trades: list[Trade]) -> None:
    reference = TradesReference(trades, LATER)

    def revise(kline: Kline) -> Kline:
        is_first = len(reference.asked) == 1
        return replace(kline, trade_count=kline.trade_count + 1) if is_first else kline

    reference.revise = revise
    run = Run(listed(trades), reference)

    assert run.is_equal
    assert len(reference.asked) == 3


def test_a_bar_that_was_amended_meanwhile_makes_no_difference(trades: list[Trade]) -> None:
    class Amended(ListedBars):
        def bars(self, symbol: str, since_ms: int, until_ms: int) -> list[Bar]:
            found = super().bars(symbol, since_ms, until_ms)
            self.by_time = dict(bars_of(trades_left.pop()).items()) if trades_left else self.by_time
            return found

    trades_left = [trades]
    run = Run(Amended(bars_of(without(trades)).values()), TradesReference(trades, LATER))

    assert run.is_equal


def test_klines_of_a_second_that_do_not_add_up_locate_nothing(trades: list[Trade]) -> None:
    reference = TradesReference(trades, LATER)
    wrong = a_trade_within(trades).time // SECOND_MS * SECOND_MS
    revised = (SECOND_MS, wrong - INTERVAL)
    reference.revise = lambda kline: (
        replace(kline, trade_count=kline.trade_count + 1)
        if (kline.interval_ms, kline.open_time_ms) == revised
        else kline
    )

    run = Run(listed(without(trades)), reference)

    assert run.places == [(wrong // MINUTE_MS * MINUTE_MS, MINUTE_MS)]


@pytest.mark.parametrize("fault", [list, without])
def test_klines_that_are_left_out_prove_no_difference(
    trades: list[Trade], fault: Callable[[list[Trade]], list[Trade]]
) -> None:
    reference = TradesReference(trades, LATER)
    missing = a_trade_within(trades).time // MINUTE_MS * MINUTE_MS
    reference.revise = lambda kline: (
        None if missing <= kline.open_time_ms < missing + MINUTE_MS else kline
    )

    run = Run(listed(fault(trades)), reference)

    assert run.differences == []
    assert run.tally.not_checked_ms == {Outcome.NO_KLINE: MINUTE_MS}
    assert run.tally.equal_ms == LAST - FIRST - MINUTE_MS


def test_a_bar_that_lacks_just_the_trades_of_a_missing_kline_is_not_equal(
    trades: list[Trade],
) -> None:
    lost = a_trade_within(trades).time // SECOND_MS * SECOND_MS
    reference = TradesReference(trades, LATER)
    reference.revise = lambda kline: None if kline.open_time_ms == lost else kline
    kept = [each for each in btc(trades) if each.time // SECOND_MS * SECOND_MS != lost]

    run = Run(listed(kept), reference, by_bar=True)

    assert run.differences == []
    assert run.tally.not_checked_ms == {Outcome.NO_KLINE: INTERVAL}


def test_what_ended_less_than_five_minutes_ago_is_not_asked_for(trades: list[Trade]) -> None:
    now = LAST + SETTLED_AFTER_MS - MINUTE_MS - 1
    reference = TradesReference(trades, now)

    run = Run(listed(trades), reference, utc=lambda: now)

    assert run.tally.not_checked_ms == {TOO_RECENT: 2 * MINUTE_MS}
    assert run.tally.equal_ms == LAST - FIRST - 2 * MINUTE_MS


def test_what_is_to_come_is_not_counted() -> None:
    now = LAST + SETTLED_AFTER_MS

    run = Run(listed([]), TradesReference([], now), (FIRST, now + 86_400_000), utc=lambda: now)

    assert run.tally.total_ms == now - FIRST


def test_a_local_clock_that_is_ahead_makes_no_young_kline_final(trades: list[Trade]) -> None:
    now = LAST + SETTLED_AFTER_MS - MINUTE_MS - 1
    reference = TradesReference(trades, now)
    reference.revise = lambda kline: (
        replace(kline, trade_count=kline.trade_count // 2)
        if kline.open_time_ms >= LAST - 2 * MINUTE_MS
        else kline
    )

    run = Run(listed(trades), reference, utc=lambda: now + 3_600_000)

    assert run.differences == []
    assert run.tally.not_checked_ms == {TOO_RECENT: 2 * MINUTE_MS}


def test_of_what_is_too_recent_as_a_whole_nothing_is_asked(trades: list[Trade]) -> None:
    reference = TradesReference(trades, LATER)

    run = Run(listed(trades), reference, utc=lambda: FIRST + 4 * MINUTE_MS)

    assert run.tally.not_checked_ms == {TOO_RECENT: 4 * MINUTE_MS}
    assert reference.asked == []


def test_a_page_is_asked_for_to_its_end() -> None:
    since = FIRST - 20 * MINUTE_MS
    trades = [make_trade(number, since + number * 1_000) for number in range(1, 1_200)]
    bars = ListedBars(bars_of(trades).values(), ((since, FIRST),))

    run = Run(bars, TradesReference(trades, LATER), (since, FIRST), by_bar=True)

    assert run.differences == []
    assert run.tally.equal_ms == FIRST - since


def test_minutes_that_differ_far_from_each_other_are_looked_at_one_by_one(
    trades: list[Trade],
) -> None:
    places = (FIRST + MINUTE_MS, FIRST + 2 * MINUTE_MS, FIRST + 7 * MINUTE_MS)
    bars = listed(trades)
    for opens in places:
        del bars.by_time[BTC, opens]
    reference = TradesReference(trades, LATER)

    run = Run(bars, reference)

    assert run.places == [(opens, INTERVAL) for opens in places]
    assert run.tally.total_ms == LAST - FIRST
    assert len(reference.asked) == 1 + 2 * 2


def test_a_bar_that_only_seems_to_contradict_itself_is_equal() -> None:
    trades = [make_trade(1, FIRST + 1), make_trade(3, FIRST + 2)]  # the exchange left out an id

    assert Run(listed(trades), TradesReference(trades, LATER)).is_equal


def test_a_request_that_fails_is_made_again(trades: list[Trade]) -> None:
    reference = TradesReference(trades, LATER)
    reference.errors.extend(["no answer", "no answer"])

    run = Run(listed(trades), reference)

    assert run.is_equal
    assert len(run.waits) == 2


def test_what_is_never_answered_is_not_checked_and_says_why(trades: list[Trade]) -> None:
    reference = TradesReference(trades, LATER)
    reference.errors.extend(["no answer"] * 100)

    run = Run(listed(without(trades)), reference)

    assert run.differences == []
    assert run.tally.not_checked_ms == {NO_ANSWER: LAST - FIRST}
    assert run.tally.last_error == "no answer"
    assert len(reference.asked) == 4


def test_a_difference_that_cannot_be_asked_for_again_is_not_checked(trades: list[Trade]) -> None:
    reference = TradesReference(trades, LATER)
    reference.errors.extend([None, *["no answer"] * 100])

    run = Run(listed(without(trades)), reference)

    assert run.differences == []
    assert run.tally.not_checked_ms == {NO_ANSWER: MINUTE_MS}


def test_where_nothing_answers_any_more_nothing_is_asked() -> None:
    days = 100
    trades = [make_trade(1, FIRST)]
    reference = TradesReference(trades, LATER)
    reference.errors.extend(["no answer"] * 10_000)
    since = FIRST - days * 86_400_000

    run = Run(ListedBars(bars_of(trades).values(), ((since, LAST),)), reference, (since, LAST))

    assert run.tally.not_checked_ms == {NO_ANSWER: LAST - since}
    assert run.tally.last_error is not None
    assert "is not asked" in run.tally.last_error
    assert len(reference.asked) == 4 + 61  # attempts for the first page only, then ten minutes


def test_requests_wait_for_their_share_of_the_weight(trades: list[Trade]) -> None:
    reference = TradesReference(trades, LATER)
    run = Run(listed([]), reference, (FIRST, FIRST))
    run.budget.blocked_until = 30_000
    source = ExchangeKlines(
        reference,
        run.budget,
        now=lambda: run.clock,
        sleep=run._sleep,
    )

    assert source.klines(BTC, MINUTE_MS, FIRST, LAST)
    assert run.waits == [30.0]
    assert run.budget.spent == KLINES_WEIGHT


def test_a_long_block_is_not_waited_for(trades: list[Trade]) -> None:
    run = Run(listed([]), TradesReference(trades, LATER), (FIRST, FIRST))
    run.budget.blocked_until = 3_600_000
    source = ExchangeKlines(
        TradesReference(trades, LATER),
        run.budget,
        now=lambda: run.clock,
        sleep=run._sleep,
    )
    bars = listed(trades)
    tally = Tally()

    found = list(
        Verification(bars, source, INTERVAL, utc=lambda: LATER).verify(BTC, FIRST, LAST, tally)
    )

    assert not any(found)
    assert tally.not_checked_ms == {NO_ANSWER: LAST - FIRST}
    assert "wants no requests for 59 minutes" in str(tally.last_error)


def test_sixteen_hours_are_one_request_and_a_time_without_anything_is_none() -> None:
    trades = [make_trade(1, FIRST)]
    reference = TradesReference(trades, LATER)
    since = FIRST - 30 * 86_400_000
    bars = ListedBars(bars_of(trades).values(), ((FIRST - 960 * MINUTE_MS, LAST),))

    run = Run(bars, reference, (since, LAST))

    assert run.tally.equal_ms >= 960 * MINUTE_MS
    assert run.tally.total_ms == LAST - since
    assert len(reference.asked) <= 3
    assert set(run.tally.not_checked_ms) == {Outcome.INCOMPLETE}


@pytest.mark.parametrize("length", ["1h", "1d"])
def test_of_a_month_of_long_klines_in_a_file_no_more_than_a_day_of_bars_is_read_at_once(
    tmp_path: Path, length: str
) -> None:
    since = FIRST - FIRST % DAY_MS - 7 * DAY_MS
    span = (since, since + 31 * DAY_MS)  # August 2024
    trades = [make_trade(day, since + day * DAY_MS + day) for day in range(31)]
    klines = klines_of(trades, parse_duration(length), *span)
    path = tmp_path / f"{BTC}-{length}-2024-08.csv"
    path.write_text("".join(f"{dump_row(kline)}\n" for kline in klines), encoding="utf-8")
    reads: list[Span] = []

    class WatchedBars(ListedBars):
        def bars(self, symbol: str, since_ms: int, until_ms: int) -> list[Bar]:
            reads.append((since_ms, until_ms))
            return super().bars(symbol, since_ms, until_ms)

    bars = WatchedBars(bars_of(trades).values(), (span,))
    (dumps,) = open_dumps([path])
    tally = Tally()
    found = list(Verification(bars, dumps, INTERVAL).verify(BTC, *span, tally))

    assert not any(found)
    assert tally.equal_ms == 31 * DAY_MS
    assert max(until - since for since, until in reads) <= 10_000 * INTERVAL


def test_bars_of_a_gap_are_not_held_against_us(trades: list[Trade]) -> None:
    lost = a_trade_within(trades)
    opens = lost.time // INTERVAL * INTERVAL
    bars = ListedBars(bars_of(without(trades)).values(), ((FIRST, opens), (opens + INTERVAL, LAST)))
    bars.by_time[BTC, opens] = replace(bars.by_time[BTC, opens], is_complete=False)

    run = Run(bars, TradesReference(trades, LATER))

    assert run.differences == []
    assert run.tally.not_checked_ms == {Outcome.INCOMPLETE: MINUTE_MS}


def test_a_wrong_bar_beside_an_incomplete_one_is_found(trades: list[Trade]) -> None:
    bars = listed(without(trades))
    opens = a_trade_within(trades).time // INTERVAL * INTERVAL
    beside = (BTC, opens + INTERVAL)
    bars.by_time[beside] = replace(bars.by_time[beside], is_complete=False)

    assert Run(bars, TradesReference(trades, LATER)).places == [(opens, INTERVAL)]


@pytest.mark.parametrize("by_bar", [False, True])
def test_a_bar_where_the_exchange_has_no_trades_is_not_checked_once_it_says_so(
    trades: list[Trade], by_bar: bool
) -> None:
    opens = bar_of(a_trade_within(trades))
    others = [each for each in btc(trades) if bar_of(each) != opens]
    bars = listed(trades)
    bars.by_time[BTC, opens] = replace(bars.by_time[BTC, opens], is_complete=False)
    bars.surplus_at = {opens}

    run = Run(bars, TradesReference(others, LATER), by_bar=by_bar)
    unit = INTERVAL if by_bar else MINUTE_MS
    assert run.tally.not_checked_ms == {Outcome.SURPLUS: unit}
    assert run.tally.equal_ms == LAST - FIRST - unit
    assert run.differences == []

    run = Run(bars, TradesReference(trades, LATER), by_bar=by_bar)
    assert run.places == [(opens, INTERVAL)], "there are trades after all"


def test_beside_such_a_bar_another_one_that_seems_to_contradict_itself_is_equal(
    trades: list[Trade],
) -> None:
    surplus = bar_of(a_trade_within(trades))
    others = [each for each in btc(trades) if bar_of(each) != surplus]
    in_the_minute = surplus // MINUTE_MS * MINUTE_MS, surplus
    odd = next(each for each in others if in_the_minute[0] <= each.time < in_the_minute[1])
    renumbered = [  # of its bar ids are left out
        replace(each, trade_id=each.trade_id + 5 * (each.trade_id > odd.trade_id))
        for each in btc(trades)
    ]
    bars = listed(renumbered)
    bars.by_time[BTC, surplus] = replace(bars.by_time[BTC, surplus], is_complete=False)
    bars.surplus_at = {surplus}

    run = Run(bars, TradesReference([e for e in renumbered if bar_of(e) != surplus], LATER))

    assert run.differences == []
    assert run.tally.not_checked_ms == {Outcome.SURPLUS: MINUTE_MS}


def bar_of(trade: Trade) -> int:
    return trade.time // INTERVAL * INTERVAL
