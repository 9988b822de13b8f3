"""Control messages are told from what streams bring, whatever their shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.exchange.batch import Batch
from bintrades.exchange.binance.feed.control import Answer, has_trades_only, sort
from bintrades.exchange.binance.spot import SPOT
from tests.strategies import make_trade, message, raw_message

MARK = SPOT.streams[0].mark
RAW = raw_message(make_trade(1))
GOOD = message(make_trade(1))
UNUSABLE = raw_message(make_trade(1), p="a lot")
NO_TRADE = b'{"stream":"btcusdt@depth","data":{"e":"depthUpdate","u":1}}'
JUNK = (b"Pong timeout", b"", b"{", b"{}", b"[]", b"7", b"\xff", b'{"id":7}', b"[" * 100_000)
SHUTDOWN = b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}'


@given(st.lists(st.sampled_from([GOOD, RAW, NO_TRADE, SHUTDOWN, *JUNK, b'{"result":null,"id":1}'])))
def test_what_is_not_a_control_message_is_left_as_it_was(payloads: list[bytes]) -> None:
    found = sort(payloads)

    control = (SHUTDOWN, b'{"result":null,"id":1}')
    assert found.data == [payload for payload in payloads if payload not in control]
    assert len(found.answers) == payloads.count(control[1])
    assert found.is_shutdown_announced == (SHUTDOWN in payloads)


@pytest.mark.parametrize("count", [1, 2, 1_000])
def test_trades_alone_are_recognized_together(count: int) -> None:
    assert has_trades_only(Batch([GOOD] * count), MARK)


@pytest.mark.parametrize(
    "other", [SHUTDOWN, NO_TRADE, *JUNK, b'{"result":["btcusdt@trade"],"id":1}', b'{"code":2}']
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_batch_with_anything_but_trades_is_not_taken_for_trades_alone(
    other: bytes, place: int
) -> None:
    payloads = [GOOD, GOOD]
    payloads.insert(place, other)

    assert not has_trades_only(Batch(payloads), MARK)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "币安人生USDT", "1000SATSUSDT"])
def test_a_trade_of_any_symbol_is_recognized(symbol: str) -> None:
    assert has_trades_only(Batch([message(make_trade(1, symbol=symbol))]), MARK)


@pytest.mark.parametrize("payload", [GOOD, RAW, UNUSABLE, NO_TRADE, b'{"data":{"e":"trade"}}'])
def test_whatever_comes_on_a_stream_is_data(payload: bytes) -> None:
    assert sort([b"{}", payload]).has_stream_data


@pytest.mark.parametrize("payload", [*JUNK, SHUTDOWN, b'{"result":["btcusdt@trade"],"id":1}'])
def test_neither_junk_nor_control_messages_are_data(payload: bytes) -> None:
    assert not sort([payload]).has_stream_data


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["e", "data", "stream", "id", "result", "error", "code", "msg"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=8,
)


@given(json_values)
def test_no_json_makes_sorting_raise(value: Any) -> None:
    sort([GOOD, json.dumps(value).encode(), GOOD])


@pytest.mark.parametrize(
    ("payload", "answer"),
    [
        (b'{"result":null,"id":1}', Answer(1)),
        (b'{"id":3,"result":["btcusdt@trade"]}', Answer(3, ["btcusdt@trade"])),
        (b'{"result":null,"id":"abc"}', Answer("abc")),
        (b'{"result":null,"id":null}', Answer(None)),
        (b'{"result":null}', Answer(None)),
        (b'{"error":null,"result":null,"id":4}', Answer(4)),
        (b'{"code":2,"msg":"Invalid request"}', Answer(None, error="Invalid request (code 2)")),
        (b'{"code":0,"msg":"Unknown","id":5}', Answer(5, error="Unknown (code 0)")),
        (
            b'{"error":{"code":2,"msg":"Invalid request: invalid stream"},"id":2}',
            Answer(2, error="Invalid request: invalid stream (code 2)"),
        ),
        (
            b'{"error":{"code":3,"msg":"Invalid JSON"}}',
            Answer(None, error="Invalid JSON (code 3)"),
        ),
        (b'{"error":"no","id":6}', Answer(6, error="no")),
    ],
)
def test_answers_are_read_in_every_shape(payload: bytes, answer: Answer) -> None:
    found = sort([GOOD, payload, GOOD])

    assert found.answers == [answer]
    assert found.data == [GOOD, GOOD]


@pytest.mark.parametrize(
    "payload",
    [
        b'{"e":"serverShutdown","E":1770123456789}',
        b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
        b'{"stream":"!serverShutdown","data":{}}',
    ],
    ids=["raw", "combined", "only the name"],
)
def test_the_end_of_the_server_is_noticed_among_trades(payload: bytes) -> None:
    found = sort([GOOD, payload, GOOD])

    assert found.is_shutdown_announced
    assert found.data == [GOOD, GOOD]
    assert not sort([GOOD]).is_shutdown_announced
