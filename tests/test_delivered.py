"""A bar stays in the journal for a while after the last store has got it."""

from __future__ import annotations

from bintrades.delivered import KEEP_MS, Delivered

DAYS_MS = 3 * 86_400_000
MINUTE_MS = 60_000


def test_what_was_only_just_delivered_stays() -> None:
    assert Delivered().for_a_while(100, DAYS_MS, now=0) == 0


def test_what_was_delivered_long_enough_ago_may_go_and_no_more() -> None:
    delivered = Delivered()

    allowed = [
        delivered.for_a_while(minute + 1, DAYS_MS, now=minute * MINUTE_MS) for minute in range(181)
    ]

    assert allowed[:60] == [0] * 60
    assert allowed[60:] == list(range(1, 122))


def test_a_store_that_was_away_for_days_gets_time_for_what_it_then_takes_at_once() -> None:
    delivered = Delivered()
    for minute in range(3_000):
        assert delivered.for_a_while(5, DAYS_MS, now=minute * MINUTE_MS) <= 5

    came_back = 3_000 * MINUTE_MS
    assert delivered.for_a_while(10**6, DAYS_MS, now=came_back) == 5
    assert delivered.for_a_while(10**6, DAYS_MS, now=came_back + KEEP_MS - 1) == 5
    assert delivered.for_a_while(10**6 + 9, DAYS_MS, now=came_back + KEEP_MS) == 10**6


def test_a_short_retention_is_not_made_longer() -> None:
    delivered = Delivered()
    delivered.for_a_while(7, 1_000, now=0)

    assert delivered.for_a_while(8, 1_000, now=1_000) == 7
    assert Delivered().for_a_while(8, -1, now=0) == 8


def test_a_cursor_that_has_gone_back_is_believed() -> None:
    delivered = Delivered()
    delivered.for_a_while(100, DAYS_MS, now=0)

    assert delivered.for_a_while(40, DAYS_MS, now=KEEP_MS) == 40


def test_little_is_remembered_however_often_it_is_asked() -> None:
    delivered = Delivered()
    for moment in range(0, 2 * KEEP_MS, 500):
        delivered.for_a_while(moment, DAYS_MS, now=moment)

    assert len(delivered._samples) <= 62
