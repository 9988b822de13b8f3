"""Measure the stores: bars per second of each, beside the plainest client code for its engine.

Both write the same bars with the same library into the same engine, each into an empty place, in
batches of a thousand, and each batch is durable before the next one. The plain code only inserts; a
store also keeps a stored bar from being replaced by a lesser one, names what it cannot hold, and
can have the same bars again. One line for each store, in Markdown:

- bars/s: of bars that are new, which nearly all are
- plain bars/s, and the ratio of the two: at least 0.5 is what we want
- again bars/s: of the same bars once more, as after a crash
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
import traceback
from contextlib import closing
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from tabulate import tabulate

from bintrades.model import Bar
from bintrades.stores.loader import load_stores
from bintrades.testing.amounts import whole_number
from scripts.benchmark.load import START_MS, symbols

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.stores.store import Store

    Batches = Sequence[Sequence[Bar]]

ROOT = Path(__file__).parents[2]
STORES = sorted(
    path.stem
    for path in (Path(__file__).parent / "plain_stores").glob("*.py")
    if path.stem != "__init__"
)
BATCH = 1_000
SYMBOLS = 400
INTERVAL_MS = 10_000


class Run(NamedTuple):
    """Bars per second."""

    store: float
    again: float
    plain: float


def bars_to_write(count: int) -> Batches:
    """Return *count* bars of 400 symbols, oldest first, in batches of a thousand."""
    chance = random.Random(1)
    names = symbols(SYMBOLS)
    bars = [
        _bar(chance, names[number % SYMBOLS], START_MS + number // SYMBOLS * INTERVAL_MS)
        for number in range(count)
    ]
    return [bars[start : start + BATCH] for start in range(0, count, BATCH)]


def _bar(chance: random.Random, symbol: str, open_time_ms: int) -> Bar:
    """Return a bar with as many digits as those of a market have."""
    price = Decimal(chance.randrange(10**6, 10**7)).scaleb(-2)
    quantity = Decimal(chance.randrange(10**8, 10**10)).scaleb(-8)
    value = Decimal(chance.randrange(10**17, 10**19)).scaleb(-16)
    first_id = chance.randrange(10**9)
    return Bar(
        symbol=symbol,
        market="spot",
        open_time_ms=open_time_ms,
        interval_ms=INTERVAL_MS,
        trade_count=17,
        buy_count=8,
        quantity=quantity,
        buy_quantity=quantity / 2,
        value=value,
        buy_value=value / 2,
        open_price=price,
        close_price=price + 1,
        min_price=price - 1,
        max_price=price + 2,
        first_trade_id=first_id,
        last_trade_id=first_id + 16,
        first_trade_time_ms=open_time_ms + 7,
        last_trade_time_ms=open_time_ms + 9_811,
        updated_at_ms=open_time_ms + 10_500,
    )


def measure(name: str, batches: Batches) -> Run:
    """Write *batches* plainly and by the store called *name*, each into an engine of its own."""
    options_of = getattr(import_module(f"tests.store_engines.{name}"), f"{name}_options")
    write_plain = import_module(f"scripts.benchmark.plain_stores.{name}").write_plain
    count = sum(map(len, batches))
    with tempfile.TemporaryDirectory() as folder, options_of(Path(folder)) as options:
        started = time.perf_counter()
        write_plain(options, batches)
        plain_s = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder, options_of(Path(folder)) as options:
        (store,) = load_stores([name], ROOT / "plugins")
        store.check(options)
        store.open(options)
        with closing(store):
            store_s, again_s = _written(store, batches), _written(store, batches)
            _compare(store, batches)
    return Run(count / store_s, count / again_s, count / plain_s)


def _written(store: Store, batches: Batches) -> float:
    """Return how many seconds the store takes for *batches*."""
    started = time.perf_counter()
    for batch in batches:
        store.write(batch)
    return time.perf_counter() - started


def _compare(store: Store, batches: Batches) -> None:
    """Raise AssertionError unless the store, where it can be read, has what was written."""
    if not store.can_be_read:
        return
    symbol = batches[0][0].symbol
    written = [bar for batch in batches for bar in batch if bar.symbol == symbol]
    end_ms = batches[-1][-1].open_time_ms + 1
    assert list(store.read(symbol, START_MS, end_ms, "spot")) == written, f"{symbol} differs"


def row(name: str, batches: Batches, repeat: int) -> list[str]:
    """Return the line of the store called *name*, with medians."""
    runs = [measure(name, batches) for _ in range(repeat)]
    store, again, plain = (statistics.median(figures) for figures in zip(*runs, strict=True))
    ratio = store / plain
    return [name, f"{store:,.0f}", f"{plain:,.0f}", f"{ratio:.2f}", f"{again:,.0f}"]


def main() -> None:
    """Read the command line, run what it asks for."""
    parser = argparse.ArgumentParser(
        prog="benchmark.sh stores",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "stores", nargs="*", default=STORES, choices=STORES, metavar="STORE", help=", ".join(STORES)
    )
    parser.add_argument(
        "--bars", type=whole_number(1_000, 10**7), default=100_000, help="of each (%(default)s)"
    )
    parser.add_argument(
        "--repeat", type=whole_number(1, 1_000), default=3, help="print medians of so many runs"
    )
    arguments = parser.parse_args()
    batches = bars_to_write(arguments.bars)
    lines, has_failed = [], False
    for name in arguments.stores:
        print(name, file=sys.stderr, flush=True)
        try:
            lines.append(row(name, batches, arguments.repeat))
        except pytest.skip.Exception as reason:
            print(f"{name} is left out: {reason}", file=sys.stderr, flush=True)
        except Exception:
            traceback.print_exc()
            has_failed = True
    heads = ["store", "bars/s", "plain bars/s", "ratio", "again bars/s"]
    print(
        tabulate(
            lines,
            heads,
            tablefmt="github",
            disable_numparse=True,
            colalign=["left", *["right"] * 4],
        )
    )
    sys.exit(int(has_failed))


if __name__ == "__main__":
    main()
