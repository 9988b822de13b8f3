"""The real collector as it is measured: its configuration, its run, and whether it told the truth.

What it has in its journal at the end must be, symbol by symbol, the exact sums of what was sent,
or there is no figure.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections import defaultdict
from contextlib import closing
from fractions import Fraction
from typing import TYPE_CHECKING

from scripts.benchmark import timed
from scripts.benchmark.load import Sums, symbols
from scripts.benchmark.processes import Measured, ended, measure

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.benchmark.load import Load
    from scripts.benchmark.processes import Sender

CONFIGURATION = """\
[binance]
stream_url = {scheme}://localhost:{port}
rest_url = http://localhost:{rest_port}
streams_per_connection = {streams}
[symbols]
include = {symbols}
[bars]
interval = {interval_s}s
[http]
listen =
[journal]
path = journal
[stores]
enabled = {store}
[logging]
file = log
"""
STORE = """\
[store:{store}]
{options}
"""
SHOWN_CHARACTERS = 5_000


def write_configuration(
    folder: Path,
    load: Load,
    sender: Sender,
    *,
    interval_s: int = 10,
    streams: int = 1024,
    store: str = "",
    options: dict[str, str] | None = None,
) -> Path:
    """Write the configuration of a collector of *load* into *folder*; return its path.

    *store* is mongodb, timed or nothing.
    """
    path = folder / "benchmark.ini"
    text = CONFIGURATION.format(
        scheme="wss" if load.is_tls else "ws",
        port=sender.port,
        rest_port=sender.rest_port,
        streams=streams,
        symbols=" ".join(symbols(load.symbols)),
        interval_s=interval_s,
        store=store,
    )
    if store:
        lines = "\n".join(f"{name} = {value}" for name, value in (options or {}).items())
        text += STORE.format(store=store, options=lines)
        (folder / "plugins").mkdir(exist_ok=True)
        shutil.copy(timed.__file__, folder / "plugins")
    path.write_text(text, encoding="utf-8")
    return path


def run_collector(
    config: Path, sender: Sender, *, ca_file: str = "", since_ms: int = 0
) -> Measured:
    """Measure `bintrades run`, and check its journal against what was sent.

    Bars before *since_ms* were there before.
    """
    environment = os.environ | {"WEBSOCKET_CLIENT_CA_BUNDLE": ca_file} if ca_file else None
    sender.send("serve")
    try:
        with ended(subprocess.Popen(command(config), env=environment)) as process:
            measured = measure(sender, process, by_signal=True)
        check(config.with_name("journal"), sender.sums, since_ms)
    except Exception:
        show_log(config)
        raise
    return measured


def command(config: Path) -> list[str]:
    """Return the command that runs a collector."""
    return [sys.executable, "-P", "-m", "bintrades", "run", "--config", str(config)]


def show_log(config: Path) -> None:
    """Print the end of what a collector has said."""
    log = config.with_name("log")
    if log.exists():
        print(log.read_text(encoding="utf-8")[-SHOWN_CHARACTERS:], file=sys.stderr)


def check(journal: Path, expected: dict[str, Sums], since_ms: int) -> None:
    """Raise ValueError unless the bars of *journal* add up, exactly, to what was sent."""
    found: dict[str, Sums] = defaultdict(Sums)
    with closing(sqlite3.connect(journal)) as database:
        for symbol, trades, buys, quantity, value in database.execute(
            "SELECT symbol, trade_count, buy_count, quantity, value FROM bars WHERE open_time >= ?",
            (since_ms,),
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
