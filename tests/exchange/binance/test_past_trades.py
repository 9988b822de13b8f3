"""Past trades as REST answers them, and answers that must not be believed."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.exchange.binance.backfill_plan import Aggregate, AggregatesRequest, TradesRequest
from bintrades.exchange.binance.markets import MARKETS
from bintrades.exchange.binance.past_trades import PastTrades
from bintrades.exchange.binance.rest import RestClient, RestError
from bintrades.model import Gap, GapCause, TradeRange
from bintrades.testing.exchange_simulator import ExchangeSimulator
from tests.networks import system_network

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = 1_723_118_400_000
SPOT = MARKETS["spot"]
GAP = Gap(1, 10, NOON, NOON, GapCause.RESTART)
SYMBOL = "BTCUSDT"


@pytest.fixture(scope="module")
def exchange() -> Iterator[ExchangeSimulator]:
    """Return an exchange with trades 1 and 2 of one taker, 3 of another, 6 after a hole."""
    with ExchangeSimulator() as simulator:
        simulator.record(SYMBOL, "60000.10", "0.1", time_ms=NOON)
        simulator.record(SYMBOL, "60000.10", "0.2", time_ms=NOON)
        simulator.record(SYMBOL, "60000.10", "0.4", time_ms=NOON, buyer_is_maker=True)
        simulator.skip_ids(SYMBOL, 2)
        simulator.record(SYMBOL, "0.00000001", "8", time_ms=NOON + 5_000)
        yield simulator


@pytest.fixture(scope="module")
def history(exchange: ExchangeSimulator) -> Iterator[PastTrades]:
    with RestClient(exchange.rest_url, SPOT, system_network()) as rest:
        yield PastTrades(rest, SPOT)


def trades_task(from_id: int = 1, limit: int = 1_000) -> TradesRequest:
    return TradesRequest(SYMBOL, GAP, from_id, limit)


def aggregates_task(from_id: int | None = None, start_ms: int | None = None) -> AggregatesRequest:
    return AggregatesRequest(SYMBOL, GAP, from_id, start_ms)


def trade_row(trade_id: int, **changes: Any) -> dict[str, Any]:
    row = {"id": trade_id, "price": "1.5", "qty": "2", "quoteQty": "3", "time": NOON}
    return {**row, "isBuyerMaker": False, "isBestMatch": True, **changes}


def aggregate_row(aggregate_id: int, first: int, last: int, **changes: Any) -> dict[str, Any]:
    row = {"a": aggregate_id, "p": "1.5", "q": "2", "f": first, "l": last, "T": NOON}
    return {**row, "m": False, "M": True, **changes}


def answer(exchange: ExchangeSimulator, *rows: object) -> None:
    exchange.rest_answer(200, body=json.dumps(rows))


def test_trades_come_by_id_exactly_as_they_were(history: PastTrades) -> None:
    assert history.trades(trades_task(2)) == [
        TradeRange(2, 2, Decimal("60000.10"), Decimal("0.2"), NOON, False),
        TradeRange(3, 3, Decimal("60000.10"), Decimal("0.4"), NOON, True),
        TradeRange(6, 6, Decimal("0.00000001"), Decimal(8), NOON + 5_000, False),
    ]


def test_no_more_trades_are_asked_for_than_the_task_says(
    exchange: ExchangeSimulator, history: PastTrades
) -> None:
    assert [each.first_id for each in history.trades(trades_task(1, limit=2))] == [1, 2]
    request = exchange.rest_requests[-1]
    assert request.path == "/api/v3/historicalTrades"
    assert request.query == {"symbol": SYMBOL, "fromId": "1", "limit": "2"}


def test_aggregates_come_as_ranges_of_ids(history: PastTrades) -> None:
    first, second, third = history.aggregates(aggregates_task(start_ms=NOON))

    assert first.trades == TradeRange(1, 2, Decimal("60000.10"), Decimal("0.3"), NOON, False)
    assert [
        (each.trades.first_id, each.trades.last_id) for each in (second, third) if each.trades
    ] == [
        (3, 3),
        (6, 6),
    ]
    assert first.id < second.id < third.id


def test_aggregates_are_asked_for_by_their_id_or_by_time_and_never_by_both(
    exchange: ExchangeSimulator, history: PastTrades
) -> None:
    second = history.aggregates(aggregates_task(start_ms=NOON))[1]

    assert history.aggregates(aggregates_task(second.id, start_ms=NOON))[0] == second
    by_time, by_id = exchange.rest_requests[-2:]
    assert by_time.query == {"symbol": SYMBOL, "startTime": str(NOON), "limit": "1000"}
    assert by_id.query == {"symbol": SYMBOL, "fromId": str(second.id), "limit": "1000"}


def test_a_second_look_at_the_first_of_all_takes_few_rows(
    exchange: ExchangeSimulator, history: PastTrades
) -> None:
    history.aggregates(AggregatesRequest(SYMBOL, GAP, 0, None, is_second_look=True))

    assert exchange.rest_requests[-1].query == {"symbol": SYMBOL, "fromId": "0", "limit": "2"}


def test_aggregates_marked_invalid_have_no_trades_but_keep_their_place(
    exchange: ExchangeSimulator, history: PastTrades
) -> None:
    answer(
        exchange,
        aggregate_row(10, -1, -1, p="0", q="0"),
        aggregate_row(11, 4, 6),
        aggregate_row(12, 7, 7, p="0.00000000"),
    )

    rows = history.aggregates(aggregates_task(1))

    assert [row.id for row in rows] == [10, 11, 12]
    assert [row.trades is None for row in rows] == [True, False, True]
    assert isinstance(rows[0], Aggregate)


def test_trades_that_cost_nothing_and_trades_before_the_asked_one_are_left_out(
    exchange: ExchangeSimulator, history: PastTrades
) -> None:
    answer(exchange, trade_row(3), trade_row(5), trade_row(6, price="0"), trade_row(7, qty="0.0"))

    assert [each.first_id for each in history.trades(trades_task(4))] == [5]


BAD_NUMBERS = [
    *("NaN", "sNaN", "Infinity", "-1", "1E+19", "1E-19", "1E+999999", "1." + "3" * 2_000),
    *(
        "1_000",
        " 7 ",
        "7\n",
        "\u0661",
        "\uff17",
        "7\u00a0",
        "..",
        "1e",
        "",
        "1E+9999999999999999999",
    ),
]
BAD_FIELDS: list[dict[str, Any]] = [
    *({"price": text} for text in BAD_NUMBERS),
    *({"qty": text} for text in BAD_NUMBERS),
    {"price": "1,5"},
    {"price": None},
    {"id": -1},
    {"id": 2**63 - 1},
    {"id": "5"},
    {"time": NOON // 1000},
    {"time": NOON * 100},
    {"time": NOON * 1_000_000},
    {"time": None},
    {"isBuyerMaker": "no"},
]


@pytest.mark.parametrize("changes", BAD_FIELDS, ids=str)
def test_a_trade_that_cannot_be_spoils_the_answer_and_is_never_taken_for_absent(
    exchange: ExchangeSimulator, history: PastTrades, changes: dict[str, Any]
) -> None:
    answer(exchange, trade_row(1), {**trade_row(2), **changes})

    with pytest.raises(RestError):
        history.trades(trades_task())


@pytest.mark.parametrize(
    "row",
    [
        *(aggregate_row(11, 5, 5, p=text) for text in BAD_NUMBERS),
        aggregate_row(11, 6, 5),
        aggregate_row(11, -2, 5),
        aggregate_row(11, 5, 2**63 - 1),
        aggregate_row(11, 5, 100_005),
        aggregate_row(-1, 5, 5),
        aggregate_row(11, 5, 5, T=1),
        aggregate_row(10, 5, 5),
        aggregate_row(11, 4, 5),
        {"a": 11},
        "a string",
        None,
    ],
    ids=str,
)
def test_an_aggregate_that_cannot_be_spoils_the_answer(
    exchange: ExchangeSimulator, history: PastTrades, row: object
) -> None:
    answer(exchange, aggregate_row(10, 4, 4), row)

    with pytest.raises(RestError):
        history.aggregates(aggregates_task(1))


def test_times_in_microseconds_are_rounded_down_to_milliseconds(
    exchange: ExchangeSimulator, history: PastTrades
) -> None:
    answer(exchange, trade_row(1, time=NOON * 1_000 + 999), trade_row(2, time=NOON + 1))
    assert [each.time for each in history.trades(trades_task())] == [NOON, NOON + 1]

    answer(exchange, aggregate_row(10, 4, 4, T=NOON * 1_000 + 999))
    (row,) = history.aggregates(aggregates_task(1))
    assert row.trades is not None
    assert row.trades.time == NOON


@pytest.mark.parametrize("ids", [(1, 2, 3), (3, 1, 2), (2, 1, 3, 2, 2)])
def test_trades_may_come_in_any_order_and_twice(
    exchange: ExchangeSimulator, history: PastTrades, ids: tuple[int, ...]
) -> None:
    answer(exchange, *map(trade_row, ids))

    assert [each.first_id for each in history.trades(trades_task())] == [1, 2, 3]


@pytest.mark.parametrize("ids", [(10, 11, 12), (12, 10, 11), (11, 12, 10, 12, 11)])
def test_aggregates_may_come_in_any_order_and_twice(
    exchange: ExchangeSimulator, history: PastTrades, ids: tuple[int, ...]
) -> None:
    rows = {10: aggregate_row(10, 1, 3), 11: aggregate_row(11, -1, -1), 12: aggregate_row(12, 4, 4)}
    answer(exchange, *(rows[each] for each in ids))

    aggregates = history.aggregates(aggregates_task(1))

    assert [row.id for row in aggregates] == [10, 11, 12]
    assert [row.trades and row.trades.last_id for row in aggregates] == [3, None, 4]


@pytest.mark.parametrize("changes", [{"price": "1.6"}, {"qty": "3"}, {"time": NOON + 1}], ids=str)
def test_two_trades_with_one_id_that_differ_are_not_trusted(
    exchange: ExchangeSimulator, history: PastTrades, changes: dict[str, Any]
) -> None:
    answer(exchange, trade_row(1), trade_row(2), {**trade_row(1), **changes})

    with pytest.raises(RestError, match="BTCUSDT: the answer has trade 1 after 1"):
        history.trades(trades_task())


@pytest.mark.parametrize(
    "rows",
    [
        [aggregate_row(10, 1, 3), aggregate_row(11, 3, 4)],
        [aggregate_row(11, 1, 3), aggregate_row(10, 4, 5)],
        [aggregate_row(10, 1, 3), aggregate_row(10, 4, 5)],
        [aggregate_row(10, 1, 3), aggregate_row(10, 1, 3, q="9")],
        [aggregate_row(10, 1, 3), aggregate_row(10, -1, -1)],
    ],
    ids=str,
)
def test_aggregates_that_overlap_or_differ_are_not_trusted(
    exchange: ExchangeSimulator, history: PastTrades, rows: list[dict[str, Any]]
) -> None:
    answer(exchange, *rows)

    with pytest.raises(RestError, match="BTCUSDT: the answer has"):
        history.aggregates(aggregates_task(1))


@pytest.mark.parametrize(
    "body", ["", "{}", "[", "null", "<html>", '[["a"]]', "\xff", "[" * 100_000]
)
def test_whatever_else_comes_is_an_error_and_never_an_empty_answer(
    exchange: ExchangeSimulator, history: PastTrades, body: str
) -> None:
    exchange.rest_answer(200, body=body.encode("latin-1"), times=2)

    for ask in (
        lambda: history.trades(trades_task()),
        lambda: history.aggregates(aggregates_task(1)),
    ):
        with pytest.raises(RestError):
            ask()


def test_unknown_fields_are_ignored(exchange: ExchangeSimulator, history: PastTrades) -> None:
    answer(exchange, trade_row(1, isRPITrade=True, nq="1"))

    assert len(history.trades(trades_task())) == 1
