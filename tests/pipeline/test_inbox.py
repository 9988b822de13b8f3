"""The inbox is bounded by what its events take of memory, not by their number."""

from __future__ import annotations

import queue
import sys
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.core.backfill_result import BackfillResult
from bintrades.exchange.batch import Batch
from bintrades.exchange.events import Connected, Disconnected, Event, Payloads
from bintrades.model import Gap, GapCause, TradeRange
from bintrades.pipeline.inbox import MAX_INBOX_BYTES, Inbox, size_of
from tests.strategies import make_trade, message

CONNECTION = "reader-1.1"


def payloads(count: int) -> Payloads:
    """Return an event of so many trades."""
    return Payloads(CONNECTION, Batch([message(make_trade(index)) for index in range(count)]), 0)


def test_a_quiet_market_fills_it_in_no_less_than_half_an_hour() -> None:
    """Twenty trades a second, each in a batch of its own."""
    assert 20 * 30 * 60 * size_of(payloads(1)) < MAX_INBOX_BYTES


def test_large_batches_fill_it_though_they_are_few() -> None:
    inbox = Inbox(1_000_000)
    batch = payloads(1_500)

    for _ in range(4):
        inbox.put_nowait(batch)

    with pytest.raises(queue.Full):
        inbox.put_nowait(batch)
    assert inbox.qsize() == 4
    inbox.get()
    inbox.put_nowait(batch)


def test_an_event_larger_than_the_inbox_is_let_in_alone() -> None:
    inbox = Inbox(10)
    inbox.put_nowait(payloads(1_000))

    assert inbox.full()
    assert isinstance(inbox.get(), Payloads)


def test_a_full_inbox_still_takes_what_happened_to_a_connection() -> None:
    inbox = Inbox(10)
    inbox.put_nowait(payloads(1))
    with pytest.raises(queue.Full):
        inbox.put_nowait(payloads(1))

    inbox.put(Disconnected(CONNECTION, 0), timeout=1)

    assert isinstance(inbox.get_nowait(), Payloads)
    assert inbox.get_nowait() == Disconnected(CONNECTION, 0)


events = st.one_of(
    st.integers(0, 50).map(payloads),
    st.just(Connected(CONNECTION, ("BTCUSDT",), 0)),
    st.just(Disconnected(CONNECTION, 0)),
)


@given(st.lists(events))
def test_it_gives_events_back_in_order_and_is_empty_in_the_end(happened: list[Event]) -> None:
    inbox = Inbox()
    for event in happened:
        inbox.put_nowait(event)

    assert inbox.qsize() == len(happened)
    assert inbox.empty() == (not happened)
    assert [inbox.get_nowait() for _ in happened] == happened
    assert inbox.empty()
    assert inbox.bytes == 0


@pytest.mark.parametrize("count", [1, 10, 1_000])
def test_what_a_batch_takes_of_memory_is_what_it_counts(count: int) -> None:
    event = payloads(count)
    batch = event.batch
    parts = [event, batch, batch.array, batch.lengths, event.received_at, *batch.lengths]

    assert 0.9 < size_of(event) / sum(map(sys.getsizeof, parts)) < 1.5


def test_what_rest_has_brought_counts_by_its_trades() -> None:
    gap = Gap(1, 1_000, 0, 0, GapCause.SKIPPED)
    runs = [
        TradeRange(number, number, Decimal("1.5"), Decimal("0.25"), 1_723_075_200_000, False)
        for number in range(1, 1_001)
    ]
    one, many = (size_of(BackfillResult("BTCUSDT", gap, runs[:count])) for count in (1, 1_000))

    parts = [[run.first_id, run.price, run.quantity, run.time, run] for run in runs[1:]]
    assert 0.9 < (many - one) / sum(sys.getsizeof(part) for each in parts for part in each) < 1.5
