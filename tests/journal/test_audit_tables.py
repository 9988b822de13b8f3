"""What the journal keeps of comparisons with the exchange's klines."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.audit_result import BarsAudited
from bintrades.core.write_batch import WriteBatch
from bintrades.errors import JournalDamaged
from bintrades.journal.audit import put_audited, read_verified, unverify
from bintrades.journal.connection import connect, transaction
from bintrades.journal.lock import identity
from bintrades.journal.migrations import create_schema
from bintrades.journal.reader import JournalReader
from bintrades.model import DifferenceOutcome, RecordedDifference
from bintrades.testing.bars import OPEN_TIME_MS, sample_bars
from tests.journals import (
    INTERVAL_MS,
    NOW,
    by_key,
    finished,
    journal_at,
    ledger_through,
    pages_of,
    spoil_pages,
)

if TYPE_CHECKING:
    from bintrades.journal.writer import Journal

MINUTE = 60_000
DIFFERENCE = RecordedDifference(
    "BTCUSDT", OPEN_TIME_MS, MINUTE, "trade_count 3", "trade_count 4", NOW, NOW
)
spans = st.tuples(st.integers(0, 12), st.integers(1, 4)).map(lambda t: (t[0], t[0] + t[1]))
changes = st.lists(st.tuples(st.sampled_from("AB"), st.booleans(), spans), max_size=20)


def audited(*spans: tuple[int, int], symbol: str = "BTCUSDT") -> WriteBatch:
    return WriteBatch(audited=[BarsAudited(symbol, spans)])


def minutes(spans: list[tuple[int, int]]) -> set[int]:
    return {m for since, until in spans for m in range(since // MINUTE, until // MINUTE)}


@given(changes)
def test_spans_are_the_minutes_that_are_verified_and_neighbours_are_one(
    changes: list[tuple[str, bool, tuple[int, int]]],
) -> None:
    expected: dict[str, set[int]] = {"A": set(), "B": set()}
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(connect(Path(folder) / "journal")) as connection,
    ):
        create_schema(connection)
        for symbol, is_verified, (first, last) in changes:
            with transaction(connection):
                if is_verified:
                    span = (first * MINUTE, last * MINUTE)
                    put_audited(connection, [BarsAudited(symbol, (span,))], INTERVAL_MS)
                    expected[symbol].update(range(first, last))
                else:
                    part = (first * MINUTE + 1, last * MINUTE - 1)
                    unverify(connection, symbol, part, INTERVAL_MS)
                    expected[symbol].difference_update(range(first, last))

        for symbol, wanted in expected.items():
            kept = read_verified(connection, symbol)
            within = (6 * MINUTE, 9 * MINUTE)
            assert read_verified(connection, symbol, within) == [
                span for span in kept if span[0] <= within[1] and within[0] <= span[1]
            ]
            assert minutes(kept) == wanted
            assert all(a[1] < b[0] for a, b in pairwise(kept))
        (counted,) = connection.execute(
            "SELECT coalesce(sum(value), 0) FROM counts WHERE name = 'verified'"
        ).fetchone()
        assert counted == MINUTE * sum(map(len, expected.values()))


def test_what_is_verified_for_months_is_one_row(journal: Journal) -> None:
    for minute in range(500):
        journal.write(audited((minute * MINUTE, (minute + 1) * MINUTE)), NOW)

    with closing(sqlite3.connect(journal.path)) as connection:
        assert connection.execute("SELECT * FROM verified").fetchall() == [
            ("BTCUSDT", 0, 500 * MINUTE)
        ]
    assert JournalReader(journal.path).audit_counts()["verified_ms"] == 500 * MINUTE


def test_a_difference_is_on_record_with_both_sides_and_what_became_of_it(
    journal: Journal,
) -> None:
    reader = JournalReader(journal.path)
    other = replace(DIFFERENCE, symbol="ETHUSDT", outcome=DifferenceOutcome.STAYS)
    journal.write(
        WriteBatch(
            audited=[
                BarsAudited("BTCUSDT", differences=(DIFFERENCE,)),
                BarsAudited("ETHUSDT", differences=(other,)),
            ]
        ),
        NOW,
    )
    assert reader.differences() == [DIFFERENCE, other]
    assert reader.differences("ETHUSDT") == [other]
    assert reader.differences("BTCUSDT", (OPEN_TIME_MS, OPEN_TIME_MS + 1)) == [DIFFERENCE]
    assert reader.differences("BTCUSDT", (OPEN_TIME_MS + 1, NOW)) == []
    assert reader.differences("BTCUSDT", (0, OPEN_TIME_MS)) == []

    mended = replace(DIFFERENCE, outcome=DifferenceOutcome.REPAIRED, changed_at_ms=NOW + 1)
    journal.write(WriteBatch(audited=[BarsAudited("BTCUSDT", differences=(mended,))]), NOW)

    assert reader.differences("BTCUSDT") == [mended]
    assert reader.audit_counts() == {"verified_ms": 0, "open": 0, "repaired": 1, "stays": 1}


@pytest.mark.parametrize("outcome", DifferenceOutcome)
def test_a_minute_with_a_difference_is_not_verified_until_it_is_repaired(
    journal: Journal, outcome: DifferenceOutcome
) -> None:
    whole = (OPEN_TIME_MS, OPEN_TIME_MS + 3 * MINUTE)
    journal.write(audited(whole), NOW)
    found = replace(DIFFERENCE, open_time_ms=OPEN_TIME_MS + 70_000, interval_ms=10_000)

    found = replace(found, outcome=outcome)
    journal.write(WriteBatch(audited=[BarsAudited("BTCUSDT", differences=(found,))]), NOW)

    around = [(whole[0], whole[0] + MINUTE), (whole[0] + 2 * MINUTE, whole[1])]
    is_mended = outcome is DifferenceOutcome.REPAIRED
    verified = JournalReader(journal.path).verified("BTCUSDT")
    assert verified == ([whole] if is_mended else around)


def test_of_units_with_bars_that_were_written_after_they_were_read_nothing_goes_on_record(
    journal: Journal,
) -> None:
    bars = sample_bars(30, symbol="BTCUSDT")  # five minutes
    journal.write(finished(*bars, BTCUSDT=ledger_through(bars)), NOW)
    reader = JournalReader(journal.path)
    span = (OPEN_TIME_MS, OPEN_TIME_MS + 5 * MINUTE)
    outcomes = {MINUTE: "stays", 2 * MINUTE: "open", 3 * MINUTE: "stays"}
    found = tuple(
        replace(DIFFERENCE, open_time_ms=span[0] + at, outcome=DifferenceOutcome(outcome))
        for at, outcome in outcomes.items()
    )
    read_through = reader.last_sequence()
    later = [replace(bars[place], epoch=1) for place in (6, 12)]
    later.append(replace(bars[20], symbol="ETHUSDT"))
    journal.write(WriteBatch(finished=by_key(later)), NOW)

    journal.write(
        WriteBatch(audited=[BarsAudited("BTCUSDT", (span,), read_through=read_through)]), NOW
    )
    assert reader.verified("BTCUSDT") == [
        (span[0], span[0] + MINUTE),
        (span[0] + 3 * MINUTE, span[1]),
    ]
    audited = BarsAudited("BTCUSDT", differences=found, read_through=read_through)
    journal.write(WriteBatch(audited=[audited]), NOW)

    assert reader.differences() == list(found[1:]), "that one is open says nothing of what is true"
    assert reader.last_sequence() == read_through + 3


def test_a_difference_that_cannot_be_read_is_damage(journal: Journal) -> None:
    journal.write(WriteBatch(audited=[BarsAudited("BTCUSDT", differences=(DIFFERENCE,))]), NOW)
    with closing(sqlite3.connect(journal.path)) as connection, connection:
        connection.execute("UPDATE differences SET outcome = 'gone'")

    with pytest.raises(JournalDamaged):
        JournalReader(journal.path).differences()


def test_a_salvage_keeps_what_was_found(path: Path) -> None:
    bars = sample_bars(600)
    with journal_at(path) as journal:
        journal.write(finished(*bars, BTCUSDT=ledger_through(bars)), NOW)
        batch = audited((0, MINUTE))
        batch.audited.append(BarsAudited("BTCUSDT", differences=(DIFFERENCE,)))
        journal.write(batch, NOW)
        spoil_pages(path, pages_of(path, "bars")[5:6])
        journal.save_readable("a reader says so", identity(path))

    reader = JournalReader(path)
    assert reader.verified("BTCUSDT") == [(0, MINUTE)]
    assert reader.differences() == [DIFFERENCE]
    assert reader.audit_counts() == {"verified_ms": MINUTE, "open": 1, "repaired": 0, "stays": 0}
