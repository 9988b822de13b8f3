"""`bintrades plot`: candles, volume by side and what is proven, as a picture or a page."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bintrades.app.stored_bars import StoredBars, span_of
from bintrades.cli import arguments
from bintrades.cli.chart import ENDINGS, Drawn, draw
from bintrades.cli.exit_status import EXIT_CODES, OK
from bintrades.cli.extras import lacking
from bintrades.cli.whole_file import whole_file
from bintrades.config.loader import load_config
from bintrades.errors import BintradesError, ConfigError
from bintrades.journal.reader import JournalReader
from bintrades.reading.sources import open_source
from bintrades.util.durations import UNITS_MS, format_duration

if TYPE_CHECKING:
    import argparse

    from bintrades.core.spans import Span

_USUAL_MS = UNITS_MS["d"]
_USUAL_CANDLES, _MOST_CANDLES = 1_000, 3_000
_INTERVALS_MS = [
    count * UNITS_MS[unit]
    for unit, counts in (
        ("s", (1, 2, 5, 10, 15, 20, 30)),
        ("m", (1, 2, 3, 5, 10, 15, 20, 30)),
        ("h", (1, 2, 3, 4, 6, 8, 12)),
        ("d", (1, 2, 3, 7, 14, 28)),
    )
    for count in counts
]


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its options."""
    parser = arguments.add_command(commands, "plot", summary)
    parser.description = (
        "Draw candles of one symbol, below them how much takers bought and sold, and what of the"
        " time is proven (needs the extra: plot). Candles that are not proven to be whole are pale."
    )
    parser.epilog = EXIT_CODES
    parser.add_argument(
        "symbol", type=arguments.symbol, metavar="SYMBOL", help="as the exchange writes it: BTCUSDT"
    )
    arguments.add_span(parser, "1d")
    arguments.add_interval(parser, f"such that there are at most {_USUAL_CANDLES} candles")
    parser.add_argument(
        "--to",
        required=True,
        metavar="FILE",
        help="such as btc.png, btc.svg, or btc.html, a page that needs no network",
    )
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.add_argument("--store", metavar="NAME", help="the bars of this store, not the journal's")


def execute(options: argparse.Namespace) -> int:
    """Draw the picture into its file."""
    path = Path(options.to).absolute()
    if path.suffix.lower() not in ENDINGS:
        known = ", ".join(ENDINGS)
        raise ConfigError(f"--to {options.to}: its ending says no form; known are {known}")
    _require_libraries()
    journal = load_config(options.config).journal.path
    reader = JournalReader(journal) if options.store is None or journal.exists() else None
    with open_source(options.config, options.store) as source:
        bars = StoredBars(source, reader, with_open=True)
        source.check(options.symbol)
        since = _USUAL_MS if options.since is None else options.since
        wanted = span_of(since, options.until, source.newest_ms)
        span = _with_bars(bars, options.symbol, wanted)
        interval_ms = _interval(options.interval, span, bars.interval_ms)
        drawn = _drawn(bars, options.symbol, span, interval_ms)
        with whole_file(path, replaces=options.force) as file:
            file.write(draw(drawn, path.suffix.lower()))
    return OK


def _require_libraries() -> None:
    """Raise BintradesError unless what draws is installed."""
    for module, package in (("altair", "altair"), ("vl_convert", "vl-convert-python")):
        if find_spec(module) is None:
            raise lacking("plot", package, "plot")


def _with_bars(bars: StoredBars, symbol: str, span: Span) -> Span:
    """Return the part of *span* from the first bar to the end of the last one."""
    first = last = None
    for page in bars.rows(symbol, *span):
        first = page[0][1] if first is None else first
        last = page[-1][1]
    if first is None or last is None:
        raise BintradesError(f"{symbol}: no bar opens in that time, so there is nothing to draw")
    return int(first), int(last) + bars.interval_ms


def _interval(wanted_ms: int | None, span: Span, stored_ms: int) -> int:
    """Return how long a candle is. Raises ConfigError for one that makes too many of them."""
    length_ms = span[1] - span[0]
    fitting = [stored_ms, *(each for each in _INTERVALS_MS if each % stored_ms == 0)]
    few = [each for each in fitting if length_ms <= each * _USUAL_CANDLES]
    usual_ms = min(few, default=-(-length_ms // (_USUAL_CANDLES * stored_ms)) * stored_ms)
    if wanted_ms is None:
        return usual_ms
    interval_ms = arguments.check_interval(wanted_ms, stored_ms)
    if length_ms > interval_ms * _MOST_CANDLES:
        raise ConfigError(
            f"--interval {format_duration(interval_ms)}: {-(-length_ms // interval_ms)} candles are"
            f" too many to be seen, {_MOST_CANDLES} are the most; --interval"
            f" {format_duration(usual_ms)} makes fewer of them, and --since and --until less time"
        )
    return interval_ms


def _drawn(bars: StoredBars, symbol: str, span: Span, interval_ms: int) -> Drawn:
    since_ms = span[0] - span[0] % interval_ms
    until_ms = span[1] + -span[1] % interval_ms
    candles = list(bars.longer(symbol, since_ms, until_ms, interval_ms))
    return Drawn(
        symbol,
        bars.market,
        interval_ms,
        since_ms,
        until_ms,
        candles,
        bars.covered(symbol, since_ms, until_ms),
        bars.judged_until_ms(symbol),
    )
