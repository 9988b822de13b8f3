"""What the quiet worlds have besides: symbols that hardly trade, and markets that end in an outage.

They are drawn apart from the rest of the world, as what harsh worlds have. Here nothing but the
exchange's own word can show that no trade is missing; and in some that word is an old one, of all
symbols or of one.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.schedule import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.schedule import Schedule

_SHARE = 0.5  # of all worlds
_OUTAGE_MS = 12_000
_STALL_MS = 12_000
_LONG_MS = 60_000  # in which a quiet symbol trades a few times
_ONE_ENDS_SHARE = 0.2  # of all worlds with several symbols
_STALE_FOR_MS = 40_000
_STANDS_STILL_SHARE = 0.2  # likewise
_STANDS_STILL_FOR_MS = (60_000, 120_000)


def made_quiet(schedule: Schedule) -> Schedule:
    """Return *schedule*, or what becomes of it in a quiet world."""
    rng = Random(f"quiet {schedule.seed}")
    if rng.random() >= _SHARE:
        return schedule
    kinds = rng.sample(["quiet", "ends", "stall", "process"], rng.choice([1, 2, 3, 4]))
    faults = [*schedule.faults]
    quiet: list[str] = []
    silent: list[str] = []
    ends = schedule.trading_ends
    faults_end = schedule.faults_end
    if "quiet" in kinds:
        for symbol in rng.sample(schedule.symbols, rng.randint(1, len(schedule.symbols))):
            (quiet if rng.random() < 0.7 else silent).append(symbol)
        ends += _LONG_MS
    if "stall" in kinds:
        since = rng.randrange(faults_end)
        lasts = rng.randint(1_000, _STALL_MS)
        faults.append(Fault("stream", "stall", since, since + lasts, target=rng.choice([None, 1])))
        faults_end = max(faults_end, since + lasts)
    if "ends" in kinds:
        since = rng.randrange(1_000, faults_end + 1_000)
        until = since + rng.randint(2_000, _OUTAGE_MS)
        faults += _outage(since, until)
        ends = rng.randrange(since, until)
        faults_end = max(faults_end, until)
    if "process" in kinds:
        for _ in range(rng.choice([1, 2])):
            since = rng.randrange(1_000, max(ends, faults_end) + 20_000)
            kind = rng.choice(["stop", "kill"])
            faults.append(Fault("process", kind, since, since + rng.choice([100, 3_000, 20_000])))
    return replace(
        schedule,
        faults=tuple(sorted(faults, key=lambda fault: fault.since)),
        faults_end=faults_end,
        trading_ends=ends,
        quiet_symbols=tuple(quiet),
        silent_symbols=tuple(silent),
    )


def with_one_that_ends(schedule: Schedule) -> Schedule:
    """Return *schedule*, or what becomes of it where one symbol has its last trades in an outage.

    The others trade on, and the ticker is what it was before the outage, for a while.
    """
    rng = Random(f"one ends {schedule.seed}")
    if len(schedule.symbols) == 1 or rng.random() >= _ONE_ENDS_SHARE:
        return schedule
    ends = rng.randrange(1_000, schedule.faults_end)
    since = max(0, ends - rng.randint(500, _OUTAGE_MS // 2))
    until = ends + rng.randint(0, _OUTAGE_MS // 2)
    stale = Fault(
        "rest",
        "stale ticker",
        until,
        until + _STALE_FOR_MS,
        until - since + rng.randint(1_000, 20_000),
    )
    faults = (*schedule.faults, *_outage(since, until), stale)
    return replace(
        schedule,
        faults=tuple(sorted(faults, key=lambda fault: fault.since)),
        trading_ends=max(schedule.trading_ends, until + _STALE_FOR_MS),
        ended_symbol=rng.choice(schedule.symbols),
        ended_at=ends,
    )


def with_a_ticker_that_stands_still(schedule: Schedule) -> Schedule:
    """Return *schedule*, or what becomes of it where the ticker stands still for minutes.

    It does of one symbol only, or of all: then one has had its last trades in an outage meanwhile.
    """
    rng = Random(f"stands still {schedule.seed}")
    if len(schedule.symbols) == 1 or rng.random() >= _STANDS_STILL_SHARE:
        return schedule
    since = rng.randrange(1_000, schedule.faults_end)
    until = since + rng.choice(_STANDS_STILL_FOR_MS)
    target = rng.choice([None, rng.randrange(len(schedule.symbols))])
    faults = [Fault("rest", "ticker stands still", since, until, target=target)]
    if target is None and schedule.ended_symbol is None:
        ends = since + rng.randint(100, _OUTAGE_MS // 2)
        faults += _outage(since, ends + rng.randint(0, _OUTAGE_MS // 2))
        schedule = replace(schedule, ended_symbol=rng.choice(schedule.symbols), ended_at=ends)
    return replace(
        schedule,
        faults=tuple(sorted([*schedule.faults, *faults], key=lambda fault: fault.since)),
        trading_ends=max(schedule.trading_ends, until),
    )


def _outage(since: int, until: int) -> Iterator[Fault]:
    """Yield what it takes that nothing comes through: all connections end, and none can be made."""
    yield Fault("stream", "outage", since, until)
    yield Fault("stream", "refuse", since, until)
