"""Which symbols are collected: names and patterns against what the exchange lists. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from bintrades.model.symbol_record import LeftBecause

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from decimal import Decimal

    from bintrades.exchange.shards import Shard

TRADING = "TRADING"
"""The status of a symbol that is traded, on every market."""

_CLOSE_ENOUGH = 0.8
_LESS_CLOSE = 0.65
_SHOWN_NEAREST = 3


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """A symbol that the exchange lists; one that is delisted will not be traded again."""

    symbol: str
    is_delisted: bool = False
    status: str = TRADING
    """As the exchange spells it: only while it is TRADING are there trades."""
    contract_size: Decimal | None = None
    """Where quantities are contracts: what one is worth, in the quote asset; else None."""

    @property
    def is_trading(self) -> bool:
        """Whether it is traded now."""
        return self.status == TRADING


@dataclass(frozen=True, slots=True)
class Selection:
    """The symbols to collect, each once, and the patterns that no symbol fits.

    A name that is not listed is selected all the same: it may be listed later.
    """

    symbols: tuple[str, ...]
    unmatched: tuple[str, ...]
    why: dict[str, str]
    """The first name or pattern that selects each symbol."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be collected, and what is not though the configuration selects it, or did."""

    wanted: dict[str, str]
    """The symbols to collect, each with the name or pattern that selects it."""

    halted: dict[str, str]
    """Those of them that are not traded now, and their status."""

    waiting: dict[str, str]
    """Names of symbols that are collected when they are traded again, and their status."""

    unlisted: tuple[str, ...]
    """Names of symbols that are collected once they are listed."""

    unmatched: tuple[str, ...]
    """Patterns that nothing fits."""

    gone: dict[str, LeftBecause]
    """What was collected and is not to be any more, and why."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to collect, and never will be."""
        return not (self.wanted or self.waiting or self.unlisted)


def is_pattern(name: str) -> bool:
    """Whether *name* stands for every symbol that fits it: * is any text, ? one character."""
    return "*" in name or "?" in name


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a test for symbols that one of *patterns* fits; a name fits itself."""
    texts = [
        re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
        for pattern in dict.fromkeys(patterns)
    ]
    expression = re.compile("|".join(texts), re.DOTALL)
    return lambda symbol: expression.fullmatch(symbol) is not None


def select(
    include: Iterable[str],
    exclude: Iterable[str],
    listed: Sequence[SymbolInfo],
    collected: Collection[str] = (),
    shard: Shard | None = None,
) -> Selection:
    """Return the symbols that *include* names or fits and *exclude* does not.

    The order is that of *include*; symbols of one pattern are sorted. A pattern takes symbols that
    are traded, and of those that are *collected* the ones that are halted; a name takes any. Of
    several shards, the symbols of others are left out.
    """
    is_left_out = _left_out(exclude, shard)
    alive = sorted(
        {
            info.symbol
            for info in listed
            if not info.is_delisted and (info.is_trading or info.symbol in collected)
        }
    )
    chosen: dict[str, str] = {}
    unmatched = []
    for name in include:
        fitting = list(filter(matcher([name]), alive)) if is_pattern(name) else [name]
        if not fitting:
            unmatched.append(name)
        for symbol in fitting:
            if not is_left_out(symbol):
                chosen.setdefault(symbol, name)
    return Selection(tuple(chosen), tuple(unmatched), chosen)


def choose(
    include: Sequence[str],
    exclude: Sequence[str],
    listed: Sequence[SymbolInfo],
    collected: Collection[str],
    *,
    is_fresh: bool,
    shard: Shard | None = None,
) -> Choice:
    """Return what to collect, where some symbols are *collected* now.

    Where the list of the exchange is not *fresh*, names are taken whatever it says of them.
    """
    if not is_fresh:  # a list that lacks what is collected is not the last one
        known = {info.symbol for info in listed}
        listed = [*listed, *(SymbolInfo(name) for name in collected if name not in known)]
    selection = select(include, exclude, listed, collected, shard)
    infos = {info.symbol: info for info in listed}
    wanted, halted, waiting = {}, {}, {}
    unlisted = []
    for symbol, why in selection.why.items():
        info = infos.get(symbol)
        if info is None and is_fresh:
            unlisted.append(symbol)
        elif info is not None and info.is_delisted and is_fresh:
            waiting[symbol] = info.status
        else:
            wanted[symbol] = why
            if info is not None and not info.is_trading:
                halted[symbol] = info.status
    is_included, is_left_out = matcher(include), _left_out(exclude, shard)
    gone = {}
    for symbol in collected:
        if symbol in wanted:
            continue
        if not is_included(symbol) or is_left_out(symbol):
            gone[symbol] = LeftBecause.DESELECTED
        else:
            gone[symbol] = LeftBecause.DELISTED if symbol in infos else LeftBecause.UNLISTED
    return Choice(wanted, halted, waiting, tuple(unlisted), selection.unmatched, gone)


def nearest_names(name: str, listed: Iterable[SymbolInfo]) -> list[str]:
    """Return up to three listed symbols that are spelt like *name*, the nearest first.

    Some milliseconds among thousands of them. Only where none is close, those that are less so:
    the name may be that of another market, as BTCUSDT of BTCUSD_PERP.
    """
    names = sorted(info.symbol for info in listed if not info.is_delisted)
    close = (
        get_close_matches(name, names, n=_SHOWN_NEAREST, cutoff=cutoff)
        for cutoff in (_CLOSE_ENOUGH, _LESS_CLOSE)
    )
    return next(filter(None, close), [])


def _left_out(exclude: Iterable[str], shard: Shard | None) -> Callable[[str], bool]:
    """Return a test for symbols that are excluded, or are those of another shard."""
    is_excluded = matcher(exclude)
    if shard is None:
        return is_excluded
    return lambda symbol: is_excluded(symbol) or not shard.has(symbol)
