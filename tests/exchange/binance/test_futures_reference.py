"""Single trades of a span of futures: of the newest, by id with a key, around other ids."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from bintrades.errors import ExchangeError, NotToldError
from bintrades.exchange.binance.budget import Budget
from bintrades.exchange.binance.futures_reference import FuturesReference
from bintrades.exchange.binance.market import Klines
from bintrades.exchange.binance.markets import MARKETS
from bintrades.exchange.binance.rest import RestClient
from tests.canned_rest import CannedRest, canned_rest
from tests.networks import system_network

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bintrades.model import TradeRange

USDM = MARKETS["usdm"]
KEY = "aKeyOfLetters123"
BTC = "BTCUSDT"
AGES_AGO = 600_000
"""The newest trade of the worlds is so old: it has long been said that it is the newest."""


class Market:
    """Trades with ids from 1,500 on, some of which are fillers, served as futures serve them."""

    def __init__(self, exchange: CannedRest, seed: int, count: int = 9_000) -> None:
        rng = random.Random(seed)
        times = sorted(rng.randrange(count * 20) for _ in range(count))
        self.start_ms = (int(time.time()) * 1_000) - AGES_AGO - times[-1]
        self.trades = [
            (1_500 + number, self.start_ms + at)
            for number, at in enumerate(times)
            if rng.random() > 0.1 or number == count - 1
        ]
        self.most_rows = 500  # of a page by id: fewer where the records lag
        exchange.serve(USDM.recent_trades.path, self._recent)
        exchange.serve(USDM.historical_trades.path, self._by_id)
        exchange.serve(USDM.aggregate_trades.path, self.aggregates)
        exchange.serve(
            USDM.newest_ids.path, lambda _: {"symbol": BTC, "lastId": self.trades[-1][0]}
        )

    def ids(self, since: int, until: int) -> list[int]:
        """Return the ids of a span, times since the first trade."""
        return [trade_id for trade_id, at in self.trades if since <= at - self.start_ms < until]

    def _recent(self, params: dict[str, str]) -> object:
        return [_row(*each) for each in self.trades[-int(params["limit"]) :]]

    def _by_id(self, params: dict[str, str]) -> object:
        first = int(params["fromId"])
        assert int(params["limit"]) == 500
        rows = [_row(*each) for each in self.trades if first <= each[0] < first + 500]
        return rows[: self.most_rows]

    def aggregates(self, params: dict[str, str]) -> object:
        """Return a page of aggregates, of one trade each, from a time on."""
        rows = [each for each in self.trades if each[1] >= int(params["startTime"])]
        return [
            {"a": n, "p": "1", "q": "1", "nq": "1", "f": n, "l": n, "T": at, "m": True}
            for n, at in rows[:1_000]
        ]


def _row(trade_id: int, at: int) -> dict[str, object]:
    return {
        "id": trade_id,
        "price": "1.5",
        "qty": "2",
        "quoteQty": "3.00",
        "time": at,
        "isBuyerMaker": True,
        "isRPITrade": False,
    }


@pytest.fixture
def exchange() -> Iterator[CannedRest]:
    with canned_rest() as canned:
        yield canned


def reference_of(exchange: CannedRest, key: str = KEY) -> FuturesReference:
    """Return the records of the market."""
    assert USDM.klines is not None
    rest = RestClient(exchange.url, USDM, system_network(), api_key=key)
    return FuturesReference(rest, USDM.klines, Budget(2_400, 100), lambda: 0)


def ids_of(trades: Sequence[TradeRange] | None) -> list[int]:
    assert trades is not None
    assert all(each.first_id == each.last_id for each in trades)
    return [each.first_id for each in trades]


@pytest.mark.parametrize("seed", range(6))
def test_every_trade_of_a_span_is_had_and_no_other(exchange: CannedRest, seed: int) -> None:
    market = Market(exchange, seed)
    reference = reference_of(exchange)
    rng = random.Random(seed)

    for since in (0, rng.randrange(100_000), 150_000, 170_000, 179_000, 500_000):
        until = since + rng.choice([10, 10_000, 40_000])
        found = reference.trades_between(
            BTC, market.start_ms + since, market.start_ms + until, lambda _weight: True
        )
        assert ids_of(found) == market.ids(since, until)


def test_what_the_newest_trades_reach_takes_no_key_and_little_weight(exchange: CannedRest) -> None:
    market = Market(exchange, 1, count=900)
    weights: list[int] = []

    def may_ask(weight: int) -> bool:
        weights.append(weight)
        return True

    found = reference_of(exchange, key="").trades_between(
        BTC, market.start_ms + 9_000, market.start_ms + 10_000, may_ask
    )

    assert ids_of(found) == market.ids(9_000, 10_000)
    assert weights == [5]


def test_that_none_is_left_out_before_the_newest_takes_a_trade_from_well_before(
    exchange: CannedRest,
) -> None:
    market = Market(exchange, 1)
    first = market.trades[-1_000][1]
    span = first + 1, first + 5_000

    with pytest.raises(NotToldError):
        reference_of(exchange, key="").trades_between(BTC, *span, lambda _weight: True)


def test_trades_that_aggregates_leave_out_at_the_beginning_are_had_by_id(
    exchange: CannedRest,
) -> None:
    market = Market(exchange, 1)
    span = market.start_ms + 40_000, market.start_ms + 60_000
    late = market.start_ms + 58_000
    exchange.serve(
        USDM.aggregate_trades.path, lambda _: market.aggregates({"startTime": str(late)})
    )

    found = reference_of(exchange).trades_between(BTC, *span, lambda _weight: True)

    assert ids_of(found) == market.ids(40_000, 60_000)


def test_trades_that_a_page_lacks_at_its_end_are_in_the_next_one(exchange: CannedRest) -> None:
    market = Market(exchange, 4)
    market.most_rows = 90
    since, until = 20_000, 40_000
    span = market.start_ms + since, market.start_ms + until

    trades = reference_of(exchange).trades_between(BTC, *span, lambda _: True)

    assert ids_of(trades) == market.ids(since, until)


@pytest.mark.parametrize("most_rows", [0, 1])
def test_a_page_without_a_trade_is_an_outage_and_no_fillers(
    exchange: CannedRest, most_rows: int
) -> None:
    market = Market(exchange, 4)
    market.most_rows = most_rows
    span = market.start_ms + 20_000, market.start_ms + 40_000

    with pytest.raises(ExchangeError, match="as in an outage"):
        reference_of(exchange).trades_between(BTC, *span, lambda _: True)

    assert len(exchange.asked) <= 12


def test_older_trades_take_a_key_and_that_is_said(exchange: CannedRest) -> None:
    market = Market(exchange, 1)
    span = market.start_ms + 10_000, market.start_ms + 20_000

    with pytest.raises(NotToldError, match=r"set \[binance\] api_key"):
        reference_of(exchange, key="").trades_between(BTC, *span, lambda _weight: True)

    assert [asked.headers["X-MBX-APIKEY"] for asked in exchange.asked] == [None]
    reference_of(exchange).trades_between(BTC, *span, lambda _weight: True)
    assert {asked.path for asked in exchange.asked if asked.headers["X-MBX-APIKEY"]} == {
        USDM.historical_trades.path
    }


@pytest.mark.parametrize(
    ("path", "code"),
    [(USDM.historical_trades.path, -2015), (USDM.aggregate_trades.path, -4166)],
)
def test_what_is_refused_for_its_age_or_its_key_is_not_asked_for_again(
    exchange: CannedRest, path: str, code: int
) -> None:
    market = Market(exchange, 1)
    exchange.put(path, f'{{"code":{code},"msg":"No."}}', status=400)

    with pytest.raises(NotToldError, match=str(code)):
        reference_of(exchange).trades_between(
            BTC, market.start_ms, market.start_ms + 1_000, lambda _weight: True
        )


@pytest.mark.parametrize("allowed", range(5))
def test_no_request_is_made_that_may_not_be(exchange: CannedRest, allowed: int) -> None:
    market = Market(exchange, 1)
    left = [True] * allowed

    found = reference_of(exchange).trades_between(
        BTC, market.start_ms, market.start_ms + 100_000, lambda _: bool(left) and left.pop()
    )

    assert found is None
    assert len(exchange.asked) == allowed


@pytest.mark.parametrize("path", [USDM.recent_trades.path, USDM.aggregate_trades.path])
def test_an_empty_answer_is_no_proof_that_there_were_no_trades(
    exchange: CannedRest, path: str
) -> None:
    market = Market(exchange, 1)
    exchange.put(path, "[]")

    with pytest.raises(ExchangeError, match=r"not proven|disagree|no trade at all"):
        reference_of(exchange).trades_between(
            BTC, market.start_ms, market.start_ms + 1_000, lambda _weight: True
        )


@pytest.mark.parametrize(
    ("minutes", "limit", "weight"),
    [(1, "99", 1), (99, "99", 1), (100, "499", 2), (9_999, "499", 2)],
)
def test_klines_are_asked_for_by_as_many_as_weigh_no_more(
    exchange: CannedRest, minutes: int, limit: str, weight: int
) -> None:
    exchange.put("/fapi/v1/klines", "[]")
    reference = reference_of(exchange)

    assert reference.klines(BTC, 60_000, 0, minutes * 60_000) == []
    assert exchange.asked[0].params["limit"] == limit
    assert reference.klines_weight(60_000, 0, minutes * 60_000) == weight
    assert reference.kline_intervals_ms == (60_000,)


def test_klines_whose_weight_is_always_the_same_are_asked_for_by_the_page() -> None:
    klines = MARKETS["spot"].klines

    assert isinstance(klines, Klines)
    assert [klines.limit(rows) for rows in (1, 5_000)] == [1_000, 1_000]
    assert [klines.weight(rows) for rows in (1, 5_000)] == [2, 2]
