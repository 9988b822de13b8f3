"""Several writes in one, when the journal did not take the first."""

from __future__ import annotations

from msgspec.structs import replace

from bintrades.core.ban import Ban
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.model import GapOutcome
from tests.core.aggregators import (
    BTC,
    new_aggregator,
)
from tests.strategies import (
    INTERVAL,
    START,
    bar_of,
    make_trade,
)


def test_one_write_makes_up_for_several_that_failed() -> None:
    aggregator = new_aggregator()
    pending = WriteBatch()
    for trade in (
        make_trade(1),
        make_trade(3, START + 1),
        make_trade(4, START + 2 * INTERVAL),
        make_trade(2, START + 2, event_time=START),
    ):
        aggregator.add([trade], 0)
        pending.update(aggregator.collect())

    whole = bar_of([make_trade(1), make_trade(2, START + 2), make_trade(3, START + 1)])
    assert pending.finished == {(BTC, START): whole}
    (still_open,) = pending.checkpoints[BTC].open_bars
    assert still_open.open_time_ms == START + 2 * INTERVAL
    assert not pending.amendments
    assert pending.checkpoints[BTC].ledger.next_id == 5


def test_of_two_bans_the_later_one_is_written() -> None:
    batch = WriteBatch(ban=Ban(1, 0))
    assert batch, "it is to be written even alone"

    batch.update(WriteBatch())
    assert batch.ban == Ban(1, 0)
    batch.update(WriteBatch(ban=Ban(2, 0)))
    assert batch.ban == Ban(2, 0)


def test_of_two_words_about_the_same_thing_the_later_one_is_written() -> None:
    bars = [bar_of([make_trade(i)]) for i in (1, 2)]
    checkpoints = [Checkpoint(LedgerState(i, START, ())) for i in (1, 2)]
    words = [
        WriteBatch(
            finished={(BTC, START): bar},
            checkpoints={BTC: checkpoint},
            resolved=[(BTC, number, number, GapOutcome.ABSENT)],
            attempts={(BTC, 7): number},
        )
        for number, (bar, checkpoint) in enumerate(zip(bars, checkpoints, strict=True))
    ]

    words[0].update(words[1])

    assert words[0].finished == {(BTC, START): bars[1]}
    assert words[0].checkpoints == {BTC: checkpoints[1]}
    assert words[0].attempts == {(BTC, 7): 1}
    assert words[0].resolved == [(BTC, number, number, GapOutcome.ABSENT) for number in (0, 1)]


def test_an_amendment_that_could_not_be_written_waits_for_the_bar_or_the_next_one() -> None:
    key = (BTC, START)
    pending = WriteBatch(amendments={key: bar_of([make_trade(1)])})
    pending.update(WriteBatch(amendments={key: bar_of([make_trade(2)])}))

    assert pending.amendments == {key: bar_of([make_trade(1), make_trade(2)])}
    assert replace(pending.amendments[key], is_closed=True) == pending.amendments[key]
