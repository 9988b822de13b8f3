"""Choosing the symbols: with the exchange's answer, without it, and when it wants no questions."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from bintrades.app.symbol_list import choose_symbols, unlisted_symbols
from bintrades.config.loader import ExchangeConfig, SymbolsConfig
from bintrades.core.ban import Ban
from bintrades.errors import ConfigError, ExchangeError
from bintrades.exchange.registry import EXCHANGES
from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.util.clocks import utc_ms
from tests.journals import journal_at
from tests.networks import system_network

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bintrades.exchange.port import Exchange
    from bintrades.journal.writer import Journal

DOLLARS = SymbolsConfig(include=("*USDT",), exclude=())


@pytest.fixture(name="exchange")
def _exchange() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(("BTCUSDT", "ETHUSDT", "ETHBTC")) as exchange:
        yield exchange


@pytest.fixture(name="journal")
def _journal(tmp_path: Path) -> Iterator[Journal]:
    with journal_at(tmp_path / "bars.journal") as journal:
        yield journal


@pytest.fixture(name="binance")
def _binance(exchange: ExchangeSimulator) -> Iterator[Exchange]:
    with opened(exchange) as binance:
        yield binance


@contextmanager
def opened(exchange: ExchangeSimulator, journal: Journal | None = None) -> Iterator[Exchange]:
    """Open the exchange in a process that begins with what *journal* remembers."""
    ban = journal.get_ban() if journal else Ban(0, 0)
    binance = EXCHANGES["binance"].open(
        ExchangeConfig(rest_url=exchange.rest_url),
        system_network(),
        weight_share=50,
        banned_for_ms=ban.left_ms(utc_ms()),
    )
    with closing(binance):
        yield binance


def never(wait_s: float) -> bool:
    """Wait for nothing, since nobody says to stop."""
    return wait_s < 0


def test_a_pattern_takes_what_fits(binance: Exchange, journal: Journal) -> None:
    assert choose_symbols(DOLLARS, binance, journal, never) == ("BTCUSDT", "ETHUSDT")


def test_names_are_taken_without_asking(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    config = SymbolsConfig(include=("BTCUSDT", "NEWUSDT"), exclude=())

    assert choose_symbols(config, binance, journal, never) == ("BTCUSDT", "NEWUSDT")
    assert exchange.rest_requests == []
    assert unlisted_symbols(config, binance.catalog) == ["NEWUSDT"]


def test_without_an_answer_the_list_of_the_last_start_serves(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    choose_symbols(DOLLARS, binance, journal, never)
    exchange.rest_answer(500, times=1_000)

    assert choose_symbols(DOLLARS, binance, journal, never) == ("BTCUSDT", "ETHUSDT")


def test_without_any_list_it_is_asked_for_until_it_comes(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    exchange.rest_answer(500, times=3)

    assert choose_symbols(DOLLARS, binance, journal, never) == ("BTCUSDT", "ETHUSDT")
    assert len(exchange.rest_requests) == 4


def test_a_list_of_the_last_start_that_is_invalid_is_as_none(
    exchange: ExchangeSimulator,
    binance: Exchange,
    journal: Journal,
    caplog: pytest.LogCaptureFixture,
) -> None:
    journal.set_symbol_list('[["BTCUSDT"')
    exchange.rest_answer(500, times=2)

    assert choose_symbols(DOLLARS, binance, journal, never) == ("BTCUSDT", "ETHUSDT")
    assert "cannot be read and is discarded" in caplog.text


def test_asking_ends_when_the_collector_is_told_to_stop(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    exchange.rest_answer(500, times=1_000)

    assert choose_symbols(DOLLARS, binance, journal, lambda _: True) == ()


def test_a_pattern_that_nothing_fits_is_bad_configuration(
    binance: Exchange, journal: Journal
) -> None:
    with pytest.raises(ConfigError, match="no symbol"):
        choose_symbols(SymbolsConfig(include=("*EUR",), exclude=()), binance, journal, never)


def test_an_exchange_that_wants_no_requests_gets_none_over_a_restart_too(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    exchange.rest_answer(418, {"Retry-After": "600"})
    stopping = threading.Event()

    def stop_next_time(_wait_s: float) -> bool:
        stopping.set()
        return True

    assert choose_symbols(DOLLARS, binance, journal, stop_next_time) == ()
    assert journal.get_ban().left_ms(utc_ms()) > 500_000
    with (
        opened(exchange, journal) as restarted,
        pytest.raises(ExchangeError, match=r"not asked: .* before the restart"),
    ):
        unlisted_symbols(DOLLARS, restarted.catalog)

    assert len(exchange.rest_requests) == 1
    assert stopping.is_set()


@pytest.mark.parametrize("status", [403, 451])
def test_a_firewall_is_asked_once_at_each_start(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal, status: int
) -> None:
    config = SymbolsConfig(include=("BTCUSDT",), exclude=())
    exchange.rest_answer(status)

    assert choose_symbols(DOLLARS, binance, journal, lambda _: True) == ()
    with pytest.raises(ExchangeError, match=rf"not asked: .* for 30[01] s: GET .*: {status} "):
        unlisted_symbols(config, binance.catalog)
    assert len(exchange.rest_requests) == 1
    with opened(exchange, journal) as restarted:
        assert choose_symbols(DOLLARS, restarted, journal, never) == ("BTCUSDT", "ETHUSDT")


def test_an_answer_ends_what_a_failure_had_to_say(
    exchange: ExchangeSimulator, binance: Exchange
) -> None:
    config = SymbolsConfig(include=("BTCUSDT",), exclude=())
    exchange.rest_answer(500)

    with pytest.raises(ExchangeError):
        unlisted_symbols(config, binance.catalog)
    assert " 500 " in (binance.budget.last_error or "")
    assert unlisted_symbols(config, binance.catalog) == []
    assert binance.budget.last_error is None
