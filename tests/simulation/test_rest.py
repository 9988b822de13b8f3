"""What the simulated exchange says of the newest trades, and when it says something old."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from tests.simulation.clock import Clock
from tests.simulation.collector import market_of
from tests.simulation.faults import Faults
from tests.simulation.market import Tape
from tests.simulation.rest import TICKER, Answer, Rest
from tests.simulation.schedule import START_MS, SYMBOLS, Fault, make_schedule

if TYPE_CHECKING:
    from collections.abc import Mapping

AT_MS = 15_000
"""When it is asked, after the start of the world."""

SEEDS = range(20)


def rest_of(seed: int, *faults: Fault, shows_stale: bool = False, has_ticker: bool = True) -> Rest:
    """Return the REST side of a world at AT_MS."""
    rng = random.Random(seed)
    schedule = make_schedule(seed, rng)
    clock = Clock(0, 0)
    clock.elapsed = AT_MS
    tapes = [Tape(name, schedule, START_MS, START_MS + 30_000, rng) for name in SYMBOLS]
    return Rest(
        tapes,
        market_of(1_000, 6_000),
        clock,
        Faults(faults, clock, rng),
        rng,
        is_forbidden=False,
        has_ticker=has_ticker,
        note=lambda _text: None,
        shows_stale=lambda _ids: shows_stale,
    )


def asked(rest: Rest, symbols: list[str] | None = None) -> Answer:
    """Return the answer about *symbols*, or about all."""
    params = {"type": "MINI"}
    if symbols is not None:
        params["symbols"] = json.dumps(symbols, ensure_ascii=False)
    return rest.get(f"{TICKER}?{urlencode(params)}")


def rows_of(answer: Answer) -> Mapping[str, dict[str, Any]]:
    """Return the rows by symbol."""
    return {row["symbol"]: row for row in json.loads(answer.body)}


def ids_before(rest: Rest, symbol: str, ago_ms: int) -> list[int]:
    """Return the ids published longer than that before now, and -1 for none."""
    now = START_MS + AT_MS
    published = [t.trade_id for t in rest._tapes[symbol].trades if t.event_time < now - ago_ms]
    return published or [-1]


@pytest.mark.parametrize("seed", SEEDS)
def test_it_names_the_newest_trade_of_a_moment_ago(seed: int) -> None:
    rest = rest_of(seed)

    rows = rows_of(asked(rest, [*SYMBOLS]))

    assert rows.keys() == set(SYMBOLS)
    for symbol in SYMBOLS:
        assert rows[symbol]["lastId"] >= ids_before(rest, symbol, 300)[-1]
        assert rows[symbol]["lastId"] <= ids_before(rest, symbol, 0)[-1]
        assert rows[symbol]["firstId"] in (-1, rest._tapes[symbol].ids[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_it_lags_by_three_seconds_at_most(seed: int) -> None:
    rest = rest_of(seed, Fault("rest", "ticker lag", 0, AT_MS + 1, 3_000))

    rows = rows_of(asked(rest, [*SYMBOLS]))

    for symbol in SYMBOLS:
        assert rows[symbol]["lastId"] >= ids_before(rest, symbol, 3_000)[-1]


@pytest.mark.parametrize("shows_stale", [False, True])
def test_it_is_stale_only_where_that_can_be_seen(shows_stale: bool) -> None:
    fault = Fault("rest", "stale ticker", 0, AT_MS + 1, 10_000)
    rest = rest_of(1, fault, shows_stale=shows_stale)

    rows = rows_of(asked(rest, [*SYMBOLS]))

    stale = {symbol: ids_before(rest, symbol, 10_000)[-1] for symbol in SYMBOLS}
    assert ({symbol: rows[symbol]["lastId"] for symbol in SYMBOLS} == stale) is shows_stale


@pytest.mark.parametrize("shows_stale", [False, True])
def test_it_stands_still_of_one_symbol_only_where_that_can_be_seen(shows_stale: bool) -> None:
    fault = Fault("rest", "ticker stands still", AT_MS - 10_000, AT_MS + 1, target=1)
    rest = rest_of(1, fault, shows_stale=shows_stale)

    rows = rows_of(asked(rest, [*SYMBOLS]))

    lagging = {name for name in SYMBOLS if rows[name]["lastId"] < ids_before(rest, name, 300)[-1]}
    assert lagging == ({SYMBOLS[1]} if shows_stale else set())
    if shows_stale:
        assert rows[SYMBOLS[1]]["lastId"] == ids_before(rest, SYMBOLS[1], 10_000)[-1]


def test_a_symbol_without_a_trade_within_a_day_has_no_newest_one() -> None:
    rest = rest_of(1)
    rest._clock.elapsed += 86_400_000 + 30_000

    row = rows_of(asked(rest, [SYMBOLS[0]]))[SYMBOLS[0]]

    assert (row["firstId"], row["lastId"], row["count"]) == (-1, -1, 0)


def test_it_costs_what_it_costs_at_the_exchange() -> None:
    rest = rest_of(1)

    named = asked(rest, [SYMBOLS[0]]).headers["X-MBX-USED-WEIGHT-1M"]
    with_all = asked(rest).headers["X-MBX-USED-WEIGHT-1M"]

    assert (named, with_all) == ("2", "82")


def test_of_all_it_names_those_nobody_asked_for_as_well() -> None:
    assert rows_of(asked(rest_of(1))).keys() > set(SYMBOLS)


def test_rows_may_be_left_out() -> None:
    assert rows_of(asked(rest_of(1, Fault("rest", "ticker rows", 0, AT_MS + 1)), [*SYMBOLS])) == {}


@pytest.mark.parametrize(
    ("has_ticker", "symbols", "status"), [(False, [*SYMBOLS], 404), (True, ["NOSUCH"], 400)]
)
def test_a_host_may_not_have_it_and_an_unknown_symbol_is_an_error(
    has_ticker: bool, symbols: list[str], status: int
) -> None:
    assert asked(rest_of(1, has_ticker=has_ticker), symbols).status == status
