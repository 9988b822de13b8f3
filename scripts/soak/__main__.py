"""Play a month of market in an hour through the real collector, and see whether anything grows.

30 days of 400 symbols, 51 million trades, come from the exchange simulator at 720 times the speed
of life, into a real `bintrades run` and from there into a real MongoDB. On the way connections are
cut and trades lost with them, the collector is stopped and killed, the database is down. Every few
seconds CPU per trade and per bar, memory, open files, threads, the sizes of journal, WAL and log,
and the bars that wait for the store are looked at. At the end the store must hold the exact sums
of what was traded. Prints a table, draws a picture; exit status 1 if anything is not flat or not
exact.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bintrades.testing.amounts import number, whole_number
from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.testing.mongod import NOT_FOUND, Mongod, find_mongod
from scripts.soak.market import Market
from scripts.soak.play import Plan, Soak
from scripts.soak.report import draw, figures, table

MINUTES = 60
SPEED = 720
TRADES_PER_DAY = 1_700_000
_MINUTES_PER_DAY = 24 * 60


def run(arguments: argparse.Namespace) -> int:
    """Play, judge, print; return the exit status."""
    binary = find_mongod()
    if binary is None:
        sys.exit(f"soak: {NOT_FOUND}")
    days = arguments.minutes * arguments.speed / _MINUTES_PER_DAY
    trades = int(arguments.trades_per_day * days)
    market = Market(arguments.symbols, trades, days, arguments.seed)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="bintrades-soak-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        exchange = stack.enter_context(ExchangeSimulator(market.symbols))
        mongod = stack.enter_context(Mongod(binary, folder / "mongod"))
        soak = Soak(market, Plan(arguments.minutes * 60, days), exchange, mongod, folder)
        stack.callback(soak.end)
        try:
            soak.play(arguments.sample_every)
        except BaseException:
            log = folder / "soak.log"
            if log.exists():
                print(log.read_text(encoding="utf-8")[-5_000:], file=sys.stderr)
            raise
        found = figures(soak.sampler.samples, soak.events)
        wrong = list(soak.wrong_sums())
        bars, incomplete = soak.bars(), soak.incomplete_bars()
    title = (
        f"{days:g} days of {arguments.symbols} symbols in {arguments.minutes:g} minutes:"
        f" {market.made:,} trades, {bars:,} bars"
    )
    print(f"{title}\n")
    print(table(found))
    print(
        f"\n{len(soak.events)} accidents; {incomplete} bars lack trades; the sums of"
        f" {len(market.symbols) - len(wrong)} of {len(market.symbols)} symbols are exact."
    )
    print("\n".join(wrong[:20]))
    draw(found, soak.events, title, arguments.picture)
    return int(bool(wrong) or bool(incomplete) or not all(figure.is_flat for figure in found))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="soak.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes",
        type=number(0.1, 100_000),
        default=MINUTES,
        help="how long to play; at the same speed, so 10 minutes are 5 days (%(default)s)",
    )
    parser.add_argument(
        "--speed",
        type=number(1, 100_000),
        default=SPEED,
        help="how many times as fast as life: 720 are 12 hours a minute (%(default)s)",
    )
    parser.add_argument(
        "--symbols",
        type=whole_number(1, 10_000),
        default=400,
        help="of the market (%(default)s)",
    )
    parser.add_argument(
        "--trades-per-day",
        type=whole_number(1, 10**9),
        default=TRADES_PER_DAY,
        help="of all symbols (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=whole_number(0, 2**62), default=0, help="of the trades (%(default)s)"
    )
    parser.add_argument(
        "--sample-every",
        type=number(0.1, 3_600),
        default=5.0,
        metavar="SECONDS",
        help="(%(default)s)",
    )
    parser.add_argument(
        "--picture", type=Path, default=Path("var/soak.png"), help="where to draw (%(default)s)"
    )
    arguments = parser.parse_args()
    if not Path("/proc/self/stat").exists():
        sys.exit("soak: CPU time and memory are read from /proc, which only Linux has")
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1"
    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
