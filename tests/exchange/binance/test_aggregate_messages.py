"""Aggregates as each market spells them."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.exchange.batch import Batch, Decoded
from bintrades.exchange.binance.aggregate_messages import decode_aggregates
from bintrades.model import AggregateTrade
from tests.recordings import recorded, sample
from tests.strategies import START, make_trade, message

if TYPE_CHECKING:
    from pathlib import Path


def decode(*payloads: bytes) -> Decoded:
    return decode_aggregates(Batch(payloads))


def spelt(first_id: int = 100, last_id: int = 105, **changes: Any) -> bytes:
    """Return an aggregate as spot's stream spells it."""
    fields = {
        "e": "aggTrade",
        "E": START + 3,
        "s": "BNBBTC",
        "a": 12345,
        "p": "0.001",
        "q": "100",
        "f": first_id,
        "l": last_id,
        "T": START,
        "m": True,
        "M": True,
    }
    data = {name: value for name, value in (fields | changes).items() if value is not None}
    return json.dumps({"stream": "bnbbtc@aggTrade", "data": data}, separators=(",", ":")).encode()


def test_an_aggregate_covers_the_ids_from_its_first_trade_to_its_last() -> None:
    decoded = decode(spelt())

    (aggregate,) = decoded.trades
    assert isinstance(aggregate, AggregateTrade)
    assert (aggregate.trade_id, aggregate.last_trade_id, aggregate.aggregate_id) == (
        100,
        105,
        12345,
    )
    assert (aggregate.symbol, aggregate.price, aggregate.quantity) == (
        "BNBBTC",
        Decimal("0.001"),
        Decimal(100),
    )
    assert (aggregate.time, aggregate.event_time, aggregate.is_buyer_maker) == (
        START,
        START + 3,
        True,
    )
    assert decoded == Decoded(trades=decoded.trades)


@pytest.mark.parametrize(
    "payload",
    [
        spelt(M=None, nq="99", st=1),
        spelt(M=None, nq=None, st=2, new={"nested": [1]}),
        json.dumps(json.loads(spelt())["data"]).encode(),
        spelt(T=START * 1_000 + 5, E=(START + 3) * 1_000),
        json.dumps(json.loads(spelt()), indent=1).encode(),
    ],
    ids=["usdm", "coinm", "without the wrapper", "microseconds", "indented"],
)
def test_it_is_the_same_however_a_market_spells_it(payload: bytes) -> None:
    assert decode(payload, spelt()).trades == decode(spelt()).trades * 2


@pytest.mark.parametrize(
    "changes", [{"f": -1, "l": -1, "p": "0", "q": "0"}, {"p": "0"}, {"q": "0.00"}, {"f": -1}]
)
def test_what_the_exchange_has_marked_as_none_is_left_out_and_counted(
    changes: dict[str, Any],
) -> None:
    decoded = decode(spelt(), spelt(**changes), spelt(106, 106))

    assert [trade.trade_id for trade in decoded.trades] == [100, 106]
    assert decoded.invalid_count == 1
    assert not decoded.bad
    assert not decoded.unknown


@pytest.mark.parametrize(
    ("changes", "known_id"),
    [
        ({"f": 106}, 105),
        ({"l": 100_100}, 100_100),
        ({"l": 2**63 - 2}, 2**63 - 2),
        ({"p": "NaN"}, 105),
        ({"q": "-1"}, 105),
        ({"l": None}, None),
        ({"f": None}, 105),
        ({"a": -1}, 105),
        ({"l": 2**63 - 1}, None),
        ({"T": START // 1_000}, 105),
        ({"q": "1_00"}, 105),
    ],
)
def test_one_that_cannot_be_is_bad_with_its_last_id(
    changes: dict[str, Any], known_id: int | None
) -> None:
    decoded = decode(spelt(), spelt(**changes), spelt())

    assert len(decoded.trades) == 2
    assert len(decoded.bad) == 1
    assert decoded.unusable == [("BNBBTC", known_id)]
    assert decoded.invalid_count == 0


def test_an_aggregate_of_very_many_trades_is_believed() -> None:
    (aggregate,) = decode(spelt(100, 100_099)).trades

    assert isinstance(aggregate, AggregateTrade)
    assert aggregate.last_trade_id == 100_099


def test_a_single_trade_is_nothing_that_was_subscribed() -> None:
    trade = message(make_trade(1))

    assert decode(spelt(), trade) == Decoded(trades=decode(spelt()).trades, unknown=[trade])


@given(st.lists(st.binary(max_size=30) | st.sampled_from([spelt(), spelt(-1, -1)]), max_size=8))
def test_no_bytes_go_unnoticed(payloads: list[bytes]) -> None:
    decoded = decode(*payloads)

    noticed = len(decoded.trades) + len(decoded.unknown) + len(decoded.bad)
    assert noticed + decoded.invalid_count == len(payloads)


def test_a_recorded_session_of_spot_covers_every_trade_once() -> None:
    session = recorded("spot_aggtrade_20210404/BINANCE-ee25be.0.2021-04-04.8980a80.gz")
    lines = gzip.decompress(session.read_bytes()).split(b"\n")
    frames = [line.partition(b": ")[2] for line in lines if b': {"stream"' in line]

    decoded = decode(*frames)

    aggregates = [each for each in decoded.trades if isinstance(each, AggregateTrade)]
    counts = [each.last_trade_id - each.trade_id + 1 for each in aggregates]
    assert (len(aggregates), sum(counts)) == (1_910, 2_142)
    assert len(decoded.unknown) == len(frames) - 1_910, "klines and depth"
    assert decoded.bad == []
    for symbol in ("BTCUSDT", "ETHUSDT", "DOTUSDT"):
        own = [each for each in aggregates if each.symbol == symbol]
        assert all(b.trade_id == a.last_trade_id + 1 for a, b in pairwise(own))


def frames_of(path: Path) -> list[dict[str, Any]]:
    """Return the messages of a recorded session: lines of a time and a frame."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line.partition(": ")[2]) for line in lines if ': {"stream"' in line]


@pytest.mark.parametrize(
    ("name", "is_dense"),
    [
        ("usdm_aggtrade_kline_20210722.txt", False),
        ("coinm_aggtrade_kline_20210722.txt", False),
        ("us_aggtrade_kline_20211012.txt", True),
    ],
)
def test_recorded_sessions_of_each_market_are_read_whole(name: str, is_dense: bool) -> None:
    frames = [each for each in frames_of(sample(name)) if each["data"]["e"] == "aggTrade"]

    decoded = decode(*(json.dumps(frame).encode() for frame in frames))

    assert len(decoded.trades) == len(frames) > 10
    assert not decoded.bad
    assert not decoded.unknown
    assert not decoded.invalid_count
    numbers: dict[str, int] = defaultdict(int)
    last_ids: dict[str, int] = {}
    for each in decoded.trades:
        assert isinstance(each, AggregateTrade)
        assert each.aggregate_id == numbers.get(each.symbol, each.aggregate_id - 1) + 1
        numbers[each.symbol] = each.aggregate_id
        if is_dense and each.symbol in last_ids:
            assert each.trade_id == last_ids[each.symbol] + 1
        last_ids[each.symbol] = each.last_trade_id
