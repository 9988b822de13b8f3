"""What each market offers: options that it lacks, addresses that do not belong together, a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bintrades.config.loader import load_config
from bintrades.errors import ConfigError
from bintrades.exchange.binance.markets import MARKETS
from bintrades.util.redaction import redact

if TYPE_CHECKING:
    from pathlib import Path

KEY = "aKeyOfLetters123"


def problem(folder: Path, *options: str) -> str:
    """Return the one thing that is wrong with these options of [binance]."""
    path = folder / "b.ini"
    path.write_text("\n".join(["[binance]", *options]), encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load_config(path, {})
    (told,) = raised.value.problems
    return told.removeprefix(f"{path}: ")


@pytest.mark.parametrize("market", ["usdm", "coinm", "us"])
def test_an_option_that_a_market_lacks_is_refused_with_what_it_has(
    tmp_path: Path, market: str
) -> None:
    assert problem(tmp_path, f"market = {market}", "time_unit = microsecond") == (
        f"[binance] time_unit = microsecond: the market {market} does not offer it;"
        " allowed: millisecond"
    )


def test_nothing_is_wanted_of_futures_that_they_do_not_tell_any_more(tmp_path: Path) -> None:
    assert problem(tmp_path, "market = usdm", "[repair]", "max_age = 3d") == (
        "[repair] max_age = 3d: too long; allowed: 0ms to 2d, for the market usdm tells no more"
    )


@pytest.mark.parametrize("market", MARKETS.values(), ids=MARKETS)
def test_a_market_alone_has_its_own_addresses(tmp_path: Path, market: str) -> None:
    facts = MARKETS[getattr(market, "name", "")]
    (tmp_path / "b.ini").write_text(f"[binance]\nmarket = {facts.name}\n")

    options = load_config(tmp_path / "b.ini", {}).exchange_options

    assert (options.stream_url, options.rest_url) == (facts.stream_url, facts.rest_url)


@pytest.mark.parametrize(
    ("market", "stream_url", "rest_url"),
    [
        ("spot", "wss://data-stream.binance.vision", "https://api.binance.com"),
        ("spot", "wss://stream.binance.com:443", "https://data-api.binance.vision"),
        ("spot", "wss://stream.testnet.binance.vision:9443", "https://testnet.binance.vision"),
        ("spot", "wss://demo-stream.binance.com", "https://demo-api.binance.com"),
        ("usdm", "wss://fstream.binancefuture.com", "https://testnet.binancefuture.com"),
        ("coinm", "wss://dstream.binancefuture.com", "https://testnet.binancefuture.com"),
        ("coinm", "wss://dstream.binancefuture.com", "https://demo-dapi.binance.com"),
        ("coinm", "ws://127.0.0.1:8765", "https://dapi.binance.com"),
        ("us", "wss://proxy.example", "http://127.0.0.1:8766"),
    ],
)
def test_hosts_that_serve_the_same_trades_and_hosts_of_ones_own_go_together(
    tmp_path: Path, market: str, stream_url: str, rest_url: str
) -> None:
    path = tmp_path / "b.ini"
    path.write_text(
        f"[binance]\nmarket = {market}\nstream_url = {stream_url}\nrest_url = {rest_url}\n"
    )

    assert load_config(path, {}).exchange_options.rest_url == rest_url


def test_streams_of_the_testnet_are_not_repaired_from_the_live_exchange(tmp_path: Path) -> None:
    assert problem(tmp_path, "stream_url = wss://stream.testnet.binance.vision") == (
        "[binance] stream_url = wss://stream.testnet.binance.vision: the streams of"
        " stream.testnet.binance.vision are of the testnet exchange, and api.binance.com is of the"
        " live one: its trades are others; allowed: rest_url of api1.testnet.binance.vision or"
        " testnet.binance.vision"
    )


def test_the_address_of_another_market_is_refused_and_named(tmp_path: Path) -> None:
    assert problem(tmp_path, "market = usdm", "rest_url = https://dapi.binance.com") == (
        "[binance] rest_url = https://dapi.binance.com: dapi.binance.com serves the REST side of"
        " coinm; allowed: rest_url of demo-fapi.binance.com, fapi.binance.com,"
        " testnet.binancefuture.com, or a host that is not the exchange's"
    )
    assert "the REST side of spot (testnet)" in problem(
        tmp_path, "stream_url = wss://testnet.binance.vision"
    )


def test_the_key_is_shown_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "b.ini"
    path.write_text("[binance]\nmarket = usdm\napi_key = ${KEY}\n", encoding="utf-8")

    config = load_config(path, {"KEY": f"{KEY}\n"})

    assert config.exchange_options.api_key == KEY
    assert KEY not in repr(config)
    assert KEY not in redact(f"a line with {KEY} in it")
    told = problem(tmp_path, "api_key = not a key!")
    assert "not a key!" not in told
    assert told.startswith("[binance] api_key: ")
