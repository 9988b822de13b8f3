"""Asking for streams without breaking the exchange's limits, and what its answers mean."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.exchange.binance.feed.control import Answer
from bintrades.exchange.binance.feed.subscription import Subscription
from bintrades.exchange.binance.markets import MARKETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.exchange.binance.market import Market

SPOT = MARKETS["spot"]
SPACING = 500
ANSWER_TIMEOUT_MS = 10_000

names = st.lists(
    st.text('abc0123456789币安人生"\\é@', min_size=1, max_size=60), unique=True, max_size=500
)
"""Names in one, two and three bytes a character, and with what JSON has to escape."""

markets = st.builds(
    lambda names, size: replace(SPOT, max_subscribe_names=names, max_subscribe_bytes=size),
    st.integers(1, 20),
    st.integers(300, 1_000),
)
"""Markets with narrow limits, so that a few names reach them."""


def subscribe(names: Sequence[str], market: Market) -> Subscription:
    return Subscription(names, market, ANSWER_TIMEOUT_MS)


def requests(subscription: Subscription, until: int = 60_000) -> list[tuple[int, str]]:
    """Return what is sent, and when, if the subscription is asked every 50 ms."""
    sent = []
    for now in range(0, until, 50):
        message = subscription.next_message(now)
        if message is not None:
            sent.append((now, message))
    return sent


def ask(subscription: Subscription, now: int = 0) -> dict[str, Any]:
    """Return the message that is sent at *now*, read."""
    message = subscription.next_message(now)
    assert message is not None
    return dict(json.loads(message))


@given(names, markets)
def test_every_name_is_asked_for_once_in_order_and_within_the_limits(
    names: list[str], market: Market
) -> None:
    messages = [message for _, message in requests(subscribe(names, market))]

    contents = [json.loads(message) for message in messages]
    assert [name for content in contents for name in content["params"]] == names
    assert all(len(message.encode()) <= market.max_subscribe_bytes for message in messages)
    assert all(0 < len(content["params"]) <= market.max_subscribe_names for content in contents)
    assert all(content["method"] == "SUBSCRIBE" for content in contents)
    assert len({content["id"] for content in contents}) == len(contents)


@given(names, markets)
def test_no_message_is_needlessly_small(names: list[str], market: Market) -> None:
    contents = [json.loads(message) for _, message in requests(subscribe(names, market))]

    for content, following in pairwise(contents):
        longer = content | {"params": content["params"] + following["params"][:1]}
        spelled = json.dumps(longer, ensure_ascii=False, separators=(",", ":")).encode()
        is_full = len(content["params"]) == market.max_subscribe_names
        assert is_full or len(spelled) + len(str(2**31)) > market.max_subscribe_bytes


@pytest.mark.parametrize("symbol", ["abcdefgh", "币安人生币安人生"])
def test_the_whole_market_is_asked_for_in_messages_of_200_names_and_3900_bytes(
    symbol: str,
) -> None:
    names = [f"{symbol}{number}usdt@trade" for number in range(1_024)]

    messages = [message for _, message in requests(subscribe(names, SPOT))]

    sizes = [len(message.encode()) for message in messages]
    counts = [len(json.loads(message)["params"]) for message in messages]
    assert sum(counts) == 1_024
    assert max(sizes) <= 3_900
    assert max(counts) <= 200
    assert min(sizes[:-1]) > 3_800


def test_messages_are_half_a_second_apart() -> None:
    subscription = subscribe([f"{number}usdt@trade" for number in range(1_000)], SPOT)

    times = [now for now, _ in requests(subscription)]

    assert len(times) >= 5
    assert all(later - earlier == SPACING for earlier, later in pairwise(times))


def test_the_limits_are_those_of_the_market() -> None:
    market = replace(SPOT, max_subscribe_names=2, control_spacing_ms=2_000)

    sent = requests(subscribe(["a", "b", "c"], market))

    assert [(now, json.loads(message)["params"]) for now, message in sent] == [
        (0, ["a", "b"]),
        (2_000, ["c"]),
    ]


def test_nothing_to_ask_for_is_complete_at_once() -> None:
    subscription = subscribe([], SPOT)

    assert subscription.is_complete
    assert subscription.next_message(0) is None


def test_a_subscription_is_complete_when_everything_was_answered() -> None:
    subscription = subscribe(["a", "b"], SPOT)
    assert not subscription.is_complete

    request = ask(subscription)["id"]
    assert not subscription.is_complete

    assert subscription.on_answer(Answer(request)) == []
    assert subscription.is_complete


@given(st.data(), st.lists(st.text("abc", min_size=1, max_size=5), unique=True, max_size=50))
def test_a_bad_name_is_found_and_takes_no_good_one_with_it(
    data: st.DataObject, names: list[str]
) -> None:
    bad = set(data.draw(st.lists(st.sampled_from(names)))) if names else set()
    subscription = subscribe(names, replace(SPOT, max_subscribe_names=20))
    granted: list[str] = []
    refused: list[str] = []
    now = 0
    while not subscription.is_complete:
        request = ask(subscription, now)
        now += SPACING
        number = request["id"] if data.draw(st.booleans()) else None
        if bad & set(request["params"]):
            refused += subscription.on_answer(Answer(number, error="Invalid request (code 2)"))
        else:
            granted += request["params"]
            assert subscription.on_answer(Answer(number)) == []

    assert sorted(granted) == sorted(set(names) - bad)
    assert sorted(refused) == sorted(bad)
    assert subscription.refused == dict.fromkeys(bad, "Invalid request (code 2)")


def test_a_refused_batch_is_asked_for_in_halves_half_a_second_apart() -> None:
    subscription = subscribe(["a", "b", "c"], SPOT)
    subscription.on_answer(Answer(ask(subscription)["id"], error="no"))

    assert subscription.next_message(SPACING - 1) is None
    assert ask(subscription, SPACING)["params"] == ["a"]
    assert subscription.next_message(2 * SPACING - 1) is None
    assert ask(subscription, 2 * SPACING)["params"] == ["b", "c"]


def test_an_answer_without_an_id_is_about_the_oldest_question() -> None:
    subscription = subscribe(["a", "b"], replace(SPOT, max_subscribe_names=1))
    first = ask(subscription)
    second = ask(subscription, SPACING)

    assert subscription.on_answer(Answer(None, error="no")) == first["params"]
    assert subscription.on_answer(Answer(second["id"])) == []
    assert subscription.is_complete


def test_answers_to_questions_that_nobody_asked_mean_nothing() -> None:
    subscription = subscribe(["a"], SPOT)
    for answer in (Answer(1, error="no"), Answer(None, error="no"), Answer("1"), Answer(99)):
        assert subscription.on_answer(answer) == []

    request = ask(subscription)["id"]
    for answer in (Answer(str(request), error="no"), Answer(request + 1, error="no")):
        assert subscription.on_answer(answer) == []

    assert not subscription.is_complete
    assert subscription.on_answer(Answer(request)) == []
    assert subscription.on_answer(Answer(request, error="no")) == []
    assert subscription.refused == {}


def test_a_question_without_an_answer_is_overdue_after_a_while() -> None:
    subscription = subscribe(["a"], SPOT)
    assert not subscription.is_overdue(10 * ANSWER_TIMEOUT_MS)

    request = ask(subscription, 1_000)["id"]

    assert not subscription.is_overdue(1_000 + ANSWER_TIMEOUT_MS)
    assert subscription.is_overdue(1_000 + ANSWER_TIMEOUT_MS + 1)
    subscription.on_answer(Answer(request))
    assert not subscription.is_overdue(10 * ANSWER_TIMEOUT_MS)


def test_a_probe_is_a_question_like_any_other() -> None:
    subscription = subscribe(["a"], SPOT)
    subscription.on_answer(Answer(ask(subscription)["id"]))

    probe = json.loads(subscription.probe(5_000))

    assert probe["method"] == "LIST_SUBSCRIPTIONS"
    assert not subscription.is_complete
    assert subscription.is_overdue(5_000 + ANSWER_TIMEOUT_MS + 1)
    assert subscription.on_answer(Answer(probe["id"], ["a"])) == []
    assert subscription.is_complete


def test_a_refused_probe_refuses_no_stream() -> None:
    subscription = subscribe([], SPOT)
    probe = json.loads(subscription.probe(0))

    assert subscription.on_answer(Answer(probe["id"], error="no")) == []
    assert subscription.is_complete


def test_after_a_probe_the_next_message_keeps_its_distance() -> None:
    subscription = subscribe(["a"], SPOT)
    subscription.probe(1_000)

    assert subscription.next_message(1_000 + SPACING - 1) is None
    assert subscription.next_message(1_000 + SPACING) is not None


def test_a_stream_that_is_asked_for_again_is_given_up_first() -> None:
    subscription = subscribe([], SPOT)
    subscription.resubscribe("btcusdt@trade")
    messages = [json.loads(subscription.next_message(now) or "") for now in (0, 500)]

    assert [message["method"] for message in messages] == ["UNSUBSCRIBE", "SUBSCRIBE"]
    assert [message["params"] for message in messages] == [["btcusdt@trade"]] * 2


def test_names_that_are_added_are_asked_for_in_batches_too_after_all_others() -> None:
    market = replace(SPOT, max_subscribe_names=2)
    subscription = subscribe(["a", "b"], market)
    subscription.subscribe(["c", "d", "e"])

    sent = [json.loads(message)["params"] for _, message in requests(subscription)]

    assert sent == [["a", "b"], ["c", "d"], ["e"]]


def test_names_are_given_up_before_later_ones_are_asked_for() -> None:
    """There is room for as many as the exchange allows, and for none beyond."""
    subscription = subscribe(["a", "b"], SPOT)
    sent = [ask(subscription)]
    subscription.unsubscribe(["a"])
    subscription.subscribe(["c"])

    sent += [json.loads(message) for _, message in requests(subscription)]

    assert [(each["method"], each["params"]) for each in sent] == [
        ("SUBSCRIBE", ["a", "b"]),
        ("UNSUBSCRIBE", ["a"]),
        ("SUBSCRIBE", ["c"]),
    ]


def test_a_refused_batch_is_asked_for_again_without_what_was_given_up_meanwhile() -> None:
    subscription = subscribe(["a", "b", "c"], SPOT)
    request = ask(subscription)["id"]
    subscription.unsubscribe(["b"])

    assert subscription.on_answer(Answer(request, error="one is wrong")) == []

    sent = [json.loads(message) for _, message in requests(subscription)]
    assert [each["params"] for each in sent if each["method"] == "SUBSCRIBE"] == [["a"], ["c"]]


def test_a_refused_unsubscribe_refuses_no_stream() -> None:
    subscription = subscribe([], SPOT)
    subscription.unsubscribe(["a"])

    assert subscription.on_answer(Answer(ask(subscription)["id"], error="no")) == []
    assert subscription.refused == {}
    assert subscription.is_complete


def test_what_is_given_up_before_it_was_asked_for_costs_no_message() -> None:
    subscription = subscribe(["a"], SPOT)
    for _ in range(100):
        subscription.subscribe(["b", "c"])
        subscription.unsubscribe(["b"])
        subscription.unsubscribe(["c"])
    sent = [ask(subscription)["params"]]
    for _ in range(100):
        subscription.unsubscribe(["a"])
        subscription.subscribe(["a"])

    assert sent == [["a"]]
    assert subscription.next_message(SPACING) is None
