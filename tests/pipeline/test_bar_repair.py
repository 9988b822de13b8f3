"""Bars that differ, made again of the exchange's trades."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.pipeline.bar_repair import BarRepair, RepairOutcome
from bintrades.pipeline.verification import Tally, Verification
from bintrades.pipeline.verification_sources import ExchangeKlines
from tests.klines import MINUTE_MS, SECOND_MS
from tests.pipeline.test_verification import ListedBars
from tests.references import FreeBudget, TradesReference
from tests.strategies import INTERVAL, START, bars_of, make_trade, spot_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.core.verification import Difference
    from bintrades.model import Bar, Trade

BTC = "BTCUSDT"
END = START + 2 * MINUTE_MS
TRADES = [make_trade(number, START + number * 3_000) for number in range(40)]


class Repair:
    """A repair of bars in memory, which take their places unless they are refused."""

    def __init__(
        self,
        bars: ListedBars,
        trades: Sequence[Trade] = TRADES,
        lengths: tuple[int, ...] = (MINUTE_MS, SECOND_MS),
        journal: ListedBars | None = None,
    ) -> None:
        self.bars = bars
        self.put: list[Bar] = []
        self.takes = bars
        """Where bars are put."""
        self.refused: set[int] = set()  # open times
        self.reference = TradesReference(trades, END + 86_400_000, lengths)
        source = ExchangeKlines(
            self.reference, FreeBudget(), now=lambda: 0, sleep=lambda _seconds: None
        )
        utc: Callable[[], int] = lambda: END + 86_400_000  # noqa: E731
        self.verification = Verification(bars, source, INTERVAL, utc=utc)
        self.repair = BarRepair(
            bars,
            journal or bars,
            source,
            self._put,
            self.verification,
            series=spot_key,
            interval_ms=INTERVAL,
        )

    def _put(self, bars: Sequence[Bar]) -> Sequence[Bar]:
        self.put += bars
        taken = [bar for bar in bars if bar.open_time_ms not in self.refused]
        self.takes.by_time.update({(bar.symbol, bar.open_time_ms): bar for bar in taken})
        self.bars.surplus_at |= {bar.open_time_ms for bar in taken if not bar.is_complete}
        return [bar for bar in bars if bar not in taken]

    def differences(self) -> list[Difference]:
        """Return what differs now."""
        pages = self.verification.verify(BTC, START, END, Tally())
        return [each for page in pages for each in page]


def listed(trades: Sequence[Trade]) -> ListedBars:
    """Return the bars of *trades*, all of that time covered."""
    return ListedBars(bars_of(trades).values(), ((START, END),))


@pytest.mark.parametrize("lengths", [(MINUTE_MS, SECOND_MS), (MINUTE_MS,)])
def test_only_the_bars_that_are_wrong_are_made_again(lengths: tuple[int, ...]) -> None:
    repair = Repair(listed([each for each in TRADES if each.trade_id != 12]), lengths=lengths)

    assert repair.repair.repair(repair.differences()) == [RepairOutcome.REPAIRED]

    assert [(bar.open_time_ms, bar.epoch) for bar in repair.put] == [(START + 30_000, 1)]
    assert repair.differences() == []
    expected = bars_of(TRADES)
    assert {key: replace(bar, epoch=0) for key, bar in repair.bars.by_time.items()} == expected


def test_a_bar_in_a_later_epoch_gets_the_next_one() -> None:
    bars = listed(TRADES)
    key = (BTC, START)
    bars.by_time[key] = replace(bars.by_time[key], trade_count=9, epoch=3)
    journal = listed(TRADES)
    journal.by_time[key] = replace(journal.by_time[key], epoch=7)
    repair = Repair(bars, journal=journal)

    assert repair.repair.repair(repair.differences()) == [RepairOutcome.REPAIRED]

    assert repair.bars.by_time[key].epoch == 8


def test_a_bar_that_the_journal_refuses_stays() -> None:
    repair = Repair(listed([each for each in TRADES if each.trade_id not in (12, 38)]))
    repair.refused = {START + 110_000}

    assert repair.repair.repair(repair.differences()) == [
        RepairOutcome.REPAIRED,
        RepairOutcome.REFUSED,
    ]


def test_trades_that_are_not_to_be_had_repair_nothing() -> None:
    repair = Repair(listed(TRADES[:-1]))
    differences = repair.differences()
    repair.reference.errors.extend(["no answer"] * 10)

    assert repair.repair.repair(differences) == [RepairOutcome.UNANSWERED]
    assert repair.put == []


def test_trades_that_take_a_key_are_asked_for_once_and_that_is_said() -> None:
    repair = Repair(listed(TRADES[:-1]))
    differences = repair.differences()
    repair.reference.is_not_told = True
    repair.reference.asked.clear()

    assert repair.repair.repair(differences) == [RepairOutcome.NOT_TOLD]
    assert repair.put == []
    assert len(repair.reference.asked) == 1


def approximated(*open_times: int) -> ListedBars:
    """Return the bars of TRADES, in some of which aggregates stand in for the trades."""
    bars = listed(TRADES)
    for opens in open_times:
        bar = bars.by_time[BTC, opens]
        bars.by_time[BTC, opens] = replace(bar, is_approximate=True, is_complete=False)
    return bars


def test_approximate_bars_are_made_again_of_the_trades_neighbours_together() -> None:
    repair = Repair(approximated(START, START + 10_000, START + 40_000))

    assert repair.repair.replace_approximations(BTC, START, END) == 3

    expected = bars_of(TRADES)
    for opens in (START, START + 10_000, START + 40_000):
        bar = repair.bars.by_time[BTC, opens]
        assert bar == replace(expected[BTC, opens], epoch=1)
    assert {bar.epoch for bar in repair.bars.by_time.values()} == {0, 1}
    assert len(repair.reference.asked) == 2
    assert repair.repair.replace_approximations(BTC, START, END) == 0


def test_bars_whose_trades_cannot_be_had_singly_stay_approximate() -> None:
    repair = Repair(approximated(START, START + 40_000))
    repair.reference.is_not_told = True

    assert repair.repair.replace_approximations(BTC, START, END) == 0

    assert len(repair.reference.asked) == 1, "nor can those of the others"
    assert repair.put == []


def test_an_approximate_bar_that_the_journal_refuses_does_not_count() -> None:
    repair = Repair(approximated(START, START + 10_000))
    repair.refused = {START + 10_000}

    assert repair.repair.replace_approximations(BTC, START, END) == 1


def test_a_repair_that_cannot_be_verified_since_nothing_is_answered_is_no_success() -> None:
    repair = Repair(listed(TRADES[:-1]))
    differences = repair.differences()
    repair.reference.errors.extend([None, *["no answer"] * 10])

    assert repair.repair.repair(differences) == [RepairOutcome.UNANSWERED]
    assert [bar.open_time_ms for bar in repair.put] == [START + 110_000]


def test_a_repair_that_cannot_be_verified_since_there_are_no_klines_is_no_success() -> None:
    repair = Repair(listed(TRADES[:-1]))
    differences = repair.differences()
    repair.reference.revise = lambda _: None

    assert repair.repair.repair(differences) == [RepairOutcome.UNANSWERED]
    assert repair.differences() == []


class BehindBars(ListedBars):
    """Bars of a store that gets nothing at the moment, and a journal that has better ones."""

    def __init__(self, trades: Sequence[Trade], journal: ListedBars) -> None:
        super().__init__(bars_of(trades).values(), ((START, END),))
        self.journal = journal

    def bars(self, symbol: str, since_ms: int, until_ms: int) -> list[Bar]:
        """Return those of the store; better ones of the journal as not complete."""
        better = self.journal.bars(symbol, since_ms, until_ms)
        return [
            own if new.epoch <= own.epoch else replace(new, is_complete=False)
            for own, new in zip(super().bars(symbol, since_ms, until_ms), better, strict=True)
        ]


@pytest.mark.parametrize("errors", [[], [None, *["no answer"] * 10]])
def test_bars_that_a_store_is_still_to_get_are_rebuilt(errors: list[str | None]) -> None:
    journal = listed(TRADES[:-1])
    repair = Repair(BehindBars(TRADES[:-1], journal), journal=journal)
    repair.takes = journal
    differences = repair.differences()
    repair.reference.errors.extend(errors)

    assert repair.repair.repair(differences) == [RepairOutcome.REBUILT]


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_bar_beside_one_that_is_not_complete_is_compared_by_itself(is_answered: bool) -> None:
    bars = listed(TRADES[:-1])
    bars.by_time[BTC, START + 60_000] = replace(
        bars.by_time[BTC, START + 60_000], is_complete=False
    )
    repair = Repair(bars)
    differences = repair.differences()
    assert [each.open_time_ms for each in differences] == [START + 110_000]
    if not is_answered:
        repair.reference.errors.extend([None, *["no answer"] * 20])

    expected = RepairOutcome.REPAIRED if is_answered else RepairOutcome.UNANSWERED
    assert repair.repair.repair(differences) == [expected]


def test_beside_one_that_is_not_complete_nothing_is_repaired_without_klines_of_a_second() -> None:
    bars = listed(TRADES[:-1])
    key = BTC, START + 60_000
    bars.by_time[key] = replace(bars.by_time[key], is_complete=False)
    repair = Repair(bars)
    differences = repair.differences()
    repair.reference.revise = lambda kline: None if kline.interval_ms == SECOND_MS else kline

    assert repair.repair.repair(differences) == [RepairOutcome.UNANSWERED]


def test_a_bar_beside_one_where_the_exchange_has_no_trades_is_repaired() -> None:
    bars = listed(TRADES)
    bars.by_time[BTC, LAST] = replace(bars.by_time[BTC, LAST], is_complete=False, epoch=1)
    bars.surplus_at = {LAST}
    key = BTC, START + 60_000
    bars.by_time[key] = replace(bars.by_time[key], trade_count=9)
    repair = Repair(bars, BEFORE_LAST)

    assert repair.repair.repair(repair.differences()) == [RepairOutcome.REPAIRED]


def test_ids_that_the_exchange_has_left_out_keep_no_bar_from_being_repaired() -> None:
    trades = [replace(each, trade_id=each.trade_id + 5 * (each.trade_id > 38)) for each in TRADES]
    repair = Repair(listed(TRADES[:-2]), trades, (MINUTE_MS,))

    assert repair.repair.repair(repair.differences()) == [RepairOutcome.REPAIRED]


def test_klines_that_differ_from_the_trades_stay_different() -> None:
    repair = Repair(listed([each for each in TRADES if each.trade_id != 12]))
    repair.reference.revise = lambda kline: (
        replace(kline, trade_count=kline.trade_count + 5)
        if kline.open_time_ms in (START, START + 30_000)
        else kline
    )

    assert repair.repair.repair(repair.differences()) == [RepairOutcome.STAYS]
    assert len(repair.put) == 1


def test_each_of_several_has_its_own_outcome() -> None:
    wrong = [each for each in TRADES if each.trade_id != 12]
    wrong.append(make_trade(100, START + 115_500))  # a trade that the exchange does not have
    repair = Repair(listed(wrong), [each for each in TRADES if each.time < START + 110_000])

    outcomes = repair.repair.repair(repair.differences())

    assert outcomes == [RepairOutcome.REPAIRED, RepairOutcome.NO_TRADES]


LAST = START + 110_000
"""When the bar opens of which the exchange has no trades in the tests that follow."""

BEFORE_LAST = [each for each in TRADES if each.time < LAST]


@pytest.mark.parametrize("lengths", [(MINUTE_MS, SECOND_MS), (MINUTE_MS,)])
def test_a_bar_where_the_exchange_has_no_trades_is_put_again_as_not_complete_once(
    lengths: tuple[int, ...],
) -> None:
    repair = Repair(listed(TRADES), BEFORE_LAST, lengths)

    assert repair.repair.repair(repair.differences()) == [RepairOutcome.NO_TRADES]

    expected = replace(bars_of(TRADES)[BTC, LAST], is_complete=False, epoch=1)
    assert repair.put == [expected]
    assert repair.differences() == [], "it is known"
    repair.reference.replace_trades(TRADES)
    assert repair.repair.repair(repair.differences()) == [RepairOutcome.REPAIRED]
    assert repair.bars.by_time[BTC, LAST] == replace(expected, is_complete=True, epoch=2)


def test_a_bar_that_was_moved_is_made_again_in_its_place_and_not_complete_in_the_other() -> None:
    bars = listed(BEFORE_LAST)
    bars.by_time[BTC, LAST] = replace(bars.by_time.pop((BTC, START)), open_time_ms=LAST)
    repair = Repair(bars, BEFORE_LAST)

    assert repair.repair.repair(repair.differences()) == [
        RepairOutcome.REPAIRED,
        RepairOutcome.NO_TRADES,
    ]

    assert bars.by_time[BTC, START] == replace(bars_of(BEFORE_LAST)[BTC, START], epoch=1)
    assert [time for (_, time), bar in bars.by_time.items() if not bar.is_complete] == [LAST]


def test_a_bar_that_only_a_store_has_gets_an_epoch_beyond_both() -> None:
    bars = listed(TRADES)
    bars.by_time[BTC, LAST] = replace(bars.by_time[BTC, LAST], epoch=4)
    repair = Repair(bars, BEFORE_LAST, journal=listed(BEFORE_LAST))

    assert repair.repair.repair(repair.differences()) == [RepairOutcome.NO_TRADES]

    assert [(bar.open_time_ms, bar.epoch, bar.is_complete) for bar in repair.put] == [
        (LAST, 5, False)
    ]


def test_one_that_the_journal_refuses_stays_as_it_is() -> None:
    repair = Repair(listed(TRADES), BEFORE_LAST)
    repair.refused = {LAST}

    assert repair.repair.repair(repair.differences()) == [RepairOutcome.REFUSED]
