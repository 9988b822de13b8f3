"""Choosing the symbols: the configured names and patterns against what the exchange lists."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from bintrades.errors import ConfigError, ExchangeError
from bintrades.exchange.ban import BLOCKED_UNTIL, Ban
from bintrades.exchange.binance.rest import RestClient, RestError
from bintrades.exchange.symbols import Selection, SymbolInfo, is_pattern, select
from bintrades.util.backoff import Backoff
from bintrades.util.clocks import now_ms, utc_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.config.loader import SymbolsConfig
    from bintrades.exchange.binance.budget import Budget
    from bintrades.journal.writer import Journal

log = logging.getLogger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_FACT = "listed_symbols"
_listing = msgspec.json.Decoder(list[tuple[str, str]])


def choose_symbols(
    config: SymbolsConfig,
    rest: RestClient,
    budget: Budget,
    journal: Journal,
    wait: Callable[[float], bool],
) -> tuple[str, ...]:
    """Return the symbols to collect.

    Names need no answer from the exchange. Patterns do: without one the list of the last start
    serves, and without that it is asked for again, until *wait* says to stop: then none are
    returned. Raises ConfigError when no symbol is left.
    """
    if any(map(is_pattern, config.include)):
        listed = _listed(rest, budget, journal, wait)
        if listed is None:
            return ()
    else:
        listed = [SymbolInfo(name, "TRADING") for name in config.include]
    selection = select(config.include, config.exclude, listed)
    for pattern in selection.unmatched:
        log.warning("[symbols] include: no symbol of the exchange fits %s", pattern)
    report_unlisted(selection)
    if not selection.symbols:
        raise ConfigError(
            "[symbols] include, exclude: no symbol of the exchange is left to collect"
        )
    return selection.symbols


def unlisted_symbols(config: SymbolsConfig, rest: RestClient, budget: Budget) -> list[str]:
    """Ask the exchange and return the configured names that it does not list.

    Raises ExchangeError.
    """
    selection = select(config.include, config.exclude, _ask(rest, budget))
    report_unlisted(selection)
    return list(selection.unknown)


def report_unlisted(selection: Selection) -> None:
    """Log the names that the exchange does not list; they are asked for all the same."""
    for name, nearest in selection.unknown.items():
        log.error(
            "[symbols] include: %s is not listed by the exchange%s",
            name,
            f"; did you mean {nearest}?" if nearest else "",
            extra={"symbol": name},
        )


def _ask(rest: RestClient, budget: Budget) -> list[SymbolInfo]:
    """Ask for the list, unless the exchange wants no requests now; raises ExchangeError."""
    if wait_ms := budget.wait_ms(rest.market.exchange_info.weight, now_ms()):
        raise ExchangeError(
            f"not asked: no request may be made for {wait_ms // 1000 + 1} s: {budget.last_error}"
        )
    try:
        listed = rest.exchange_symbols()
    except RestError as error:
        budget.record_failure(str(error), now_ms(), error.status, error.retry_after_s)
        raise
    budget.record_answer(now_ms())
    return listed


def _listed(
    rest: RestClient, budget: Budget, journal: Journal, wait: Callable[[float], bool]
) -> Sequence[SymbolInfo] | None:
    backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
    while True:
        try:
            listed = _ask(rest, budget)
        except ExchangeError as error:
            ban = Ban.for_the_next(budget.banned_for(now_ms()), utc_ms())
            journal.set_meta(BLOCKED_UNTIL, str(ban))
            remembered = _remembered(journal)
            if remembered is not None:
                log.warning(
                    "the list of symbols cannot be had; that of the last start serves",
                    extra={"error": str(error)},
                )
                return remembered
            wait_s = backoff.next_wait_s()
            log.warning(
                "the list of symbols cannot be had, and patterns need it; next attempt in %.1f s",
                wait_s,
                extra={"error": str(error)},
            )
            if wait(wait_s):
                return None
        else:
            rows = [(info.symbol, info.status) for info in listed]
            journal.set_meta(_FACT, msgspec.json.encode(rows).decode())
            return listed


def _remembered(journal: Journal) -> list[SymbolInfo] | None:
    """Return the list of the last start, if there is one that can be read."""
    text = journal.get_meta(_FACT)
    if text is None:
        return None
    try:
        return [SymbolInfo(*row) for row in _listing.decode(text)]
    except msgspec.DecodeError as error:
        log.warning(
            "the list of symbols of the last start is nonsense and is forgotten",
            extra={"error": str(error)},
        )
        return None
