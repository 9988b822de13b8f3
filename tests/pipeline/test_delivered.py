"""A bar stays in the journal for a while after the last store has got it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.pipeline.delivered import KEEP_MS, Delivered

DAYS_MS = 3 * 86_400_000
MINUTE_MS = 60_000


def test_what_was_only_just_delivered_stays() -> None:
    assert Delivered(DAYS_MS).for_a_while(100, now=0) == 0


def test_what_was_delivered_long_enough_ago_may_go_and_no_more() -> None:
    delivered = Delivered(DAYS_MS)

    allowed = [delivered.for_a_while(minute + 1, now=minute * MINUTE_MS) for minute in range(181)]

    assert allowed[:60] == [0] * 60
    assert allowed[60:] == list(range(1, 122))


def test_a_store_that_was_away_for_days_gets_time_for_what_it_then_takes_at_once() -> None:
    delivered = Delivered(DAYS_MS)
    for minute in range(3_000):
        assert delivered.for_a_while(5, now=minute * MINUTE_MS) <= 5

    came_back = 3_000 * MINUTE_MS
    assert delivered.for_a_while(10**6, now=came_back) == 5
    assert delivered.for_a_while(10**6, now=came_back + KEEP_MS - 1) == 5
    assert delivered.for_a_while(10**6 + 9, now=came_back + KEEP_MS) == 10**6


def test_a_short_retention_is_not_made_longer() -> None:
    delivered = Delivered(1_000)
    delivered.for_a_while(7, now=0)

    assert delivered.for_a_while(8, now=1_000) == 7
    assert Delivered(-1).for_a_while(8, now=0) == 8


def test_a_cursor_that_has_gone_back_is_believed() -> None:
    delivered = Delivered(DAYS_MS)
    delivered.for_a_while(100, now=0)

    assert delivered.for_a_while(40, now=KEEP_MS) == 40


def test_what_a_store_gets_once_more_stays_a_while_once_more() -> None:
    delivered = Delivered(DAYS_MS)
    delivered.for_a_while(100, now=0)
    delivered.for_a_while(40, now=1)

    assert delivered.for_a_while(100, now=KEEP_MS + MINUTE_MS) == 40


def test_a_restart_goes_on_where_the_run_before_was() -> None:
    ahead = Delivered(DAYS_MS)
    behind = Delivered(DAYS_MS)

    for minute in range(200):
        now = minute * MINUTE_MS
        behind = Delivered(DAYS_MS, behind.text)
        assert behind.for_a_while(minute, now) == ahead.for_a_while(minute, now)


@pytest.mark.parametrize("text", ["", "{", "[1]", '[["a", 1]]', "[[1, 2, 3]]", "[[1e400, 2]]"])
def test_words_that_nobody_wrote_only_have_bars_stay_longer(text: str) -> None:
    assert Delivered(DAYS_MS, text).for_a_while(9, now=2 * KEEP_MS) == 0


def test_a_clock_that_was_years_ahead_is_forgotten_when_it_is_right_again() -> None:
    wrong = Delivered(DAYS_MS)
    wrong.for_a_while(100, now=10**12)

    delivered = Delivered(DAYS_MS, wrong.text)

    assert delivered.for_a_while(200, now=0) == 0
    assert delivered.for_a_while(200, now=KEEP_MS) == 200


def test_little_is_remembered_however_often_it_is_asked() -> None:
    delivered = Delivered(DAYS_MS)
    for moment in range(0, 2 * KEEP_MS, 500):
        delivered.for_a_while(moment, now=moment)

    assert len(delivered.text) < 62 * len("[1234567,1234567],")


@given(
    st.lists(
        st.tuples(st.integers(0, KEEP_MS // 2), st.integers(0, 1_000), st.booleans()), max_size=50
    )
)
def test_nothing_leaves_that_some_store_has_not_had_all_the_while(
    moments: list[tuple[int, int, bool]],
) -> None:
    delivered = Delivered(DAYS_MS)
    now = 0
    said: list[tuple[int, int]] = []
    for passed, sequence, is_restarted in moments:
        now += passed
        said.append((now, sequence))
        if is_restarted:
            delivered = Delivered(DAYS_MS, delivered.text)
        allowed = delivered.for_a_while(sequence, now)

        before = [had for at, had in said if at <= now - KEEP_MS]
        since = [
            had for (_, had), (until, _) in pairwise([*said, (now, 0)]) if until > now - KEEP_MS
        ]
        assert allowed <= min([*before[-1:], *since, sequence] if before else [0])
