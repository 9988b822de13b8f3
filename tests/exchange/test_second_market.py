"""What it takes to add a market or an exchange: docs/ADD_A_MARKET.md, followed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from bintrades.config.loader import load_config
from bintrades.core.aggregator import Aggregator
from bintrades.errors import ConfigError
from bintrades.exchange.batch import Batch
from bintrades.exchange.binance.exchange import open_exchange
from bintrades.exchange.binance.feed.control import has_trades_only
from bintrades.exchange.binance.markets import MARKETS
from bintrades.exchange.binance.spot import SPOT, TRADES
from bintrades.exchange.registry import EXCHANGES, ExchangeKind
from bintrades.model import IdLaw, SeriesKey
from bintrades.testing.exchange_simulator import ExchangeSimulator
from tests.networks import system_network
from tests.strategies import make_trade, message

if TYPE_CHECKING:
    from pathlib import Path

SECOND = replace(
    SPOT,
    name="second",
    streams=(replace(TRADES, name="deal", mark=b'@deal","data":{"e":"trade",'),),
    stream_url="wss://stream.example",
    max_streams=7,
)
DEALS = SECOND.streams[0]
DEAL = message(make_trade(1)).replace(b"@trade", b"@deal")


def test_a_second_market_is_its_facts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MARKETS, "second", SECOND)
    path = tmp_path / "b.ini"
    with ExchangeSimulator(("BTCUSDT",)) as simulator:
        path.write_text(f"[binance]\nmarket = second\nrest_url = {simulator.rest_url}\n")
        options = load_config(path, {}).exchange_options
        opened = open_exchange(options, system_network(), weight_share=50, banned_for_ms=0)
        history = opened.make_history(3_600_000)

        assert (options.stream, options.stream_url) == ("deal", "wss://stream.example")
        assert options.streams_per_connection == 7
        assert DEALS.name_of("BTCUSDT") == "btcusdt@deal"
        assert has_trades_only(Batch([DEAL]), DEALS.mark)
        assert [trade.trade_id for trade in opened.decode(Batch([DEAL])).trades] == [1]
        assert opened.series("X") == SeriesKey("binance", "second", "X", "deal", IdLaw.DENSE)
        assert history.newest_ids(["BTCUSDT"]).ids == {"BTCUSDT": None}
        opened.close()


def test_a_second_exchange_has_a_section_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = ExchangeKind(
        {"second": SECOND}, EXCHANGES["binance"].open, EXCHANGES["binance"].open_kline_files
    )
    monkeypatch.setitem(EXCHANGES, "elsewhere", kind)
    path = tmp_path / "b.ini"
    path.write_text("[elsewhere]\nredundancy = 2\n")

    config = load_config(path, {})

    assert (config.exchange, config.exchange_options.market) == ("elsewhere", "second")
    assert (config.exchange_options.stream, config.exchange_options.redundancy) == ("deal", 2)
    path.write_text("[elsewhere]\n[binance]\n")
    with pytest.raises(ConfigError, match=r"\[binance\]: a second exchange; allowed: \[elsewhere"):
        load_config(path, {})


def test_series_that_their_symbols_do_not_tell_apart_are_refused() -> None:
    one = SeriesKey("binance", "spot", "BTCUSDT", "trade", IdLaw.DENSE)
    other = SeriesKey("binance", "second", "ETHUSDT", "trade", IdLaw.DENSE)

    for keys in ([one, other], [one, one]):
        with pytest.raises(ValueError, match="more than one"):
            Aggregator(keys, interval_ms=10_000, grace_ms=500)


def test_a_series_of_a_law_that_no_ledger_counts_by_is_refused() -> None:
    key = SeriesKey("binance", "spot", "BTCUSDT", "trade", cast("IdLaw", "holes"))

    with pytest.raises(ValueError, match="no ledger counts by this law"):
        Aggregator([key], interval_ms=10_000, grace_ms=500)
