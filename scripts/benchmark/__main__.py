"""The harness: starts sender, collector and plain way, measures both, prints one table.

CPU is user and system time of the whole process, all threads, from the first frame sent until the
process has ended in good order: decoding, ledger, bars, checkpoints, journal and the writing of
open bars are in it, starting and subscribing are not. What the collector has in its journal at the
end must be, symbol by symbol, the exact sums of what was sent, or there is no figure.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trustme
from tabulate import tabulate

from scripts.benchmark.load import Load, Sums, symbols
from scripts.benchmark.sender import send_loads

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 300.0
SETTLE_S = 1.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")

CONFIGURATION = """\
[binance]
stream_url = {scheme}://localhost:{port}
rest_url = http://localhost:{rest_port}
streams_per_connection = 1024
[symbols]
include = {symbols}
[repair]
enabled = no
[journal]
path = journal
[stores]
enabled =
[logging]
file = log
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one process needed for one load."""

    cpu_s: float
    elapsed_s: float
    peak_mib: float


class Sender:
    """The sending process, ready to send one load any number of times."""

    def __init__(self, load: Load, certificate: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=send_loads, args=(theirs, load, certificate), daemon=True
        )
        self._process.start()
        self.sums: dict[str, Sums]
        self.port, self.rest_port, self.sums = self.receive()

    def send(self, word: str | None) -> None:
        """Tell the sender to go on."""
        self._pipe.send(word)

    def receive(self) -> Any:
        """Return what the sender says next. Raises TimeoutError when it says nothing."""
        if not self._pipe.poll(TIMEOUT_S):
            raise TimeoutError("the sender waits for a collector that does not come, or read")
        return self._pipe.recv()

    def close(self) -> None:
        """End the process."""
        self.send(None)
        self._process.join(5)


def measure(sender: Sender, process: subprocess.Popen[bytes], *, by_signal: bool) -> Measured:
    """Feed *process*, which is about to connect, and let it end.

    The collector ends *by_signal*, the plain way when the connection is closed.
    """
    sender.receive()
    time.sleep(SETTLE_S)
    cpu_before = cpu_seconds(process.pid)
    started = time.perf_counter()
    sender.send("go")
    sender.receive()
    if by_signal:
        process.send_signal(signal.SIGTERM)
    else:
        sender.send("end")
    _, status, usage = os.wait4(process.pid, 0)
    elapsed_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if by_signal:
        sender.send("end")
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode} of {process.args!r}")
    return Measured(usage.ru_utime + usage.ru_stime - cpu_before, elapsed_s, usage.ru_maxrss / 1024)


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a running process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def run_collector(load: Load, sender: Sender, ca_file: str) -> Measured:
    """Measure `bintrades run`, and check its journal against what was sent."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "benchmark.ini")
        config.write_text(
            CONFIGURATION.format(
                scheme="wss" if load.is_tls else "ws",
                port=sender.port,
                rest_port=sender.rest_port,
                symbols=" ".join(symbols(load.symbols)),
            ),
            encoding="utf-8",
        )
        command = [sys.executable, "-P", "-m", "bintrades", "run", "--config", str(config)]
        environment = os.environ | {"WEBSOCKET_CLIENT_CA_BUNDLE": ca_file} if ca_file else None
        sender.send("serve")
        try:
            with ended(subprocess.Popen(command, env=environment)) as process:
                measured = measure(sender, process, by_signal=True)
            check(Path(folder, "journal"), sender.sums)
        except Exception:
            print(Path(folder, "log").read_text(encoding="utf-8")[-5_000:], file=sys.stderr)
            raise
    return measured


def run_plain(load: Load, sender: Sender, ca_file: str) -> Measured:
    """Measure the plain way, and check that it counted every trade."""
    url = f"{'wss' if load.is_tls else 'ws'}://localhost:{sender.port}/stream"
    command = [sys.executable, "-m", "scripts.benchmark.plain", url, str(load.symbols), ca_file]
    sender.send("serve")
    with ended(subprocess.Popen(command, stdout=subprocess.PIPE)) as process:
        measured = measure(sender, process, by_signal=False)
        assert process.stdout is not None
        counted = int(process.stdout.read())
    if counted != load.trades:
        raise ValueError(f"the plain way counted {counted} of {load.trades} trades")
    return measured


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Leave no process behind."""
    with process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


def check(journal: Path, expected: dict[str, Sums]) -> None:
    """Raise ValueError unless the bars of *journal* add up, exactly, to what was sent."""
    found: dict[str, Sums] = defaultdict(Sums)
    with closing(sqlite3.connect(journal)) as database:
        for symbol, trades, buys, quantity, value in database.execute(
            "SELECT symbol, trade_count, buy_count, quantity, value FROM bars"
        ):
            sums = found[symbol]
            sums.trades += trades
            sums.buys += buys
            sums.quantity += exact(quantity, 8)
            sums.value += exact(value, 16)
    for symbol, sums in expected.items():
        if found[symbol] != sums:
            raise ValueError(f"{symbol}: sent {sums}, but the journal has {found[symbol]}")


def exact(text: str, places: int) -> int:
    """Return the decimal number *text* in units of 10 ** -places, which must divide it."""
    units = Fraction(text) * 10**places
    if units.denominator != 1:
        raise ValueError(f"{text} has more than {places} places")
    return int(units)


def compare(load: Load, repeat: int) -> list[list[str]]:
    """Run both ways *repeat* times; return their rows of the table, of medians."""
    with tempfile.TemporaryDirectory() as folder:
        ca_file = certificate = ""
        if load.is_tls:
            authority = trustme.CA()
            ca_file, certificate = f"{folder}/ca.pem", f"{folder}/server.pem"
            authority.cert_pem.write_to_path(ca_file)
            issued = authority.issue_cert("localhost")
            issued.private_key_and_cert_chain_pem.write_to_path(certificate)
        sender = Sender(load, certificate)
        ours, plain = [], []
        for _ in range(repeat):
            ours.append(run_collector(load, sender, ca_file))
            plain.append(run_plain(load, sender, ca_file))
        sender.close()
    ratio = median(plain, "cpu_s") / median(ours, "cpu_s")
    return [row(load, "bintrades", ours, f"{ratio:.1f}"), row(load, "plain way", plain, "")]


def median(runs: list[Measured], name: str) -> float:
    """Return the median of one figure."""
    return float(statistics.median(getattr(run, name) for run in runs))


def row(load: Load, way: str, runs: list[Measured], ratio: str) -> list[str]:
    """Return one line of the table."""
    cpu_s, elapsed_s = median(runs, "cpu_s"), median(runs, "elapsed_s")
    return [
        load.name,
        f"{load.symbols:,}",
        f"{load.trades:,}",
        way,
        f"{cpu_s / load.trades * 1e6:.1f}",
        f"{load.trades / elapsed_s:,.0f}",
        f"{cpu_s / elapsed_s:.1%}",
        f"{median(runs, 'peak_mib'):.0f}",
        ratio,
    ]


def loads(names: list[str], trades: int, counts: list[int], seconds: int) -> Iterator[Load]:
    """Yield what the command line asks for: floods of each count of symbols, the others of one."""
    count = 400 if 400 in counts else counts[-1]
    for name in names:
        if name == "flood":
            yield from (Load(name, trades, each) for each in counts)
        elif name == "long":
            yield Load(name, 4 * trades, count)
        elif name == "tls":
            yield Load(name, trades, count, is_tls=True)
        elif name.removeprefix("paced").isdigit():
            rate = int(name.removeprefix("paced"))
            yield Load(name, rate * seconds, count, trades_per_second=rate)
        else:
            sys.exit(f"benchmark: no load is named {name!r}; see --help")


def main() -> None:
    """Read the command line, run what it asks for."""
    parser = argparse.ArgumentParser(
        prog="benchmark.sh",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trades", type=int, default=300_000, help="of a flood (%(default)s)")
    parser.add_argument(
        "--loads",
        default="flood,long,tls,paced2000,paced20000",
        help="flood; long: of four times the trades; tls: a flood, one TLS record per frame; "
        "pacedN: N trades a second, some every millisecond (%(default)s)",
    )
    parser.add_argument("--symbols", default="1,400,3000", help="of the floods (%(default)s)")
    parser.add_argument("--seconds", type=int, default=20, help="of a paced load (%(default)s)")
    parser.add_argument("--repeat", type=int, default=1, help="print medians of so many runs")
    arguments = parser.parse_args()
    if not Path("/proc/self/stat").exists():
        sys.exit("benchmark: CPU time is read from /proc, which only Linux has")
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost"

    counts = [int(count) for count in arguments.symbols.split(",")]
    lines = []
    for load in loads(arguments.loads.split(","), arguments.trades, counts, arguments.seconds):
        print(f"{load.name}: {load.trades:,} trades of {load.symbols:,} symbols", file=sys.stderr)
        lines += compare(load, arguments.repeat)
    headers = ["load", "symbols", "trades", "way", "CPU us/trade", "trades/s", "of a core"]
    print(
        tabulate(
            lines,
            headers=[*headers, "peak MiB", "ratio"],
            disable_numparse=True,
            colalign=["left", "right", "right", "left", *["right"] * 5],
        )
    )


if __name__ == "__main__":
    main()
