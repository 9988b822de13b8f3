"""What is covered as it is true of one store: behind its bars, without those it has not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.journal.cursor import Cursor
from bintrades.journal.reader import JournalReader
from bintrades.testing.bars import OPEN_TIME_MS, sample_bars
from tests.journals import INTERVAL_MS, NOW, by_key

if TYPE_CHECKING:
    from pathlib import Path

    from bintrades.journal.writer import Journal
    from bintrades.model import Bar


def known(symbol: str = "BTCUSDT", *, proven: int) -> dict[str, Checkpoint]:
    """Return what is known of a symbol that is proven up to the n-th interval's beginning."""
    state = LedgerState(1_000_000, OPEN_TIME_MS, ())
    proven_ms = OPEN_TIME_MS + INTERVAL_MS * proven
    return {symbol: Checkpoint(state, (), proven_ms - INTERVAL_MS, proven_ms, OPEN_TIME_MS)}


def deliver(cursor: Cursor, *refused: Bar) -> None:
    """Have a store take all that waits but for what it refuses."""
    while True:
        bars, sequence = cursor.next_bars(100)
        if not bars:
            return
        names = {(bar.symbol, bar.open_time_ms) for bar in refused}
        rejected = [(bar, "ugly") for bar in bars if (bar.symbol, bar.open_time_ms) in names]
        cursor.move(sequence, bars, rejected)


def told(cursor: Cursor) -> dict[str, list[tuple[int, int]]] | None:
    """Return the spans of each symbol, in intervals; None: it is told nothing."""
    with cursor.coverage_of_delivered() as found:
        if found is None:
            return None
        return {
            each.symbol: [(at(since), at(until)) for since, until in each.spans] for each in found
        }


def at(time_ms: int) -> int:
    return (time_ms - OPEN_TIME_MS) // INTERVAL_MS


def test_a_store_is_told_nothing_while_a_bar_waits_for_it(journal: Journal, path: Path) -> None:
    bars = sample_bars(4)
    cursor = Cursor(path, "shop")
    assert told(cursor) is None, "it has had no bar yet"
    journal.write(WriteBatch(finished=by_key(bars[:2]), checkpoints=known(proven=2)), NOW)
    assert told(cursor) is None

    deliver(cursor)
    assert told(cursor) == {"BTCUSDT": [(0, 2)]}

    journal.write(WriteBatch(finished=by_key(bars[2:]), checkpoints=known(proven=4)), NOW)
    assert told(cursor) is None


def test_a_bar_that_a_store_refused_is_a_hole_for_it_alone(journal: Journal, path: Path) -> None:
    bars = [*sample_bars(4), *sample_bars(4, symbol="ETHUSDT")]
    checkpoints = known(proven=4) | known("ETHUSDT", proven=4)
    journal.write(WriteBatch(finished=by_key(bars), checkpoints=checkpoints), NOW)
    shop, other = Cursor(path, "shop"), Cursor(path, "other")
    deliver(shop, bars[5])
    deliver(other)

    assert told(shop) == {"BTCUSDT": [(0, 4)], "ETHUSDT": [(0, 1), (2, 4)]}
    assert told(other) == {"BTCUSDT": [(0, 4)], "ETHUSDT": [(0, 4)]}

    JournalReader(path).resend("shop")
    assert told(shop) is None, "it is to get that bar again"
    deliver(shop)
    assert told(shop) == told(other)


@pytest.mark.parametrize("is_new", [True, False], ids=["a new store", "one that was off"])
def test_bars_that_left_before_a_store_could_have_them_are_a_hole_for_it(
    journal: Journal, path: Path, is_new: bool
) -> None:
    bars = sample_bars(6)
    shop = Cursor(path, "shop")
    if not is_new:
        journal.write(WriteBatch(finished=by_key(bars[:1]), checkpoints=known(proven=1)), NOW)
        deliver(shop)
    journal.write(WriteBatch(finished=by_key(bars[:4]), checkpoints=known(proven=6)), NOW)
    assert journal.prune([], 2**62) == 4
    journal.write(WriteBatch(finished=by_key(bars[4:]), checkpoints=known(proven=6)), NOW)

    deliver(shop)

    assert told(shop) == {"BTCUSDT": [(4, 6)]}
    found = JournalReader(path).coverage("BTCUSDT")
    assert found is not None
    assert len(found.coverage.spans) == 1, "the journal knows that nothing was missing"


def test_bars_that_left_after_a_store_had_them_are_no_hole(journal: Journal, path: Path) -> None:
    bars = sample_bars(6)
    shop = Cursor(path, "shop")
    journal.write(WriteBatch(finished=by_key(bars), checkpoints=known(proven=6)), NOW)
    deliver(shop)

    assert journal.prune(["shop"], 2**62)

    assert told(shop) == {"BTCUSDT": [(0, 6)]}


def test_a_store_that_is_to_get_its_bars_again_is_told_nothing_until_it_has_them(
    journal: Journal, path: Path
) -> None:
    journal.write(WriteBatch(finished=by_key(sample_bars(2)), checkpoints=known(proven=2)), NOW)
    shop = Cursor(path, "shop")
    deliver(shop)

    JournalReader(path).resend_since("shop", 0)
    assert told(shop) is None

    deliver(shop)
    assert told(shop) == {"BTCUSDT": [(0, 2)]}


@pytest.mark.parametrize(
    ("since", "covered"),
    [(0, [(4, 6)]), (2, [(0, 2), (4, 6)]), (2.5, [(0, 3), (4, 6)]), (4, [(0, 6)])],
)
def test_what_a_store_has_lost_and_the_journal_cannot_send_again_is_a_hole_for_it(
    journal: Journal, path: Path, since: float, covered: list[tuple[int, int]]
) -> None:
    bars = sample_bars(6)
    shop, other = Cursor(path, "shop"), Cursor(path, "other")
    journal.write(WriteBatch(finished=by_key(bars[:4]), checkpoints=known(proven=6)), NOW)
    deliver(shop)
    deliver(other)
    assert journal.prune(["shop", "other"], 2**62) == 4
    journal.write(WriteBatch(finished=by_key(bars[4:]), checkpoints=known(proven=6)), NOW)

    JournalReader(path).resend_since("shop", OPEN_TIME_MS + int(INTERVAL_MS * since))
    deliver(shop)
    deliver(other)

    assert told(shop) == {"BTCUSDT": covered}
    assert told(other) == {"BTCUSDT": [(0, 6)]}


def test_bars_that_leave_while_a_store_that_was_to_get_them_again_is_off_are_a_hole_for_it(
    journal: Journal, path: Path
) -> None:
    shop = Cursor(path, "shop")
    journal.write(WriteBatch(finished=by_key(sample_bars(4)), checkpoints=known(proven=6)), NOW)
    deliver(shop)
    JournalReader(path).resend_since("shop", 0)

    assert journal.prune([], 2**62) == 4
    deliver(shop)

    assert told(shop) == {"BTCUSDT": [(4, 6)]}
