"""When a worker hangs, and when it only looks as if it did."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bintrades.app.watchdog import Watchdog

LIMIT, EVERY = 60_000, 5_000


def test_a_worker_that_does_not_move_for_the_limit_hangs_and_no_other() -> None:
    watchdog = Watchdog(LIMIT, EVERY)
    found = [
        watchdog.look({"reader": 7, "aggregator": now}, now) for now in range(0, 61_000, EVERY)
    ]

    assert found == [[]] * 12 + [["reader"]]


def test_a_worker_that_moves_now_and_then_never_hangs() -> None:
    watchdog = Watchdog(LIMIT, EVERY)

    for now in range(0, 3_600_000, EVERY):
        assert watchdog.look({"reader": now - now % 50_000}, now) == []


def test_a_process_that_was_stopped_as_a_whole_finds_nobody_hanging() -> None:
    watchdog = Watchdog(LIMIT, EVERY)
    watchdog.look({"reader": 0}, 0)

    assert watchdog.look({"reader": 0}, 3_600_000) == []  # SIGSTOP, and an hour later SIGCONT
    assert watchdog.look({"reader": 3_600_001}, 3_605_000) == []


def test_a_worker_that_is_new_begins_anew() -> None:
    watchdog = Watchdog(LIMIT, EVERY)
    for now in range(0, 56_000, EVERY):
        watchdog.look({"reader-1": 0}, now)

    assert watchdog.look({"reader-2": 0}, 60_000) == []


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=60))
def test_what_hangs_is_found_once_the_process_has_run_for_the_limit(steps: list[int]) -> None:
    watchdog = Watchdog(LIMIT, EVERY)
    now, counted = 0, 0
    watchdog.look({"reader": 0}, now)
    for step in steps:
        now += step
        counted += min(step, 2 * EVERY)
        assert bool(watchdog.look({"reader": 0}, now)) == (counted >= LIMIT)
