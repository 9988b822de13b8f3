"""How much is asked of the exchange, and when nothing is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.core.ban import Ban
from bintrades.exchange.binance.budget import Budget
from bintrades.exchange.binance.shared_budget import SharedBudget

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
NOON = 43_200_000
"""Some time on a monotonic clock, which begins anywhere."""
UTC = 1_723_118_400_000


def spend(budget: Budget, weight: int, now: int) -> int:
    """Make requests of *weight* until there is to be a wait; return how many."""
    count = 0
    while budget.wait_ms(weight, now) == 0:
        count += 1
    return count


def test_no_more_than_the_share_is_spent_in_a_minute() -> None:
    budget = Budget(6_000, 50)

    assert spend(budget, 25, NOON) == 120
    assert budget.wait_ms(25, NOON + 12_345) == MINUTE - 12_345
    assert spend(budget, 25, NOON + MINUTE - 1) == 0


def test_a_minute_begins_with_the_first_request_while_the_exchanges_is_unknown() -> None:
    budget = Budget(6_000, 50)
    spend(budget, 25, NOON + 17_000)

    assert budget.wait_ms(25, NOON + MINUTE) == 17_000
    assert spend(budget, 4, NOON + MINUTE + 17_000) == 750


def test_the_next_minute_of_the_exchange_begins_from_nothing() -> None:
    budget = Budget(6_000, 50)
    spend(budget, 25, NOON)
    budget.record_weight(3_000, NOON + 100, minute_left=5_000)

    assert budget.wait_ms(25, NOON + 1_100) == 4_000
    assert spend(budget, 4, NOON + 5_100) == 750
    assert budget.wait_ms(4, NOON + 5_100) == MINUTE
    assert spend(budget, 4, NOON + 100 * MINUTE) == 750
    assert budget.wait_ms(4, NOON + 100 * MINUTE) == 5_100


def test_a_minute_that_turns_a_little_earlier_than_thought_counts_what_was_spent_in_it() -> None:
    budget = Budget(6_000, 50)
    budget.record_weight(2_900, NOON, minute_left=1_000)
    budget.record_weight(50, NOON + 900, minute_left=MINUTE)

    assert spend(budget, 50, NOON + 900) == 59
    assert budget.wait_ms(50, NOON + 1_900) == MINUTE - 1_000


def test_an_answer_that_was_under_way_while_the_minute_turned_tells_nothing_of_the_new_one() -> (
    None
):
    budget = Budget(6_000, 50)
    budget.record_weight(100, NOON, minute_left=10_000)
    assert budget.wait_ms(25, NOON + 10_500) == 0
    budget.record_weight(2_999, NOON + 10_600, minute_left=1_000)

    assert budget.wait_ms(25, NOON + 10_600) == 0


def test_a_light_request_fits_where_a_heavy_one_does_not() -> None:
    budget = Budget(100, 50)

    assert spend(budget, 25, NOON) == 2
    budget = Budget(100, 49)
    assert spend(budget, 25, NOON) == 1
    assert spend(budget, 4, NOON) == 6


def test_what_the_exchange_counts_for_the_address_is_believed() -> None:
    budget = Budget(6_000, 50)
    budget.record_weight(2_980, NOON)

    assert budget.wait_ms(25, NOON) == MINUTE
    assert budget.wait_ms(20, NOON) == 0
    assert budget.wait_ms(25, NOON + MINUTE) == 0


def test_a_count_that_lags_behind_our_own_does_not_lower_it() -> None:
    budget = Budget(6_000, 50)
    assert spend(budget, 25, NOON) == 120

    budget.record_weight(25, NOON)

    assert budget.wait_ms(25, NOON) == MINUTE


def test_a_share_smaller_than_any_request_still_lets_one_through_each_minute() -> None:
    budget = Budget(100, 1)

    assert [spend(budget, 25, NOON + minute * MINUTE) for minute in range(3)] == [1, 1, 1]


def refuse(budget: Budget, status: int, now: int, retry_after_s: int | None = None) -> None:
    budget.record_failure(f"{status} no", now, status, retry_after_s)


@pytest.mark.parametrize("status", [418, 429])
def test_asking_stops_for_exactly_as_long_as_the_exchange_says(status: int) -> None:
    budget = Budget(6_000, 50)

    refuse(budget, status, NOON, 17)

    assert budget.wait_ms(4, NOON + 3_000) == 14_000
    assert budget.wait_ms(4, NOON + 17_000) == 0


@pytest.mark.parametrize("status", [418, 429])
def test_without_a_word_of_how_long_it_stops_for_the_shortest_ban(status: int) -> None:
    budget = Budget(6_000, 50)

    refuse(budget, status, NOON)

    assert budget.wait_ms(4, NOON) == 2 * MINUTE


def test_a_refusal_is_never_answered_by_asking_again_at_once() -> None:
    budget = Budget(6_000, 50)

    refuse(budget, 429, NOON, 0)

    assert budget.wait_ms(4, NOON) > 0


@pytest.mark.parametrize("status", [None, 200, 400, 404, 500])
def test_a_failure_that_concerns_one_request_stops_no_other(status: int | None) -> None:
    budget = Budget(6_000, 50)

    budget.record_failure("no", NOON, status, 600)

    assert budget.wait_ms(4, NOON) == 0


def refuse_again_and_again(
    budget: Budget, status: int, times: int, *, now: int = NOON
) -> list[int]:
    """Refuse each request as soon as it may be made; return the waits in minutes."""
    waits = []
    for _ in range(times):
        refuse(budget, status, now)
        waits.append(budget.wait_ms(4, now) // MINUTE)
        now += waits[-1] * MINUTE
        assert budget.wait_ms(4, now) == 0
    return waits


@pytest.mark.parametrize(
    ("status", "waits"),
    [(403, [5, 10, 20, 40, 60, 60]), (451, [5, 10, 20, 40, 80, 160, 320, 360, 360])],
)
def test_a_firewall_and_a_forbidden_place_stop_it_for_longer_each_time(
    status: int, waits: list[int]
) -> None:
    assert refuse_again_and_again(Budget(6_000, 50), status, len(waits)) == waits
    assert refuse_again_and_again(Budget(6_000, 50), status, 100)[-1] == waits[-1]


def test_an_answer_ends_the_row_of_refusals_and_another_failure_does_not() -> None:
    budget = Budget(6_000, 50)
    assert refuse_again_and_again(budget, 451, 3) == [5, 10, 20]

    budget.record_failure("no answer", NOON + HOUR)
    assert refuse_again_and_again(budget, 451, 1, now=NOON + HOUR) == [40]
    budget.record_answer(NOON + 2 * HOUR)
    assert refuse_again_and_again(budget, 451, 2, now=NOON + 2 * HOUR) == [5, 10]


@pytest.mark.parametrize("status", [403, 451])
def test_a_firewall_that_says_how_long_is_obeyed_if_that_is_longer(status: int) -> None:
    budget = Budget(6_000, 50)

    refuse(budget, status, NOON, 2)
    assert budget.wait_ms(4, NOON) == 5 * MINUTE
    refuse(budget, status, NOON + 5 * MINUTE, 12 * 3_600)
    assert budget.wait_ms(4, NOON + 5 * MINUTE) == 12 * HOUR


def test_a_shorter_refusal_does_not_end_a_longer_one() -> None:
    budget = Budget(6_000, 50)
    refuse(budget, 451, NOON)

    refuse(budget, 429, NOON, 1)

    assert budget.wait_ms(4, NOON) == 5 * MINUTE


def restart(budget: Budget, now: int) -> Budget:
    """Return the budget of a process that takes the place of another at *now*."""
    return Budget(6_000, 50, budget.banned_for(now), now)


def test_a_ban_holds_over_a_restart() -> None:
    budget = Budget(6_000, 50)
    refuse(budget, 418, NOON, 600)

    restarted = restart(budget, NOON + MINUTE)

    assert restarted.wait_ms(4, NOON + MINUTE) == 9 * MINUTE
    assert restarted.last_error == "the exchange had said so before the restart"
    assert restarted.wait_ms(4, NOON + 10 * MINUTE) == 0


@pytest.mark.parametrize("status", [403, 451])
def test_what_a_firewall_says_is_forgotten_at_a_restart(status: int) -> None:
    budget = Budget(6_000, 50)
    refuse(budget, 429, NOON, 2)
    refuse(budget, status, NOON)

    restarted = restart(budget, NOON)

    assert restarted.wait_ms(4, NOON) == 2_000


def test_a_ban_that_ends_before_a_firewalls_refusal_does_not_make_that_outlive_the_process() -> (
    None
):
    budget = Budget(6_000, 50)
    refuse(budget, 451, NOON)
    refuse(budget, 429, NOON, 2)

    assert (budget.banned_for(NOON), budget.blocked_for(NOON)) == (2_000, 5 * MINUTE)


def test_the_reason_of_the_last_failure_is_kept_until_an_answer_comes() -> None:
    budget = Budget(6_000, 50)
    budget.record_failure("no answer", NOON)
    assert budget.last_error == "no answer"
    refuse(budget, 451, NOON)
    assert budget.last_error == "451 no"

    budget.record_answer(NOON + 1)  # to a request that was under way
    assert budget.last_error == "451 no"
    assert budget.wait_ms(4, NOON + 1) > 0

    budget.record_answer(NOON + 5 * MINUTE)
    assert budget.last_error is None


def test_it_is_known_since_when_every_request_has_failed() -> None:
    budget = SharedBudget(6_000, 50)
    assert budget.failing_for(NOON) == 0

    budget.record_failure("no answer", NOON)
    refuse(budget, 418, NOON + MINUTE, 600)
    assert budget.failing_for(NOON + 3 * MINUTE) == 3 * MINUTE

    budget.record_answer(NOON + 4 * MINUTE)  # to a request that was under way when it was refused
    assert budget.failing_for(NOON + 4 * MINUTE) == 0
    budget.record_failure("no answer", NOON + 20 * MINUTE)
    assert budget.failing_for(NOON + 21 * MINUTE) == MINUTE


@pytest.mark.parametrize("status", [418, 451])
def test_no_block_is_longer_than_the_longest_ban_whatever_is_said(status: int) -> None:
    budget = Budget(6_000, 50)
    refuse(budget, status, NOON, 10**9)

    assert budget.wait_ms(4, NOON) == 3 * DAY
    assert budget.wait_ms(4, NOON + 3 * DAY) == 0


def test_a_ban_is_remembered_over_a_restart() -> None:
    ban = Ban.read(str(Ban.for_the_next(600_000, UTC)))

    assert ban.left_ms(UTC + MINUTE) == 9 * MINUTE
    assert ban.left_ms(UTC + HOUR) == 0
    assert Ban.read(None).left_ms(UTC) == 0


@pytest.mark.parametrize("leap", [48 * HOUR, 1_000 * DAY])
def test_a_clock_that_was_ahead_when_a_ban_was_said_makes_it_no_longer(leap: int) -> None:
    ban = Ban.for_the_next(MINUTE, UTC + leap)

    assert ban.left_ms(UTC) == MINUTE
    assert ban.left_ms(UTC - leap) == MINUTE


def test_what_an_earlier_version_remembers_of_a_ban_is_bounded_by_the_longest() -> None:
    assert Ban.read(str(UTC + HOUR)).left_ms(UTC) == HOUR
    assert Ban.read(str(UTC + 1_000 * DAY)).left_ms(UTC) == 3 * DAY
    assert Ban.read("0").left_ms(UTC) == 0


@given(
    st.integers(1, 100),
    st.integers(0, MINUTE - 1),
    st.lists(
        st.tuples(
            st.sampled_from([1, 4, 20, 25]),
            st.integers(0, 20_000),
            st.integers(0, 3_000),
            st.integers(0, 10),
        ),
        max_size=300,
    ),
    st.integers(0, 200),
)
def test_whoever_waits_as_told_stays_within_the_share_of_every_minute_of_the_exchange(
    share: int,
    phase: int,
    requests: list[tuple[int, int, int, int]],
    used_by_others: int,
) -> None:
    """The exchange counts at some time between the question and its answer."""
    budget = Budget(1_000, share)
    now, used = NOON, dict[int, int]()
    budget.record_weight(used_by_others, now, minute_left_at(now, phase))
    used[(now + phase) // MINUTE] = used_by_others
    asked = set[int]()
    for weight, pause, latency, tenths in requests:
        now += pause
        while wait := budget.wait_ms(weight, now):
            assert wait <= MINUTE + 1_000
            now += wait
        counted_at = now + latency * tenths // 10
        minute = (counted_at + phase) // MINUTE
        is_first = minute not in asked
        asked.add(minute)
        used[minute] = used.get(minute, used_by_others) + weight
        now += latency
        budget.record_weight(used[minute], now, minute_left_at(counted_at, phase))

        assert is_first or used[minute] <= 1_000 * share // 100


def minute_left_at(now: int, phase: int) -> int:
    """Return what the header Date, of whole seconds, tells of the exchange's minute."""
    return MINUTE - (now + phase) // 1_000 * 1_000 % MINUTE
