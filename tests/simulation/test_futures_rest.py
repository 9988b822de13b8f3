"""What the simulated exchange tells of the past of futures, and what it does not."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from bintrades.model import IdLaw
from tests.simulation.clock import Clock
from tests.simulation.collector import market_of
from tests.simulation.faults import Faults
from tests.simulation.kinds import Kind
from tests.simulation.market import Tape
from tests.simulation.rest import KEY_HEADER, Answer, Rest
from tests.simulation.schedule import START_MS, Fault, make_schedule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bintrades.exchange.binance.market import Endpoint

AT_MS = 25_000
"""When it is asked, after the start of the world."""

SEED = 410  # many trades
REACH_MS = 15_000
FUTURES = Kind("usdm", "trade", IdLaw.WITH_FILLERS, fillers=0.2, recent_rows=30, reach=REACH_MS)
_OPEN = market_of(100, 6_000, FUTURES)
MARKET = replace(_OPEN, historical_trades=replace(_OPEN.historical_trades, needs_key=True))
RECENT = MARKET.recent_trades


def rest_of(*faults: Fault) -> Rest:
    """Return the REST side of a world at AT_MS."""
    rng = random.Random(SEED)
    schedule = replace(make_schedule(SEED, rng), kind=FUTURES)
    clock = Clock(0, 0)
    clock.elapsed = AT_MS
    tape = Tape("BTCUSDT", schedule, START_MS, START_MS + 30_000, rng)
    return Rest(
        [tape],
        MARKET,
        clock,
        Faults(faults, clock, rng),
        rng,
        is_forbidden=False,
        note=lambda _text: None,
        shows_stale=lambda _ids: False,
        kind=FUTURES,
    )


def tape_of(rest: Rest) -> Tape:
    """Return the trades that it answers from."""
    return rest._tapes["BTCUSDT"]


def asked(rest: Rest, endpoint: Endpoint, *, has_key: bool = True, **params: int) -> Answer:
    """Ask for a page."""
    headers: Mapping[str, str] = {KEY_HEADER: "secret"} if has_key else {}
    query = urlencode({"symbol": "BTCUSDT", "limit": 100, **params})
    return rest.get(f"{endpoint.path}?{query}", headers)


def ids_of(answer: Answer) -> list[int]:
    """Return the ids of the trades of an answer."""
    rows: list[dict[str, Any]] = json.loads(answer.body)
    return [row["id"] for row in rows]


def an_id(rest: Rest, ago_ms: int) -> int:
    """Return the first id of a trade of less than that before AT_MS."""
    since = START_MS + AT_MS - ago_ms
    return next(trade.trade_id for trade in tape_of(rest).trades if trade.time >= since)


def test_a_page_of_old_trades_is_a_range_of_ids_with_holes() -> None:
    rest = rest_of()
    first = an_id(rest, 10_000)

    ids = ids_of(asked(rest, MARKET.historical_trades, fromId=first, limit=40))

    assert ids == [each for each in tape_of(rest).ids if first <= each < first + 40]
    assert 20 < len(ids) < 40


def test_old_trades_are_told_to_those_only_who_have_a_key() -> None:
    rest = rest_of()

    answer = asked(rest, MARKET.historical_trades, has_key=False, fromId=an_id(rest, 10_000))

    assert answer.status == 401
    assert json.loads(answer.body)["code"] == -2014


@pytest.mark.parametrize("endpoint", [MARKET.historical_trades, MARKET.aggregate_trades])
def test_what_is_beyond_its_reach_is_refused(endpoint: Endpoint) -> None:
    answer = asked(rest_of(), endpoint, fromId=0)

    assert answer.status == 400
    assert json.loads(answer.body)["code"] == -4166


@pytest.mark.parametrize(("ago_ms", "status"), [(REACH_MS - 1, 200), (REACH_MS + 1, 400)])
def test_a_time_beyond_its_reach_is_refused(ago_ms: int, status: int) -> None:
    start_ms = START_MS + AT_MS - ago_ms

    assert asked(rest_of(), MARKET.aggregate_trades, startTime=start_ms).status == status


def test_the_newest_trades_are_few_and_need_no_key() -> None:
    rest = rest_of()
    newest = [t.trade_id for t in tape_of(rest).trades if t.event_time < START_MS + AT_MS - 30]

    assert ids_of(asked(rest, RECENT, has_key=False)) == newest[-30:]


def test_at_times_they_are_those_of_a_while_ago_or_none() -> None:
    stale = rest_of(Fault("rest", "recent stale", 0, AT_MS + 1, 5_000))
    empty = rest_of(Fault("rest", "recent empty", 0, AT_MS + 1))

    old = [t.trade_id for t in tape_of(stale).trades if t.event_time < START_MS + AT_MS - 5_000]
    assert ids_of(asked(stale, RECENT)) == old[-30:]
    assert ids_of(asked(empty, RECENT)) == []
