"""Which worlds have a downtime, and what comes with it."""

from __future__ import annotations

from random import Random

from tests.simulation.downtime import with_downtime
from tests.simulation.kinds import KINDS_FROM
from tests.simulation.schedule import make_schedule


def test_some_worlds_of_futures_have_a_downtime_in_which_trades_are_forgotten() -> None:
    seeds = range(KINDS_FROM, KINDS_FROM + 100)
    schedules = [make_schedule(seed, Random(seed)) for seed in seeds]
    pairs = [(each, with_downtime(each)) for each in schedules]
    changed = [(before, after) for before, after in pairs if after is not before]

    assert {after.kind.has_key for _, after in changed} == {True, False}
    for before, after in changed:
        (away,) = set(after.faults) - set(before.faults)
        assert away.place == "process"
        assert away.until < after.trading_ends
        assert after.kind.has_fillers
        assert not after.kind.is_aggregated
        assert after.kind.recent_rows < before.kind.recent_rows
