"""The symbols to collect: what the configuration selects of what the exchange lists.

The last list is kept in the journal, for a start at which the exchange does not answer.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from bintrades.core.ban import Ban
from bintrades.errors import ConfigError, ExchangeError
from bintrades.exchange.symbols import Selection, SymbolInfo, is_pattern, select
from bintrades.util.backoff import Backoff
from bintrades.util.clocks import now_ms, utc_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.config.loader import SymbolsConfig
    from bintrades.exchange.port import Catalog, Exchange
    from bintrades.journal.writer import Journal

log = logging.getLogger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_LISTED, _DELISTED = "TRADING", "BREAK"  # as journals have always spelt it
_listing = msgspec.json.Decoder(list[tuple[str, str]])


def choose_symbols(
    config: SymbolsConfig, exchange: Exchange, journal: Journal, wait: Callable[[float], bool]
) -> tuple[str, ...]:
    """Return the symbols to collect.

    Names need no answer from the exchange. Patterns do: without one the list of the last start
    serves, and without that it is asked for again, until *wait* says to stop: then none are
    returned. Raises ConfigError when no symbol is left.
    """
    if any(map(is_pattern, config.include)):
        listed = _listed(exchange, journal, wait)
        if listed is None:
            return ()
    else:
        listed = [SymbolInfo(name) for name in config.include]
    selection = select(config.include, config.exclude, listed)
    for pattern in selection.unmatched:
        log.warning(
            "[symbols] include: no symbol of the exchange fits %s",
            pattern,
            extra={"event": "pattern_unmatched"},
        )
    _log_unlisted(selection)
    if not selection.symbols:
        raise ConfigError(
            "[symbols] include, exclude: no symbol of the exchange is left to collect"
        )
    return selection.symbols


def unlisted_symbols(config: SymbolsConfig, catalog: Catalog) -> list[str]:
    """Ask the exchange and return the configured names that it does not list.

    Raises ExchangeError.
    """
    selection = select(config.include, config.exclude, catalog.list_symbols())
    _log_unlisted(selection)
    return list(selection.unknown)


def _log_unlisted(selection: Selection) -> None:
    for name, nearest in selection.unknown.items():
        log.error(
            "[symbols] include: %s is not listed by the exchange%s",
            name,
            f"; did you mean {nearest}?" if nearest else "",
            extra={"event": "symbol_unlisted", "symbol": name},
        )


def _listed(
    exchange: Exchange, journal: Journal, wait: Callable[[float], bool]
) -> Sequence[SymbolInfo] | None:
    backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
    while True:
        try:
            listed = exchange.catalog.list_symbols()
        except ExchangeError as error:
            ban = Ban.for_the_next(exchange.budget.banned_for(now_ms()), utc_ms())
            journal.set_ban(ban)
            kept = _kept(journal)
            if kept is not None:
                log.warning(
                    "the list of symbols cannot be had; that of the last start serves",
                    extra={"event": "symbol_list_failed", "error": str(error)},
                )
                return kept
            wait_s = backoff.next_wait_s()
            log.warning(
                "the list of symbols cannot be had, and patterns need it; next attempt in %.1f s",
                wait_s,
                extra={"event": "symbol_list_failed", "error": str(error)},
            )
            if wait(wait_s):
                return None
        else:
            _keep(journal, listed)
            return listed


def _keep(journal: Journal, listed: Sequence[SymbolInfo]) -> None:
    rows = [(info.symbol, _DELISTED if info.is_delisted else _LISTED) for info in listed]
    journal.set_symbol_list(msgspec.json.encode(rows).decode())


def _kept(journal: Journal) -> list[SymbolInfo] | None:
    """Return the list of the last start, if there is one that can be read."""
    text = journal.get_symbol_list()
    if text is None:
        return None
    try:
        rows = _listing.decode(text)
    except msgspec.DecodeError as error:
        log.warning(
            "the list of symbols of the last start cannot be read and is discarded",
            extra={"event": "symbol_list_discarded", "error": str(error)},
        )
        return None
    return [SymbolInfo(symbol, status == _DELISTED) for symbol, status in rows]
