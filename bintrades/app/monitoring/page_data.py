"""What the page and the terminal show: symbols, bars, the completeness map; from the journal.

Each answer is bounded, however many symbols there are and for however long they were collected:
symbols by the page, time by the cell. Decimals are texts.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from bintrades.app.coverage import BEHIND_MS, WINDOWS_MS, collected_ms
from bintrades.core.spans import clipped, has
from bintrades.journal.reader import JournalReader
from bintrades.model.numbers import EXACT, plain
from bintrades.util.clocks import utc_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from bintrades.core.spans import Span
    from bintrades.journal.coverage import SymbolCoverage
    from bintrades.model import Bar

MOST_SYMBOLS = 100
"""How many symbols an answer has at the most, and how many a listener hears of."""

_MOST_CANDLES, _MOST_BARS_EACH = 300, 30
_MOST_CELLS = 240
_LONGEST_S = 400 * 86_400
_MOST_CAUSES = 4
_MOST_CHANGES = 10_000
_MINUTE_MS = 60_000


class BadQuestionError(ValueError):
    """What is asked for is not there, or not in a form that is understood."""


class Cell(NamedTuple):
    """A cell of the map: what is known of a symbol in some span of time."""

    state: str
    """none: not collected; unproven: not yet; proven, verified; hole: trades may be missing."""
    missing_ms: int = 0
    causes: tuple[str, ...] = ()


class PageData:
    """Answers questions of the page. Any thread; read-only.

    What it returns can be written as JSON. Everything may raise BadQuestionError and JournalError.
    """

    def __init__(self, journal: Path) -> None:
        self._reader = JournalReader(journal)
        self._questions: dict[str, Callable[[Mapping[str, str]], dict[str, Any]]] = {
            "symbols": self._symbols,
            "bars": self._bars,
            "completeness": self._completeness,
        }

    def answer(self, question: str, given: Mapping[str, str]) -> dict[str, Any]:
        """Return the answer to one of symbols, bars, completeness; *given* says of what."""
        if question not in self._questions:
            raise BadQuestionError(f"there is: {', '.join(self._questions)}")
        return self._questions[question](given)

    def sequence(self) -> int:
        """Return the number of the newest version of all bars."""
        return self._reader.last_sequence()

    def changes(
        self, sequence: int, symbols: Collection[str], charted: Collection[str]
    ) -> tuple[int, list[dict[str, Any]]]:
        """Return the newest sequence number, and the bars of *symbols* written after *sequence*.

        Behind them the newest bars of *charted* symbols, which may still take trades.
        """
        last, bars = self._reader.bars_after(sequence, _MOST_CHANGES, symbols)
        newest = {(bar.symbol, bar.open_time_ms): bar for bar in bars}
        for open_bars in self._reader.newest_bars(charted, 1).values():
            newest |= {(bar.symbol, bar.open_time_ms): bar for bar in open_bars}
        return last, [{"symbol": bar.symbol, **_candle([bar])} for bar in newest.values()]

    def symbols_of(self, names: Sequence[str]) -> dict[str, Any]:
        """Return of each of *names* price, trades of the last minute, what is covered of a day."""
        market, interval_ms = self._reader.scope()
        records = self._reader.symbol_records()
        bars = self._reader.newest_bars(names, max(1, _MINUTE_MS // interval_ms))
        newest_ms = self._reader.newest_stored_open_time_ms() or 0
        since, until = self._last_day(interval_ms)
        covered = self._reader.coverage_of(names, since)
        rows = []
        for name in names:
            last = bars[name][-1] if name in bars else None
            found = covered.get(name)
            part = found.coverage.within(since, until) if found else None
            is_collected = name not in records or records[name].is_collected
            of_ms = 0
            if found and part:  # one that has left ends with what was proven of it
                end = until if is_collected else part.until_ms
                of_ms = collected_ms(found.coverage, since, end)
            rows.append(
                {
                    "symbol": name,
                    "is_collected": is_collected,
                    "price": str(plain(last.close_price)) if last else None,
                    "trades_of_minute": sum(
                        bar.trade_count
                        for bar in bars.get(name, ())
                        if bar.open_time_ms > newest_ms - _MINUTE_MS
                    ),
                    "last_trade_ms": last.last_trade_time_ms if last else None,
                    "proven_ms": found.proven_ms if found else None,
                    "covered_ms": part.covered_ms if part else 0,
                    "of_ms": of_ms,
                }
            )
        return {
            "market": market,
            "interval_ms": interval_ms,
            "now_ms": utc_ms(),
            "symbols": rows,
        }

    def map_of(self, names: Sequence[str], span_ms: int, count: int) -> dict[str, Any]:
        """Return of each of *names* the last *span_ms* in *count* cells: runs that are alike."""
        _, interval_ms = self._reader.scope()
        cell_ms = max(interval_ms, -(-span_ms // count))
        cell_ms += -cell_ms % interval_ms
        until = self._reader.newest_proof_ms() or 0
        until += -until % cell_ms
        since = until - count * cell_ms
        records = self._reader.symbol_records()
        covered = self._reader.coverage_of(names, since)
        rows = []
        for name in names:
            left_ms = records[name].left_ms if name in records else None
            found = covered.get(name)
            cells = map_cells(found, since, cell_ms, count, left_ms) if found else [Cell("none")]
            runs = ((cell, len(list(group))) for cell, group in groupby(cells))
            rows.append({"symbol": name, "runs": [_run(cell, length) for cell, length in runs]})
        return {"since_ms": since, "until_ms": until, "cell_ms": cell_ms, "symbols": rows}

    def by_trouble(self) -> list[str]:
        """Return all symbols, first those of which most of the last day is not covered.

        That is missing, or not proven for longer than BEHIND_MS. Symbols that are alike in that
        are in the order of their names; those that are collected no longer come last.
        """
        _, interval_ms = self._reader.scope()
        since, until = self._last_day(interval_ms)
        records = self._reader.symbol_records()
        lacking = {}
        for each in self._reader.coverage_of_all(since):
            part = each.coverage.within(since, until)
            whole = collected_ms(each.coverage, since, until)
            lacking[each.symbol] = max(0, whole - part.covered_ms)
        ranked = [
            (name in records and not records[name].is_collected, -lacking.get(name, 0), name)
            for name in self._reader.symbols_known()
        ]
        return [name for *_, name in sorted(ranked)]

    def _last_day(self, interval_ms: int) -> Span:
        """Return the day, of whole intervals, up to which proofs are there."""
        until = (self._reader.newest_proof_ms() or 0) - BEHIND_MS
        until -= until % interval_ms
        return until - max(WINDOWS_MS["day"], interval_ms), until

    def _symbols(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Return a page of symbols."""
        names, page = self._page(given)
        return {**self.symbols_of(names), **page}

    def _bars(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Return the newest candles of a symbol, of one bar each or of several."""
        symbol = given.get("symbol", "")
        _, interval_ms = self._reader.scope()
        step_ms = _number(given, "step", interval_ms // 1000, 86_400) * 1000
        step_ms = min(max(step_ms - step_ms % interval_ms, interval_ms), interval_ms * 30)
        count = _number(given, "limit", 120, _MOST_CANDLES)
        newest_ms = self._reader.newest_open_time_ms(symbol)
        if newest_ms is None:
            raise BadQuestionError("symbol: the journal has no bars of it")
        since_ms = newest_ms - newest_ms % step_ms - (count - 1) * step_ms
        bars = self._reader.bars(symbol, since_ms, newest_ms + 1, count * _MOST_BARS_EACH)
        return {
            "symbol": symbol,
            "step_ms": step_ms,
            "candles": [
                {**_candle(list(group)), "open_time_ms": open_time}
                for open_time, group in groupby(
                    bars, lambda bar: bar.open_time_ms - bar.open_time_ms % step_ms
                )
            ],
        }

    def _completeness(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Return a page of the map."""
        names, page = self._page(given)
        count = _number(given, "cells", 120, _MOST_CELLS)
        span_ms = _number(given, "span", 3_600, _LONGEST_S) * 1000
        return {**self.map_of(names, span_ms, count), **page}

    def _page(self, given: Mapping[str, str]) -> tuple[list[str], dict[str, int]]:
        """Return the symbols that are asked for, and which part of how many they are."""
        wanted = given.get("search", "").strip().casefold()
        names = [name for name in self._reader.symbols_known() if wanted in name.casefold()]
        offset = _number(given, "offset", 0, 1_000_000, least=0)
        limit = _number(given, "limit", 25, MOST_SYMBOLS)
        return names[offset : offset + limit], {"offset": offset, "total": len(names)}


def map_cells(
    found: SymbolCoverage, since_ms: int, cell_ms: int, count: int, left_ms: int | None = None
) -> list[Cell]:
    """Return what is known of *count* spans of *cell_ms* each, from *since_ms* on."""
    begin, end = found.coverage.since_ms, found.coverage.until_ms
    holes = found.coverage.holes
    cells = []
    for start in range(since_ms, since_ms + count * cell_ms, cell_ms):
        first, last = max(start, begin), min(start + cell_ms, end)
        if start + cell_ms <= begin or (left_ms is not None and start >= max(left_ms, end)):
            cells.append(Cell("none"))
            continue
        if first >= last:
            cells.append(Cell("unproven"))
            continue
        inside = []
        for hole in holes[bisect_right(holes, first, key=lambda hole: hole.until_ms) :]:
            if hole.since_ms >= last:
                break
            inside.append(hole)
        if inside:
            missing = clipped(((each.since_ms, each.until_ms) for each in inside), first, last)
            causes = dict.fromkeys(f"{why.state}: {why.cause}" for h in inside for why in h.causes)
            lasting = sum(until - since for since, until in missing)
            cells.append(Cell("hole", lasting, tuple(causes)[:_MOST_CAUSES]))
        else:
            is_verified = has(found.verified, (first, last))
            cells.append(Cell("verified" if is_verified else "proven"))
    return cells


def _run(cell: Cell, length: int) -> dict[str, Any]:
    run: dict[str, Any] = {"state": cell.state, "cells": length}
    if cell.causes:
        run |= {"missing_ms": cell.missing_ms, "causes": list(cell.causes)}
    return run


def _candle(bars: Sequence[Bar]) -> dict[str, Any]:
    """Return neighbouring bars of a symbol as one; a bar by itself as it is."""
    buys = sells = Decimal(0)
    for bar in bars:
        buys = EXACT.add(buys, bar.buy_quantity)
        sells = EXACT.add(sells, bar.sell_quantity)
    return {
        "open_time_ms": bars[0].open_time_ms,
        "open_price": str(plain(bars[0].open_price)),
        "max_price": str(plain(max(bar.max_price for bar in bars))),
        "min_price": str(plain(min(bar.min_price for bar in bars))),
        "close_price": str(plain(bars[-1].close_price)),
        "buy_quantity": str(plain(buys)),
        "sell_quantity": str(plain(sells)),
        "trade_count": sum(bar.trade_count for bar in bars),
        "last_trade_ms": bars[-1].last_trade_time_ms,
        "is_closed": all(bar.is_closed for bar in bars),
        "is_complete": all(bar.is_complete for bar in bars),
    }


def _number(given: Mapping[str, str], name: str, default: int, most: int, least: int = 1) -> int:
    text = given.get(name) or str(default)
    if not re.fullmatch("[0-9]{1,12}", text) or not least <= int(text) <= most:
        raise BadQuestionError(f"{name}: a whole number from {least} to {most}")
    return int(text)
