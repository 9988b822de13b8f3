"""What `bintrades status` knows of a collector that runs, has stopped or never was."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import pytest
from msgspec.structs import replace

from bintrades.app.figures import Process, collector_figures
from bintrades.app.health import CollectorState
from bintrades.app.scheduler import Ticker
from bintrades.app.status import read_status, status_of_holder, with_journal_figures
from bintrades.app.symbol_list import SymbolsSnapshot
from bintrades.cli.status_text import _format_proof, format_health, format_status
from bintrades.core.audit_result import BarsAudited
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import WriteBatch
from bintrades.errors import JournalError
from bintrades.exchange.batch import Decoded
from bintrades.journal.cursor import Cursor
from bintrades.model import Gap, GapCause, GapOutcome, RecordedDifference, Trade, utc
from bintrades.pipeline.audit.audit import AuditSnapshot
from bintrades.pipeline.audit.findings import FindingCounts
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from bintrades.util.clocks import now_ms, utc_ms
from bintrades.util.log_writer import lost_lines
from bintrades.util.redaction import remember_secrets
from bintrades.util.text import as_json
from bintrades.version import __version__
from tests.collectors import Stage
from tests.journals import by_key, checkpoints, finished, journal_at, open_journal
from tests.strategies import make_trade

if TYPE_CHECKING:
    from pathlib import Path

    from bintrades.journal.writer import Journal


def trades(*ids: int) -> list[Trade]:
    return [make_trade(trade_id) for trade_id in ids]


def test_the_figures_of_a_collector_say_what_it_has_done(path: Path) -> None:
    with journal_at(path) as journal:
        stage = Stage(path, journal)
        stage.aggregator.add([*trades(1, 2, 2), make_trade(7, symbol="XRPUSDT")], now=0)
        figures = stage.figures

    assert (figures["version"], figures["pid"]) == (__version__, os.getpid())
    assert [figures[name] for name in ("trades", "duplicates", "foreign_trades")] == [2, 1, 1]
    assert (figures["open_bars"], figures["queue"], figures["journal_error"]) == (1, 0, None)
    assert figures["connections"] == [
        {
            "name": "reader-1",
            "state": "disconnected",
            "symbols": 1,
            "connections": 0,
            "error": None,
            "down_ms": ANY,
            "empty_connections": 0,
        }
    ]
    assert figures["repair"] == {
        "is_enabled": True,
        "requests": 0,
        "weight_used": 0,
        "weight_allowed": 3_000,
        "blocked_until": None,
        "error": None,
        "proof_error": None,
    }
    assert figures["stores"] == [
        {
            "name": "jsonl",
            "delivered": 0,
            "error": None,
            "behind_ms": ANY,
            "coverage_error": None,
            "latency": ANY,
        }
    ]
    assert (figures["connections_opened"], figures["connections_lost"]["closed"]) == (0, 0)
    assert json.loads(json.dumps(figures)) == figures


def test_the_status_shows_what_the_audit_has_found_before_and_since_the_start(path: Path) -> None:
    minute = (OPEN_TIME_MS, OPEN_TIME_MS + 60_000)
    found = RecordedDifference("BTCUSDT", minute[1], 60_000, "1", "2", minute[1], minute[1])
    with journal_at(path) as journal:
        stage = Stage(path, journal)
        before = format_status(read_status(path, []))
        audited = [BarsAudited("BTCUSDT", (minute,), (found,))]
        journal.write(WriteBatch(audited=audited), OPEN_TIME_MS, as_json(stage.figures))
        status = read_status(path, [])
        summary = with_journal_figures(stage.figures, path)

    assert "audit" not in before, "there is nothing to tell yet"
    differences = {"open": 1, "repaired": 0, "stays": 0}
    assert status["audit"] == {"verified_minutes": 1, "differences": differences}
    assert summary["audit"]["on_record"] == status["audit"]
    assert (
        "audit       1 minutes equal the exchange's klines; differences: 1 open, 0 repaired, 0 stay"
        in format_status(status)
    )


@pytest.mark.parametrize(
    ("snapshot", "text"),
    [
        (None, "audit       switched off"),
        (AuditSnapshot(), "audit       nothing could be compared yet; 0 minutes since the start"),
        (
            AuditSnapshot(7, 2, OPEN_TIME_MS, FindingCounts(120_000), "no answer"),
            "audit       verified up to 2024-08-08 00:00:00 UTC; 2 minutes since the start,"
            " 7 requests; the last one failed: no answer",
        ),
    ],
    ids=["none", "new", "running"],
)
def test_the_status_shows_how_the_audit_goes(
    path: Path, snapshot: AuditSnapshot | None, text: str
) -> None:
    with journal_at(path) as journal:
        stage = Stage(path, journal)
        figures = collector_figures(
            stage.process, dataclasses.replace(stage.collector.snapshot(), audit=snapshot)
        )
        journal.set_status(as_json(figures))
        status = read_status(path, [])

    assert json.loads(json.dumps(figures)) == figures
    assert text in format_status(status)


def test_the_summary_tells_of_gaps_and_of_bars_that_wait_as_well(path: Path) -> None:
    gap = Gap(10, 14, OPEN_TIME_MS, OPEN_TIME_MS, GapCause.SKIPPED)
    with journal_at(path) as journal:
        stage = Stage(path, journal)
        journal.write(finished(*sample_bars(3), BTCUSDT=LedgerState(20, 9, (gap,))), OPEN_TIME_MS)
        figures = with_journal_figures(stage.figures, path)
        size = path.stat().st_size

    assert figures["gaps"] == {
        "open": 1,
        "abandoned": 0,
        "approximated": 0,
        "repaired": 0,
        "absent": 0,
        "excluded": 0,
        "late": 0,
    }
    (store,) = figures["stores"]
    assert (store["name"], store["waiting_bars"], store["rejected_bars"]) == ("jsonl", 3, 0)
    assert figures["journal_bytes"] == size + figures["wal_bytes"]
    assert figures["wal_bytes"] > 0, "the collector is at work"
    assert json.loads(json.dumps(figures)) == figures


def test_the_summary_of_a_journal_that_cannot_be_read_says_so(path: Path, tmp_path: Path) -> None:
    with journal_at(path) as journal:
        stage = Stage(path, journal)
        figures = with_journal_figures(stage.figures, tmp_path / "gone")

    assert "there is no journal yet" in figures["journal_error"]


def test_without_a_journal_there_is_nothing_to_tell(path: Path) -> None:
    with pytest.raises(JournalError, match="no journal yet"):
        read_status(path, [])


def test_a_journal_in_which_no_collector_has_written_yet(path: Path) -> None:
    with journal_at(path):
        starting = format_status(read_status(path, ["mongodb"]))
    never = format_status(read_status(path, ["mongodb"]))

    assert starting.startswith("collector   is starting\n")
    assert never.startswith("collector   has not run yet\n")
    assert "store       mongodb: 0 bars wait, 0 refused" in never


def test_a_collector_is_running_as_long_as_it_has_the_journal_open(path: Path) -> None:
    with journal_at(path) as journal:
        figures = Stage(path, journal).figures
        journal.write(WriteBatch(), OPEN_TIME_MS, json.dumps(figures))
        running = read_status(path, [])
    stopped = read_status(path, [])

    assert running["collector"] == stopped["collector"] == figures
    assert f"collector   running (process {os.getpid()}, since " in format_status(running)
    # This process lives on, as any other with the number of a dead collector may.
    assert f"collector   stopped (process {os.getpid()}, since " in format_status(stopped)
    assert not stopped["is_running"]


def word(path: Path, journal: Journal, **changed: Any) -> dict[str, Any]:
    """Have a collector that runs leave a word that differs so; return what is then known of it."""
    figures = {**Stage(path, journal).figures, **changed}
    journal.write(WriteBatch(), OPEN_TIME_MS, json.dumps(figures))
    return read_status(path, ["jsonl"])


def test_a_collector_that_leaves_words_is_well(path: Path) -> None:
    with journal_at(path) as journal:
        status = word(path, journal)

    assert (status["state"], status["problems"]) == ("running", [])
    assert format_health(status) == "running: well"
    assert status["is_running"]


def test_a_collector_that_does_not_run_is_not_well(path: Path) -> None:
    open_journal(path).close()
    never = read_status(path, [])
    with journal_at(path) as journal:
        word(path, journal)
    stopped = read_status(path, [])

    assert format_health(never) == "never run: it does not run"
    assert format_health(stopped) == "stopped: it does not run"


def test_a_collector_without_a_word_of_late_is_not_running(path: Path) -> None:
    with journal_at(path) as journal:
        lock = path.with_name(path.name + ".lock")
        lock.write_text(f"{os.getpid()}\n{now_ms() - 60_000}\n")
        status = word(path, journal, beat_ms=now_ms() - 21_000)

    assert not status["is_running"]
    assert re.match(r"not responding: no word for \d+ s: it is frozen, or ", format_health(status))
    page = format_status(status)
    assert page.startswith("collector   not responding since 20")
    assert f" UTC (process {os.getpid()}, since " in page
    assert re.search(r"trouble     no word for \d+ s", page)


@pytest.mark.parametrize(
    "other",
    [{"pid": 2**31 - 1}, {"beat_ms": 0}, {"beat_ms": 2**60}],
    ids=["of another number", "of the same number", "before the machine was started"],
)
def test_the_figures_of_an_earlier_collector_are_not_those_of_one_that_starts(
    other: dict[str, int], path: Path
) -> None:
    with journal_at(path) as journal:
        status = word(path, journal, **other)

    assert (status["state"], status["collector"]) == ("starting", None)
    assert format_status(status).startswith("collector   is starting\n")
    assert format_health(status) == "starting: well"


def test_the_figures_of_a_version_without_signs_of_life_are_not_those_of_one_that_starts(
    path: Path,
) -> None:
    with journal_at(path) as journal:
        figures = Stage(path, journal).figures
        del figures["beat_ms"], figures["state"], figures["started_ms"], figures["workers"]
        journal.write(WriteBatch(), OPEN_TIME_MS, json.dumps(figures))
        starting = read_status(path, [])
    stopped = read_status(path, [])

    assert (starting["state"], starting["collector"]) == ("starting", None)
    assert "collector   stopped" in format_status(stopped)


@pytest.mark.parametrize("state", ["hibernating", None, ["running"]])
def test_figures_in_no_known_state_are_not_read(state: Any, path: Path) -> None:
    with journal_at(path) as journal:
        status = word(path, journal, state=state)

    assert (status["state"], status["collector"]) == ("starting", None)


@pytest.mark.parametrize("state", [CollectorState.STARTING, CollectorState.STOPPING])
def test_one_that_starts_or_stops_says_so_before_it_has_figures(
    state: CollectorState, path: Path
) -> None:
    with journal_at(path) as journal:
        process = Process()
        process.state = state
        process.publish(journal)
        status = read_status(path, [])

    assert format_status(status).startswith(f"collector   {state} (process {os.getpid()}, since ")
    assert format_health(status) == f"{state}: " + (
        "well" if state == CollectorState.STARTING else "it is about to end"
    )


@pytest.mark.parametrize("text", ["{", "[]", "null"])
def test_a_status_that_cannot_be_read_says_nothing_of_who_has_the_journal(
    text: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does the log, since whoever waits for the journal looks again and again."""
    with journal_at(path) as journal:
        journal.set_status(text)

        assert status_of_holder(path) is None
    assert status_of_holder(path.with_name("gone")) is None
    assert caplog.records == []


def test_what_keeps_a_collector_from_being_well_is_told_on_the_page_too(path: Path) -> None:
    with journal_at(path) as journal:
        stage = Stage(path, journal)
        stage.delivery.caught_up_at_ms -= 400_000
        stage.delivery.last_error = "OSError: no\nhost"
        stage.reader._unsubscribed_since -= 130_000
        journal.write(finished(*sample_bars(3)), OPEN_TIME_MS, json.dumps(stage.figures))
        status = read_status(path, ["jsonl"])

    late = "3 bars wait for store jsonl, 6 min by now: OSError: no\\nhost"
    down = "reader-1 has had no streams for 2 min"
    assert format_health(status) == f"running: {down}; {late}"
    assert f"trouble     {down}\ntrouble     {late}\n" in format_status(status)


def test_threads_that_run_are_watched(path: Path) -> None:
    with journal_at(path) as journal:
        stage = Stage(path, journal)
        ticker = Ticker("ticker", 3_600, lambda: None, pytest.fail)
        stage.collector.watch(ticker)
        before = stage.figures["workers"]
        ticker.start()
        ticker.moved_at_ms -= 5_000
        (watched,) = stage.figures["workers"]
        ticker.stop()

    assert before == []
    assert watched["name"] == "ticker"
    assert 5_000 <= watched["idle_ms"] < 60_000


def test_asking_keeps_no_collector_from_starting(path: Path) -> None:
    open_journal(path).close()
    for _ in range(3):
        read_status(path, [])
        with closing(open_journal(path)):
            assert read_status(path, [])["is_running"]


def test_what_waits_and_lacks_is_reported(path: Path) -> None:
    first, lacking, half = sample_bars(3)
    gap = Gap(10, 14, lacking.open_time_ms, lacking.open_time_ms, GapCause.SKIPPED)
    ended = Gap(7, 8, OPEN_TIME_MS, OPEN_TIME_MS, GapCause.SKIPPED)
    old = replace(gap, first_id=2, last_id=3, is_abandoned=True)
    with journal_at(path) as journal:
        journal.write(finished(BTCUSDT=LedgerState(20, OPEN_TIME_MS, (ended, gap))), OPEN_TIME_MS)
        journal.write(
            WriteBatch(
                finished=by_key([first, lacking]),
                checkpoints=checkpoints(
                    replace(half, is_closed=False),
                    BTCUSDT=LedgerState(20, lacking.end_time_ms, (gap,)),
                    ETHUSDT=LedgerState(20, OPEN_TIME_MS, (old, replace(gap, last_id=10))),
                    XRPUSDT=LedgerState(20, OPEN_TIME_MS, ()),
                ),
                resolved=[("BTCUSDT", 8, 8, GapOutcome.ABSENT)],
            ),
            OPEN_TIME_MS,
        )
    cursor = Cursor(path, "jsonl")
    bars, sequence = cursor.next_bars(1)
    cursor.move(sequence, bars, [(bars[0], "far too ugly")])

    status = read_status(path, ["mongodb", "jsonl"])

    assert status["journal"] == {
        "path": str(path),
        "bars": 3,
        "unclosed": 1,
        "incomplete": 1,
        "symbols": 3,
        "bytes": path.stat().st_size,
        "wal_bytes": 0,
        "wal_held_by": [],
    }
    assert status["gaps"] == {
        "open": 2,
        "abandoned": 1,
        "approximated": 0,
        "repaired": 1,
        "absent": 1,
        "excluded": 0,
        "late": 0,
        "symbols": ["BTCUSDT", "ETHUSDT"],
    }
    lags = [store.pop("lag_ms") for store in status["stores"].values()]
    assert all(OPEN_TIME_MS + lag < utc_ms() + 1 for lag in lags)
    assert all(OPEN_TIME_MS + lag > utc_ms() - 60_000 for lag in lags)
    assert status["stores"] == {
        "mongodb": {
            "waiting_bars": 2,
            "rejected_bars": 0,
            "last_reason": None,
            "error": None,
        },
        "jsonl": {
            "waiting_bars": 1,
            "rejected_bars": 1,
            "last_reason": "far too ugly",
            "error": None,
        },
    }
    for store, lag in zip(status["stores"].values(), lags, strict=True):
        store["lag_ms"] = lag
    page = format_status(status)
    assert "bars        3, of 3 symbols; 1 still open, 1 incomplete" in page
    assert "gaps        2 open, 1 repaired, 1 absent, 1 abandoned (`bintrades gaps`" in page
    waits = f"; the oldest has waited {lags[1] // 1000} s"
    assert f"store       jsonl: 1 bars wait, 1 refused (far too ugly){waits}" in page


def test_trades_that_came_too_late_for_their_bar_are_reported(path: Path) -> None:
    with journal_at(path), closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO past_gaps VALUES ('BTCUSDT', 1, 2, 0, 0, 'skipped', 0, NULL, 'late', 0)"
        )

    status = read_status(path, [])

    assert status["gaps"]["late"] == 1
    assert "0 abandoned, 1 late (`bintrades gaps` lists them)" in format_status(status)


def test_every_trouble_is_reported(path: Path) -> None:
    with journal_at(path) as journal:
        stage = Stage(path, journal)
        stage.reader.last_error = "ConnectionRefusedError: nobody there"
        stage.delivery.last_error = "OSError: disk on fire"
        stage.delivery.coverage.error = "OSError: no room for spans"
        stage.collector.ingest.journal_error = "bars.journal: database or disk is full"
        stage.collector.ingest.bad_count = 3
        unlisted = [f"OLD{number}USDT" for number in range(7)]
        stage.collector.symbols_snapshot = lambda: SymbolsSnapshot(unlisted=unlisted)
        figures = json.dumps(stage.figures)
        journal.write(finished(sample_bar()), OPEN_TIME_MS, figures)

    page = format_status(read_status(path, []))

    assert "0 duplicates dropped, 3 bad messages" in page
    assert "reader-1: disconnected, 1 symbols, connected 0 times; ConnectionRefusedError" in page
    assert "trouble     store jsonl: OSError: disk on fire" in page
    assert "trouble     store jsonl does not take the coverage: OSError: no room for spans" in page
    assert "trouble     bars.journal: database or disk is full" in page
    assert "unlisted    OLD0USDT, OLD1USDT, OLD2USDT, OLD3USDT, OLD4USDT and 2 more" in page


def test_trades_of_futures_are_shown_by_kind_and_invalid_aggregates_where_there_are(
    path: Path,
) -> None:
    with journal_at(path) as journal:
        stage = Stage(path, journal)
        journal.write(finished(sample_bar()), OPEN_TIME_MS, json.dumps(stage.figures))
        plain = format_status(read_status(path, []))
        stage.collector.ingest.invalid_count = 2
        stage.collector.ingest.kinds.take(Decoded(kinds={"NA": 14, "MARKET": 1_186, "x\x1b[2J": 1}))
        journal.write(finished(sample_bar()), OPEN_TIME_MS, as_json(stage.figures))

    page = format_status(read_status(path, []))

    assert "kinds" not in plain
    assert "invalid" not in plain
    assert r"kinds       1186 MARKET, 14 NA, 1 x\x1b[2J" in page
    assert "0 bad messages, 2 invalid aggregates" in page


def test_what_was_missing_and_is_no_fill_is_shown_where_there_is_any(path: Path) -> None:
    with journal_at(path, market="usdm") as journal:
        stage = Stage(path, journal)
        stage.collector.ingest._aggregator.excluded_count = 12
        journal.write(finished(sample_bar(market="usdm")), OPEN_TIME_MS, as_json(stage.figures))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO past_gaps"
            " VALUES ('BTCUSDT', 1, 2, 0, 0, 'skipped', 0, NULL, 'excluded', 0)"
        )

    status = read_status(path, [])

    assert status["gaps"]["excluded"] == 1
    page = format_status(status)
    assert "0 abandoned, 1 excluded (`bintrades gaps` lists them)" in page
    assert "0 bad messages, 12 ids that are no fills\n" in page


def test_no_text_of_others_moves_the_cursor_or_makes_a_line(path: Path) -> None:
    forged = "x\x1b[2J\ncollector   running\x9b \udcff ftp://me:hidden@host"
    with journal_at(path) as journal:
        stage = Stage(path, journal)
        stage.reader.last_error = forged
        stage.delivery.last_error = forged
        stage.budget.last_error = forged
        stage.collector.symbols_snapshot = lambda: SymbolsSnapshot(unlisted=[forged])
        journal.write(finished(sample_bar()), OPEN_TIME_MS, as_json(stage.figures))

    status = read_status(path, [])
    page = format_status(status)

    assert all(line.isprintable() for line in page.split("\n"))
    assert sum(line.startswith("collector") for line in page.split("\n")) == 1
    assert r"x\x1b[2J\ncollector   running\x9b \udcff ftp://***@host" in page
    assert "hidden" not in json.dumps(status)
    assert as_json(status).isprintable()


def test_a_secret_that_is_also_the_name_of_a_store_is_hidden_in_what_others_say_only(
    path: Path,
) -> None:
    remember_secrets(["jsonl"])
    try:
        with journal_at(path) as journal:
            stage = Stage(path, journal)
            stage.delivery.last_error = "jsonl is full"
            figures = with_journal_figures(stage.figures, path)
    finally:
        remember_secrets([])

    (store,) = figures["stores"]
    assert (store["name"], store["error"]) == ("jsonl", "*** is full")


def test_lines_that_the_log_lost_are_reported(path: Path) -> None:
    before = lost_lines()
    with journal_at(path) as journal:
        stage = Stage(path, journal)
        figures = {**stage.figures, "log_lines_lost": 12}
        journal.write(finished(sample_bar()), OPEN_TIME_MS, json.dumps(figures))

    assert stage.figures["log_lines_lost"] == before
    assert "log         12 lines could not be written" in format_status(read_status(path, []))


@pytest.mark.parametrize("word", ['{"a": 1}', '{"pid": 1}', "[]", "7", "{"])
@pytest.mark.parametrize("is_in_use", [False, True])
def test_a_last_word_that_no_collector_has_said_is_not_taken_for_one(
    path: Path, word: str, is_in_use: bool
) -> None:
    with journal_at(path) as journal:
        journal.write(finished(sample_bar()), OPEN_TIME_MS)
        journal.set_status(word)
        found = read_status(path, []) if is_in_use else None
    found = found or read_status(path, [])

    assert found["collector"] is None
    assert format_status(found)
    assert format_health(found)


def test_a_rest_side_that_does_not_answer_is_a_trouble_after_two_minutes_and_not_unhealthy(
    path: Path,
) -> None:
    with journal_at(path) as journal:
        stage = Stage(path, journal)
        pages = []
        for ago in (60_000, 300_000):
            stage.budget.record_answer(now_ms())
            stage.budget.record_failure("GET x: no answer", now_ms() - ago)
            journal.write(WriteBatch(), OPEN_TIME_MS, json.dumps(stage.figures))
            status = read_status(path, ["jsonl"])
            pages.append(format_status(status))

    trouble = "trouble     the exchange's REST side has not answered for 5 min: GET x: no answer"
    assert [trouble in page.splitlines() for page in pages] == [False, True]
    assert status["problems"] == []


def repair_line(path: Path, stage: Stage, journal: Journal) -> str:
    """Return what the page says of repair."""
    journal.write(WriteBatch(), OPEN_TIME_MS, json.dumps(stage.figures))
    page = format_status(read_status(path, []))
    (line,) = [line for line in page.splitlines() if line.startswith("repair ")]
    return line


def test_what_repair_has_done_and_why_it_does_no_more_is_reported(path: Path) -> None:
    with journal_at(path) as journal:
        stage = Stage(path, journal)
        assert stage.collector.backfill is not None
        stage.collector.backfill._backfill.request_count = 123
        stage.aggregator.repaired_count = 4_567
        done = "repair      123 requests, 4567 trades fetched"
        assert repair_line(path, stage, journal) == done

        stage.budget.record_failure("GET x: no answer", now_ms())
        failing = repair_line(path, stage, journal)
        assert failing == f"{done}; the last request failed: GET x: no answer"

        stage.budget.record_failure("GET x: 451 forbidden", now_ms() - 300_000, 451)
        assert stage.figures["repair"]["blocked_until"] is None
        stage.budget.record_answer(now_ms())
        assert repair_line(path, stage, journal) == done

        before = utc(utc_ms())
        stage.budget.record_failure("GET x: 451 forbidden", now_ms(), 451)
        told = repair_line(path, stage, journal)
        found = re.fullmatch(rf"{done}; no requests until (.+) UTC: GET x: 451 forbidden", told)
        assert found, told
        until = datetime.fromisoformat(f"{found[1]}+00:00")
        begins = until - timedelta(seconds=300)
        assert before - timedelta(seconds=1) <= begins <= utc(utc_ms())


def proof_line(unproven: int, *, error: str | None = None, is_repairing: bool = True) -> str:
    """Return what the page says of proof."""
    return _format_proof(
        {
            "unproven_symbols": unproven,
            "repair": {"is_enabled": is_repairing, "proof_error": error},
        }
    )


def test_it_says_how_many_symbols_have_bars_that_are_not_proven_and_why() -> None:
    assert proof_line(0).startswith("every closed bar is proven")
    assert proof_line(3).startswith("3 symbols have a closed bar that is not proven")
    assert "not asked, since repair is switched off" in proof_line(3, is_repairing=False)
    assert proof_line(3, error="GET /x: 404").endswith("which trades are its newest: GET /x: 404")


def test_a_collector_that_is_told_not_to_repair_says_so(path: Path) -> None:
    with journal_at(path) as journal:
        stage = Stage(path, journal, is_repairing=False)

        assert repair_line(path, stage, journal) == "repair      switched off"
