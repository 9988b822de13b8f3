"""What is missing goes to the backfill when it changes, once, and into the log when it begins."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bintrades.core.aggregator import Aggregator
from bintrades.core.audit_result import BarRebuilt
from bintrades.core.backfill_result import BackfillResult
from bintrades.core.ledger import LedgerState
from bintrades.core.rebuild import rebuilt_bar
from bintrades.exchange.batch import Batch
from bintrades.exchange.binance.trade_messages import decode_trades as decode
from bintrades.exchange.events import Connected, Payloads
from bintrades.model import Gap, GapCause, GapSet, TradeRange
from bintrades.pipeline.ingest import Ingest, IngestHooks
from bintrades.pipeline.proof_schedule import ProofSchedule
from tests.journals import INTERVAL_MS, finished, journal_at, stored
from tests.strategies import START, make_trade, raw_message, spot_key, spot_series

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from bintrades.journal.writer import Journal
    from bintrades.model import Trade

BTC = "BTCUSDT"
CHECKPOINT_EVERY_MS = 1_000


class Desk:
    """An ingest that keeps what it hands to the backfill."""

    def __init__(self, journal: Journal) -> None:
        self.now = 0
        self.published: list[GapSet] = []
        self.aggregator = Aggregator(spot_series([BTC]), interval_ms=INTERVAL_MS, grace_ms=50)
        self.aggregator.resume(journal.checkpoints)
        self.ingest = Ingest(
            self.aggregator,
            journal,
            IngestHooks(
                status=lambda _: "fine",
                on_bars=lambda: None,
                on_gaps=self.published.append,
                on_unproven=lambda _: None,
                on_dead_stream=lambda _: None,
            ),
            decode=decode,
            proof=ProofSchedule(60_000, INTERVAL_MS),
            checkpoint_every_ms=CHECKPOINT_EVERY_MS,
            now=self.now,
            utc=lambda: START + self.now,
        )
        self.ingest.handle(Connected("reader-1.1", [BTC], self.now))

    def send(self, *trades: Trade) -> None:
        """Have *trades* come, and a checkpoint be due thereafter."""
        payloads = Batch([raw_message(trade) for trade in trades])
        self.ingest.handle(Payloads("reader-1.1", payloads, self.now))
        self.now += 2 * CHECKPOINT_EVERY_MS
        self.ingest.tick(self.now, is_caught_up=True)

    def answer(self, gap: Gap, *runs: TradeRange, error: str | None = None) -> None:
        self.ingest.handle(BackfillResult(BTC, gap, runs, error=error))

    @property
    def ids(self) -> list[list[tuple[int, int]]]:
        """The missing ids, as they were published one after the other."""
        return [[(gap.first_id, gap.last_id) for gap in each.missing] for each in self.published]


def trade(trade_id: int) -> Trade:
    return make_trade(trade_id, symbol=BTC, time=START + 100 * trade_id)


def run_of(trade_id: int) -> TradeRange:
    one = trade(trade_id)
    return TradeRange(trade_id, trade_id, one.price, one.quantity, one.time, one.is_buyer_maker)


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the events about gaps in the log."""
    found = [str(record.__dict__.get("event")) for record in caplog.records]
    return [event for event in found if event.startswith("gap_")]


def test_gaps_are_published_when_they_change_and_not_again(path: Path) -> None:
    with journal_at(path) as journal:
        desk = Desk(journal)
        desk.send(trade(0), trade(4))
        desk.send(trade(5))
        desk.send(trade(6), trade(9))

    assert desk.ids == [[(1, 3)], [(1, 3), (7, 8)]]


def test_each_answer_is_published_at_once_even_if_it_changed_nothing(path: Path) -> None:
    with journal_at(path) as journal:
        desk = Desk(journal)
        desk.send(trade(0), trade(4))
        (gap,) = desk.published[-1].missing
        desk.answer(gap, error="no")
        desk.answer(gap, error="no")

        assert [each.answers for each in desk.published] == [0, 1, 2]
        desk.answer(gap, *map(run_of, (1, 2, 3)))

    assert desk.ids[-1] == []
    assert desk.published[-1].answers == 3


def test_an_answer_about_ids_that_restarted_is_counted_as_well(path: Path) -> None:
    with journal_at(path) as journal:
        desk = Desk(journal)
        desk.send(trade(0), trade(4))
        desk.answer(Gap(50, 60, START, START, GapCause.SKIPPED))

    assert desk.published[-1].answers == 1


def test_what_was_missing_before_a_restart_is_published_first(path: Path) -> None:
    gap = Gap(3, 5, START, START + 900, GapCause.SKIPPED)
    absent = Gap(7, 7, START, START + 900, GapCause.SKIPPED, absent_at=START)
    with journal_at(path) as journal:
        journal.write(finished(BTCUSDT=LedgerState(10, START + 900, (gap,), (absent,))), START)
    with journal_at(path) as journal:
        desk = Desk(journal)

    assert desk.published == [GapSet(BTC, (gap,), (absent,))]


def test_the_log_says_when_a_gap_begins_and_when_nothing_is_missing_any_longer(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with journal_at(path) as journal:
        desk = Desk(journal)
        desk.send(trade(0), trade(4))
        assert events(caplog) == ["gap_opened"]
        (gap,) = desk.published[-1].missing
        desk.answer(gap, run_of(2))
        desk.send(trade(5))
        assert events(caplog) == ["gap_opened"], "what is left of it is no other gap"

        desk.answer(gap, run_of(1))
        desk.answer(gap, run_of(3))

    assert desk.ids[-1] == []
    assert events(caplog) == ["gap_opened", "gap_closed"]


def test_what_aggregates_stand_in_for_is_settled_in_the_ledger_once_its_bar_is_of_trades(
    path: Path,
) -> None:
    of_trades = [run_of(trade_id) for trade_id in (1, 2, 3)]
    quantity = sum((each.quantity for each in of_trades), Decimal(0))
    aggregate = replace(of_trades[0], last_id=3, quantity=quantity)
    with journal_at(path) as journal:
        desk = Desk(journal)
        desk.send(trade(0), trade(4))
        (gap,) = desk.published[-1].missing
        desk.ingest.handle(BackfillResult(BTC, gap, approximations=[aggregate]))
        desk.send(trade(5))
        desk.send(*(make_trade(n, START + INTERVAL_MS + 100 * n, symbol=BTC) for n in (6, 7)))
        bar = stored(path)[0]
        assert (bar.trade_count, bar.is_approximate, bar.is_complete) == (4, True, False)
        assert [gap.is_approximated for gap in desk.published[-1].missing] == [True]

        again = rebuilt_bar(
            [run_of(trade_id) for trade_id in range(6)],
            bar.epoch,
            key=spot_key(BTC),
            open_time_ms=START,
            interval_ms=INTERVAL_MS,
        )
        assert again is not None
        desk.ingest.handle(BarRebuilt(again))
        desk.send(make_trade(8, START + INTERVAL_MS + 900, symbol=BTC))
        desk.send(make_trade(9, START + INTERVAL_MS + 950, symbol=BTC))

        assert desk.aggregator.series[BTC].gap_set.missing == ()
        assert desk.ids[-1] == []
        assert journal.checkpoints[BTC].ledger.gaps == ()
    bar = stored(path)[0]
    assert (bar.trade_count, bar.epoch, bar.is_approximate, bar.is_complete) == (6, 1, False, True)
