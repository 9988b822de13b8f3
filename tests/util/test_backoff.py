"""How long to wait before the next attempt."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.util.backoff import Backoff

FIRST_S, LONGEST_S = 0.5, 30.0


class Top(random.Random):
    """Always draws the ceiling."""

    def random(self) -> float:
        return 1.0


def ceilings(backoff: Backoff, count: int) -> list[float]:
    return [backoff.next_wait_s() for _ in range(count)]


def test_the_ceiling_doubles_up_to_the_longest_wait() -> None:
    backoff = Backoff(FIRST_S, LONGEST_S, Top())

    assert ceilings(backoff, 9) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_the_ceiling_begins_anew_after_a_reset() -> None:
    backoff = Backoff(FIRST_S, LONGEST_S, Top())
    ceilings(backoff, 5)
    assert backoff.failures == 5

    backoff.reset()

    assert backoff.failures == 0
    assert ceilings(backoff, 3) == [0.5, 1, 2]


@given(st.randoms(), st.integers(0, 20))
def test_a_wait_is_anything_between_nothing_and_the_ceiling(
    rng: random.Random, failures: int
) -> None:
    backoff = Backoff(FIRST_S, LONGEST_S, rng)
    backoff.failures = failures

    assert 0 <= backoff.next_wait_s() <= min(LONGEST_S, FIRST_S * 2**failures)


def test_waits_are_spread_over_the_whole_range() -> None:
    backoff = Backoff(FIRST_S, LONGEST_S, random.Random(7))
    backoff.failures = 50
    waits = ceilings(backoff, 1_000)

    for third in range(3):
        share = [wait for wait in waits if third * 10 <= wait < (third + 1) * 10]
        assert len(share) > 250


def test_two_of_a_kind_do_not_wait_alike() -> None:
    one, other = Backoff(FIRST_S, LONGEST_S), Backoff(FIRST_S, LONGEST_S)

    assert ceilings(one, 10) != ceilings(other, 10)


@pytest.mark.parametrize("failures", [60, 61, 10_000, 10**9])
def test_it_never_gives_up_and_never_overflows(failures: int) -> None:
    backoff = Backoff(FIRST_S, LONGEST_S)
    backoff.failures = failures

    assert 0 <= backoff.next_wait_s() <= LONGEST_S
    assert backoff.failures == failures + 1
