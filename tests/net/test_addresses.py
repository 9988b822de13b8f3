"""The order in which the addresses of a host are tried."""

from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st

from bintrades.net.addresses import Address, Avoided, in_turn

V4, V6 = socket.AF_INET, socket.AF_INET6
MINUTE = 60_000


def v4(number: int) -> Address:
    return Address(V4, (f"192.0.2.{number}", 443))


def v6(number: int) -> Address:
    return Address(V6, (f"2001:db8::{number}", 443, 0, 0))


addresses = st.lists(st.builds(v4, st.integers(1, 4)) | st.builds(v6, st.integers(1, 4)))


def test_families_take_turns_and_the_systems_first_choice_begins() -> None:
    found = [v6(1), v6(2), v6(3), v4(1), v4(2)]

    assert in_turn(found) == [v6(1), v4(1), v6(2), v4(2), v6(3)]
    assert in_turn([v4(1), v4(2), v6(1)]) == [v4(1), v6(1), v4(2)]


@given(addresses, st.integers(0, 9))
def test_every_address_is_tried_once(found: list[Address], copy: int) -> None:
    assert sorted(in_turn(found, copy)) == sorted(set(found))


@given(addresses, st.integers(1, 9))
def test_where_a_copy_begins_depends_on_no_order_of_the_name_server(
    found: list[Address], copy: int
) -> None:
    turned = [*reversed(found)]

    assert in_turn(found, copy) == in_turn(turned, copy)


@given(addresses)
def test_as_many_copies_as_addresses_begin_at_different_ones(found: list[Address]) -> None:
    count = len(set(found))

    assert len({in_turn(found, copy)[0] for copy in range(1, count + 1)}) == count


def test_an_address_that_was_no_good_comes_last_for_a_while() -> None:
    avoided = Avoided(10 * MINUTE)
    avoided.add(v4(1), 0)

    assert avoided.last([v4(1), v4(2), v4(3)], 10 * MINUTE - 1) == [v4(2), v4(3), v4(1)]
    assert avoided.last([v4(1), v4(2), v4(3)], 10 * MINUTE) == [v4(1), v4(2), v4(3)]


def test_of_two_that_were_no_good_the_one_that_failed_first_is_tried_first() -> None:
    avoided = Avoided(10 * MINUTE)
    avoided.add(v4(2), 1)
    avoided.add(v4(1), 2)

    assert avoided.last([v4(1), v4(2), v4(3)], 3) == [v4(3), v4(2), v4(1)]


def test_one_that_works_again_is_as_good_as_any() -> None:
    avoided = Avoided(10 * MINUTE)
    avoided.add(v4(1), 0)
    avoided.remove(v4(1))
    avoided.remove(v4(2))

    assert avoided.last([v4(1), v4(2)], 1) == [v4(1), v4(2)]


def test_what_is_remembered_does_not_grow_for_ever() -> None:
    avoided = Avoided(10 * MINUTE)
    for number in range(10_000):
        avoided.add(Address(V4, (f"host {number}", 443)), number * MINUTE)

    assert len(avoided._since) <= 10
