"""Generated trades: the frames to send, and the sums that whoever received them must have."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

START_MS = 1_720_000_000_000
FLOOD_TRADES_PER_SECOND = 5_000
"""Trades per second of market time in a flood, as on a busy day: bars close every 50,000 trades."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: how many trades of how many symbols, and how they come.

    The trades of a live load happen when they are sent, by the clock of this machine.
    """

    name: str
    trades: int
    symbols: int
    trades_per_second: int = 0
    is_tls: bool = False
    is_live: bool = False

    @property
    def streams(self) -> list[str]:
        """Name of each symbol's stream."""
        return [f"{symbol.lower()}@trade" for symbol in symbols(self.symbols)]

    @property
    def market_trades_per_second(self) -> int:
        """How many trades share a second of market time."""
        return self.trades_per_second or FLOOD_TRADES_PER_SECOND


@dataclass(slots=True)
class Sums:
    """Exact sums over the trades of one symbol: quantity in units of 1e-8, value of 1e-16."""

    trades: int = 0
    buys: int = 0
    quantity: int = 0
    value: int = 0


@dataclass(slots=True)
class Frames:
    """Encoded WebSocket frames in the order of sending, the stream of each, and the exact sums."""

    frames: list[bytes] = field(default_factory=list)
    streams: list[int] = field(default_factory=list)
    sums: dict[str, Sums] = field(default_factory=dict)


def symbols(count: int) -> list[str]:
    """Return *count* names, as long as the exchange's usually are."""
    return [f"C{number:03d}USDT" for number in range(count)]


def generate(load: Load, start_ms: int = START_MS) -> Frames:
    """Make the trades of *load*: the same for the same load, symbols at random, ids in order.

    Ids begin at 0, so that nothing is missing before the first trade.
    """
    chance = random.Random(f"{load.trades} {load.symbols}")
    names = symbols(load.symbols)
    prices = [chance.randrange(10_000, 7_000_000) for _ in names]
    ids = [-1] * load.symbols
    made = Frames(sums={name: Sums() for name in names})
    for number in range(load.trades):
        which = chance.randrange(load.symbols)
        name = names[which]
        ids[which] += 1
        prices[which] = max(1, prices[which] + chance.randrange(-5, 6))
        price, quantity = prices[which], chance.randrange(1, 500_000)
        time_ms = start_ms + number * 1000 // load.market_trades_per_second
        is_sell = chance.random() < 0.5
        text = (
            f'{{"stream":"{name.lower()}@trade","data":{{"e":"trade","E":{time_ms + 1},'
            f'"s":"{name}","t":{ids[which]},"p":"{price // 100}.{price % 100:02d}000000",'
            f'"q":"{quantity // 100_000}.{quantity % 100_000:05d}000","T":{time_ms},'
            f'"m":{"true" if is_sell else "false"},"M":true}}}}'
        )
        made.frames.append(frame(text.encode()))
        made.streams.append(which)
        sums = made.sums[name]
        sums.trades += 1
        sums.buys += not is_sell
        sums.quantity += quantity * 1_000
        sums.value += price * 1_000_000 * quantity * 1_000
    return made


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """Return *payload* as a server sends it: one whole WebSocket frame, not masked."""
    if len(payload) < 126:
        return bytes((0x80 | opcode, len(payload))) + payload
    return struct.pack("!BBH", 0x80 | opcode, 126, len(payload)) + payload
