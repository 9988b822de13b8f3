"""Which trades count, and which are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from bintrades.ledger import Ledger, LedgerState
from bintrades.model import Gap
from tests.strategies import START, trades_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.model import Trade

ids = st.lists(st.integers(0, 30), max_size=60)
"""Ids as they come: with holes, again, and in any order."""


def fed(sequence: Sequence[int]) -> tuple[Ledger, list[bool]]:
    """Return a ledger after *sequence*, and what it said to each id; time is the id."""
    ledger = Ledger()
    return ledger, [ledger.admit(trade_id, START + trade_id) for trade_id in sequence]


def gaps_of(ledger: Ledger) -> tuple[Gap, ...]:
    return ledger.state.gaps if ledger.state else ()


def missing_ids(ledger: Ledger) -> list[int]:
    return [
        trade_id for gap in gaps_of(ledger) for trade_id in range(gap.first_id, gap.last_id + 1)
    ]


@given(ids)
def test_each_id_from_the_first_on_counts_exactly_once(sequence: list[int]) -> None:
    _, answers = fed(sequence)

    admitted = [trade_id for trade_id, answer in zip(sequence, answers, strict=True) if answer]
    assert sorted(admitted) == sorted({i for i in sequence if i >= sequence[0]})


@given(ids)
def test_what_is_missing_is_exactly_what_was_not_seen_between_the_first_and_the_highest(
    sequence: list[int],
) -> None:
    ledger, _ = fed(sequence)

    expected = (
        sorted(set(range(sequence[0], max(sequence) + 1)) - set(sequence)) if sequence else []
    )
    assert missing_ids(ledger) == expected


@given(ids)
def test_gaps_are_in_order_and_never_empty(sequence: list[int]) -> None:
    ledger, _ = fed(sequence)

    assert all(gap.size > 0 for gap in gaps_of(ledger))
    assert list(gaps_of(ledger)) == sorted(gaps_of(ledger), key=lambda gap: gap.first_id)


@given(ids, ids)
def test_a_ledger_goes_on_from_what_was_written_down(before: list[int], after: list[int]) -> None:
    ledger, _ = fed(before)
    restarted = Ledger(ledger.state)

    for trade_id in after:
        time = START + trade_id
        assert restarted.admit(trade_id, time) == ledger.admit(trade_id, time)
    assert restarted.state == ledger.state


@given(
    st.data(),
    trades_of("BTCUSDT", is_time_ordered=True).filter(lambda trades: len(trades) >= 2),
)
def test_the_span_of_a_gap_holds_the_times_of_the_trades_that_are_missing(
    data: st.DataObject, trades: list[Trade]
) -> None:
    ledger = Ledger()
    ledger.admit(trades[0].trade_id, trades[0].time)
    for trade in data.draw(st.lists(st.sampled_from(trades), max_size=30)):
        ledger.admit(trade.trade_id, trade.time)

    by_id = {trade.trade_id: trade for trade in trades}
    for gap in gaps_of(ledger):
        for trade_id in range(gap.first_id, gap.last_id + 1):
            assert gap.since_ms <= by_id[trade_id].time <= gap.until_ms


def test_a_ledger_that_saw_nothing_has_nothing_to_write_down() -> None:
    assert Ledger().state is None


def test_skipped_ids_are_a_gap_from_the_trade_before_to_the_trade_after() -> None:
    ledger = Ledger()
    ledger.admit(7, START)

    assert ledger.admit(10, START + 500, cause="reconnect")
    assert gaps_of(ledger) == (Gap(8, 9, START, START + 500, "reconnect"),)


def test_an_id_inside_a_gap_is_welcome_however_late_and_splits_it() -> None:
    ledger = Ledger()
    ledger.admit(1, START)
    ledger.admit(9, START + 900)
    for trade_id in range(10, 1_000):
        ledger.admit(trade_id, START + 900)

    assert ledger.admit(5, START + 500)
    assert gaps_of(ledger) == (
        Gap(2, 4, START, START + 500, "skipped"),
        Gap(6, 8, START + 500, START + 900, "skipped"),
    )


def test_an_id_that_was_had_or_came_before_the_beginning_does_not_count() -> None:
    ledger = Ledger()
    ledger.admit(5, START)

    assert not ledger.admit(5, START)
    assert not ledger.admit(4, START)
    assert ledger.state == LedgerState(next_id=6, last_time=START, gaps=())


def test_the_trades_since_the_start_of_the_first_interval_are_wanted() -> None:
    ledger = Ledger()
    ledger.admit(100, START + 3_000)

    ledger.want_since(START)

    assert gaps_of(ledger) == (Gap(0, 99, START, START + 3_000, "start"),)
    assert ledger.admit(99, START + 2_500)
    assert ledger.admit(100, START + 3_000) is False


def test_nothing_is_wanted_before_the_first_trade_of_a_symbol() -> None:
    for first_id in (0, None):
        ledger = Ledger()
        if first_id is not None:
            ledger.admit(first_id, START)
        ledger.want_since(START)

        assert gaps_of(ledger) == ()


def test_a_gap_of_any_width_costs_no_memory() -> None:
    ledger = Ledger()
    ledger.admit(1, START)
    ledger.admit(2**62, START + 1)

    assert len(gaps_of(ledger)) == 1
    assert gaps_of(ledger)[0].size == 2**62 - 2
