"""Choosing the symbols: at the start, as they come and go, and when the exchange has no answer."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from bintrades.app.symbol_list import SymbolList
from bintrades.config.loader import ExchangeConfig, SymbolsConfig
from bintrades.core.ban import Ban
from bintrades.core.symbol_changes import SymbolsChanged
from bintrades.errors import ConfigError, ExchangeError
from bintrades.exchange.registry import EXCHANGES
from bintrades.exchange.shards import Shard, shard_of
from bintrades.model.symbol_record import LeftBecause
from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.util.clocks import utc_ms
from tests.journals import journal_at
from tests.networks import system_network
from tests.strategies import START

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bintrades.exchange.events import Event
    from bintrades.exchange.port import Exchange
    from bintrades.journal.writer import Journal

DOLLARS = SymbolsConfig(include=("*USDT",), exclude=())


def named(*names: str) -> SymbolsConfig:
    return SymbolsConfig(include=names, exclude=())


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


def begun(config: SymbolsConfig, binance: Exchange, journal: Journal) -> SymbolList:
    """Return the list of a collector that has started."""
    symbols = SymbolList(config, binance, journal)
    assert symbols.start(journal, never) is not None
    return symbols


def started(config: SymbolsConfig, binance: Exchange, journal: Journal) -> tuple[str, ...] | None:
    """Return what a collector starts with."""
    return SymbolList(config, binance, journal).start(journal, never)


def changes(symbols: SymbolList, *, clock: int = START, is_new: bool = False) -> SymbolsChanged:
    """Ask the exchange, and return what is to change."""
    found: list[Event] = []
    assert symbols.refresh(found.append, lambda: clock, is_new=is_new)
    (event,) = found or [SymbolsChanged(0)]
    assert isinstance(event, SymbolsChanged)
    return event


def added(event: SymbolsChanged) -> list[str]:
    return [new.key.symbol for new in event.added]


def test_a_pattern_takes_what_fits_and_is_traded(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    exchange.list_symbol("HALTUSDT", "HALT")
    exchange.list_symbol("SOONUSDT", "PRE_TRADING")

    assert started(DOLLARS, binance, journal) == ("BTCUSDT", "ETHUSDT")


def test_a_name_that_is_not_listed_is_refused_with_those_that_are_spelt_alike(
    binance: Exchange, journal: Journal
) -> None:
    config = named("BTCUSD", "ETHUSDT", "NOTHINGLIKEIT")

    with pytest.raises(ConfigError) as refused:
        started(config, binance, journal)

    near, far = refused.value.problems
    assert near == (
        "[symbols] include: BTCUSD is not listed by the exchange; did you mean BTCUSDT?"
    )
    assert far == "[symbols] include: NOTHINGLIKEIT is not listed by the exchange"
    assert journal.get_symbol_records() == {}


def test_of_very_many_unlisted_names_the_first_ones_only_are_compared(
    binance: Exchange, journal: Journal
) -> None:
    config = named(*(f"BTCUSDT{number}" for number in range(100)))

    with pytest.raises(ConfigError) as refused:
        started(config, binance, journal)

    near = [problem.endswith("did you mean BTCUSDT?") for problem in refused.value.problems]
    assert near == [True] * 20 + [False] * 80


def test_a_name_that_was_collected_once_is_waited_for(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    begun(named("BTCUSDT", "ETHUSDT"), binance, journal)
    exchange.unlist_symbol("ETHUSDT")

    left = changes(begun(named("BTCUSDT", "ETHUSDT"), binance, journal))
    assert left.records["ETHUSDT"].left_because is LeftBecause.UNLISTED
    journal.set_symbols(left.records, None)

    assert started(named("BTCUSDT", "ETHUSDT"), binance, journal) == ("BTCUSDT",)


def test_a_halted_name_is_taken_and_a_delisted_one_waited_for(
    exchange: ExchangeSimulator,
    binance: Exchange,
    journal: Journal,
    caplog: pytest.LogCaptureFixture,
) -> None:
    exchange.list_symbol("ETHUSDT", "HALT")
    exchange.list_symbol("OLDUSDT", "BREAK")
    symbols = SymbolList(named("BTCUSDT", "ETHUSDT", "OLDUSDT"), binance, journal)

    assert symbols.start(journal, never) == ("BTCUSDT", "ETHUSDT")

    assert symbols.halted == {"ETHUSDT"}
    assert symbols.snapshot.halted == ("ETHUSDT", "OLDUSDT")
    assert caplog.text.count("a symbol is not traded now") == 2
    exchange.list_symbol("OLDUSDT", "TRADING")
    assert added(changes(symbols)) == ["OLDUSDT"]


def test_without_an_answer_names_need_no_list(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    exchange.rest_answer(500, times=1_000)

    assert started(named("BTCUSDT", "NEWUSDT"), binance, journal) == ("BTCUSDT", "NEWUSDT")


def test_without_an_answer_patterns_take_the_list_of_the_last_start(
    exchange: ExchangeSimulator,
    binance: Exchange,
    journal: Journal,
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun(DOLLARS, binance, journal)
    exchange.rest_answer(500, times=1_000)

    assert started(DOLLARS, binance, journal) == ("BTCUSDT", "ETHUSDT")
    assert "the list of symbols cannot be had" in caplog.text


def test_what_an_earlier_version_kept_serves_as_well(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    journal.set_symbol_list('[["BTCUSDT","TRADING"],["OLDUSDT","BREAK"]]')
    exchange.rest_answer(500, times=1_000)

    assert started(DOLLARS, binance, journal) == ("BTCUSDT",)


def test_an_exchange_that_does_not_answer_in_time_is_not_waited_for(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    exchange.rest_delay(8)

    assert started(named("BTCUSDT"), binance, journal) == ("BTCUSDT",)


def test_without_any_list_it_is_asked_for_until_it_comes(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    exchange.rest_answer(500, times=3)

    assert started(DOLLARS, binance, journal) == ("BTCUSDT", "ETHUSDT")
    assert len(exchange.rest_requests) == 4


def test_a_list_of_the_last_start_that_is_invalid_is_as_none(
    exchange: ExchangeSimulator,
    binance: Exchange,
    journal: Journal,
    caplog: pytest.LogCaptureFixture,
) -> None:
    journal.set_symbol_list('[["BTCUSDT"')
    exchange.rest_answer(500, times=2)

    assert started(DOLLARS, binance, journal) == ("BTCUSDT", "ETHUSDT")
    assert "cannot be read and is discarded" in caplog.text


def test_asking_ends_when_the_collector_is_told_to_stop(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    exchange.rest_answer(500, times=1_000)

    assert SymbolList(DOLLARS, binance, journal).start(journal, lambda _: True) is None


@pytest.mark.parametrize("config", [DOLLARS, named("BTCUSDT")])
def test_so_does_waiting_for_the_answer(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal, config: SymbolsConfig
) -> None:
    exchange.rest_delay(3)

    assert SymbolList(config, binance, journal).start(journal, lambda _: True) is None


def test_a_pattern_that_nothing_fits_is_bad_configuration(
    binance: Exchange, journal: Journal
) -> None:
    with pytest.raises(ConfigError, match="no symbol"):
        started(named("*EUR"), binance, journal)


def test_a_shard_without_a_symbol_is_told_which_one_it_is(
    binance: Exchange, journal: Journal
) -> None:
    without = Shard(3 - shard_of("BTCUSDT", 2), 2)
    config = SymbolsConfig(include=("BTCUSDT",), exclude=(), shard=without)

    with pytest.raises(ConfigError, match=f"no symbol .* is left to collect by shard {without};"):
        started(config, binance, journal)


def test_an_exchange_that_wants_no_requests_gets_none_over_a_restart_too(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    exchange.rest_answer(418, {"Retry-After": "600"})
    stopping = threading.Event()

    def stop_next_time(_wait_s: float) -> bool:
        stopping.set()
        return True

    assert SymbolList(DOLLARS, binance, journal).start(journal, stop_next_time) is None
    assert journal.get_ban().left_ms(utc_ms()) > 500_000
    with (
        opened(exchange, journal) as restarted,
        pytest.raises(ExchangeError, match=r"not asked: .* before the restart"),
    ):
        restarted.catalog.list_symbols()

    assert len(exchange.rest_requests) == 1
    assert stopping.is_set()


@pytest.mark.parametrize("status", [403, 451])
def test_a_firewall_is_asked_once_at_each_start(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal, status: int
) -> None:
    exchange.rest_answer(status)

    def has_answered(_seconds: float) -> bool:
        return binance.budget.last_error is not None

    assert SymbolList(DOLLARS, binance, journal).start(journal, has_answered) is None
    with pytest.raises(ExchangeError, match=rf"not asked: .* for 30[01] s: GET .*: {status} "):
        binance.catalog.list_symbols()
    assert len(exchange.rest_requests) == 1
    with opened(exchange, journal) as restarted:
        assert started(DOLLARS, restarted, journal) == ("BTCUSDT", "ETHUSDT")


def test_an_answer_ends_what_a_failure_had_to_say(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    exchange.rest_answer(500)
    symbols = begun(named("BTCUSDT"), binance, journal)

    assert " 500 " in (binance.budget.last_error or "")
    assert " 500 " in (symbols.snapshot.list_error or "")
    assert (symbols.snapshot.requests, symbols.snapshot.had_at_ms) == ((1, 1), None)
    before = utc_ms()
    changes(symbols)
    assert symbols.snapshot.requests == (2, 1)
    assert before <= (symbols.snapshot.had_at_ms or 0) <= utc_ms()
    assert binance.budget.last_error is None
    assert symbols.snapshot.list_error is None


def test_of_a_listing_all_trades_are_wanted_since_the_list_that_had_it_not(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    symbols = begun(DOLLARS, binance, journal)
    exchange.list_symbol("NEWUSDT")

    (new,) = changes(symbols).added

    assert new.key.symbol == "NEWUSDT"
    assert new.since is not None
    assert START - 60_000 < new.since < START


def test_of_a_symbol_that_another_configuration_selects_trades_are_wanted_from_now_on(
    binance: Exchange, journal: Journal
) -> None:
    symbols = begun(named("BTCUSDT"), binance, journal)
    symbols.reconfigure(DOLLARS)

    (new,) = changes(symbols, is_new=True).added

    assert (new.key.symbol, new.since) == ("ETHUSDT", None)


def test_without_an_answer_another_configuration_selects_of_the_last_list(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    symbols = begun(named("BTCUSDT"), binance, journal)
    symbols.reconfigure(named("*USDT", "NEWBTC"))
    exchange.rest_answer(500)
    found: list[Event] = []

    assert not symbols.refresh(found.append, lambda: START, is_new=True)

    (event,) = found
    assert isinstance(event, SymbolsChanged)
    assert added(event) == ["ETHUSDT", "NEWBTC"]


def test_a_failure_alone_changes_nothing(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    symbols = begun(DOLLARS, binance, journal)
    exchange.list_symbol("NEWUSDT")
    exchange.rest_answer(500)
    found: list[Event] = []

    assert not symbols.refresh(found.append, lambda: START, is_new=False)

    assert found == []


def test_a_configuration_that_leaves_no_symbol_is_refused_and_the_old_one_stays(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    symbols = begun(DOLLARS, binance, journal)

    with pytest.raises(ConfigError, match="no symbol"):
        symbols.reconfigure(named("*EUR"))

    exchange.list_symbol("NEWUSDT")
    event = changes(symbols)
    assert (added(event), list(event.left)) == (["NEWUSDT"], [])


@pytest.mark.parametrize(
    ("leave", "because"),
    [
        (lambda exchange: exchange.list_symbol("ETHUSDT", "BREAK"), LeftBecause.DELISTED),
        (lambda exchange: exchange.unlist_symbol("ETHUSDT"), LeftBecause.UNLISTED),
    ],
)
def test_what_is_delisted_leaves_and_what_is_back_returns(
    exchange: ExchangeSimulator,
    binance: Exchange,
    journal: Journal,
    leave: object,
    because: LeftBecause,
) -> None:
    symbols = begun(DOLLARS, binance, journal)
    assert callable(leave)
    leave(exchange)

    gone = changes(symbols)
    assert list(gone.left) == ["ETHUSDT"]
    assert gone.records["ETHUSDT"].left_because is because
    exchange.list_symbol("ETHUSDT")

    back = changes(symbols)
    assert added(back) == ["ETHUSDT"]
    assert back.records["ETHUSDT"].is_collected
    assert back.records["ETHUSDT"].returned_ms is not None
    assert back.records["ETHUSDT"].since_ms == gone.records["ETHUSDT"].since_ms
    assert not changes(symbols).records
    assert symbols.snapshot.left == symbols.snapshot.returned == 1


def test_a_halt_ends_nothing_and_is_said_once(
    exchange: ExchangeSimulator,
    binance: Exchange,
    journal: Journal,
    caplog: pytest.LogCaptureFixture,
) -> None:
    symbols = begun(DOLLARS, binance, journal)
    exchange.list_symbol("ETHUSDT", "HALT")

    halted = [changes(symbols), changes(symbols)]

    assert [list(each.left) for each in halted] == [[], []]
    assert halted[0].halted == frozenset({"ETHUSDT"})
    assert halted[0].records["ETHUSDT"].status == "HALT"
    assert caplog.text.count("a symbol is not traded now") == 1
    exchange.list_symbol("ETHUSDT")
    assert changes(symbols).halted == frozenset()


@pytest.mark.parametrize(
    "leave",
    [
        lambda exchange: exchange.list_symbol("ETHUSDT", "BREAK"),
        lambda exchange: exchange.unlist_symbol("ETHUSDT"),
    ],
)
def test_what_is_delisted_while_nobody_collects_starts_once_more_and_leaves_in_order(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal, leave: object
) -> None:
    begun(DOLLARS, binance, journal)
    assert callable(leave)
    leave(exchange)

    symbols = SymbolList(DOLLARS, binance, journal)
    assert symbols.start(journal, never) == ("BTCUSDT", "ETHUSDT")
    assert symbols.has_ended
    assert journal.get_symbol_records()["ETHUSDT"].is_collected

    gone = changes(symbols)
    assert list(gone.left) == ["ETHUSDT"]
    assert not gone.records["ETHUSDT"].is_collected
    assert not symbols.has_ended


def test_after_a_restart_a_halted_symbol_of_a_pattern_is_still_collected(
    exchange: ExchangeSimulator, binance: Exchange, journal: Journal
) -> None:
    begun(DOLLARS, binance, journal)
    exchange.list_symbol("ETHUSDT", "HALT")

    assert started(DOLLARS, binance, journal) == ("BTCUSDT", "ETHUSDT")


def test_most_symbols_are_not_gone_at_once(binance: Exchange, journal: Journal) -> None:
    """As in a maintenance, in which an exchange says so of all."""
    names = [f"N{number}USDT" for number in range(20)]
    with ExchangeSimulator(names) as exchange, opened(exchange) as market:
        symbols = begun(DOLLARS, market, journal)
        for name in names:
            exchange.list_symbol(name, "BREAK")

        event = changes(symbols)

        assert list(event.left) == []
        assert event.halted == frozenset(names)
        assert started(DOLLARS, market, journal) == tuple(sorted(names)), "nor at a restart"


def test_what_is_collected_is_on_record_with_what_selects_it(
    binance: Exchange, journal: Journal
) -> None:
    begun(named("ETHBTC", "*USDT", "BTCUSDT"), binance, journal)

    records = journal.get_symbol_records()

    assert {symbol: record.why for symbol, record in records.items()} == {
        "ETHBTC": "ETHBTC",
        "BTCUSDT": "*USDT",
        "ETHUSDT": "*USDT",
    }
    assert all(record.status == "TRADING" for record in records.values())
    assert utc_ms() - 60_000 < records["ETHBTC"].since_ms <= utc_ms()


def test_what_is_selected_no_longer_after_a_restart_has_left(
    binance: Exchange, journal: Journal
) -> None:
    begun(DOLLARS, binance, journal)
    begun(named("BTCUSDT"), binance, journal)

    record = journal.get_symbol_records()["ETHUSDT"]

    assert (record.left_because, record.is_collected) == (LeftBecause.DESELECTED, False)
