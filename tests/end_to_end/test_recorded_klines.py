"""Recorded aggregates of spot against the klines that the exchange sent on the same connection."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from bintrades.core.spans import has
from bintrades.testing.exchange_simulator import ExchangeSimulator
from tests.end_to_end.collector import Collector
from tests.recordings import recorded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.end_to_end.collector import Sections

SESSION = "spot_aggtrade_20210404/BINANCE-ee25be.0.2021-04-04.8980a80.gz"
SYMBOLS = ("BTCUSDT", "DOTUSDT", "ETHUSDT")
STREAMS = tuple(f"{symbol.lower()}@aggTrade" for symbol in SYMBOLS)
MINUTE = 1_617_566_640_000
"""2021-04-04 20:04, the only minute that the recording has from its first trade on."""
NEXT_MINUTE = MINUTE + 60_000
SPAN = ("--since", "2021-04-04T20:04", "--until", "2021-04-04T20:05")
AGGREGATES: Sections = {
    "binance": {"stream": "aggTrade"},
    "symbols": {"include": " ".join(SYMBOLS)},
    "audit": {"enabled": "no"},
    "proof": {"every": "1h"},
}


class Session(NamedTuple):
    """What the connection brought: the data of its messages, by symbol, in their order."""

    aggregates: dict[str, list[dict[str, Any]]]
    klines: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def session() -> Session:
    """Return the recorded session."""
    found = Session({symbol: [] for symbol in SYMBOLS}, {symbol: [] for symbol in SYMBOLS})
    with gzip.open(recorded(SESSION), "rt", encoding="utf-8") as lines:
        for line in lines:
            frame = line.partition(": ")[2]
            data = json.loads(frame)["data"] if frame.startswith('{"stream"') else {}
            if data.get("e") == "aggTrade":
                found.aggregates[data["s"]].append(data)
            elif data.get("e") == "kline":
                found.klines[data["s"]].append(data["k"])
    return found


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    """Run spot with the symbols of the session."""
    with ExchangeSimulator(SYMBOLS) as simulator:
        yield simulator


def covered_klines(session: Session, symbol: str) -> list[dict[str, Any]]:
    """Return the klines whose trades, from `f` to `L`, are those of recorded aggregates."""
    firsts = {each["f"] for each in session.aggregates[symbol]}
    lasts = {each["l"] for each in session.aggregates[symbol]}
    return [each for each in session.klines[symbol] if each["f"] in firsts and each["L"] in lasts]


def frame_of(aggregate: dict[str, Any]) -> tuple[int, bytes]:
    """Return an aggregate as the combined stream sends it."""
    stream = f"{aggregate['s'].lower()}@aggTrade"
    return 0, json.dumps({"stream": stream, "data": aggregate}).encode()


def until_kline(session: Session, symbol: str, kline: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the aggregates up to a kline's last trade, and a made one of the next minute."""
    until = [each for each in session.aggregates[symbol] if each["l"] <= kline["L"]]
    last = until[-1]
    assert last["l"] == kline["L"]
    made = {"a": last["a"] + 1, "f": last["l"] + 1, "l": last["l"] + 1}
    return [*until, {**last, **made, "T": NEXT_MINUTE, "E": NEXT_MINUTE}]


def dump_row(kline: dict[str, Any]) -> str:
    """Return a kline of the stream as a row of a dump."""
    fields = (kline[name] for name in ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B"))
    return ",".join(map(str, fields)) + "\n"


def dump(folder: Path, symbol: str, kline: dict[str, Any]) -> Path:
    path = folder / f"{symbol}-1m-2021-04-04.csv"
    path.write_text(dump_row(kline), encoding="utf-8")
    return path


@pytest.mark.parametrize("number", [0, -1], ids=["early in the minute", "late in the minute"])
def test_bars_of_recorded_aggregates_verify_against_the_klines_beside_them(
    session: Session, exchange: ExchangeSimulator, tmp_path: Path, number: int
) -> None:
    """To the last digit, in every field, for all three symbols.

    The recording has no full minute: it begins 11 seconds into 20:03, of which the closed kline
    (`x`) therefore has trades from before it, and ends 42 seconds into 20:04. What can be compared
    are the klines of 20:04 so far, 51 of all symbols, each with the trades up to its `L`; two of
    each symbol are, with the collector told of nothing later within that minute. Of the closed
    klines nothing is compared.
    """
    klines = {symbol: covered_klines(session, symbol)[number] for symbol in SYMBOLS}
    assert sum(len(covered_klines(session, symbol)) for symbol in SYMBOLS) == 51
    assert not any(kline["x"] for kline in klines.values())
    assert {kline["t"] for kline in klines.values()} == {MINUTE}

    with Collector(tmp_path, exchange, AGGREGATES) as collector:
        collector.start()
        exchange.wait_for_subscription(*STREAMS)
        for symbol, kline in klines.items():
            exchange.play(map(frame_of, until_kline(session, symbol, kline)))
        collector.wait_until(lambda: is_proven(collector), lambda: "20:04 is not proven")
        assert collector.stop() == 0
        files = [dump(tmp_path, symbol, kline) for symbol, kline in klines.items()]
        named = [word for path in files for word in ("--klines", str(path))]
        done = collector.command("verify", "--json", *SPAN, *named)

        assert done.returncode == 0, done.stdout + done.stderr
        said = json.loads(done.stdout)
        found = [
            (each["symbol"], each["equal_seconds"], each["different_seconds"])
            for each in said["symbols"]
        ]
        assert found == [(symbol, 60, 0) for symbol in SYMBOLS], said


def is_proven(collector: Collector) -> bool:
    """Whether nothing of that minute can be missing, of any symbol."""
    found = [collector.journal.coverage(symbol) for symbol in SYMBOLS]
    return all(
        each is not None and has(each.coverage.spans, (MINUTE, NEXT_MINUTE)) for each in found
    )
