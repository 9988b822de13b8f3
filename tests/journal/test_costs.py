"""What the journal is asked costs in proportion to the answer, not to what is stored."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

import bintrades.journal as journal_package
from bintrades.app.status import read_status
from bintrades.cli.gap_report import gap_rows
from bintrades.cli.output import array_pieces
from bintrades.core.audit_result import BarsAudited
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import WriteBatch
from bintrades.errors import JournalDamaged
from bintrades.journal.cursor import Cursor
from bintrades.journal.pruning import PRUNE_BATCH
from bintrades.journal.reader import JournalReader
from bintrades.journal.wal import WAL_LIMIT
from bintrades.model import Gap, GapCause, GapOutcome, RecordedDifference
from bintrades.testing.bars import sample_bar, sample_bars
from tests.journals import (
    INTERVAL_MS,
    by_key,
    checkpoints,
    finished,
    journal_at,
    pages_of,
    spoil_pages,
)
from tests.large_journals import ALWAYS, END_MS, RARE, SYMBOLS, make_journal
from tests.sql_meter import Meter, metering, statements_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from bintrades.journal.writer import Journal
    from bintrades.model import Bar

SMALL, LARGE = 10_000, 2_000_000
STORES = ("even", "behind", "refuses", "again", "never heard of")
PACKAGE = Path(journal_package.__file__).parent

GROWING = {"bars", "blocks", "differences", "excluded", "gaps", "past_gaps", "rejected", "verified"}
"""Tables with more rows the longer the collector runs. The others: a row a symbol, or store."""

READ_WHOLE = re.compile(
    "SELECT symbol, first_id"  # all that is missing now: each row is an answer
    "|SELECT symbol, open_time, interval, ours"  # all that ever differed
    "|SELECT DISTINCT symbol FROM blocks|DELETE FROM gaps$"  # once, where a file was damaged
    "|INSERT OR IGNORE INTO surplus SELECT"  # likewise
    r"|SELECT EXISTS \(SELECT 1 FROM rejected\)$|SELECT 1 FROM excluded LIMIT 1$"  # the first row
)
"""Statements that may go through a growing table, by how they begin."""

ONCE = {"schema.py", "migrations.py", "salvage.py", "salvage_tables.py", "check.py"}
"""Modules whose statements go through everything, once: an upgrade, and a damaged file."""

NO_QUESTIONS = ("PRAGMA", "BEGIN", "COMMIT", "ROLLBACK")


def latest_bar(symbol: str, *, ago: int = 0) -> Bar:
    """Return a bar of the interval that opens at the end of what is stored, or *ago* earlier."""
    open_time = END_MS - INTERVAL_MS * ago
    return sample_bar(symbol=symbol, open_time_ms=open_time)


def write_bars(journal: Journal) -> None:
    """Write a bar for each symbol, as every interval does."""
    bars = [latest_bar(f"S{place:03}USDT") for place in range(SYMBOLS)]
    journal.write(WriteBatch(finished=by_key(bars)), END_MS)


def amend_old_bars(journal: Journal) -> None:
    """Have late trades come for bars of the last hour."""
    bars = [latest_bar(ALWAYS, ago=ago) for ago in range(10, 200, 10)]
    journal.write(WriteBatch(amendments=by_key(bars)), END_MS)


def lose_and_find(journal: Journal) -> None:
    """Have a gap open that touches bars of a minute, and end, with the ones before as they are.

    Some of its ids are absent, until a trade of theirs comes.
    """
    before = journal.checkpoints[ALWAYS].ledger
    gap = Gap(8_000_000, 8_000_010, END_MS - 60_000, END_MS, GapCause.SKIPPED)
    absent = replace(gap, last_id=8_000_003, absent_at=1)
    wrong = replace(absent, first_id=8_000_002)
    missing_again = replace(wrong, absent_at=None)

    def write(gaps: tuple[Gap, ...], *, absent: tuple[Gap, ...] = (), **changes: Any) -> None:
        state = LedgerState(9_000_001, END_MS, (*before.gaps, *gaps), absent)
        saved = checkpoints(**{ALWAYS: state})
        journal.write(WriteBatch(checkpoints=saved, **changes), END_MS)

    write((gap,))
    write((), absent=(absent,), resolved=[(ALWAYS, 8_000_000, 8_000_003, GapOutcome.ABSENT)])
    write((missing_again,), reopened=[(ALWAYS, wrong)])
    write(())


def move_proofs(journal: Journal) -> None:
    """Have symbols be proven further by the exchange's word: one of them anew, after none."""
    for symbol, gives_up in ((RARE, False), (ALWAYS, True)):
        known = journal.checkpoints[symbol]
        steps = (None, END_MS + 1) if gives_up else (END_MS + 1, END_MS + 60_000)
        for proven in steps:
            moved = replace(known, proven_ms=proven)
            journal.write(WriteBatch(checkpoints={symbol: moved}), END_MS)


def stop_and_release(journal: Journal) -> None:
    """Have symbols with open bars be no longer wanted."""
    open_bars = [replace(latest_bar(symbol), is_closed=False) for symbol in (ALWAYS, RARE)]
    ledgers = {bar.symbol: journal.checkpoints[bar.symbol].ledger for bar in open_bars}
    journal.write(WriteBatch(checkpoints=checkpoints(*open_bars, **ledgers)), END_MS)
    journal.flush_removed_symbols([], END_MS)


def audit(journal: Journal) -> None:
    """Have spans be verified that join, and one bar of them change; put something on record."""
    minutes = [(END_MS - ago * 60_000, END_MS - (ago - 1) * 60_000) for ago in (3, 1, 2)]
    found = RecordedDifference(ALWAYS, END_MS - 240_000, 60_000, "1", "2", END_MS, END_MS)
    through = JournalReader(journal.path).last_sequence()
    audited = [BarsAudited(ALWAYS, (span,), (found,), through) for span in minutes]
    journal.write(WriteBatch(audited=audited), END_MS)
    rebuilt = replace(latest_bar(ALWAYS, ago=9), epoch=1)
    reader = JournalReader(journal.path)
    surplus = replace(latest_bar("S002USDT", ago=8), is_complete=False, epoch=1)
    journal.write(WriteBatch(rebuilt=by_key([surplus])), END_MS)
    assert reader.surplus("S002USDT", 0, END_MS)
    journal.write(WriteBatch(rebuilt=by_key([replace(surplus, is_complete=True, epoch=2)])), END_MS)
    reader.leave_rebuilt([rebuilt])
    journal.write(WriteBatch(amendments=by_key([latest_bar(ALWAYS, ago=10)])), END_MS)


def ask_about_audit(path: Path) -> None:
    """Ask for what is verified and what is not."""
    reader = JournalReader(path)
    assert len(reader.verified(ALWAYS)) == 2
    assert reader.differences() == reader.differences(ALWAYS) != []
    assert not [*reader.differences(ALWAYS, (0, 1)), *reader.verified(ALWAYS, (0, 1))]
    assert not reader.has_rebuilt()
    assert reader.pruned_through(ALWAYS) is None
    assert not reader.surplus(ALWAYS, 0, END_MS)
    first, *others = reader.coverage_of_all()
    assert len(others) > SYMBOLS // 2
    found = reader.coverage(first.symbol)
    assert found is not None
    assert found.coverage == first.coverage
    reader.newest_proof_ms()
    assert len(reader.symbols_known()) > SYMBOLS // 2


def prune(journal: Journal) -> None:
    """Have old bars deleted: at first none may go, then some."""
    journal.prune(["behind"], 2**62)
    journal.prune(["even"], 1)
    journal.prune([], 2**62)
    journal.prune([], 2**62)


def keep_metadata(journal: Journal) -> None:
    """Keep something."""
    journal.set_symbol_list("value")
    assert journal.get_symbol_list() == "value"


WRITING: list[Callable[[Journal], None]] = [
    write_bars,
    amend_old_bars,
    lose_and_find,
    move_proofs,
    stop_and_release,
    keep_metadata,
    audit,
]


def take_two_batches(path: Path, store: str) -> None:
    """Take what waits, or is to be sent again, and refuse some of it, as a delivery does."""
    cursor = Cursor(path, store)
    for _ in range(2):
        bars, sequence = cursor.next_bars(40)
        if bars:
            cursor.move(sequence, bars, [(bar, "ugly") for bar in bars[:3]])


def send_again(path: Path) -> None:
    """Have a store that has everything get the bars of a minute once more."""
    cursor = Cursor(path, "refuses")
    assert cursor.newest_stored_open_time_ms()
    assert cursor.resend_since("refuses", END_MS - 60_000) > SYMBOLS
    while True:
        bars, sequence = cursor.next_bars(40)
        if not bars:
            return
        cursor.move(sequence, bars)


def ask_for_bars(path: Path) -> None:
    """Ask for the newest bars, and those of an hour, of symbols that trade always and rarely."""
    reader = JournalReader(path)
    for symbol, count in ((ALWAYS, 60), (RARE, 5)):
        assert len(reader.bars(symbol, 0, END_MS, count)) == count
    assert len(reader.bars(ALWAYS, END_MS - 3_600_000, END_MS + 1, 2**31)) == 361, "and an open one"
    assert reader.bars("NEVERUSDT", 0, END_MS, 60) == []
    assert reader.newest_open_time_ms(RARE)
    assert reader.written_after(reader.last_sequence() - 100, 100).rows
    minute = (END_MS - 60_000, END_MS)
    (known,) = reader.known_of([(ALWAYS, minute)])
    assert {row[0] for row in known.rows} == {ALWAYS}


def ask_for_gaps(path: Path) -> None:
    """Ask for the first page of gaps, of all symbols and of one."""
    reader = JournalReader(path)
    for symbol in (None, ALWAYS):
        assert "".join(islice(array_pieces(gap_rows(reader, symbol)), 20))
    assert reader.symbols_with_gaps() == [ALWAYS]


def ask_what_was_refused(path: Path) -> None:
    """Ask for the first of the bars that stores have refused, and of those that are due again."""
    reader = JournalReader(path)
    assert set(STORES) - {"never heard of"} <= set(reader.stores_known())
    for store in STORES:
        list(islice(reader.refused_bars(store), 20))


def ask_for_coverage_of_store(path: Path) -> None:
    """Ask what is covered in a store that has everything."""
    cursor = Cursor(path, "even")
    while (batch := cursor.next_bars(4_000))[0]:
        cursor.move(batch[1], batch[0])
    with cursor.coverage_of_delivered() as coverages:
        assert coverages is not None
        assert len(list(coverages)) > SYMBOLS // 2


def ask_for_page(path: Path) -> None:
    """Ask for what is new on a page that somebody looks at."""
    reader = JournalReader(path)
    last, bars = reader.bars_after(reader.last_sequence() - 500, 500, [ALWAYS])
    assert bars
    assert last >= len(bars)
    assert reader.newest_bars([ALWAYS, RARE], 6)[ALWAYS]


READING: list[Callable[[Path], object]] = [
    *(partial(take_two_batches, store=store) for store in STORES),
    send_again,
    lambda path: JournalReader(path).resend("even"),
    ask_for_bars,
    ask_for_gaps,
    ask_what_was_refused,
    ask_about_audit,
    ask_for_coverage_of_store,
    lambda path: read_status(path, STORES),
    lambda path: JournalReader(path).symbols(),
    lambda path: JournalReader(path).symbols_known(),
    lambda path: JournalReader(path).symbol_records(),
    ask_for_page,
]


def work(path: Path, meter: Meter) -> list[int]:
    """Do everything with a journal; return the steps that each took."""
    steps = []

    def measured(use: Callable[[], object]) -> None:
        before = meter.steps
        use()
        steps.append(meter.steps - before)

    with journal_at(path) as journal:
        steps.append(meter.steps)  # for opening
        for write in WRITING:
            measured(partial(write, journal))
        for read in READING:
            measured(partial(read, path))
        measured(partial(prune, journal))
    return steps


def survive_damage(path: Path) -> None:
    """Have rows, pages and a whole journal be corrupt."""
    late = replace(sample_bar(), trade_count=1)
    with journal_at(path) as journal:
        ledger = LedgerState(2_000 * 3 + 1, END_MS, ())
        changes = WriteBatch(finished=by_key(sample_bars(2_000)))
        changes.checkpoints = checkpoints(BTCUSDT=ledger)
        journal.write(changes, 0)
        spoil(path, "UPDATE bars SET value = '12x4' WHERE sequence = 1")
        journal.write(WriteBatch(amendments=by_key([late])), 0)
    spoil(path, "UPDATE checkpoints SET open_bars = '[}'")
    spoil(path, "INSERT INTO surplus VALUES ('BTCUSDT', 'x')")
    with journal_at(path) as journal:
        spoil_pages(path, pages_of(path, "bars")[5:6])
        journal.prune([], 1)
        assert JournalReader(path).counts()["bars"] > 0
    spoil(path, "INSERT INTO rejected VALUES ('store', 'BTCUSDT', 0, 'ugly', 0, 0)")
    spoil_pages(path, pages_of(path, "rejected"))
    with pytest.raises(JournalDamaged):
        JournalReader(path).resend("store")
    spoil_pages(path, pages_of(path, "checkpoints"))
    with journal_at(path):
        pass
    for file in path.parent.glob("*"):
        file.unlink()
    path.write_bytes(b"no database at all" * 300)
    with journal_at(path) as journal:
        journal.flush_removed_symbols(["BTCUSDT"], 0)


def live_on_futures(path: Path) -> None:
    """Have ids that are no fills be counted, found at the opening, and forgotten."""
    bars = sample_bars(3, market="usdm")
    state = LedgerState(bars[-1].last_trade_id + 3, END_MS, ())
    first_id, last_id = bars[0].first_trade_id, bars[-1].last_trade_id
    excluded = [
        (first_id + 1, first_id + 1),
        (first_id + 2, first_id + 2),
        (last_id + 1, last_id + 2),
    ]
    batch = finished(*bars, BTCUSDT=state)
    batch.excluded["BTCUSDT"] = excluded
    with journal_at(path, market="usdm") as journal:
        journal.write(batch, END_MS)
    with journal_at(path, market="usdm") as journal:
        assert journal.checkpoints["BTCUSDT"].newest_fill_id == last_id
        journal.write(WriteBatch(), END_MS + 1)
        journal.write(WriteBatch(), END_MS + 60_000)
        assert journal.prune([], 2**62) > 0
        batch = WriteBatch(checkpoints=checkpoints(BTCUSDT=LedgerState(9, END_MS, ())))
        batch.restart_ids("BTCUSDT", END_MS)
        journal.write(batch, END_MS + 60_000)


def spoil(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Meter]:
    """Return a journal with which everything was done, and all that it was asked."""
    path = tmp_path_factory.mktemp("asked") / "journal"
    with metering() as making:
        make_journal(path, SMALL)
    with metering() as meter:
        work(path, meter)
        with journal_at(path) as journal, closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM facts").fetchall()
            journal.write(WriteBatch(), END_MS, "x" * 2 * WAL_LIMIT)
        list(JournalReader(path).gaps())
        live_on_futures(tmp_path_factory.mktemp("futures") / "journal")
        survive_damage(tmp_path_factory.mktemp("damaged") / "journal")
    meter.statements = making.statements | meter.statements
    return path, meter


def plan(connection: sqlite3.Connection, sql: str, parameters: object) -> list[str]:
    """Return how SQLite goes about it, not knowing what is bound."""
    rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)  # type: ignore[arg-type]
    return [row[3] for row in rows]


def faults(steps: list[str]) -> list[str]:
    """Return what of a plan costs in proportion to what is stored."""
    found = []
    for step in steps:
        table = re.match(r"SCAN (\w+)", step)
        if (table and table[1] in GROWING) or "TEMP B-TREE" in step:
            found.append(step)
    return found


def test_no_statement_goes_through_what_grows(asked: tuple[Path, Meter]) -> None:
    path, meter = asked
    bad = {}
    count = 0
    with closing(sqlite3.connect(path)) as connection:
        for ((module, line), sql), parameters in meter.statements.items():
            is_known = module in ONCE or READ_WHOLE.match(sql)
            if not (PACKAGE / module).exists() or is_known or sql.startswith(NO_QUESTIONS):
                continue
            count += 1
            if found := faults(plan(connection, sql, parameters)):
                bad[f"{module}:{line}"] = (sql, found)

    assert count > 50
    assert bad == {}


def test_no_trigger_goes_through_what_grows(asked: tuple[Path, Meter]) -> None:
    path, _ = asked
    bad = {}
    count = 0
    with closing(sqlite3.connect(path)) as connection:
        for name, text in connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
        ):
            body = text[text.index("BEGIN") + len("BEGIN") : text.rindex("END")]
            for statement in filter(str.strip, body.split(";")):
                count += 1
                sql = re.sub(r"\b(NEW|OLD)\.\w+", "?", statement)
                if found := faults(plan(connection, sql, [1] * sql.count("?"))):
                    bad[name, statement] = found

    assert count > 10
    assert bad == {}


def test_every_statement_of_the_code_is_among_those_looked_at(
    asked: tuple[Path, Meter],
) -> None:
    _, meter = asked
    run = {site for site, _ in meter.statements}
    was_run: dict[tuple[str, str], bool] = {}
    for module in PACKAGE.glob("*.py"):
        if module.name in ONCE:
            continue
        for lines, text in statements_in(module):
            key = (module.name, text)  # the second time, the same after a failure
            was_run[key] = was_run.get(key, False) or any((module.name, n) in run for n in lines)
    missing = [key for key, is_run in was_run.items() if not is_run]
    missing = [(module, text) for module, text in missing if not text.startswith(NO_QUESTIONS)]

    assert len(was_run) > 50
    assert missing == []


def test_two_million_bars_cost_no_more_than_ten_thousand(tmp_path: Path) -> None:
    costs = []
    for count in (SMALL, LARGE):
        path = tmp_path / str(count)
        make_journal(path, count)
        with metering() as meter:
            costs.append(work(path, meter))
        path.unlink()
    names = ["opening", *(write.__name__ for write in WRITING)]
    names += [
        *STORES,
        "sending again",
        "resend",
        "bars",
        "gaps",
        "refused",
        "audit",
        "coverage",
        "status",
        "symbols",
        "known symbols",
        "records of symbols",
        "page",
        "prune",
    ]
    grown = [
        (name, small, large)
        for name, small, large in zip(names, *costs, strict=True)
        if large > 1.5 * small
    ]

    assert grown == [], "what was done, and SQLite's steps for it"


def test_bars_that_may_not_leave_are_looked_at_whole_once_and_then_a_few_at_a_time(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal"
    bars = sample_bars(2 * PRUNE_BATCH)
    with metering() as meter, journal_at(path) as journal:
        journal.write(WriteBatch(finished=by_key(bars)), 1)
        cursor = Cursor(path, "store")
        refused, sequence = cursor.next_bars(len(bars))
        cursor.move(sequence, refused, [(bar, "ugly") for bar in refused])

        def steps() -> int:
            before = meter.steps
            assert journal.prune(["store"], 2) == 0
            return meter.steps - before

        first = steps()
        while journal.has_more_to_prune:
            steps()
        later = [steps() for _ in range(20)]

    assert max(later) < first / 3
