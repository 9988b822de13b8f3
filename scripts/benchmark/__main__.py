"""Measure the collector: what a trade costs, how soon a bar is stored, what is written to disk.

Generated frames come over a loopback socket into the real collector. What it has in its journal at
the end must be, symbol by symbol, the exact sums of what was sent, or there is no figure. Three
tables, in Markdown:

1. CPU of a trade, beside the plain way (WebSocketApp, json.loads, floats in a dict), which gets the
   same bytes. CPU is user and system time of the whole process, all threads, from the first frame
   sent until the process has ended in good order: decoding, ledger, bars, checkpoints, journal and
   the writing of open bars are in it, starting and subscribing are not.
2. A market that goes on by the clock, stored into a real MongoDB where there is one: CPU, bytes
   written to disk, and the time from the end of an interval plus grace until its bar is stored.
3. A backlog in the journal on its way into MongoDB, beside insert_many of ready documents of
   floats. insert_many is asked for no more than its defaults.

A row that fails is left out, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import sys
import tempfile
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import trustme
from tabulate import tabulate

from bintrades.testing.amounts import number, whole_number
from bintrades.testing.mongod import NOT_FOUND, URI_VARIABLE, Mongod, find_mongod
from scripts.benchmark.collector import run_collector, write_configuration
from scripts.benchmark.journals import drain, make_journal, move_to_the_end
from scripts.benchmark.load import Load
from scripts.benchmark.plain_way import run_plain
from scripts.benchmark.processes import Measured, Sender
from scripts.benchmark.stored import interval_s, run_stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

P = ParamSpec("P")

FLOOD, PACED_S, LIVE_S = 300_000, 20, 60
OLD_ROWS, BACKLOG_ROWS = 2_000_000, 1_000_000
COMPARED = {
    "flood-1": Load("flood", FLOOD, 1),
    "flood-400": Load("flood", FLOOD, 400),
    "flood-3000": Load("flood", FLOOD, 3_000),
    "long": Load("flood, four times as long", 4 * FLOOD, 400),
    "tls": Load("flood over TLS, one record per frame", FLOOD, 400, is_tls=True),
    "paced-2000": Load("2,000 trades/s", 2_000 * PACED_S, 400, 2_000),
    "paced-5000": Load("5,000 trades/s", 5_000 * PACED_S, 3_000, 5_000),
    "paced-20000": Load("20,000 trades/s", 20_000 * PACED_S, 400, 20_000),
}
STORED = {
    "live-400": Load("2,000 trades/s", 2_000 * LIVE_S, 400, 2_000, is_live=True),
    "live-3000": Load("5,000 trades/s", 5_000 * LIVE_S, 3_000, 5_000, is_live=True),
}
OLD, BACKLOG = "old-journal", "backlog"
OLD_LOAD = STORED["live-400"]
ROWS = [*COMPARED, *STORED, OLD, BACKLOG]


def row(measure: Callable[Concatenate[Benchmark, P], list[str]]) -> Any:
    """Have a row that cannot be measured be an empty one, told on stderr."""

    @functools.wraps(measure)
    def measure_or_tell(self: Benchmark, *args: P.args, **kwargs: P.kwargs) -> list[str]:
        try:
            return measure(self, *args, **kwargs)
        except Exception:
            traceback.print_exc()
            self.has_failed = True
            return []

    return measure_or_tell


class Benchmark:
    """The rows that were asked for, in three tables."""

    def __init__(self, names: Iterable[str], scale: float, repeat: int, uri: str) -> None:
        self._names = list(names)
        self._scale = scale
        self._repeat = repeat
        self._uri = uri
        self.has_failed = False

    def run(self) -> int:
        """Measure and print; return the exit status."""
        compared = [self._compare(name) for name in self._chosen(COMPARED)]
        _print(
            "load, symbols, trades, bintrades us/trade, plain way us/trade, ratio,"
            " bintrades of a core, peak MiB",
            compared,
        )
        stored = [self._store(STORED[name]) for name in self._chosen(STORED)]
        stored += [self._store_with_old_journal() for _ in self._chosen([OLD])]
        _print(
            "load, symbols, bars in the journal before, us/trade, of a core, written GB/day,"
            " stored after p50 ms, p99 ms, worst ms",
            stored,
        )
        _print(
            "bars that wait, bars/s, collector us/bar, insert_many/s, ratio, a million takes",
            [self._drain() for _ in self._chosen([BACKLOG] if self._uri else [])],
        )
        return int(self.has_failed)

    def _chosen(self, rows: Iterable[str]) -> Iterator[str]:
        for name in rows:
            if name in self._names:
                _say(name)
                yield name

    def _scaled(self, load: Load, *, least_s: float = 0) -> Load:
        trades = max(10, int(load.trades * self._scale), int(load.trades_per_second * least_s))
        return Load(
            load.name, trades, load.symbols, load.trades_per_second, load.is_tls, load.is_live
        )

    @row
    def _compare(self, name: str) -> list[str]:
        """Run both ways as often as asked for; return the row of medians."""
        load = self._scaled(COMPARED[name])
        with tempfile.TemporaryDirectory() as folder:
            ca_file, certificate = _certificates(Path(folder)) if load.is_tls else ("", "")
            sender = Sender(load, certificate)
            ours, plain = [], []
            for number in range(self._repeat):
                path = Path(folder, str(number))
                path.mkdir()
                config = write_configuration(path, load, sender)
                ours.append(run_collector(config, sender, ca_file=ca_file))
                plain.append(run_plain(load, sender, ca_file))
            sender.close()
        cpu_s, plain_s = _median(ours, "cpu_s"), _median(plain, "cpu_s")
        return [
            load.name,
            f"{load.symbols:,}",
            f"{load.trades:,}",
            f"{cpu_s / load.trades * 1e6:.1f}",
            f"{plain_s / load.trades * 1e6:.1f}",
            f"{plain_s / cpu_s:.1f}",
            f"{cpu_s / _median(ours, 'elapsed_s'):.1%}",
            f"{_median(ours, 'peak_mib'):.0f}",
        ]

    @row
    def _store(self, load: Load, journal: Path | None = None, rows: int = 0) -> list[str]:
        load = self._live(load)
        stored = run_stored(load, self._uri, journal)
        measured = stored.measured
        return [
            load.name,
            f"{load.symbols:,}",
            f"{rows:,}",
            f"{measured.cpu_s / load.trades * 1e6:.1f}",
            f"{measured.cpu_s / measured.elapsed_s:.1%}",
            f"{stored.written_a_day / 1e9:.1f}" if stored.written_a_day else "not to a disk",
            f"{stored.latency_ms(50)}",
            f"{stored.latency_ms(99)}",
            f"{max(stored.latencies_ms)}",
        ]

    def _live(self, load: Load) -> Load:
        return self._scaled(load, least_s=4)

    @row
    def _store_with_old_journal(self) -> list[str]:
        rows = self._rows(OLD_ROWS)
        with tempfile.TemporaryDirectory() as folder:
            journal = Path(folder, "journal")
            interval_ms = interval_s(self._live(OLD_LOAD)) * 1_000
            make_journal(journal, rows, OLD_LOAD.symbols, interval_ms=interval_ms)
            move_to_the_end(journal, "timed")
            line: list[str] = self._store(OLD_LOAD, journal, rows)
        return line

    @row
    def _drain(self) -> list[str]:
        rows = self._rows(BACKLOG_ROWS)
        with tempfile.TemporaryDirectory() as folder:
            journal = Path(folder, "journal")
            make_journal(journal, rows, OLD_LOAD.symbols)
            drained = drain(journal, rows, self._scaled(COMPARED["paced-2000"]), self._uri)
        return [
            f"{rows:,}",
            f"{drained.per_second:,.0f}",
            f"{drained.cpu_s / drained.bars * 1e6:.0f}",
            f"{drained.plain_per_second:,.0f}",
            f"{drained.per_second / drained.plain_per_second:.2f}",
            f"{1e6 / drained.per_second:,.0f} s",
        ]

    def _rows(self, rows: int) -> int:
        return max(1_000, int(rows * self._scale))


def _certificates(folder: Path) -> tuple[str, str]:
    """Return the files of an authority, and of a certificate for localhost."""
    authority = trustme.CA()
    ca_file, certificate = folder / "ca.pem", folder / "server.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    return str(ca_file), str(certificate)


def _median(runs: list[Measured], name: str) -> float:
    return float(statistics.median(getattr(run, name) for run in runs))


def _print(headers: str, lines: list[list[str]]) -> None:
    lines = [line for line in lines if line]
    if lines:
        names = [name.strip() for name in headers.split(",")]
        sides = ["left", *["right"] * (len(names) - 1)]
        print(
            tabulate(lines, names, tablefmt="github", disable_numparse=True, colalign=sides),
            end="\n\n",
            flush=True,
        )


def _say(name: str) -> None:
    print(name, file=sys.stderr, flush=True)


def _wanted(text: str) -> list[str]:
    """Return the rows that *text* names, or begins the names of."""
    asked = [name.strip() for name in text.split(",") if name.strip()]
    for name in asked:
        if not any(row.startswith(name) for row in ROWS):
            sys.exit(f"benchmark: no row is named {name!r}; there are {', '.join(ROWS)}")
    return [row for row in ROWS if any(row.startswith(name) for name in asked)]


def main() -> None:
    """Read the command line, run what it asks for."""
    parser = argparse.ArgumentParser(
        prog="benchmark.sh",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        default=",".join(ROWS),
        metavar="NAMES",
        help="rows, or how their names begin (all: %(default)s)",
    )
    parser.add_argument(
        "--scale",
        type=number(0.001, 1_000),
        default=1.0,
        help="all amounts times this; live rows below 0.7 have bars of one second (%(default)s)",
    )
    parser.add_argument(
        "--repeat",
        type=whole_number(1, 1_000),
        default=1,
        help="first table: print medians of so many runs",
    )
    arguments = parser.parse_args()
    names = _wanted(arguments.only)
    if not Path("/proc/self/io").exists():
        sys.exit("benchmark: CPU time and bytes are read from /proc, which only Linux has")
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.1"
    with ExitStack() as stack:
        uri = ""
        if {*names} - {*COMPARED}:
            uri = _mongodb(stack)
        sys.exit(Benchmark(names, arguments.scale, arguments.repeat, uri).run())


def _mongodb(stack: ExitStack) -> str:
    """Return the URI of the tester's server, of one that runs as long as *stack*, or nothing."""
    if uri := os.environ.get(URI_VARIABLE):
        return uri
    binary = find_mongod()
    if binary is None:
        print(f"benchmark: {NOT_FOUND}; bars go to no database", file=sys.stderr)
        return ""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    return stack.enter_context(Mongod(binary, folder)).uri


if __name__ == "__main__":
    main()
