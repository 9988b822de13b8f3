"""Which symbol has its turn, what is looked at again, and what is left out meanwhile."""

from __future__ import annotations

from collections import Counter

import pytest

from bintrades.core.audit_schedule import (
    MAX_SUSPECTS,
    MINUTE_MS,
    AuditSchedule,
    AuditTimes,
    Stage,
    Suspect,
    next_page,
)

TIMES = AuditTimes()
SPAN = (0, MINUTE_MS)
WHOLE = [(0, 5_000 * MINUTE_MS)]


def turns(schedule: AuditSchedule, until: int) -> list[tuple[int, str]]:
    """Return when which symbol had its turn, where none has a backlog."""
    found = []
    now = 0
    while now < until:
        due = schedule.next(now)
        if isinstance(due, str):
            found.append((now, due))
            schedule.give_turn(due, now + TIMES.every_ms)
        else:
            now += max(1, schedule.wait_ms(now))
    return found


def test_each_of_thousands_of_symbols_has_its_turn_every_half_an_hour_evenly_spread() -> None:
    symbols = [f"S{number}" for number in range(3_000)]

    found = turns(AuditSchedule(symbols, TIMES, 0), 2 * TIMES.every_ms)

    assert Counter(symbol for _, symbol in found) == dict.fromkeys(symbols, 2)
    per_minute = Counter(at // MINUTE_MS for at, _ in found)
    assert set(per_minute.values()) == {100}, "at weight 2 each, 3 % of the exchange's limit"


def test_a_symbol_with_a_backlog_has_its_next_turn_behind_all_that_are_due() -> None:
    schedule = AuditSchedule("ABC", AuditTimes(every_ms=0), 0)
    order = []
    for now in range(6):
        symbol = schedule.next(now)
        assert isinstance(symbol, str)
        order.append(symbol)
        schedule.give_turn(symbol, now)

    assert "".join(order) == "ABCABC"


def test_what_is_to_be_looked_at_again_is_so_when_it_is_due() -> None:
    schedule = AuditSchedule(["A"], TIMES, 0)
    suspect = Suspect("A", SPAN)
    schedule.add_suspect(suspect, 10)

    assert schedule.next(9) == "A"
    assert (schedule.wait_ms(4), schedule.next(9), schedule.next(10)) == (6, None, suspect)


def test_suspects_and_turns_go_in_the_order_in_which_they_were_due() -> None:
    schedule = AuditSchedule("AB", TIMES, 0)  # B a second later
    early, late = (Suspect("C", SPAN, stage) for stage in (Stage.LOOK_AGAIN, Stage.CONFIRM))
    schedule.add_suspect(late, 1_001)
    schedule.add_suspect(early, 999)

    assert [schedule.next(2_000) for _ in range(5)] == ["A", early, "B", late, None]


def test_what_is_put_back_is_the_next_again() -> None:
    schedule = AuditSchedule("AB", TIMES, 0)
    assert schedule.next(2_000) == "A"

    schedule.put_back()

    assert [schedule.next(2_000) for _ in range(3)] == ["A", "B", None]


def test_a_suspect_that_is_given_up_is_left_out_for_a_while_and_makes_room() -> None:
    schedule = AuditSchedule(["A"], TIMES, 0)
    schedule.add_suspect(Suspect("A", SPAN), 0)
    schedule.give_up(Suspect("A", SPAN), 0)

    assert schedule.left_out("A", TIMES.postponed_ms - 1) == [SPAN]
    assert schedule.left_out("A", TIMES.postponed_ms) == []


def test_a_suspect_is_left_out_of_the_turns_until_it_is_settled() -> None:
    schedule = AuditSchedule(["A"], TIMES, 0)
    suspect = Suspect("A", SPAN)
    schedule.add_suspect(suspect, 10)
    assert schedule.left_out("A", 0) == [SPAN]
    assert schedule.left_out("B", 0) == []

    schedule.next(10)
    schedule.add_suspect(Suspect("A", SPAN, Stage.NARROW), 10)
    schedule.next(10)
    assert schedule.left_out("A", 10) == [SPAN]
    schedule.settle(suspect)
    assert schedule.left_out("A", 10) == []


def test_where_everything_differs_only_some_is_looked_at_again() -> None:
    schedule = AuditSchedule(["A"], TIMES, 0)
    suspects = [
        Suspect("A", (place * MINUTE_MS, (place + 1) * MINUTE_MS)) for place in range(MAX_SUSPECTS)
    ]
    assert all(schedule.add_suspect(suspect, 0) for suspect in suspects)

    assert not schedule.add_suspect(Suspect("B", SPAN), 0)
    assert schedule.add_suspect(suspects[0], 0), "one that is known may go on"
    schedule.settle(suspects[1])
    assert schedule.add_suspect(Suspect("B", SPAN), 0)


def test_what_cannot_be_told_is_left_out_for_longer_each_time() -> None:
    schedule = AuditSchedule(["A"], TIMES, 0)
    now = 0
    waits = []
    for _ in range(8):
        schedule.postpone("A", [SPAN], now)
        wait = next(
            wait for wait in range(0, 2**33, MINUTE_MS) if not schedule.left_out("A", now + wait)
        )
        waits.append(wait // MINUTE_MS)
        now += wait

    assert waits == [30, 60, 120, 240, 480, 960, 1_440, 1_440]


def test_what_could_be_told_for_a_while_begins_anew() -> None:
    schedule = AuditSchedule(["A"], TIMES, 0)
    schedule.postpone("A", [SPAN], 0)
    later = 61 * MINUTE_MS

    schedule.postpone("A", [(10 * MINUTE_MS, 11 * MINUTE_MS)], later)
    schedule.postpone("A", [SPAN], later)

    assert schedule.left_out("A", later + 31 * MINUTE_MS) == []


@pytest.mark.parametrize(
    ("covered", "known", "page"),
    [
        ([], [], None),
        (WHOLE, WHOLE, None),
        (WHOLE, [], ((0, 1_000 * MINUTE_MS), True)),
        (WHOLE, [(0, 4_500 * MINUTE_MS)], ((4_500 * MINUTE_MS, 5_000 * MINUTE_MS), False)),
        (
            [(0, 1), (900, 901), (5_000_000, 5_000_001)],
            [],
            ((0, 901), True),
        ),
        ([(0, 10)], [(2, 3), (7, 10)], ((0, 7), False)),
    ],
)
def test_a_page_is_the_oldest_that_is_not_known_with_all_that_one_request_has(
    covered: list[tuple[int, int]],
    known: list[tuple[int, int]],
    page: tuple[tuple[int, int], bool] | None,
) -> None:
    assert next_page(covered, known, 1_000 * MINUTE_MS if covered == WHOLE else 1_000) == page


def test_of_a_few_symbols_each_has_its_first_turn_at_once() -> None:
    found = turns(AuditSchedule("AB", TIMES, 0), TIMES.every_ms)

    assert found == [(0, "A"), (1_000, "B")]
