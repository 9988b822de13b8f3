"""Bars that are printed as they close: nothing is left out, nothing comes twice unchanged."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bintrades.app.stored_bars import JournalBars
from bintrades.cli.bar_text import is_amended, longer_row
from bintrades.cli.follow import Follower
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.errors import BintradesError
from bintrades.journal.reader import JournalReader
from bintrades.reading.sources import JournalSource
from bintrades.testing.bars import OPEN_TIME_MS, sample_bars
from tests.checkout import REPOSITORY
from tests.journals import by_key, journal_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bintrades.journal.writer import Journal
    from bintrades.model import Bar

MINUTE_MS = 60_000
BARS = sample_bars(30)
OTHERS = sample_bars(30, symbol="ETHUSDT")


def write(journal: Journal, *bars: Bar, proven_ms: int | None = None) -> None:
    """Write *bars*, of which all is proven up to *proven_ms*, by default to their end."""
    saved = {}
    for symbol in {bar.symbol for bar in bars}:
        newest = max(bar.open_time_ms for bar in bars if bar.symbol == symbol)
        end_ms = newest + 10_000
        saved[symbol] = Checkpoint(
            LedgerState(10**6, end_ms, ()),
            closed_through=newest,
            proven_ms=proven_ms or end_ms,
            covered_since_ms=OPEN_TIME_MS,
        )
    journal.write(WriteBatch(finished=by_key(bars), checkpoints=saved), OPEN_TIME_MS)


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """Return a journal that has the first bars of two symbols."""
    with journal_at(path) as journal:
        write(journal, *BARS[:8], *OTHERS[:8])
        yield journal


def is_bitcoin(symbol: str) -> bool:
    return symbol == "BTCUSDT"


def stored(path: Path, first: Sequence[Any] = ()) -> Iterator[Any]:
    """Follow what is stored of one symbol."""
    return Follower(JournalReader(path), is_bitcoin).stored(iter(first))


def keys(rows: Sequence[Any]) -> list[tuple[int, int]]:
    """Return the how manieth of the sample bars each row is, and in which version."""
    return [((row[1] - OPEN_TIME_MS) // 10_000, row[2]) for row in rows]


def test_what_is_written_is_printed_once_and_of_other_symbols_nothing(
    journal: Journal, path: Path
) -> None:
    pages = stored(path, [[]])
    assert next(pages) == []
    write(journal, *BARS[8:10], *OTHERS[8:10])
    assert keys(next(pages)) == [(8, 1), (9, 1)]
    write(journal, *OTHERS[10:11])
    write(journal, *BARS[10:11])

    assert keys(next(pages)) == [(10, 1)]


def test_a_bar_that_is_amended_comes_again_and_one_that_is_open_does_not_come(
    journal: Journal, path: Path
) -> None:
    pages = stored(path)
    more = replace(BARS[3], trade_count=4)
    write(journal, more, replace(BARS[8], is_closed=False), BARS[9])

    found = next(pages)

    assert sorted(keys(found)) == [(3, 2), (9, 1)]
    assert [is_amended(row) for row in found] == [row[2] == 2 for row in found]


def test_what_was_printed_first_does_not_come_again_unless_it_changes(
    journal: Journal, path: Path
) -> None:
    reader = JournalReader(path)
    follower = Follower(reader, is_bitcoin)
    write(journal, *BARS[8:10])  # between what it begins with and what it prints first
    first = list(reader.pages("BTCUSDT", OPEN_TIME_MS, OPEN_TIME_MS + 100_000, 100))
    follower._began_ms = OPEN_TIME_MS
    pages = follower.stored(iter(first))
    assert len(next(pages)) == 10
    write(journal, replace(BARS[9], trade_count=4), BARS[10])

    assert sorted(keys(next(pages))) == [(9, 2), (10, 1)]


def test_a_journal_that_is_gone_for_a_while_is_waited_for(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with journal_at(path) as journal:
        write(journal, *BARS[:8])
    pages = stored(path)
    away = path.with_name("away")
    path.rename(away)
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            away.rename(path)
            with journal_at(path) as journal:
                write(journal, BARS[8])

    monkeypatch.setattr("bintrades.cli.follow.wait_for", wait)

    assert keys(next(pages)) == [(8, 1)]
    assert capsys.readouterr().err == (
        f"bintrades: {path}: there is no journal yet; `bintrades run` begins it\n"
    )


def test_a_journal_that_has_begun_anew_is_printed_from_its_beginning(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with journal_at(path) as journal:
        write(journal, *BARS[:8])
    pages = stored(path)
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    with journal_at(path) as journal:
        write(journal, *BARS[8:10])

    assert keys(next(pages)) == [(8, 1), (9, 1)]
    assert capsys.readouterr().err == f"bintrades: {path}: has begun anew\n"


def test_a_journal_of_other_bars_ends_it(path: Path) -> None:
    with journal_at(path) as journal:
        write(journal, *BARS[:8])
    pages = stored(path)
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    with journal_at(path, market="us"):
        pass

    with pytest.raises(BintradesError, match="is a journal of other bars now"):
        next(pages)


def longer(path: Path) -> Iterator[Any]:
    """Follow minutes of one symbol, after those that there are."""
    reader = JournalReader(path)
    bars = JournalBars(JournalSource(path), reader)
    span = (OPEN_TIME_MS, OPEN_TIME_MS + 3_600_000)
    first = [longer_row(each) for each in bars.longer("BTCUSDT", *span, MINUTE_MS)]
    return Follower(reader, is_bitcoin).longer(iter([first]), MINUTE_MS)


def minutes(rows: Sequence[Any]) -> list[tuple[int, int, bool]]:
    """Return which minute each row is, how many trades it has, whether it was printed before."""
    return [((row[1] - OPEN_TIME_MS) // MINUTE_MS, row[6], is_amended(row)) for row in rows]


def test_a_longer_bar_is_printed_when_it_is_over_and_again_when_a_part_changes(
    journal: Journal, path: Path
) -> None:
    pages = longer(path)
    assert minutes(next(pages)) == [(0, 18, False)]
    write(journal, *BARS[8:11])
    write(journal, *BARS[11:13])
    assert minutes(next(pages)) == [(1, 18, False)]
    write(journal, replace(BARS[3], trade_count=4), *BARS[13:19])

    assert sorted(minutes(next(pages))) == [(0, 19, True), (2, 18, False)]


def test_a_longer_bar_that_ends_without_a_trade_is_printed_once_that_is_proven(
    journal: Journal, path: Path
) -> None:
    pages = longer(path)
    assert minutes(next(pages)) == [(0, 18, False)]
    proof = Checkpoint(
        LedgerState(10**6, OPEN_TIME_MS + 80_000, ()),
        closed_through=OPEN_TIME_MS + 70_000,
        proven_ms=OPEN_TIME_MS + 120_000,
        covered_since_ms=OPEN_TIME_MS,
    )
    journal.write(WriteBatch(checkpoints={"BTCUSDT": proof}), OPEN_TIME_MS)

    (row,) = next(pages)

    assert minutes([row]) == [(1, 6, False)]
    assert row[24:26] == (60, ())


@contextmanager
def following(path: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Follow BTCUSDT in a process."""
    config = path.with_name("bintrades.ini")
    config.write_text(f"[journal]\npath = {path}\n[stores]\nenabled =\n", encoding="utf-8")
    command = [sys.executable, "-m", "bintrades", "bars", "BTCUSDT", "--follow", "--limit", "1"]
    with subprocess.Popen(
        [*command, "--config", str(config), "--format", "ndjson", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def next_trades(process: subprocess.Popen[str]) -> int:
    """Return the first trade id of the next bar."""
    assert process.stdout
    return int(json.loads(process.stdout.readline())["first_trade_id"])


def test_a_process_follows_a_collector_over_its_restart_until_ctrl_c(path: Path) -> None:
    with journal_at(path) as journal:
        write(journal, *BARS[:8])
    with following(path) as process:
        assert next_trades(process) == BARS[7].first_trade_id
        for bar in BARS[8:10]:
            with journal_at(path) as journal:
                write(journal, bar)
            assert next_trades(process) == bar.first_trade_id
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err) == (0, "", "")


def test_what_comes_first_are_bars_that_are_closed_as_many_as_are_wanted(path: Path) -> None:
    still_open = replace(BARS[8], is_closed=False)
    saved = Checkpoint(
        LedgerState(10**6, OPEN_TIME_MS + 85_000, ()),
        (still_open,),
        closed_through=OPEN_TIME_MS + 70_000,
        proven_ms=OPEN_TIME_MS + 85_000,
        covered_since_ms=OPEN_TIME_MS,
    )
    with journal_at(path) as journal:
        batch = WriteBatch(finished=by_key(BARS[:8]), checkpoints={"BTCUSDT": saved})
        journal.write(batch, OPEN_TIME_MS)
    with following(path, "--limit", "2") as process:
        found = [next_trades(process) for _ in range(2)]

    assert found == [bar.first_trade_id for bar in BARS[6:8]]


def test_a_process_ends_as_soon_as_nobody_reads_what_it_prints(path: Path) -> None:
    with journal_at(path) as journal:
        write(journal, *BARS[:8])
    with following(path) as process:
        next_trades(process)
        assert process.stdout
        process.stdout.close()

        assert process.wait(60) == 0
        assert process.stderr
        assert process.stderr.read() == ""
