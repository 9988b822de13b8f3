"""When a connection without data is stalled."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from bintrades.exchange.binance.feed.stall import StallDetector

TIMEOUT = 30_000
HOUR = 3_600_000


def after(*silences: int, timeout: int = TIMEOUT) -> StallDetector:
    """Return what was learnt from *silences*, each of which ended with data."""
    stall = StallDetector(timeout, now=0)
    for now in accumulate(silences):
        stall.on_nothing(now)
        stall.on_data(now)
    return stall


def test_at_first_the_limit_is_the_configured_one() -> None:
    assert after().limit_ms == TIMEOUT


def test_a_busy_connection_keeps_the_configured_limit() -> None:
    assert after(*[100] * 1_000, TIMEOUT // 2 - 1).limit_ms == TIMEOUT


def test_a_silence_that_ended_by_itself_allows_twice_its_length() -> None:
    assert after(20_000).limit_ms == 40_000
    assert after(100_000).limit_ms == 200_000


def test_the_limit_never_exceeds_an_hour() -> None:
    assert after(10 * HOUR).limit_ms == HOUR


def test_a_configured_limit_of_more_than_an_hour_holds() -> None:
    assert after(timeout=3 * HOUR).limit_ms == 3 * HOUR
    assert after(10 * HOUR, timeout=3 * HOUR).limit_ms == 3 * HOUR


def test_a_habit_fades_when_silences_become_shorter() -> None:
    limits = [after(400_000, *[16_000] * count).limit_ms for count in range(6)]

    assert limits == [800_000, 400_000, 200_000, 100_000, 50_000, 32_000]


def test_short_pauses_do_not_make_a_long_habit_forgotten() -> None:
    assert after(400_000, *[100] * 1_000).limit_ms == 800_000


def test_the_beginning_of_the_present_silence_is_known() -> None:
    assert after().last_data_at == 0
    assert after(5, 10).last_data_at == 15


@given(st.lists(st.integers(0, 2 * HOUR)), st.integers(1_000, 2 * HOUR))
def test_the_limit_is_never_below_the_configured_one_nor_without_bound(
    silences: list[int], timeout: int
) -> None:
    assert timeout <= after(*silences, timeout=timeout).limit_ms <= max(timeout, HOUR)


@given(st.integers(0, HOUR // 2), st.integers(1, 20))
def test_a_silence_that_comes_again_and_again_is_never_taken_for_death(
    quiet: int, times: int
) -> None:
    assert after(*[quiet] * times).limit_ms >= min(2 * quiet, HOUR)
    assert after(*[quiet] * times).limit_ms > quiet or quiet == 0


def test_time_without_a_connection_is_no_silence() -> None:
    stall = after(100)
    stall.on_stalled()
    stall.on_opened(2 * HOUR)
    stall.on_data(2 * HOUR + 100)

    assert stall.limit_ms == TIMEOUT


def test_connections_that_bring_nothing_from_their_beginning_are_replaced_less_and_less_often() -> (
    None
):
    stall = after(100)
    limits = []
    for opened_at in range(1_000, 6_000, 1_000):
        stall.on_stalled()
        limits.append(stall.limit_ms)
        stall.on_opened(opened_at)

    assert limits == [TIMEOUT, 2 * TIMEOUT, 4 * TIMEOUT, 8 * TIMEOUT, 16 * TIMEOUT]

    stall.on_data(5_100)

    assert stall.limit_ms == TIMEOUT


def test_while_no_data_is_expected_nothing_is_learned_from_its_absence() -> None:
    detector = StallDetector(TIMEOUT, 0)
    detector.expect_data(is_expected=False, now=0)
    detector.on_nothing(100 * TIMEOUT)
    assert detector.idle_ms > detector.limit_ms, "whoever judges asks whether data is expected"

    detector.on_data(100 * TIMEOUT)
    assert detector.limit_ms == TIMEOUT

    detector.on_nothing(200 * TIMEOUT)
    detector.expect_data(is_expected=True, now=200 * TIMEOUT)
    assert detector.idle_ms == 0, "it counts from when data is expected"
