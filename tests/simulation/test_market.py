"""What the exchange of a world has of each market, on its streams and over REST."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.exchange.binance.markets import MARKETS
from bintrades.model import AggregateTrade, ExcludedId, IdLaw
from tests.simulation.kinds import KINDS_FROM, SPOT_TRADES, TURNS, Kind, kind_of
from tests.simulation.klines import klines
from tests.simulation.market import Tape, by_interval, payload
from tests.simulation.schedule import START_MS, make_schedule

if TYPE_CHECKING:
    from bintrades.model import Trade

FUTURES = Kind("usdm", "trade", IdLaw.WITH_FILLERS, has_key=False, fillers=0.2, recent_rows=50)
FUTURES_AGGREGATES = replace(FUTURES, stream="aggTrade")
SPOT_AGGREGATES = Kind("spot", "aggTrade")
SEEDS = range(12)


def tape_of(seed: int, kind: Kind) -> Tape:
    """Return the trades of a minute of a symbol."""
    rng = random.Random(seed)
    schedule = replace(make_schedule(seed, rng), kind=kind)
    return Tape("BTCUSDT", schedule, START_MS, START_MS + 60_000, rng)


def message_of(trade: Trade, kind: Kind) -> dict[str, Any]:
    """Return what a stream says of *trade*."""
    message: dict[str, Any] = json.loads(payload(trade, kind))
    assert message["stream"] == f"btcusdt@{kind.stream}"
    data: dict[str, Any] = message["data"]
    return data


def test_seeds_of_before_are_worlds_of_spot_and_its_trades() -> None:
    assert {kind_of(seed) for seed in (0, 159, 1_000_000, 2**31)} == {SPOT_TRADES}


def test_above_every_kind_has_its_turn() -> None:
    kinds = [kind_of(seed) for seed in range(KINDS_FROM, KINDS_FROM + TURNS)]

    assert {kind.market for kind in kinds} <= set(MARKETS)
    assert kinds == [kind_of(seed) for seed in range(KINDS_FROM, KINDS_FROM + TURNS)]


@pytest.mark.parametrize("seed", SEEDS)
def test_of_futures_the_stream_has_ids_that_are_no_trades(seed: int) -> None:
    tape = tape_of(seed, FUTURES)
    excluded = {each.trade_id for each in tape.records if isinstance(each, ExcludedId)}

    assert {each.trade_id for each in tape.records} == {*tape.ids} | excluded
    assert not excluded & {*tape.ids}
    assert not isinstance(tape.records[-1], ExcludedId)
    for each in tape.records:
        kind = message_of(each, FUTURES).get("X")
        assert (kind in ("MARKET", "RPI", None)) is (each.trade_id not in excluded)


def test_some_of_them_are_in_a_row_and_most_have_no_price() -> None:
    records = [each for seed in SEEDS for each in tape_of(seed, FUTURES).records]
    excluded = [isinstance(each, ExcludedId) for each in records]
    kinds = {message_of(each, FUTURES)["X"] for each in records if isinstance(each, ExcludedId)}

    assert any(all(pair) for pair in pairwise(excluded))
    assert kinds >= {"NA", "INSURANCE_FUND", "ADL", "SOMETHING_NEW"}
    assert all(
        (each.price == 0) is (message_of(each, FUTURES)["p"] == "0")
        for each in records
        if isinstance(each, ExcludedId)
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", [SPOT_AGGREGATES, FUTURES_AGGREGATES], ids=lambda kind: kind.name)
def test_aggregates_have_each_trade_once_in_the_order_of_ids(seed: int, kind: Kind) -> None:
    tape = tape_of(seed, kind)
    published = [each for each in tape.stream if isinstance(each, AggregateTrade)]

    assert [t.trade_id for each in tape.aggregates for t in each.trades] == tape.ids
    assert len(published) == len(tape.aggregates) == len(tape.stream)
    assert all(later.trade_id > earlier.last_trade_id for earlier, later in pairwise(published))
    assert all(
        later.aggregate_id == earlier.aggregate_id + 1 for earlier, later in pairwise(published)
    )
    quantity = sum((each.quantity for each in published), Decimal(0))
    assert quantity == sum((trade.quantity for trade in tape.trades), Decimal(0))


def test_of_spot_they_have_one_time_and_every_id_and_of_futures_neither() -> None:
    spot = [each for seed in SEEDS for each in tape_of(seed, SPOT_AGGREGATES).aggregates]
    futures = [each for seed in SEEDS for each in tape_of(seed, FUTURES_AGGREGATES).aggregates]

    for each in spot:
        assert each.trades[-1].trade_id - each.trades[0].trade_id + 1 == len(each.trades)
        assert len({trade.time for trade in each.trades}) == 1
    assert any(len({trade.time for trade in each.trades}) > 1 for each in futures)
    assert any(
        each.trades[-1].trade_id - each.trades[0].trade_id + 1 > len(each.trades)
        for each in futures
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", [SPOT_TRADES, FUTURES], ids=lambda kind: kind.name)
def test_klines_are_the_sums_over_the_trades(seed: int, kind: Kind) -> None:
    tape = tape_of(seed, kind)
    if not tape.trades:
        return

    rows = klines(tape, kind, "1s", (START_MS - 1_000, START_MS + 59_999), START_MS + 10**6, 1_000)

    traded = by_interval(tape.trades, 1_000)
    assert {int(row[0]): row[8] for row in rows if row[8]} == {
        time: len(trades) for time, trades in traded.items()
    }
    for row in rows:
        trades = traded.get(int(row[0]), [])
        assert Decimal(row[5]) == sum((trade.quantity for trade in trades), Decimal(0))
        if trades:
            assert (Decimal(row[1]), Decimal(row[4])) == (trades[0].price, trades[-1].price)
    assert all(int(later[0]) - int(earlier[0]) == 1_000 for earlier, later in pairwise(rows))
