"""Where played and generated trades come from: recorded files, and a seeded random walk."""

from __future__ import annotations

import gzip
import heapq
import random
from operator import itemgetter
from typing import TYPE_CHECKING

from bintrades.testing.simulated_market import SimulatedTrade

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PRICE_UNIT = 10**8
_TICK = PRICE_UNIT // 100
_LOT = PRICE_UNIT // 100_000


def read_recording(*paths: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (receive time in ns, frame) of one recorded file, or of several merged by that time.

    A file is gzip with lines of the form `<ns> <frame>`. Raises ValueError, naming the file and the
    line, for any other line.
    """
    return heapq.merge(*(_read_file(path) for path in paths), key=itemgetter(0))


def _read_file(path: Path) -> Iterator[tuple[int, bytes]]:
    with gzip.open(path) as lines:
        for number, line in enumerate(lines, 1):
            time_ns, separator, frame = line.rstrip(b"\r\n").partition(b" ")
            if not (separator and time_ns.isdigit()):
                raise ValueError(f"{path}, line {number}: not '<receive time in ns> <frame>'")
            yield int(time_ns), frame


def generate_trades(
    symbols: Sequence[str],
    seed: int,
    start_ms: int,
    rate: float,
    first_trade_id: int = 1,
) -> Iterator[SimulatedTrade]:
    """Yield trades for ever: a random walk per symbol, *rate* trades per second over all of them.

    The same arguments give the same trades. Ids are consecutive per symbol, times never go back,
    and about one order in five sweeps several fills with one time. The event time is the trade's.
    """
    rng = random.Random(seed)
    prices = {symbol: rng.randint(100, 6_000_000) * _TICK for symbol in symbols}
    next_ids = dict.fromkeys(symbols, first_trade_id)
    time_ms = float(start_ms)
    while True:
        symbol = rng.choice(symbols)
        fills = rng.randint(2, 8) if rng.random() < 0.2 else 1
        time_ms += rng.expovariate(rate / fills) * 1000
        buyer_is_maker = rng.random() < 0.5
        for _ in range(fills):
            step = rng.randint(0, 3) * _TICK
            prices[symbol] = max(_TICK, prices[symbol] + (-step if buyer_is_maker else step))
            yield SimulatedTrade(
                symbol,
                next_ids[symbol],
                _text(prices[symbol]),
                _text(rng.randint(1, 200_000) * _LOT),
                int(time_ms),
                int(time_ms),
                buyer_is_maker,
            )
            next_ids[symbol] += 1


def _text(units: int) -> str:
    return f"{units // PRICE_UNIT}.{units % PRICE_UNIT:08d}"
