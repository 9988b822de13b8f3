"""Which symbols are collected: names and patterns against what the exchange lists. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from decimal import Decimal

TRADING = "TRADING"
"""The status of a symbol that is traded, on every market."""

_CLOSE_ENOUGH = 0.8


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
    """The symbols to collect, each once, and the names and patterns without a listed symbol.

    unknown has each name that is not listed, with the listed one nearest to it or None: it is still
    selected, since it may be listed later and the exchange ignores it until then. unmatched has the
    patterns that no symbol fits.
    """

    symbols: tuple[str, ...]
    unknown: dict[str, str | None]
    unmatched: tuple[str, ...]


def is_pattern(name: str) -> bool:
    """Whether *name* stands for every symbol that fits it: * is any text, ? one character."""
    return "*" in name or "?" in name


def select(
    include: Iterable[str], exclude: Iterable[str], listed: Sequence[SymbolInfo]
) -> Selection:
    """Return the symbols that *include* names or fits and *exclude* does not.

    The order is that of *include*; symbols of one pattern are sorted. A pattern takes no delisted
    symbol, a name does.
    """
    excluded = _matcher(exclude)
    names = {info.symbol for info in listed}
    alive = sorted({info.symbol for info in listed if not info.is_delisted})
    chosen: dict[str, None] = {}
    unknown: dict[str, str | None] = {}
    unmatched = []
    for name in include:
        fitting = list(filter(_matcher([name]), alive)) if is_pattern(name) else [name]
        if not fitting:
            unmatched.append(name)
        kept = [symbol for symbol in fitting if not excluded(symbol)]
        chosen.update(dict.fromkeys(kept))
        unknown.update((symbol, _nearest(symbol, alive)) for symbol in kept if symbol not in names)
    return Selection(tuple(chosen), unknown, tuple(unmatched))


def _matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a test for symbols that one of *patterns* fits; a name fits itself."""
    texts = [
        re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
        for pattern in dict.fromkeys(patterns)
    ]
    expression = re.compile("|".join(texts), re.DOTALL)
    return lambda symbol: expression.fullmatch(symbol) is not None


def _nearest(name: str, symbols: Iterable[str]) -> str | None:
    return next(iter(get_close_matches(name, symbols, n=1, cutoff=_CLOSE_ENOUGH)), None)
