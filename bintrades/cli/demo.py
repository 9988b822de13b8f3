"""`bintrades demo`: a simulated exchange and a collector, and its bars as they close."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bintrades.cli.arguments import number
from bintrades.cli.bar_text import FORMS
from bintrades.cli.exit_status import EXIT_CODES, FAILURE, OK
from bintrades.cli.output import print_pieces, print_problems, print_text
from bintrades.cli.simulate import require_simulator
from bintrades.errors import BintradesError, JournalError
from bintrades.journal.reader import JournalReader

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYMBOLS = ("BTCUSDT", "ETHUSDT")
_RATE = 40
_BARS_SHOWN = 6
_LOOK_EVERY_S = 0.2
_STOP_WITHIN_S = 20.0
_LINES_OF_A_LOG = 20
_CONFIG = """\
[binance]
stream_url = {streams}
rest_url = {rest}

[symbols]
include = {symbols}

[journal]
path = demo.journal

[stores]
enabled =

[http]
listen =

[logging]
format = text
"""


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "demo",
        help=summary,
        description="A simulated exchange and a collector of its trades, whose bars are printed as"
        " they close (needs the extra: simulator).\nNeeds no network, no database and no"
        " configuration, and leaves nothing behind.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "seconds",
        type=number(1, 999_999),
        nargs="?",
        default=35,
        metavar="SECONDS",
        help="how long (default: %(default)s)",
    )


def execute(options: argparse.Namespace) -> int:
    """Show it; return the exit status. Raises BintradesError without the extra. Main thread."""
    require_simulator()
    with _stops() as stops, ExitStack() as ending:
        folder = Path(ending.enter_context(TemporaryDirectory(prefix="bintrades-demo-")))
        simulator = ending.enter_context(_Process("simulator", folder, *_simulate()))
        streams, rest = (_address(simulator, stops, name) for name in ("streams", "rest"))
        print_text(
            f"A simulated exchange trades {' and '.join(_SYMBOLS)}: streams at {streams}, REST at"
            f" {rest}\n"
        )
        config = folder / "demo.ini"
        symbols = ", ".join(_SYMBOLS)
        text = _CONFIG.format(streams=streams, rest=rest, symbols=symbols)
        config.write_text(text, encoding="utf-8")
        collector = _Process("collector", folder, "run", "--config", str(config))
        ending.enter_context(collector)
        print_text(
            "The collector records them; a bar is printed when its 10 seconds are over, for"
            f" {options.seconds} s."
        )
        reader = JournalReader(folder / "demo.journal")
        end_at = time.monotonic() + options.seconds
        shown = _closed(reader)
        while time.monotonic() < end_at:
            _pause(stops)
            simulator.must_run()
            collector.must_run()
            if _closed(reader) != shown:
                _pause(stops)  # those of the other symbol close in the same moment
                shown = _closed(reader)
                _print_bars(reader)
        print_text("\nStopping the collector in an orderly way: the open bars are written, too.")
        if status := collector.stop():
            collector.show_log(f"the collector ended with status {status}")
            return FAILURE
        _print_bars(reader)
    print_text(
        "\nThat was all. With Binance itself: `bintrades example > bintrades.ini`, and"
        " `bintrades run --config bintrades.ini`"
    )
    return OK


class _Process:
    """A command of ours in a process of its own, which ends with the block."""

    def __init__(self, name: str, folder: Path, *arguments: str) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        environ = {key: os.environ[key] for key in os.environ if not key.startswith("BINTRADES_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "bintrades", *arguments],
                cwd=folder,
                env=environ | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us, who end them one after the other
            )

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    @property
    def said(self) -> str:
        """All that it has printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def must_run(self) -> None:
        """Raise BintradesError once it is gone, and show why."""
        status = self._process.poll()
        if status is not None:
            self.show_log(f"the {self.name} has ended by itself")
            raise BintradesError(f"the {self.name} has ended with status {status}")

    def stop(self) -> int:
        """Ask it to stop, and kill it if it does not; return its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def show_log(self, what: str) -> None:
        """Print the last lines that it has printed to stderr."""
        print_problems([f"{what}:", *self.said.splitlines()[-_LINES_OF_A_LOG:]])


@contextmanager
def _stops() -> Iterator[SimpleQueue[int]]:
    """Yield what holds the signals that came and would have ended us amid of it."""
    stops: SimpleQueue[int] = SimpleQueue()  # put() is safe in a signal handler
    wanted = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        wanted.append(signal.SIGHUP)
    before = {
        number: signal.signal(number, lambda number, _frame: stops.put(number)) for number in wanted
    }
    try:
        yield stops
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pause(stops: SimpleQueue[int]) -> None:
    """Wait a moment; raise SystemExit with the status that shells have for a signal."""
    try:
        number = stops.get(timeout=_LOOK_EVERY_S)
    except Empty:
        return
    raise SystemExit(128 + number)


def _simulate() -> list[str]:
    ports = ["--stream-port", "0", "--rest-port", "0"]
    return ["simulate", "--symbols", ",".join(_SYMBOLS), *ports, "--rate", str(_RATE)]


def _address(simulator: _Process, stops: SimpleQueue[int], name: str) -> str:
    """Return where the simulator says that it listens, once it does."""
    while not (found := re.search(rf"^{name}: (\S+)\n", simulator.said, re.MULTILINE)):
        simulator.must_run()
        _pause(stops)
    return found[1]


def _closed(reader: JournalReader) -> list[tuple[str, int]]:
    """Return the closed bars among the newest ones; none before there is a journal."""
    try:
        return [
            (symbol, bar.open_time_ms)
            for symbol in _SYMBOLS
            for bar in reader.bars(symbol, 0, _end(reader, symbol), _BARS_SHOWN)
            if bar.is_closed
        ]
    except JournalError:
        return []


def _print_bars(reader: JournalReader) -> None:
    for symbol in _SYMBOLS:
        print_text(f"\n{symbol}")
        pages = reader.pages(symbol, 0, _end(reader, symbol), _BARS_SHOWN)
        print_pieces(FORMS["table"](pages, *reader.scope()))


def _end(reader: JournalReader, symbol: str) -> int:
    newest_ms = reader.newest_open_time_ms(symbol)
    return 0 if newest_ms is None else newest_ms + 1
