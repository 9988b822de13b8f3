"""Recorded lists of symbols, answered to the running collector: what it collects, and warns of."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.testing.exchange_simulator import ExchangeSimulator
from tests.end_to_end.collector import Collector
from tests.recordings import recorded

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.end_to_end.collector import Sections

CHINESE = "币安人生USDT"
"""As spot has listed since; of 2021 it had no name like that."""
ALWAYS = 1_000_000


def spot_body() -> dict[str, Any]:
    """Return the list of spot of 2021-10-12, with one name that is not ASCII added."""
    body = _body("spot_api.binance.com_20211012.json.gz")
    assert len(body["symbols"]) == 1_695
    body["symbols"].append({**body["symbols"][0], "symbol": CHINESE, "baseAsset": "币安人生"})
    return body


def usdm_body() -> dict[str, Any]:
    """Return the list of USD-M of 2021-07-21."""
    body = _body("usdm_fapi_20210721.json.gz")
    assert len(body["symbols"]) == 122
    return body


def _body(name: str) -> dict[str, Any]:
    path = recorded(f"exchange_info/{name}")
    body: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return body


def statuses(body: dict[str, Any]) -> dict[str, str]:
    return {row["symbol"]: row["status"] for row in body["symbols"]}


def traded(body: dict[str, Any], *endings: str) -> set[str]:
    """Return the symbols that are traded, by how they end."""
    return {
        symbol
        for symbol, status in statuses(body).items()
        if status == "TRADING" and symbol.endswith(endings)
    }


def exchange_of(body: dict[str, Any], market: str) -> ExchangeSimulator:
    """Return an exchange that has those symbols and answers their list as it was recorded."""
    exchange = ExchangeSimulator(statuses(body), market=market)
    said = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    exchange.rest_answer(200, {}, said, ALWAYS, path="/exchangeInfo")
    return exchange


def collecting(include: str, exclude: str = "", market: str = "spot") -> Sections:
    return {
        "binance": {"market": market},
        "symbols": {"include": include, "exclude": exclude},
        "audit": {"enabled": "no"},
        "proof": {"every": "1h"},
    }


def subscribed(exchange: ExchangeSimulator) -> set[str]:
    return {stream for client in exchange.connections for stream in client.streams}


def streams_of(symbols: Iterable[str]) -> set[str]:
    return {f"{symbol.lower()}@trade" for symbol in symbols}


def wait_until_collected(
    collector: Collector, exchange: ExchangeSimulator, symbols: set[str]
) -> dict[str, dict[str, Any]]:
    """Wait for the streams of exactly those symbols; return what `symbols --json` says of each."""
    wanted = streams_of(symbols)
    collector.wait_until(
        lambda: subscribed(exchange) == wanted,
        lambda: f"not the same: {sorted(subscribed(exchange) ^ wanted)}",
    )
    done = collector.command("symbols", "--json")
    assert done.returncode == 0, done.stderr
    return {row["symbol"]: row for row in json.loads(done.stdout)}


def warned_of(collector: Collector, event: str) -> list[dict[str, Any]]:
    found = [each for each in collector.events if each.get("event") == event]
    assert all(each["level"] == "WARNING" for each in found)
    return found


def assert_has_a_bar_of(collector: Collector, exchange: ExchangeSimulator, symbol: str) -> None:
    trade = exchange.publish(symbol, "0.1234", "5")
    collector.wait_until(
        lambda: (symbol, trade.time_ms // 10_000 * 10_000) in collector.bars(),
        lambda: f"there is no bar of {symbol}",
    )


def test_patterns_take_of_spot_s_list_what_is_traded_and_names_of_what_is_not_warn(
    tmp_path: Path,
) -> None:
    body = spot_body()
    chosen = traded(body, "DOWNUSDT", "TRY") - {"BTCDOWNUSDT", "BTCTRY"}
    chosen |= {"BTCUSDT", CHINESE}
    sections = collecting(
        "*DOWNUSDT *TRY *BULLUSDT 币安* BTCUSDT BCCBTC", exclude="BTCDOWNUSDT BTCTRY"
    )
    with (
        exchange_of(body, "spot") as exchange,
        Collector(tmp_path, exchange, sections) as collector,
    ):
        collector.start()
        found = wait_until_collected(collector, exchange, chosen)
        assert_has_a_bar_of(collector, exchange, CHINESE)

        assert len(chosen) == 19 + 27 + 2
        assert found.keys() == chosen
        assert all(row["is_collected"] and row["status"] == "TRADING" for row in found.values())
        for symbol, why in (
            (CHINESE, "币安*"),
            ("BTCUSDT", "BTCUSDT"),
            ("ETHTRY", "*TRY"),
            ("ETHDOWNUSDT", "*DOWNUSDT"),
        ):
            assert found[symbol]["why"] == why
        (halted,) = warned_of(collector, "symbol_halted")
        assert (halted["symbol"], halted["status"], halted["is_collected"]) == (
            "BCCBTC",
            "BREAK",
            False,
        )
        (unmatched,) = warned_of(collector, "pattern_unmatched")
        assert "*BULLUSDT" in unmatched["message"], "all five of them are delisted"
        assert collector.stop() == 0


def test_patterns_take_of_the_list_of_usdm_what_is_traded_and_a_name_what_is_to_come(
    tmp_path: Path,
) -> None:
    body = usdm_body()
    chosen = traded(body, "_210924", "BUSD", "STUSDT") | {"BTCUSDT"}
    assert "BTCSTUSDT" not in chosen
    with exchange_of(body, "usdm") as exchange:
        by_pattern = collecting("*_2109?? *BUSD *STUSDT BTCUSDT", market="usdm")
        with Collector(tmp_path, exchange, by_pattern) as collector:
            collector.start()
            found = wait_until_collected(collector, exchange, chosen)
            assert found.keys() == chosen
            assert_has_a_bar_of(collector, exchange, "BTCUSDT_210924")
            assert not warned_of(collector, "symbol_halted")
            assert collector.stop() == 0

            collector.configure(collecting("BTCUSDT BTCSTUSDT", market="usdm"))
            collector.start()
            found = wait_until_collected(collector, exchange, {"BTCUSDT", "BTCSTUSDT"})
            assert (found["BTCSTUSDT"]["is_collected"], found["BTCSTUSDT"]["status"]) == (
                True,
                "PENDING_TRADING",
            )
            (halted,) = warned_of(collector, "symbol_halted")
            assert (halted["symbol"], halted["is_collected"]) == ("BTCSTUSDT", True)
            assert collector.stop() == 0


@pytest.mark.parametrize(
    ("market", "name", "nearest"),
    [("spot", "BTCUSDC1", "BTCUSDC"), ("usdm", "BTCUSDT_210925", "BTCUSDT_210924")],
)
def test_a_name_that_no_recorded_list_has_is_refused_with_the_nearest_ones(
    tmp_path: Path, market: str, name: str, nearest: str
) -> None:
    body = spot_body() if market == "spot" else usdm_body()
    sections = collecting(f"BTCUSDT {name}", market=market)
    with (
        exchange_of(body, market) as exchange,
        Collector(tmp_path, exchange, sections) as collector,
    ):
        collector.start()

        assert collector.wait() == 2
        assert f"{name} is not listed by the exchange; did you mean {nearest}" in collector.log
