"""Worlds of futures in which nobody collects for a while, and single trades soon are old ones.

What happened meanwhile is no longer among the newest trades then: aggregates stand in for it, or
the key has old ones told. And which ids are no fills must have been written down before.

Drawn apart from the rest of the world, as what quiet worlds have besides.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.schedule import Fault

if TYPE_CHECKING:
    from tests.simulation.schedule import Schedule

_SHARE = 0.4  # of the worlds with single trades of which some ids are none
_FROM_MS = 2_000
_AWAY_MS = (8_000, 25_000)
_GOES_ON_MS = 20_000
_RECENT_ROWS = 5
_MAX_AGE_MS = 60_000  # what stays missing beside aggregates is given up when it is that old


def with_downtime(schedule: Schedule) -> Schedule:
    """Return *schedule*, or what becomes of it where the collector is away for a while."""
    rng, kind = Random(f"downtime {schedule.seed}"), schedule.kind
    if not kind.has_fillers or kind.is_aggregated or rng.random() >= _SHARE:
        return schedule
    since = rng.randrange(_FROM_MS, schedule.faults_end)
    until = since + rng.randint(*_AWAY_MS)
    away = Fault("process", rng.choice(["stop", "kill"]), since, until)
    return replace(
        schedule,
        kind=replace(kind, recent_rows=_RECENT_ROWS),
        max_age=min(schedule.max_age, _MAX_AGE_MS),
        faults=tuple(sorted([*schedule.faults, away], key=lambda fault: fault.since)),
        trading_ends=max(schedule.trading_ends, until + _GOES_ON_MS),
    )
