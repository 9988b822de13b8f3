"""Lost trades fetched from a REST side that refuses, fails, lags and lies, into a real journal."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.core.aggregator import Aggregator
from bintrades.core.gap_queue import BackfillTiming
from bintrades.exchange.batch import Batch
from bintrades.exchange.binance.backfill_plan import BackfillPlan, Request
from bintrades.exchange.binance.budget import Budget
from bintrades.exchange.binance.history import History
from bintrades.exchange.binance.markets import MARKETS
from bintrades.exchange.binance.rest import RestClient
from bintrades.exchange.binance.trade_messages import decode_trades as decode
from bintrades.exchange.events import Connected, Event, Payloads
from bintrades.journal.reader import JournalReader
from bintrades.model import GapOutcome, Trade
from bintrades.pipeline.backfill import Backfill
from bintrades.pipeline.backfill_thread import BackfillThread
from bintrades.pipeline.ingest import Ingest, IngestHooks
from bintrades.pipeline.ingest_thread import IngestThread
from bintrades.pipeline.proof_schedule import ProofSchedule
from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.util.backoff import Backoff
from bintrades.util.clocks import now_ms, utc_ms
from bintrades.util.runtime import Runtime
from tests.journals import INTERVAL_MS, metadata, open_journal, stored
from tests.networks import system_network
from tests.strategies import START, bars_of, raw_message, spot_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import Self

    from bintrades.testing.simulated_market import SimulatedTrade

SPOT = MARKETS["spot"]
SYMBOLS = ["BTCUSDT", "ETHUSDT"]
WAIT_S = 120.0
QUICK = BackfillTiming(first_request_after_ms=20, confirm_absence_after_ms=(100, 200))
HISTORY, AGGREGATES = "/api/v3/historicalTrades", "/api/v3/aggTrades"


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(SYMBOLS, first_trade_id=0) as simulator:
        yield simulator


class Collector:
    """A collector without streams: the test itself is what the exchange sends."""

    def __init__(
        self,
        path: Path,
        exchange: ExchangeSimulator,
        *,
        symbols: Sequence[str] = tuple(SYMBOLS),
        max_age_ms: int = 3_600_000,
        now: Callable[[], int] = now_ms,
        utc: Callable[[], int] = utc_ms,
        timing: BackfillTiming = QUICK,
    ) -> None:
        self.path = path
        self.dead_streams: list[str] = []
        self.symbols = symbols
        self.failures: list[str] = []
        self.inbox: queue.Queue[Event] = queue.Queue(64)
        self.journal = open_journal(path)
        self.aggregator = Aggregator(spot_series(symbols), interval_ms=INTERVAL_MS, grace_ms=50)
        self.aggregator.resume(self.journal.checkpoints)
        self.rest = RestClient(exchange.rest_url, SPOT, system_network(), timeout_s=5.0)
        banned_for = self.journal.get_ban().left_ms(utc())
        self.budget = Budget(SPOT.weight_per_minute, 50, banned_for, now())
        plan = BackfillPlan(SPOT, max_age_ms, lambda: Backoff(0.02, 300.0), timing)
        self.backfill: Backfill[Request] = Backfill(
            History(self.rest, SPOT, plan, self.budget, now),
            self.budget,
            put=self.inbox.put,
            exchange_time=lambda: self.aggregator.clock(now_ms()),
            runtime=Runtime(now, utc),
            poll_every_ms=20,
        )
        self.backfill_thread = BackfillThread(self.backfill, on_failure=self.failures.append)
        self.recording = Ingest(
            self.aggregator,
            self.journal,
            IngestHooks(
                status=lambda _: "",
                on_bars=lambda: None,
                on_gaps=self.backfill_thread.update,
                on_unproven=lambda _symbols: None,  # a test asks when it wants to
                on_dead_stream=self.dead_streams.append,
            ),
            decode=decode,
            proof=ProofSchedule(60_000, INTERVAL_MS),
            checkpoint_every_ms=20,
            now=now_ms(),
            utc=utc_ms,
        )
        self.recorder = IngestThread(self.inbox, self.recording, on_failure=self.failures.append)

    def __enter__(self) -> Self:
        self.recorder.start()
        self.backfill_thread.start()
        self.inbox.put(Connected("reader-1.1", self.symbols, now_ms()))
        return self

    def __exit__(self, *_error: object) -> None:
        for worker in (self.backfill_thread, self.recorder):
            worker.stop()
            assert worker.join(WAIT_S)
        self.journal.close()
        self.rest.close()
        assert self.failures == []

    @property
    def past(self) -> list[tuple[int, int, str]]:
        """The gaps that have ended: ids and outcome."""
        return [
            (past.gap.first_id, past.gap.last_id, past.outcome)
            for past in JournalReader(self.path).past_gaps()
        ]

    def hear(self, *trades: SimulatedTrade) -> None:
        """Have the streams bring *trades*."""
        self.inbox.put(
            Payloads("reader-1.1", Batch([raw_message(as_trade(t)) for t in trades]), now_ms())
        )

    def wait_until_whole(self) -> None:
        """Wait until nothing is missing, and that is on disk."""
        wait_until(
            lambda: self.is_whole, lambda: f"{self.journal.checkpoints} {self.budget.last_error}"
        )

    @property
    def is_whole(self) -> bool:
        """Whether trades were seen, and the journal lacks none of them."""
        with contextlib.suppress(RuntimeError):  # the recorder's thread adds symbols
            saved = dict(self.journal.checkpoints)
            return bool(saved) and not any(each.ledger.gaps for each in saved.values())
        return False


def wait_until(holds: Callable[[], object], say: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"it never came true: {say()}"
        threading.Event().wait(0.01)


def as_trade(trade: SimulatedTrade) -> Trade:
    return Trade(
        trade.symbol,
        trade.trade_id,
        trade.time_ms,
        trade.event_time_ms,
        Decimal(trade.price),
        Decimal(trade.quantity),
        trade.buyer_is_maker,
    )


def trade_on(
    exchange: ExchangeSimulator, count: int, *, step_ms: int = 100, symbol: str = "BTCUSDT"
) -> list[SimulatedTrade]:
    """Have *count* trades happen, of which the streams bring none by themselves."""
    return [
        exchange.record(
            symbol,
            f"{60_000 + number % 7}.5",
            f"0.{number % 9 + 1}",
            time_ms=START + number * step_ms,
            buyer_is_maker=number % 3 == 0,
        )
        for number in range(count)
    ]


def assert_exact(path: Path, trades: Sequence[SimulatedTrade]) -> None:
    """Assert that the journal has the bars of *trades*, complete up to the one of the newest.

    That one may have closed as time went on: nothing proves that no trade follows in it.
    """
    bars = stored(path)
    newest = max(trade.time_ms for trade in trades)
    assert [bar for bar in bars if bar.is_complete != (bar.end_time_ms <= newest)] == []
    expected = bars_of(map(as_trade, trades))
    assert {key_of(bar): sums_of(bar) for bar in bars} == {
        key: sums_of(bar) for key, bar in expected.items()
    }


def key_of(bar: Any) -> tuple[str, int]:
    return bar.symbol, bar.open_time_ms


def sums_of(bar: Any) -> dict[str, Any]:
    """Return all but what depends on when and how often the bar was written."""
    unlike = {"is_closed", "is_complete", "version", "updated_at"}
    return {name: value for name, value in bar.as_dict().items() if name not in unlike}


def asked(exchange: ExchangeSimulator, path: str) -> int:
    return sum(request.path == path for request in exchange.rest_requests)


def warnings_of(caplog: pytest.LogCaptureFixture, words: str) -> list[Any]:
    """Return what was logged with *words* in its message."""
    return [record for record in caplog.records if words in record.message]


def test_lost_trades_are_fetched_by_id_and_the_bars_become_whole(
    exchange: ExchangeSimulator, path: Path
) -> None:
    trades = trade_on(exchange, 300)
    with Collector(path, exchange) as collector:
        collector.hear(trades[0], trades[299])
        collector.wait_until_whole()

        assert collector.past == [(1, 298, GapOutcome.REPAIRED)]
        assert collector.aggregator.repaired_count == 298
    assert_exact(path, trades)
    assert asked(exchange, HISTORY) == 1


def test_a_large_gap_is_fetched_by_aggregates_at_a_sixth_of_the_weight(
    exchange: ExchangeSimulator, path: Path
) -> None:
    trades = trade_on(exchange, 3_500, step_ms=10)
    with Collector(path, exchange) as collector:
        collector.hear(trades[0], trades[-1])
        collector.wait_until_whole()
    assert_exact(path, trades)
    assert asked(exchange, AGGREGATES) == 3
    assert asked(exchange, HISTORY) == 1, "what is left of the gap is small"


def test_the_first_bar_is_whole_although_collecting_began_in_its_middle(
    exchange: ExchangeSimulator, path: Path
) -> None:
    before = [exchange.record("BTCUSDT", "1", "1", time_ms=START - 1) for _ in range(5)]
    trades = trade_on(exchange, 50)
    with Collector(path, exchange) as collector:
        collector.hear(*trades[40:])
        collector.wait_until_whole()

        assert collector.past == [(5, 44, GapOutcome.REPAIRED)], "what is before was never missing"
    assert_exact(path, trades)
    assert before[-1].trade_id == 4


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 502, "body": "<html>bad gateway</html>"},
        {"status": 200, "body": "<html>a captive portal</html>"},
        {"status": 200, "body": '[{"id": 5}]'},
        {"status": 400, "body": '{"code":-1007,"msg":"Timeout waiting for response"}'},
        {"status": 301, "headers": {"Location": "http://127.0.0.1:9/"}},
        {"status": 0},
    ],
    ids=str,
)
def test_a_request_that_fails_is_made_again_and_the_failure_is_on_record(
    exchange: ExchangeSimulator, path: Path, fault: dict[str, Any]
) -> None:
    trades = trade_on(exchange, 30)
    exchange.rest_answer(**fault, times=3)
    with Collector(path, exchange) as collector:
        collector.hear(trades[0], trades[-1])
        collector.wait_until_whole()
        (past,) = JournalReader(path).past_gaps()

    assert past.gap.attempts == 4
    assert past.gap.last_error
    assert past.gap.last_error.startswith("GET http")
    assert_exact(path, trades)


def test_a_host_without_single_trades_is_asked_for_aggregates(
    exchange: ExchangeSimulator, path: Path
) -> None:
    trades = trade_on(exchange, 60)  # none has the price of the one before
    body = '{"code":-1000,"msg":"Path not found."}'
    exchange.rest_answer(404, body=body, times=1_000, path=HISTORY)
    with Collector(path, exchange) as collector:
        collector.hear(trades[0], trades[20])
        collector.wait_until_whole()
        collector.hear(trades[-1])
        wait_until(lambda: collector.aggregator.repaired_count == 57)
        collector.wait_until_whole()

        assert collector.budget.last_error is None
    assert_exact(path, trades)
    assert asked(exchange, HISTORY) == 2


def test_what_aggregates_do_not_tell_stays_on_record_with_the_reason(
    exchange: ExchangeSimulator, path: Path
) -> None:
    trades = [
        exchange.record("BTCUSDT", "7", "0.1", time_ms=START + 1_000 * (number // 2))
        for number in range(10)
    ]
    exchange.rest_answer(404, times=1_000, path=HISTORY)
    with Collector(path, exchange) as collector:
        collector.hear(*trades[:3], trades[-1])
        wait_until(lambda: len(collector.aggregator.series["BTCUSDT"].gap_set.missing) == 2)
        wait_until(
            lambda: all(
                "this host has no historicalTrades" in (gap.last_error or "")
                for gap in collector.aggregator.series["BTCUSDT"].gap_set.missing
            )
        )
        gaps = [
            (gap.first_id, gap.last_id)
            for gap in collector.aggregator.series["BTCUSDT"].gap_set.missing
        ]
        wait_until(lambda: asked(exchange, AGGREGATES) == 2)
        threading.Event().wait(0.5)
    assert gaps == [(3, 3), (8, 8)]
    assert asked(exchange, HISTORY) == 2
    assert asked(exchange, AGGREGATES) == 2, "of all, then of what was left before the others"
    assert not any(bar.is_complete for bar in stored(path))


def test_live_trades_do_not_wait_for_a_slow_answer(exchange: ExchangeSimulator, path: Path) -> None:
    trades = trade_on(exchange, 30)
    exchange.rest_delay(2.0)
    with Collector(path, exchange) as collector:
        collector.hear(trades[0], trades[9])
        wait_until(lambda: collector.backfill_thread.request_count)
        collector.hear(*trades[10:])
        wait_until(lambda: collector.aggregator.trade_count == 22)

        assert not collector.is_whole, "the answer is still to come"
        exchange.rest_delay(0)
        collector.wait_until_whole()
    assert_exact(path, trades)


@pytest.mark.parametrize("status", [429, 418])
def test_a_refusal_is_obeyed_for_as_long_as_it_says(
    exchange: ExchangeSimulator, path: Path, status: int
) -> None:
    trades = trade_on(exchange, 30)
    exchange.rest_answer(status, {"Retry-After": "2"}, '{"code":-1003,"msg":"Too much"}')
    with Collector(path, exchange) as collector:
        collector.hear(trades[0], trades[-1])
        collector.wait_until_whole()

    refused, answered = exchange.rest_requests[:2]
    assert answered.time_s - refused.time_s >= 1.9
    assert_exact(path, trades)


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [(418, {"Retry-After": "600"}, "banned"), (429, {}, "asks too much")],
)
def test_a_ban_stops_every_request_says_why_and_holds_over_a_restart(
    exchange: ExchangeSimulator,
    path: Path,
    status: int,
    headers: dict[str, str],
    reason: str,
) -> None:
    trades = trade_on(exchange, 30)
    exchange.rest_answer(status, headers)
    with Collector(path, exchange) as collector:
        collector.hear(trades[0], trades[10])
        wait_until(lambda: metadata(collector.journal.path).get("rest_blocked_until"))
        (gap,) = collector.journal.checkpoints["BTCUSDT"].ledger.gaps

        assert reason in (collector.budget.last_error or "")
        assert collector.journal.get_ban().left_ms(utc_ms()) > 60_000
    assert gap.attempts <= 1
    with Collector(path, exchange) as collector:
        collector.hear(trades[20])
        collector.backfill_thread.prove(["ETHUSDT"])
        wait_until(lambda: len(collector.aggregator.series["BTCUSDT"].gap_set.missing) == 2)
        threading.Event().wait(0.3)

    assert len(exchange.rest_requests) == 1
    assert not any(bar.is_complete for bar in stored(path))


@pytest.mark.parametrize(
    ("status", "reason"), [(403, "its firewall"), (451, "data-api.binance.vision")]
)
def test_a_firewall_stops_every_request_for_minutes_and_says_why(
    exchange: ExchangeSimulator,
    path: Path,
    caplog: pytest.LogCaptureFixture,
    status: int,
    reason: str,
) -> None:
    trades = trade_on(exchange, 30)
    ahead = [0]
    exchange.rest_answer(status)
    with Collector(path, exchange, now=lambda: now_ms() + ahead[0]) as collector:
        collector.hear(trades[0], trades[-1])
        collector.backfill_thread.prove(["ETHUSDT"])
        wait_until(lambda: warnings_of(caplog, "the exchange refuses requests"))
        ahead[0] += 270_000
        threading.Event().wait(0.3)
        assert len(exchange.rest_requests) == 1

        ahead[0] += 30_000
        collector.wait_until_whole()
    (warning,) = warnings_of(caplog, "the exchange refuses requests")
    assert warning.seconds in (299, 300)  # or a moment of it is over
    assert f": {status} " in warning.error
    assert reason in warning.error
    assert_exact(path, trades)


@pytest.mark.parametrize("status", [403, 451])
def test_a_firewall_is_asked_again_after_a_restart(
    exchange: ExchangeSimulator, path: Path, status: int
) -> None:
    trades = trade_on(exchange, 30)
    exchange.rest_answer(status)
    with Collector(path, exchange) as collector:
        collector.hear(trades[0], trades[10])
        wait_until(lambda: collector.budget.last_error)
    assert len(exchange.rest_requests) == 1
    with Collector(path, exchange) as collector:
        collector.hear(trades[-1])
        collector.wait_until_whole()
    assert_exact(path, trades)


def test_the_weight_that_the_exchange_counts_holds_requests_back_until_the_next_minute(
    exchange: ExchangeSimulator, path: Path
) -> None:
    trades = trade_on(exchange, 30)
    ahead = [0]
    early_in_the_minute = "Sun, 06 Nov 1994 08:49:07 GMT"
    exchange.rest_answer(500, {"X-MBX-USED-WEIGHT-1M": "2990", "Date": early_in_the_minute})
    with Collector(path, exchange, now=lambda: now_ms() + ahead[0]) as collector:
        collector.hear(trades[0], trades[-1])
        wait_until(lambda: exchange.rest_requests)
        ahead[0] += 20_000
        threading.Event().wait(0.5)
        assert len(exchange.rest_requests) == 1

        ahead[0] += 33_000
        collector.wait_until_whole()
    assert len(exchange.rest_requests) == 2


def test_a_count_of_the_minute_before_is_not_taken_for_one_of_this_minute(
    exchange: ExchangeSimulator, path: Path
) -> None:
    trades = trade_on(exchange, 30)
    ahead = [0]
    exchange.rest_answer(500, {"X-MBX-USED-WEIGHT-1M": "2990"})
    exchange.rest_cut()
    with Collector(path, exchange, now=lambda: now_ms() + ahead[0]) as collector:
        collector.hear(trades[0], trades[-1])
        wait_until(
            lambda: any(
                gap.attempts for gap in collector.aggregator.series["BTCUSDT"].gap_set.missing
            )
        )
        ahead[0] += 60_000
        collector.wait_until_whole()


HOURS_AHEAD = 48 * 3_600_000


def test_a_ban_said_while_the_local_clock_is_days_ahead_ends_when_it_was_said_to(
    exchange: ExchangeSimulator, path: Path
) -> None:
    trades = trade_on(exchange, 30)
    ahead = [HOURS_AHEAD]
    exchange.rest_answer(429, {"Retry-After": "2"})
    with Collector(path, exchange, utc=lambda: utc_ms() + ahead[0]) as collector:
        collector.hear(trades[0], trades[-1])
        wait_until(lambda: collector.budget.last_error)
        ahead[0] = 0
        collector.wait_until_whole()
    assert_exact(path, trades)


def test_a_ban_said_while_the_local_clock_was_days_ahead_lasts_no_days_after_a_restart(
    exchange: ExchangeSimulator, path: Path
) -> None:
    trades = trade_on(exchange, 30)
    exchange.rest_answer(429, {"Retry-After": "2"})
    with Collector(path, exchange, utc=lambda: utc_ms() + HOURS_AHEAD) as collector:
        collector.hear(trades[0], trades[-1])
        wait_until(lambda: metadata(collector.journal.path).get("rest_blocked_until"))
    with Collector(path, exchange) as collector:
        collector.hear(trades[-1])
        collector.wait_until_whole()
    assert_exact(path, trades)


def test_a_database_that_lags_is_waited_for(exchange: ExchangeSimulator, path: Path) -> None:
    trades = trade_on(exchange, 30)
    exchange.rest_lag(25)
    with Collector(path, exchange) as collector:
        collector.hear(trades[0], trades[-1])
        wait_until(lambda: asked(exchange, HISTORY) >= 3)
        assert "does not have it all yet" in (
            collector.aggregator.series["BTCUSDT"].gap_set.missing[0].last_error or ""
        )
        exchange.rest_lag(0)
        collector.wait_until_whole()

        assert collector.past == [(1, 28, GapOutcome.REPAIRED)]
    assert_exact(path, trades)


def test_ids_that_the_exchange_answers_around_are_absent_and_the_bar_is_complete(
    exchange: ExchangeSimulator, path: Path
) -> None:
    trades = trade_on(exchange, 10)
    exchange.skip_ids("BTCUSDT", 3)
    trades += trade_on(exchange, 10)
    with Collector(path, exchange) as collector:
        collector.hear(trades[0], trades[-1])
        collector.wait_until_whole()

        assert collector.past == [
            (1, 9, GapOutcome.REPAIRED),
            (10, 12, GapOutcome.ABSENT),
            (13, 21, GapOutcome.REPAIRED),
        ]
    assert_exact(path, trades)


def test_a_frame_out_of_order_costs_no_request(exchange: ExchangeSimulator, path: Path) -> None:
    trades = trade_on(exchange, 5)
    with Collector(path, exchange, timing=BackfillTiming()) as collector:
        collector.hear(trades[0], *trades[2:])
        wait_until(lambda: collector.aggregator.series["BTCUSDT"].gap_set.missing)
        collector.hear(trades[1])
        collector.wait_until_whole()
        threading.Event().wait(1.2)

    assert exchange.rest_requests == []


def test_what_was_missed_between_two_runs_is_fetched_and_the_older_part_given_up(
    exchange: ExchangeSimulator, path: Path
) -> None:
    trades = trade_on(exchange, 500, step_ms=1_000)
    with Collector(path, exchange) as collector:
        collector.hear(*trades[:20])
        wait_until(lambda: collector.aggregator.trade_count == 20)
    with Collector(path, exchange, max_age_ms=200_000) as collector:
        collector.hear(*trades[-2:])  # two, by which the clock is confirmed
        wait_until(lambda: stored(path)[-1].open_time_ms == trades[-1].time_ms // 10_000 * 10_000)
        wait_until(
            lambda: (
                [g.is_abandoned for g in collector.aggregator.series["BTCUSDT"].gap_set.missing]
                == [True]
            )
        )
        wait_until(lambda: collector.journal.checkpoints["BTCUSDT"].ledger.gaps[0].is_abandoned)
        (gap,) = collector.aggregator.series["BTCUSDT"].gap_set.missing

    assert gap.first_id == 20
    assert 298 <= gap.last_id < 330  # the clock has gone on since the last trade came
    bars = stored(path)
    # Whether the bar at the younger end of the gap is whole depends on the moment of the answer.
    counts = [bar.trade_count for bar in bars if bar.is_complete]
    assert counts in ([10] * 20, [10] * 21)
    assert bars == sorted(bars, key=lambda bar: bar.open_time_ms)


def test_a_symbol_that_is_no_longer_collected_keeps_its_gap_and_stops_nobody(
    exchange: ExchangeSimulator, path: Path
) -> None:
    lost = trade_on(exchange, 5, symbol="ETHUSDT")
    trades = trade_on(exchange, 5)
    exchange.rest_answer(500, times=1_000)
    with Collector(path, exchange) as collector:
        collector.hear(lost[0], lost[-1])
        wait_until(lambda: collector.journal.checkpoints)
    with Collector(path, exchange, symbols=["BTCUSDT"]) as collector:
        collector.hear(trades[0], trades[-1])
        wait_until(lambda: collector.journal.checkpoints.get("BTCUSDT"))

        assert collector.journal.checkpoints["ETHUSDT"].ledger.gaps


def test_a_bar_that_was_stored_long_ago_takes_the_trades_that_come_late(
    exchange: ExchangeSimulator, path: Path
) -> None:
    trades = trade_on(exchange, 501)
    exchange.rest_answer(500, times=2)
    with Collector(path, exchange) as collector:
        collector.hear(*trades[:10], *trades[15:])
        wait_until(lambda: len(stored(path)) >= 4)
        collector.wait_until_whole()
    assert_exact(path, trades)
    assert stored(path)[0].version > 1


def test_a_trade_that_the_stream_never_brought_is_found_and_the_stream_asked_for_again(
    exchange: ExchangeSimulator, path: Path
) -> None:
    trades = trade_on(exchange, 30)
    later = exchange.record("ETHUSDT", "1", "1", time_ms=START + 60_000)
    with Collector(path, exchange) as collector:
        collector.hear(*trades[:10])
        collector.hear(later)
        wait_until(lambda: collector.aggregator.trade_count == 11)
        collector.backfill_thread.prove(SYMBOLS)
        wait_until(lambda: len(stored(path)) == 1 and stored(path)[0].trade_count == 30)

        assert collector.dead_streams == ["BTCUSDT"]
        assert collector.past[0] == (10, 29, GapOutcome.REPAIRED)


def test_stopping_waits_for_no_block(exchange: ExchangeSimulator, path: Path) -> None:
    trades = trade_on(exchange, 30)
    exchange.rest_answer(418, {"Retry-After": "600"})
    with Collector(path, exchange) as collector:
        collector.hear(trades[0], trades[-1])
        wait_until(lambda: collector.budget.last_error)
        began_at = time.monotonic()
    assert time.monotonic() - began_at < 2
