"""Trades of futures, each of a kind: what counts, and what only uses up an id."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.exchange.batch import Batch, Decoded
from bintrades.exchange.binance.trade_messages import decode_futures_trades
from bintrades.model import ExcludedId, Trade
from tests.recordings import sample
from tests.strategies import START, make_trade, message, raw_message, trades

FILLS = ["MARKET", "RPI", None]
NO_FILLS = ["NA", "INSURANCE_FUND", "ADL"]


def decode(*payloads: bytes) -> Decoded:
    return decode_futures_trades(Batch(payloads))


def of_kind(trade_id: int, kind: str | None, **changes: Any) -> bytes:
    """Return the message of a trade of that kind, None: it says none."""
    fields = {} if kind is None else {"X": kind}
    return message(make_trade(trade_id), st=1, **fields, **changes)


@pytest.mark.parametrize("kind", FILLS)
def test_a_fill_of_the_order_book_is_a_trade(kind: str | None) -> None:
    (trade,) = decode(of_kind(5, kind)).trades

    assert (trade.trade_id, trade.price, trade.quantity) == (5, Decimal(1), Decimal(1))
    assert not isinstance(trade, ExcludedId)


@pytest.mark.parametrize("kind", [*NO_FILLS, "SOMETHING_NEW", ""])
@pytest.mark.parametrize("changes", [{}, {"p": "0", "q": "0"}])
def test_what_is_no_fill_uses_up_its_id_whatever_it_cost(
    kind: str, changes: dict[str, str]
) -> None:
    decoded = decode(of_kind(5, "MARKET"), of_kind(6, kind, **changes), of_kind(7, None))

    assert [trade.trade_id for trade in decoded.trades] == [5, 6, 7]
    assert [type(trade) is ExcludedId for trade in decoded.trades] == [False, True, False]
    assert not decoded.bad


@pytest.mark.parametrize("kind", FILLS)
@pytest.mark.parametrize("field", ["p", "q"])
def test_a_fill_of_nothing_or_for_nothing_is_bad(kind: str | None, field: str) -> None:
    decoded = decode(of_kind(4, "NA", p="0", q="0"), of_kind(5, kind, **{field: "0"}))

    assert [trade.trade_id for trade in decoded.trades] == [4]
    assert decoded.unusable == [("BTCUSDT", 5)]


@pytest.mark.parametrize("price", ["NaN", "-1", "1e19", "1_0", "cheap"])
def test_a_number_that_is_none_is_bad_in_a_filler_too(price: str) -> None:
    decoded = decode(of_kind(5, "NA", p=price))

    assert decoded.trades == []
    assert decoded.unusable == [("BTCUSDT", 5)]


def test_trades_are_counted_by_kind_and_the_unknown_ones_named() -> None:
    kinds = ["MARKET", "MARKET", "NA", "RPI", None, "NEW", "NEW", "ADL"]

    decoded = decode(*(of_kind(number, kind) for number, kind in enumerate(kinds)))

    assert decoded.kinds == {"MARKET": 2, "NA": 1, "RPI": 1, "none": 1, "NEW": 2, "ADL": 1}
    assert decoded.unknown_kinds == [("BTCUSDT", "NEW")] * 2


def test_what_stands_in_a_batch_with_a_bad_message_is_counted_once() -> None:
    decoded = decode(of_kind(1, "RPI"), b"nonsense", of_kind(2, "NEW"), of_kind(3, "NA"))

    assert decoded.kinds == {"RPI": 1, "NEW": 1, "NA": 1}
    assert decoded.unknown_kinds == [("BTCUSDT", "NEW")]
    assert len(decoded.bad) == 1


@given(trades, st.lists(st.sampled_from([*FILLS, *NO_FILLS, "NEW"]), min_size=60, max_size=60))
def test_every_id_comes_once_and_in_order_and_is_excluded_by_its_kind_alone(
    happened: list[Trade], kinds: list[str | None]
) -> None:
    payloads = [
        message(trade) if kind is None else message(trade, X=kind)
        for trade, kind in zip(happened, kinds, strict=False)
    ]

    decoded = decode(*payloads)

    assert [(trade.symbol, trade.trade_id) for trade in decoded.trades] == [
        (trade.symbol, trade.trade_id) for trade in happened
    ]
    assert [not isinstance(trade, ExcludedId) for trade in decoded.trades] == [
        kind in FILLS for kind in kinds[: len(happened)]
    ]
    assert sum(decoded.kinds.values()) == len(happened)


@pytest.mark.parametrize("kind", ["MARKET", "NA"])
def test_microseconds_and_a_missing_wrapper_are_no_matter(kind: str) -> None:
    trade = make_trade(1)
    raw = raw_message(trade, X=kind, T=START * 1_000 + 999, E=START * 1_000)

    (decoded,) = decode(raw).trades

    assert (decoded.time, decoded.event_time) == (START, START)
    assert isinstance(decoded, ExcludedId) == (kind == "NA")


@pytest.mark.parametrize("symbol", ["BTCUSD_PERP", "BTCUSDT_261225", "ETHUSD_260925"])
def test_an_underscore_of_a_symbol_hides_none_in_a_number(symbol: str) -> None:
    good, bad = (message(make_trade(1, symbol=symbol), X="MARKET", p=p) for p in ("10", "1_0"))

    decoded = decode(good, bad)

    assert [trade.price for trade in decoded.trades] == [10]
    assert decoded.unusable == [(symbol, 1)]


def test_frames_of_the_exchange_are_read_as_they_came() -> None:
    lines = sample("usdm_wire_frames_2026.jsonl").read_bytes().splitlines()
    frames = [
        line for line in lines if json.loads(line).get("data", json.loads(line))["e"] == "trade"
    ]

    decoded = decode(*frames)

    assert [(trade.symbol, type(trade) is ExcludedId) for trade in decoded.trades] == [
        ("BTCUSDT", False),
        ("1000PEPEUSDT", False),
        ("DOGEUSDT", True),
        ("BTCUSD_PERP", False),
    ]
    assert decoded.trades[3].quantity == Decimal(38), "contracts"
    assert decoded.kinds == {"MARKET": 2, "RPI": 1, "NA": 1}
    assert not decoded.bad
    assert not decoded.unknown
