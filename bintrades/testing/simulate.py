"""`bintrades simulate`: the exchange simulator as a program, for a look around without Binance."""

from __future__ import annotations

import argparse
import itertools
import math
import signal
import sys
import threading
import time
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from bintrades.errors import BintradesError
from bintrades.testing.amounts import number, whole_number
from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.testing.market_rules import MARKETS
from bintrades.testing.recordings import generate_trades, read_recording
from bintrades.util.durations import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bintrades.testing.simulated_market import SimulatedTrade

_REPORT_S = 5.0
_STEP_S = 0.02
_PAST_MS = 20_000
_TRADES_PER_FILLER = 85  # as was measured of USD-M
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options that run() understands."""
    parser.add_argument(
        "--market",
        choices=tuple(MARKETS),
        default="spot",
        help="which of Binance's markets it is (default: %(default)s)",
    )
    parser.add_argument(
        "--symbols",
        type=_symbols,
        metavar="A,B",
        help="symbols that trade, separated by commas (default: BTCUSDT,ETHUSDT; of coinm "
        "BTCUSD_PERP,ETHUSD_PERP)",
    )
    parser.add_argument(
        "--stream-port",
        type=whole_number(0, 65_535),
        default=9443,
        metavar="PORT",
        help="of the streams; 0: any (default: %(default)s)",
    )
    parser.add_argument(
        "--rest-port",
        type=whole_number(0, 65_535),
        default=9080,
        metavar="PORT",
        help="of REST; 0: any (default: %(default)s)",
    )
    parser.add_argument(
        "--rate",
        type=number(1e-3, 1e9),
        default=20.0,
        metavar="N",
        help="generated trades per second, all symbols together (default: %(default)g)",
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0, 2**62),
        default=0,
        metavar="N",
        help="of the generated trades (default: %(default)s)",
    )
    parser.add_argument(
        "--history",
        type=whole_number(1, 10**9),
        default=100_000,
        metavar="N",
        help="trades that REST remembers, all symbols together, at some 400 bytes each; up to "
        "twice as many for a while (default: %(default)s)",
    )
    parser.add_argument(
        "--recording",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="play these files (gzip, lines of '<receive time in ns> <frame>'), merged by time, "
        "once somebody has subscribed, instead of generated trades",
    )
    parser.add_argument(
        "--speed",
        type=number(1e-3, math.inf),
        default=1.0,
        metavar="FACTOR",
        help="of the recording; 1: as recorded, inf: as fast as possible (default: %(default)g)",
    )
    parser.add_argument(
        "--duration",
        type=_seconds,
        metavar="DURATION",
        help="stop by itself after 90s, 10m, 2h, or so many seconds (default: never)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Be an exchange until SIGINT, SIGTERM or the end of the duration; return the exit status.

    Call it from the main thread. Status 1: a port is taken or a recording cannot be read.
    """
    stops: SimpleQueue[str] = SimpleQueue()  # put() is safe in a signal handler
    with _signals_into(stops):
        try:
            exchange = ExchangeSimulator(
                () if arguments.recording else _symbols_of(arguments),
                market=arguments.market,
                stream_port=arguments.stream_port,
                rest_port=arguments.rest_port,
                history=arguments.history,
                first_trade_id=time.time_ns() // 1_000_000,  # higher after each restart
            )
        except OSError as error:
            return _fail(f"cannot open the ports: {error}")
        trades = iter(()) if arguments.recording else _begin_trading(exchange, arguments)
        trader = threading.Thread(
            target=_trade, args=(exchange, arguments, trades, stops), name="simulator-trader"
        )
        with exchange:
            _say(f"streams: {exchange.stream_url}")
            _say(f"rest: {exchange.rest_url}")
            trader.start()
            problem = _report(exchange, stops, arguments.duration)
        trader.join()
    return _fail(problem) if problem else 0


@contextmanager
def _signals_into(stops: SimpleQueue[str]) -> Iterator[None]:
    before = {
        number: signal.signal(number, lambda *_arguments: stops.put("")) for number in _STOP_SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(exchange: ExchangeSimulator, stops: SimpleQueue[str], duration_s: float | None) -> str:
    """Print a line every few seconds; return what went wrong once it is time to stop."""
    end_at = math.inf if duration_s is None else time.monotonic() + duration_s
    while (left_s := end_at - time.monotonic()) > 0:
        try:
            return stops.get(timeout=min(_REPORT_S, left_s))
        except Empty:
            connections = exchange.connections
            streams = sum(len(connection.streams) for connection in connections)
            _say(
                f"{exchange.market.recorded} trades, {len(connections)} connections, "
                f"{streams} subscriptions, {exchange.rest.request_count} REST requests"
            )
    return ""


def _trade(
    exchange: ExchangeSimulator,
    arguments: argparse.Namespace,
    trades: Iterator[SimulatedTrade],
    stops: SimpleQueue[str],
) -> None:
    try:
        if arguments.recording:
            _play(exchange, arguments)
        else:
            _generate(exchange, trades)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        stops.put(str(error))


def _play(exchange: ExchangeSimulator, arguments: argparse.Namespace) -> None:
    frames = read_recording(*arguments.recording)
    first = next(frames, None)  # so that a wrong file is said at once
    if first is None:
        raise ValueError("the recording is empty")
    exchange.wait_until(
        lambda: exchange.ended.is_set() or any(each.streams for each in exchange.connections)
    )
    exchange.play(
        itertools.chain([first], frames), None if math.isinf(arguments.speed) else arguments.speed
    )
    if not exchange.ended.is_set():
        _say("the recording has been played; REST goes on answering")


def _generate(exchange: ExchangeSimulator, trades: Iterator[SimulatedTrade]) -> None:
    is_futures = exchange.market.rules.is_futures
    for trade in trades:
        while (wait_s := trade.time_ms / 1000 - time.time()) > 0:
            if exchange.ended.wait(max(wait_s, _STEP_S)):
                return
        if exchange.ended.is_set():
            return
        exchange.publish(
            trade.symbol, trade.price, trade.quantity, buyer_is_maker=trade.buyer_is_maker
        )
        if is_futures and trade.trade_id % _TRADES_PER_FILLER == 0:
            exchange.publish_filler(trade.symbol)


def _begin_trading(
    exchange: ExchangeSimulator, arguments: argparse.Namespace
) -> Iterator[SimulatedTrade]:
    """Give the market a past, as real ones have; return the trades that follow."""
    now_ms = time.time_ns() // 1_000_000
    past_ms = min(_PAST_MS, round(1000 * arguments.history / arguments.rate))
    symbols = _symbols_of(arguments)
    trades = generate_trades(symbols, arguments.seed, now_ms - past_ms, arguments.rate)
    for trade in itertools.takewhile(lambda trade: trade.time_ms < now_ms, trades):
        exchange.record(
            trade.symbol,
            trade.price,
            trade.quantity,
            time_ms=trade.time_ms,
            buyer_is_maker=trade.buyer_is_maker,
        )
    return trades


def _symbols_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    symbols: tuple[str, ...] | None = arguments.symbols
    if symbols is not None:
        return symbols
    rules = MARKETS[arguments.market]
    return ("BTCUSD_PERP", "ETHUSD_PERP") if rules.has_contracts else ("BTCUSDT", "ETHUSDT")


def _symbols(text: str) -> tuple[str, ...]:
    symbols = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not symbols:
        raise argparse.ArgumentTypeError("names at least one symbol")
    return symbols


def _seconds(text: str) -> float:
    """Accept durations as the other commands do, 90s or 10m, and bare seconds."""
    seconds = math.nan
    with suppress(ValueError):
        seconds = float(text)
    with suppress(ValueError):
        seconds = parse_duration(text) / 1000
    if not seconds > 0:
        raise argparse.ArgumentTypeError(
            "must be a duration above 0, such as 90s, 10m or 2h, or a number of seconds above 0"
        )
    return seconds


def _say(line: str) -> None:
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise BintradesError(f"the output cannot be written: {error.strerror}") from error


def _fail(problem: str) -> int:
    sys.stderr.write(f"bintrades simulate: {problem}\n")
    return 1
