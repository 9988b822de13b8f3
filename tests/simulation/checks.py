"""What must be true of the journal and the stores, compared with the exact list of trades."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bintrades.model import GapOutcome
from tests.journals import ledgers_of
from tests.simulation.market import WIPED_IDS, by_interval, differences, ranges, stream_name
from tests.simulation.schedule import START_MS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from decimal import Decimal

    from bintrades.core.ledger import LedgerState
    from bintrades.journal.reader import JournalReader
    from bintrades.model import Bar, Gap, Trade
    from tests.simulation.kinds import Kind
    from tests.simulation.market import Tape
    from tests.simulation.stores import FaultyStore
    from tests.simulation.world import World


IN_THE_END = "in the end"
_DAY_MS = 86_400_000
_GIVEN_UP_WITHIN_MS = 5_000  # since it was decided: a stream
_CALM_AFTER_MS = 20_000  # a connection that somebody else's kill has silenced is found dead


def check_journal(world: World, reader: JournalReader, when: str) -> list[str]:
    """Return what is wrong: every row holds exactly the trades that the ledger says were had."""
    states = _states(world)
    return [
        f"journal, {when}: {problem}"
        for symbol in world.schedule.symbols
        for problem in _check(
            world,
            symbol,
            {bar.open_time_ms: bar for bar in reader.bars(symbol, 0, 2**62, 10**6)},
            states.get(symbol),
            may_lack_bars=world.schedule.retention is not None,
            is_end=when == IN_THE_END,
        )
    ]


def check_store(world: World, reader: JournalReader, store: FaultyStore) -> list[str]:
    """Return what is wrong with the bars of *store*, to which everything was delivered.

    Of two versions with as many trades a store keeps the complete one. So a bar that was called
    complete before anybody could see the gap in it stays so there until a trade comes for it.
    """
    states = _states(world)
    problems = []
    for symbol in world.schedule.symbols:
        bars = _bars_of(store, symbol)
        if not world.schedule.is_provable:  # the clock may stand still for ever
            bars = {bar.open_time_ms: bar for bar in _open_bars(world, symbol)} | bars
        problems += list(
            _check(
                world,
                symbol,
                bars,
                states.get(symbol),
                may_lack_bars=False,
                is_end=True,
                keeps_complete_bars=True,
            )
        )
    if world.schedule.is_provable:  # else the clock may stand still for ever
        open_bars = [
            bar
            for bar in store.bars.values()
            if not bar.is_closed and world.is_collected(bar.symbol)  # else it ended amid a bar
        ]
        problems += [f"not closed at rest: {bar}" for bar in open_bars]
    return [f"{store.name}: {problem}" for problem in problems]


def check_proof(world: World) -> list[str]:
    """Return which trades are not covered at rest, where the exchange says which are the newest.

    Only what nobody can be asked for may be missing.
    """
    assert world._collector is not None
    checkpoints = world._collector.journal.checkpoints
    problems = []
    for symbol, tape in world.tapes.items():
        if not (tape.trades and world.schedule.is_provable and world.is_collected(symbol)):
            continue
        checkpoint = checkpoints.get(symbol)
        if checkpoint is None or checkpoint.proven_ms is None:
            problems.append(f"{symbol}: nothing is proven")
            continue
        newest = max(trade.time for trade in tape.trades)
        if newest >= world.begins.get(symbol, newest) and checkpoint.proven_ms < newest:
            problems.append(f"{symbol}: not proven up to the newest trade: {checkpoint}")
        problems += [
            f"{symbol}: missing at rest: {gap}" for gap in checkpoint.ledger.gaps if gap.is_wanted
        ]
    return problems


def check_coverage(world: World, reader: JournalReader) -> list[str]:
    """Return where what the journal lists as covered lacks a trade, or has a bar that is not whole.

    A bar that has left the journal is not looked for, nor one that may be gone with a page of it.
    """
    interval = world.schedule.interval
    problems = []
    for symbol, coverage, *_ in reader.coverage_of_all():
        if world.watch._is_unforeseeable(symbol):
            continue
        history = world.watch.history(symbol)
        bars = {bar.open_time_ms: bar for bar in reader.bars(symbol, 0, 2**62, 10**6)}
        gone_through = 2**62 if world.harshness.damages else reader.pruned_through(symbol) or 0
        times = [time for span in coverage.spans for time in range(*span, interval)]
        for open_time in times:
            bar = bars.get(open_time)
            if bar is None and open_time <= gone_through:
                continue
            wrong = history.wrong(open_time, bar)
            if not wrong and bar is not None and not (bar.is_closed and bar.is_complete):
                wrong = f"not whole: {bar}"
            if wrong:
                at = (open_time - START_MS) / 1000
                problems.append(f"coverage: {symbol} {at:g} s: covered, but {wrong}")
    return problems


def check_past_gaps(world: World, reader: JournalReader) -> list[str]:
    """Return where the record is wrong: absent is what does not exist, repaired what does.

    What a stream or aggregates have repaired may have ids among it that are no fills.
    """
    problems = []
    for past in reader.past_gaps():
        found = len(world.tapes[past.symbol].between(past.gap.first_id, past.gap.last_id))
        is_none = past.outcome in (GapOutcome.ABSENT, GapOutcome.EXCLUDED)
        expected = 0 if is_none else past.gap.size
        if found != expected and (is_none or not world.schedule.kind.has_fillers):
            problems.append(f"{past.symbol}: {past.outcome}, but {found} exist: {past.gap}")
    return problems


def check_listings(world: World, reader: JournalReader) -> list[str]:
    """Return what is wrong where symbols come and go.

    New ones are had from their first trade on; those that are gone are on record as such; and where
    nothing happens to connections, none is closed that brings something. One that has been silent
    for long may be dead, and is replaced whatever it carries; and once nothing is traded any more,
    a world takes steps so long that an answer may come too late.
    """
    listings, schedule = world.schedule.listings, world.schedule
    if listings is None:
        return []
    problems = []
    places = {each.place for each in schedule.faults}
    is_left_alone = min(schedule.rotate_after, schedule.silence_timeout) >= _DAY_MS
    is_undisturbed = is_left_alone and not places & {"stream", "process"}
    for elapsed, streams in world.streams.abandoned if is_undisturbed else ():
        if elapsed > schedule.trading_ends:
            break
        # One that returns while its stream is being given up is asked for again.
        moments = elapsed, elapsed - listings.refresh - _GIVEN_UP_WITHIN_MS
        stayed = [
            symbol
            for symbol in schedule.symbols
            if stream_name(symbol, schedule.kind.stream) in streams
            and all(listings.is_wanted(symbol, each) for each in moments)
        ]
        if stayed:
            problems.append(f"a connection was closed after {elapsed} ms that carried {stayed}")
    records = reader.symbol_records()
    # All symbols begin with the first word of the exchange, however long that could not be had.
    begun_at = min(world.begins.values(), default=START_MS) - START_MS
    for symbol, tape in world.tapes.items():
        is_there = listings.is_wanted(symbol, world.clock.elapsed)
        record = records.get(symbol)
        if record is not None and record.is_collected != is_there:
            problems.append(f"{symbol}: collected: {record.is_collected}, and wanted: {is_there}")
        if record is None and is_there:
            problems.append(f"{symbol}: never collected")
        # Of what was listed before the first list of symbols came nobody knew that it was new.
        is_new = "process" not in places and (
            listings.first_listed(symbol) > max(begun_at, world.started_at or 0)
        )
        if is_new and tape.trades and symbol in world.begins:
            first = tape.trades[0].time
            if world.begins[symbol] > first - first % schedule.interval:
                problems.append(f"{symbol}: had from {world.begins[symbol]} on, new at {first}")
    return problems


def check_audit(reader: JournalReader) -> list[str]:
    """Return what differs from the exchange's klines, as is on record."""
    return [f"not what klines say: {each}" for each in reader.differences()]


def _open_bars(world: World, symbol: str) -> Sequence[Bar]:
    """Return the bars of the journal that still take trades."""
    assert world._collector is not None
    checkpoint = world._collector.journal.checkpoints.get(symbol)
    open_bars = checkpoint.open_bars if checkpoint is not None else ()
    return [msgspec.structs.replace(bar, is_complete=False) for bar in open_bars]


def _states(world: World) -> dict[str, LedgerState]:
    assert world._collector is not None
    return ledgers_of(world._collector.journal)


def _check(
    world: World,
    symbol: str,
    bars: dict[int, Bar],
    state: LedgerState | None,
    *,
    may_lack_bars: bool,
    is_end: bool,
    keeps_complete_bars: bool = False,
) -> Iterator[str]:
    if state is None or state.next_id is None:
        if bars:
            yield f"{symbol}: bars without a trade on record"
        return
    next_id = state.next_id
    interval = world.schedule.interval
    begin = world.begins[symbol]
    assert world._collector is not None
    checkpoint = world._collector.journal.checkpoints[symbol]
    span = checkpoint.covered_since_ms or 0, checkpoint.proven_ms or 0
    tape, kind = world.tapes[symbol], world.schedule.kind
    everything = by_interval(tape.counted, interval)
    known = by_interval(_counted(tape, next_id, state.gaps), interval)
    for open_time in sorted({*bars, *known}):
        bar, trades = bars.get(open_time), known.get(open_time, [])
        where = f"{symbol} {(open_time - START_MS) / 1000:g} s"
        if bar is None:
            if open_time >= begin and not may_lack_bars:
                yield f"{where}: no bar for {ranges(trade.trade_id for trade in trades)}"
            continue
        full = everything.get(open_time, [])
        # What comes after the last trade that was seen nobody can miss yet, or ever without REST.
        if not (is_end and world.schedule.is_provable and world.is_collected(symbol)):
            full = [trade for trade in full if trade.trade_id < next_id]
        if not (full or trades) or (open_time >= begin and not trades):
            yield f"{where}: a bar of nothing: {bar}"
        elif open_time >= begin and (wrong := differences(bar, trades, kind.contract_size(symbol))):
            ids = ranges(trade.trade_id for trade in trades)
            yield f"{where}: {wrong} with {ids}, all: {ranges(t.trade_id for t in full)}"
        touching = [gap for gap in state.gaps if gap.touches(bar.open_time_ms, bar.interval_ms)]
        if not (touching and keeps_complete_bars):
            yield from _check_completeness(where, bar, touching, span, kind)
        if bar.is_complete and full:
            wrong = differences(bar, full, kind.contract_size(symbol))
            if wrong and not (touching and keeps_complete_bars):
                yield f"{where}: complete, but {wrong}"


def _check_completeness(
    where: str, bar: Bar, touching: Sequence[Gap], span: tuple[int, int], kind: Kind
) -> Iterator[str]:
    since, proven = span
    if bar.is_complete:
        if bar.end_time_ms > proven:
            yield f"{where}: complete, but proven only up to {proven - START_MS} ms"
    elif kind.is_approximate or touching or not bar.is_closed:
        return
    elif since <= bar.open_time_ms and bar.end_time_ms <= proven:
        yield f"{where}: incomplete without a gap on record, though proven"


def _counted(tape: Tape, next_id: int, gaps: Sequence[Gap]) -> list[Trade]:
    """Return what bars have counted by now: trades, and aggregates that stand in for some."""
    known = _known(tape.counted, next_id, gaps)
    approximated = [gap for gap in gaps if gap.is_approximated]
    known += [  # of those that go on behind a gap the rest is known singly
        aggregate.before(min(gap.last_id, aggregate.trades[-1].trade_id) + 1)
        for aggregate in tape.aggregates
        for gap in approximated
        if gap.first_id <= aggregate.trades[0].trade_id <= gap.last_id
    ]
    return sorted(known, key=lambda trade: trade.trade_id)


def _known(trades: Sequence[Trade], next_id: int, gaps: Sequence[Gap]) -> list[Trade]:
    """Return the trades that the ledger has no longer to wait for."""
    return [
        trade
        for trade in trades
        if trade.trade_id < next_id
        and not any(gap.first_id <= trade.trade_id <= gap.last_id for gap in gaps)
    ]


def check_truth(world: World, reader: JournalReader) -> list[str]:
    """Return what is wrong in a harsh world, where bars and ledgers may be lost on the way.

    No bar has trades that do not exist, or has them twice; one that is called complete has them
    all; and once the world is calm again every bar comes, whole, or its gap is on record. No bar
    is gone from amid those of the journal unless its gap is on record; and every store has what
    the journal has, or better, whatever it had forgotten.
    """
    states = _states(world)
    others = ledgers_of(world._second.journal) if world._second is not None else {}
    problems = []
    for symbol in world.schedule.symbols:
        state = states.get(symbol)
        if state is None or state.next_id is None or _has_missed_wipe(world, state):
            continue
        places = {store.name: _bars_of(store, symbol) for store in world.stores}
        if world.schedule.retention is None:
            bars = reader.bars(symbol, 0, 2**62, 10**6)
            places["journal"] = {bar.open_time_ms: bar for bar in bars}
        for place, bars_at in places.items():
            is_store = place != "journal"
            writers = [state, others[symbol]] if is_store and symbol in others else [state]
            problems += [
                f"{place}: {symbol} {problem}"
                for problem in _truth(world, symbol, writers, bars_at, is_store=is_store)
            ]
        problems += _left_behind(places, has_clock=world.schedule.is_provable)
    return problems


def _left_behind(places: Mapping[str, Mapping[int, Bar]], *, has_clock: bool) -> list[str]:
    """Return what the journal has and a store, to which everything was delivered, has not.

    After a restart into a market that is silent, bars stay open where nobody says what time it is.
    """
    return [
        f"{place}: has {bars.get(open_time)} where the journal has {bar}"
        for place, bars in places.items()
        for open_time, bar in places.get("journal", {}).items()
        if (bar.is_closed or has_clock)
        and (open_time not in bars or bars[open_time].rank < bar.rank)
    ]


def _truth(
    world: World,
    symbol: str,
    writers: Sequence[LedgerState],
    bars: dict[int, Bar],
    *,
    is_store: bool,
) -> Iterator[str]:
    interval = world.schedule.interval
    last_fault = max(world.schedule.faults_end, world.harshness.wiped_at or 0)
    wiped_at = START_MS + world.schedule.phase + (world.harshness.wiped_at or 0)
    calm_from = START_MS + world.schedule.phase + last_fault + _CALM_AFTER_MS
    promised_from = max(calm_from, world.begins.get(symbol, 0))  # no word may have come before
    trades, kind = world.trades[symbol], world.schedule.kind
    if not world.schedule.is_provable:  # the last trades may be lost, and nobody the wiser
        next_id = max(state.next_id or 0 for state in writers)
        trades = [each for each in trades if each.trade_id < next_id or each.trade_id >= WIPED_IDS]
    full = by_interval(trades, interval)
    last = max(full, default=0)
    # Without the exchange's word, what a single trade since the start proves waits for another.
    proven_until = last if world.schedule.is_provable else min(sorted(full)[-2:], default=0)
    for open_time in sorted({*bars, *full}):
        bar, whole = bars.get(open_time), full.get(open_time, [])
        where = f"{(open_time - START_MS) / 1000:g} s"
        if open_time <= wiped_at and symbol in world.unseen_at_wipe:
            continue  # nobody can tell that there were other trades before
        if any(gap.touches(open_time, interval) for state in writers for gap in state.gaps):
            # A store keeps what was called complete before anybody could know better.
            if bar is not None and not is_store and bar.is_complete:
                yield f"{where}: complete, with a gap on record: {bar}"
        elif bar is not None and (wrong := _untrue(bar, whole, kind.contract_size(symbol))):
            yield f"{where}: {wrong}"
        elif promised_from <= open_time < proven_until and (
            bar is None or not (bar.is_complete or kind.is_approximate)
        ):
            yield f"{where}: not whole though all is calm: {bar}"
        elif bar is None and not is_store and min(bars, default=last) < open_time < max(bars):
            yield f"{where}: no bar amid others, and no gap on record"


def _bars_of(store: FaultyStore, symbol: str) -> dict[int, Bar]:
    return {open_time: bar for (name, open_time), bar in store.bars.items() if name == symbol}


def _has_missed_wipe(world: World, state: LedgerState) -> bool:
    """Whether the ids of before are still waited for: too few trades have come to show the wipe."""
    return world.harshness.wiped_at is not None and (state.next_id or 0) > WIPED_IDS


def _untrue(bar: Bar, full: Sequence[Trade], contract_size: Decimal | None) -> str:
    if bar.is_complete:
        wrong = differences(bar, full, contract_size) if full else "of nothing"
        return f"complete, but {wrong}" if wrong else ""
    if bar.is_approximate:
        return ""  # it may have what happened a moment after its end
    if bar.trade_count > len(full) or bar.quantity > sum(trade.quantity for trade in full):
        return f"more than there is: {bar}"
    return ""
