"""When the exchange is asked for the newest trades of quiet symbols."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bintrades.core.proof import LAG_MS
from bintrades.pipeline.proof_schedule import ProofSchedule

INTERVAL, MINUTE, NOON = 10_000, 60_000, 1_723_118_400_000


def moments(schedule: ProofSchedule, until: int, clock: int = NOON) -> list[int]:
    """Return when it asks, looked at ten times a second; *clock* is the exchange's time at 0."""
    asked = []
    for now in range(0, until, 100):
        if schedule.is_prompted(now) or schedule.is_due(now):
            schedule.asked(now, clock + now if clock else 0)
            asked.append(now)
    return asked


def test_it_asks_at_once_and_then_every_so_often() -> None:
    asked = moments(ProofSchedule(MINUTE, INTERVAL), 5 * MINUTE)

    assert asked[0] == 0
    assert all(0 < later - earlier <= MINUTE for earlier, later in pairwise(asked))
    assert len(asked) <= 7


@given(st.integers(0, 9_999), st.sampled_from([10_000, 20_000, MINUTE, 45_000]))
def test_what_an_answer_proves_reaches_just_beyond_the_end_of_a_bar(phase: int, every: int) -> None:
    asked = moments(ProofSchedule(every, INTERVAL), 10 * MINUTE, NOON + phase)

    for now in asked[1:]:
        proven = NOON + phase + now - LAG_MS
        assert 1_000 <= proven % INTERVAL <= 2_200
    assert len(asked) >= 10 * MINUTE // every - 1


@given(st.integers(0, 3_599_999), st.sampled_from([10_000, MINUTE, 45_000]))
def test_bars_longer_than_that_are_asked_about_as_often_and_when_they_end(
    phase: int, every: int
) -> None:
    hour = 3_600_000
    asked = moments(ProofSchedule(every, hour), hour + 3 * MINUTE, NOON + phase)

    assert all(later - earlier <= every + 100 for earlier, later in pairwise(asked))
    proven = [(NOON + phase + now - LAG_MS) % hour for now in asked[1:]]
    assert any(1_000 <= time <= 1_000 + every for time in proven)


def test_without_the_exchanges_time_it_asks_all_the_same() -> None:
    assert moments(ProofSchedule(MINUTE, INTERVAL), 3 * MINUTE, 0) == [0, MINUTE, 2 * MINUTE]


def test_it_asks_at_once_when_there_is_reason_to() -> None:
    schedule = ProofSchedule(3_600_000, INTERVAL)
    schedule.asked(0, NOON)

    schedule.prompt(60_000)
    schedule.prompt(90_000)

    assert moments(schedule, 10 * MINUTE) == [60_000]


def test_connections_that_come_and_go_do_not_have_it_ask_more_often_than_every_few_seconds() -> (
    None
):
    schedule = ProofSchedule(3_600_000, INTERVAL)
    asked = []
    for now in range(0, MINUTE, 100):
        schedule.prompt(now)
        if schedule.is_prompted(now):
            schedule.asked(now, NOON + now)
            asked.append(now)

    assert asked == list(range(0, MINUTE, 5_000))
