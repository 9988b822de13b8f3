"""Recordings for the tests to play: real ones where somebody has them, a generated one everywhere.

A recording is a folder `spot_<day>` of gzip files with lines `<receive time in ns> <frame>`, as the
combined stream of Binance spot sends frames. `*.trades.gz` has the trades of one symbol and day;
`*.session.gz` of the same name has the same trades among all else that came over the connection.
"""

from __future__ import annotations

import gzip
import json
import os
import random
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bintrades.testing.exchange_simulator import combined_payload
from bintrades.testing.simulated_market import SimulatedTrade

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FOLDER_VARIABLE = "BINTRADES_TEST_RECORDED"
"""Names the folder that has the real recordings' folders in it."""

START_MS, END_MS = 1_723_161_255_342, 1_723_161_905_800
"""The times of the real recording, which has a midnight and so a second file per symbol in it."""
_MIDNIGHT_MS = 1_723_161_600_000
_RECORDER_BEHIND_MS = 1_272  # the recorder's clock, behind that of the exchange
_UNIT = 10**8
_SEED = 20240808


@dataclass(frozen=True)
class Recording:
    """The files of one recording; the session has more than trades for one of them."""

    trades: tuple[Path, ...]
    session: tuple[Path, ...]


@dataclass(frozen=True)
class _Habits:
    """How a symbol trades: prices and quantities in 10^-8, orders per second."""

    symbol: str
    first_trade_id: int
    price: int
    tick: int
    lot: int
    order_rate: float


_MARKET = (
    _Habits("BTCUSDT", 3_735_683_259, 61_837_63 * _UNIT // 100, _UNIT // 100, _UNIT // 10**5, 11.8),
    _Habits("ETHUSDT", 1_520_538_925, 2_683_80 * _UNIT // 100, _UNIT // 100, _UNIT // 10**4, 8.6),
)


def real_folder() -> Path | None:
    """Return the folder of the real recording, None where nobody has put one.

    Raises FileNotFoundError where somebody has named a folder that does not have it.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    beside = Path(__file__).resolve().parents[2] / "shared" / "recorded"
    folder = Path(named or beside) / "spot_20240808"
    if folder.is_dir():
        return folder
    if named:
        raise FileNotFoundError(
            f"{FOLDER_VARIABLE}={named}: there is no folder spot_20240808 in it"
        )
    return None


def recorded(name: str) -> Path:
    """Return a recorded file by its path in the folder of all recordings; skip without it."""
    folder = real_folder()
    path = None if folder is None else folder.parent / name
    if path is None or not path.is_file():
        pytest.skip(f"there is no recorded {name} beside this checkout")
    return path


def sample(name: str) -> Path:
    """Return one of the recorded samples; skip without it."""
    return recorded(f"samples/{name}")


def open_recording(folder: Path) -> Recording:
    """Return the files of a recording's folder."""
    trades = tuple(sorted(folder.glob("*.trades.gz")))
    sessions = {path.name.removesuffix(".session.gz"): path for path in folder.glob("*.session.gz")}
    return Recording(
        trades,
        tuple(sessions.get(path.name.removesuffix(".trades.gz"), path) for path in trades),
    )


def generate_recording(folder: Path, seed: int = _SEED) -> Recording:
    """Write a recording of two symbols in eleven minutes into *folder*; the same for each *seed*.

    It has what the real one has: ids one after the other, orders that sweep up to hundreds of
    fills within one millisecond, event times that lag behind trade times by up to 0.2 s, also into
    the next bar, a recorder's clock that is behind, symbols that overtake each other.
    """
    for habits in _MARKET:
        rng = random.Random(f"{seed} {habits.symbol}")
        lines = list(_receive(_trades(habits, rng), rng))
        for day in ("20240808", "20240809"):
            name = f"spot_{habits.symbol.lower()}_{day}"
            part = [(time_ns, trade) for time_ns, trade in lines if _day(trade) == day]
            frames = [(time_ns, combined_payload(trade)) for time_ns, trade in part]
            _write(folder / f"{name}.trades.gz", frames)
            if name == "spot_btcusdt_20240808":
                _write(folder / f"{name}.session.gz", _with_other_streams(part, rng))
    return open_recording(folder)


def _trades(habits: _Habits, rng: random.Random) -> Iterator[SimulatedTrade]:
    ids = count(habits.first_trade_id)
    price = habits.price
    time_ms = float(START_MS)
    while time_ms < END_MS:
        is_sell = rng.random() < 0.5
        event_ms = int(time_ms) + _latency_ms(rng)
        for _ in range(_fills(rng)):
            price += rng.choice((0, 0, 0, 1)) * (-habits.tick if is_sell else habits.tick)
            quantity = max(1, int(rng.lognormvariate(5, 2))) * habits.lot
            yield SimulatedTrade(
                habits.symbol,
                next(ids),
                _text(price),
                _text(quantity),
                int(time_ms),
                event_ms,
                is_sell,
            )
        # Quiet and busy moments: most orders come soon after the one before.
        mean_ms = 1_000 / habits.order_rate
        time_ms += rng.expovariate(1 / mean_ms) * (0.25 if rng.random() < 0.8 else 4)


def _day(trade: SimulatedTrade) -> str:
    return "20240808" if trade.time_ms < _MIDNIGHT_MS else "20240809"


def _fills(rng: random.Random) -> int:
    """Most orders meet one other, some a handful, a few hundreds."""
    chance = rng.random()
    if chance < 0.7:
        return 1
    return rng.randint(2, 6) if chance < 0.999 else rng.randint(100, 700)


def _latency_ms(rng: random.Random) -> int:
    return (
        rng.choice((0, 1, 1, 1, 1, 1, 1, 2, 2, 3, 5)) if rng.random() < 0.9 else rng.randint(6, 214)
    )


def _receive(
    trades: Iterable[SimulatedTrade], rng: random.Random
) -> Iterator[tuple[int, SimulatedTrade]]:
    """Give each trade its receive time: never before the one before, and frames come in bulk."""
    received_ns = 0
    for trade in trades:
        arrival_ms = trade.event_time_ms - _RECORDER_BEHIND_MS + rng.randint(0, 12)
        received_ns = max(received_ns + rng.randint(400, 900), arrival_ms * 1_000_000)
        yield received_ns, trade


def _with_other_streams(
    lines: Iterable[tuple[int, SimulatedTrade]], rng: random.Random
) -> Iterator[tuple[int, bytes]]:
    """Put book tickers, depth updates and an answer of REST between the trades, as recorded."""
    update_ids = count(50_093_239_189)
    next_depth_ns = 0
    for number, (time_ns, trade) in enumerate(lines):
        if time_ns >= next_depth_ns:
            next_depth_ns = time_ns + 100_000_000
            yield time_ns - 200, _depth(trade, next(update_ids))
        for before_ns in range(rng.randint(1, 6), 0, -1):
            yield time_ns - before_ns, _ticker(trade, next(update_ids))
        yield time_ns, combined_payload(trade)
        if number == 0:
            yield time_ns, _json({"lastUpdateId": next(update_ids), "bids": [], "asks": []})


def _ticker(trade: SimulatedTrade, update_id: int) -> bytes:
    best = {"b": trade.price, "B": "3.78826000", "a": trade.price, "A": trade.quantity}
    data = {"u": update_id, "s": trade.symbol, **best}
    return _json({"stream": f"{trade.symbol.lower()}@bookTicker", "data": data})


def _depth(trade: SimulatedTrade, update_id: int) -> bytes:
    ids = {"U": update_id, "u": update_id}
    data = {"e": "depthUpdate", "E": trade.event_time_ms, "s": trade.symbol, **ids}
    data |= {"b": [[trade.price, "0.00000000"]], "a": [[trade.price, trade.quantity]]}
    return _json({"stream": f"{trade.symbol.lower()}@depth@100ms", "data": data})


def _write(path: Path, frames: Iterable[tuple[int, bytes]]) -> None:
    text = b"".join(b"%d %b\n" % frame for frame in frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text, compresslevel=1, mtime=0))


def _json(message: object) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def _text(units: int) -> str:
    return f"{units // _UNIT}.{units % _UNIT:08d}"
