"""What the exchange says, and what is made of it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.exchange.batch import Batch, Decoded
from bintrades.exchange.binance.messages import MAX_TRADE_BYTES
from bintrades.exchange.binance.trade_messages import decode_trades
from tests.strategies import START, make_trade, message, raw_message, trades

if TYPE_CHECKING:
    from bintrades.model import Trade

TRADE = make_trade(12345, START, event_time=START + 3, price="0.001", quantity="100")
GOOD = message(TRADE)
DOCUMENTED = (
    b'{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100",'
    b'"T":1672515782135,"m":true,"M":true}'
)
SPOT_WRAPPED = b'{"stream":"bnbbtc@trade","data":' + DOCUMENTED + b"}"
DEEP = b"[" * 100_000


def decode(payloads: list[bytes]) -> Decoded:
    return decode_trades(Batch(payloads))


def fields(trade: Trade) -> tuple[Any, ...]:
    """Return what a trade says, whatever class decoded it."""
    return (
        trade.symbol,
        trade.trade_id,
        trade.time,
        trade.event_time,
        trade.price,
        trade.quantity,
        trade.is_buyer_maker,
    )


def all_fields(decoded: Decoded) -> list[tuple[Any, ...]]:
    return [fields(trade) for trade in decoded.trades]


def spelled(**changes: str) -> bytes:
    """Return a trade with fields replaced by JSON text as it stands."""
    marked = message(TRADE, **{name: f"<{name}>" for name in changes})
    for name, text in changes.items():
        marked = marked.replace(f'"<{name}>"'.encode(), text.encode())
    return marked


def without(name: str) -> bytes:
    whole = json.loads(GOOD)
    del whole["data"][name]
    return json.dumps(whole).encode()


@pytest.mark.parametrize("payload", [SPOT_WRAPPED, DOCUMENTED], ids=["combined", "raw"])
def test_a_trade_is_read_as_documented(payload: bytes) -> None:
    decoded = decode([payload])

    assert all_fields(decoded) == [
        ("BNBBTC", 12345, 1672515782135, 1672515782136, Decimal("0.001"), Decimal(100), True)
    ]
    assert decoded == Decoded(trades=decoded.trades)


@given(trades, st.lists(st.booleans(), min_size=60, max_size=60))
def test_trades_keep_every_digit_and_their_order_in_either_mode(
    happened: list[Trade], is_combined: list[bool]
) -> None:
    payloads = [
        message(trade) if combined else raw_message(trade)
        for trade, combined in zip(happened, is_combined, strict=False)
    ]

    decoded = decode(payloads)

    assert all_fields(decoded) == [fields(trade) for trade in happened]
    assert not decoded.bad
    assert not decoded.unknown


def test_symbols_beyond_ascii_are_read_written_out_or_escaped() -> None:
    trade = make_trade(1, symbol="币安人生USDT")
    escaped = json.dumps(json.loads(message(trade))).encode()
    assert b"\\u5e01" in escaped

    assert [trade.symbol for trade in decode([message(trade), escaped]).trades] == [
        "币安人生USDT"
    ] * 2


@pytest.mark.parametrize(
    "payload",
    [
        message(TRADE, b=88, a=50, X="MARKET", nq="1", st=1, new={"nested": [1, None]}),
        GOOD[:-1] + b',"extra":[1,2,{"e":"aggTrade"}]}',
        without("M"),
        b'{"data":' + raw_message(TRADE) + b',"stream":"btcusdt@trade"}',
        json.dumps(json.loads(GOOD), indent=2).encode(),
        b" \r\n" + GOOD + b"\r\n",
    ],
    ids=["old and new fields", "outside", "no M", "order", "indented", "surrounded by space"],
)
def test_what_does_not_matter_may_change(payload: bytes) -> None:
    for payloads in ([payload], [GOOD, payload, GOOD]):
        decoded = decode(payloads)
        assert all_fields(decoded) == [fields(TRADE)] * len(payloads)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"0.00000001"', "0.00000001"),
        ('"1E-7"', "0.0000001"),
        ('"1e+3"', "1000"),
        ("0.1", "0.1"),
        ("123456789.123456789123456789", "123456789.123456789123456789"),
        ("1e-8", "0.00000001"),
        ("7", "7"),
        ('"1000000000000000000"', "1000000000000000000"),
    ],
)
def test_numbers_are_exact_in_whatever_form_they_come(text: str, value: str) -> None:
    (trade,) = decode([spelled(p=text, q=text)]).trades

    assert (trade.price, trade.quantity) == (Decimal(value), Decimal(value))


@pytest.mark.parametrize(
    ("t", "e"), [(START * 1_000 + 999, (START + 3) * 1_000 + 999), (START, (START + 3) * 1_000)]
)
def test_microseconds_are_told_by_their_size_and_rounded_down(t: int, e: int) -> None:
    micro = spelled(T=str(t), E=str(e))
    raw = raw_message(TRADE, T=t, E=e)

    for payloads in ([micro], [raw], [GOOD, micro, raw, GOOD]):
        assert all_fields(decode(payloads)) == [fields(TRADE)] * len(payloads)


@pytest.mark.parametrize(
    ("payload", "symbol", "trade_id"),
    [
        (spelled(T='"soon"'), "BTCUSDT", 12345),
        (raw_message(TRADE, p="NaN"), "BTCUSDT", 12345),
        (spelled(t="-1"), "BTCUSDT", None),
        (spelled(t='"5"'), "BTCUSDT", None),
        (spelled(t=str(2**63 - 1)), "BTCUSDT", None),
        (without("s"), "BTCUSDT", 12345),
        (without("t"), "BTCUSDT", None),
        (message(make_trade(7, symbol="币安人生USDT"), s=5, T=1), "币安人生USDT", 7),
    ],
)
def test_of_a_trade_that_cannot_be_used_it_is_told_which_one_it_is(
    payload: bytes, symbol: str, trade_id: int | None
) -> None:
    decoded = decode([GOOD, payload, GOOD])

    assert decoded.unusable == [(symbol, trade_id)]
    assert len(decoded.trades) == 2


@pytest.mark.parametrize(
    "payload", [b"Pong timeout", b"{}", b"[]", b'{"e":"trade"}', b'{"e":"trade","s":5}']
)
def test_what_is_of_no_symbol_is_no_trade_of_one(payload: bytes) -> None:
    assert decode([payload]).unusable == []


BAD = {
    "not JSON": b"Pong timeout",
    "empty": b"",
    "blank": b" ",
    "cut off": GOOD[:-1],
    "its other half": b"}",
    "first half": GOOD[: GOOD.index(b'"q"')],
    "second half": GOOD[GOOD.index(b'"q"') :],
    "two at once": GOOD + GOOD,
    "two lines": GOOD + b"\n" + GOOD,
    "trailing comma": GOOD + b",",
    "not UTF-8": GOOD.replace(b"BTCUSDT", b"BTC\xff"),
    "half a surrogate pair": GOOD.replace(b"BTCUSDT", b"\\ud800"),
    "line feed in a string": GOOD.replace(b"BTCUSDT", b"BTC\nUSDT"),
    "nested without end": DEEP,
    "nested as deeply as fits into a trade": b'{"x":' + b"[" * (MAX_TRADE_BYTES - 5),
    "nested deeply": b'{"data":' * 50_000 + b"1" + b"}" * 50_000,
    "bare NaN": spelled(p="NaN"),
    "bare Infinity": spelled(q="Infinity"),
    "NaN": spelled(p='"NaN"'),
    "signalling NaN": spelled(q='"sNaN"'),
    "Infinity": spelled(p='"Infinity"'),
    "negative infinity": spelled(q='"-Infinity"'),
    "price of zero": spelled(p='"0.00000000"'),
    "quantity of zero": spelled(q='"0"'),
    "negative price": spelled(p='"-1"'),
    "negative quantity": spelled(q="-0.5"),
    "huge price": spelled(p='"1000000000000000001"'),
    "huge exponent": spelled(p='"1e999999"'),
    "absurd exponent": spelled(p='"1e999999999999999999999"'),
    "tiny quantity": spelled(q='"1e-999"'),
    "words for a price": spelled(p='"cheap"'),
    "nothing for a price": spelled(p='""'),
    "null for a price": spelled(p="null"),
    "bool for a price": spelled(p="true"),
    "list for a quantity": spelled(q="[1]"),
    "bool for an id": spelled(t="true"),
    "text for an id": spelled(t='"1"'),
    "fraction for an id": spelled(t="1.5"),
    "float for an id": spelled(t="1.0"),
    "negative id": spelled(t="-1"),
    "id whose next does not fit": spelled(t=str(2**63 - 1)),
    "huge id": spelled(t="9" * 40),
    "number for a bool": spelled(m="1"),
    "number for a symbol": spelled(s="1"),
    "empty symbol": spelled(s='""'),
    "null for a time": spelled(T="null"),
    "time between milliseconds and microseconds": spelled(T=str(START * 100)),
    "time in nanoseconds": spelled(E=str(START * 1_000_000)),
    "time in seconds": spelled(E=str(START // 1000)),
    "negative time": spelled(T="-1"),
    "endless price": spelled(p='"1.' + "0" * MAX_TRADE_BYTES + '"'),
    "underscore in a price": spelled(p='"1_000"'),
    "spaces around a quantity": spelled(q='" 7 "'),
    "escaped underscore": spelled(p='"1\\u005f000"'),
    "escaped line end": spelled(q='"7\\n"'),
    "no-break space": spelled(q='"7\u00a0"'),
    "Arabic digits": spelled(p='"\u0661"'),
    "fullwidth digits": spelled(q='"\uff17"'),
    "mathematical digits": spelled(q='"\U0001d7d9"'),
    **{f"no {name}": without(name) for name in "EstpqTm"},
}


@pytest.mark.parametrize("symbol", ["BTCUSDT_260925", "币安人生USDT", "\U0001d7d9USDT", "a b\\"])
def test_a_strange_symbol_is_no_strange_number(symbol: str) -> None:
    plain = message(TRADE, s=symbol)
    spaced = json.dumps(json.loads(plain)).encode()  # and in ASCII alone

    assert [trade.symbol for trade in decode([GOOD, plain, spaced]).trades][1:] == [symbol] * 2


@pytest.mark.parametrize("name", BAD)
def test_a_message_that_cannot_be_used_is_set_apart_with_its_reason(name: str) -> None:
    decoded = decode([BAD[name]])

    ((payload, reason),) = decoded.bad
    assert payload == BAD[name]
    assert reason
    assert decoded == Decoded(bad=decoded.bad, unusable=decoded.unusable)


@given(st.data(), trades)
def test_bad_messages_cost_only_themselves_wherever_they_stand(
    data: st.DataObject, happened: list[Trade]
) -> None:
    payloads = [(message(trade), True) for trade in happened]
    for bad in data.draw(st.lists(st.sampled_from(sorted(BAD.values())), max_size=4)):
        payloads.insert(data.draw(st.integers(0, len(payloads))), (bad, False))

    decoded = decode([payload for payload, _ in payloads])

    assert all_fields(decoded) == [fields(trade) for trade in happened]
    assert [payload for payload, _ in decoded.bad] == [
        payload for payload, is_good in payloads if not is_good
    ]


@pytest.mark.parametrize("separator", [b"", b" ", b"\n", b"\r\n"])
def test_halves_do_not_join_even_when_the_number_of_messages_comes_out_right(
    separator: bytes,
) -> None:
    for place in range(1, len(GOOD)):
        payloads = [GOOD[:place], GOOD[place:], GOOD + separator + GOOD]

        decoded = decode(payloads)

        assert decoded.trades == []
        assert [payload for payload, _ in decoded.bad] == payloads


@given(st.lists(st.binary(max_size=9)))
def test_a_batch_gives_its_messages_back_as_they_were(payloads: list[bytes]) -> None:
    assert Batch(payloads).payloads == payloads


def test_two_messages_in_one_do_not_make_up_for_an_empty_one() -> None:
    decoded = decode([GOOD + GOOD, b"", GOOD])

    assert len(decoded.trades) == 1
    assert [payload for payload, _ in decoded.bad] == [GOOD + GOOD, b""]


@given(st.lists(st.binary(max_size=50) | st.sampled_from([GOOD, *BAD.values()]), max_size=8))
def test_no_bytes_make_decoding_raise_and_none_go_unnoticed(payloads: list[bytes]) -> None:
    decoded = decode(payloads)

    noticed = [*decoded.trades, *decoded.unknown, *decoded.bad]
    assert len(noticed) == len(payloads)


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
def test_no_json_makes_decoding_raise(value: Any) -> None:
    decode([GOOD, json.dumps(value).encode(), GOOD])


def test_decoding_nothing_gives_nothing() -> None:
    assert decode([]) == Decoded()


@pytest.mark.parametrize(
    "payload",
    [
        b"[]",
        b"1",
        b"null",
        b'"text"',
        b"{}",
        b'{"stream":"btcusdt@trade"}',
        b'{"stream":"btcusdt@trade","data":null}',
        b'{"stream":"btcusdt@trade","data":[]}',
        b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","s":"BTCUSDT","a":1}}',
        b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","b":[["1","2"]]}}',
        b'{"stream":"btcusdt@kline_1s","data":{"e":"kline","k":{}}}',
        b'{"e":"somethingNew"}',
        b'{"e":7}',
        b'{"e":["trade"]}',
        b'{"stream":"x","data":"' + b"x" * 100_000 + b'"}',
    ],
)
def test_what_is_of_no_use_is_ignored_and_counted(payload: bytes) -> None:
    decoded = decode([GOOD, payload, GOOD])

    assert decoded.unknown == [payload]
    assert len(decoded.trades) == 2
    assert not decoded.bad
