"""A journal worth looking at, and a browser to look at the page with."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import subprocess
import time
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import websocket
from msgspec.structs import replace

from bintrades.core.audit_result import BarsAudited
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.model import Bar, Gap, GapCause
from bintrades.testing.bars import sample_bar
from tests.debian import unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bintrades.journal.writer import Journal

INTERVAL_MS = 10_000
_PRICES = {"BTCUSDT": 64_000, "ETHUSDT": 3_100, "SOLUSDT": 142, "XRPUSDT": 1}
_TICK = Decimal("0.01")


def walk(symbol: str, since_ms: int, count: int) -> list[Bar]:
    """Return bars of a price that wanders, the same ones each time."""
    dice = random.Random(symbol)
    price = Decimal(_PRICES.get(symbol, 20 + len(symbol)))
    bars = []
    for place in range(count):
        prices = [price]
        for _ in range(4):
            prices.append(max(_TICK, prices[-1] + price * dice.randint(-40, 41) / 100_000))
        prices = [each.quantize(_TICK) for each in prices]
        buys, sells = (Decimal(dice.randint(1, 900)) / 100 for _ in range(2))
        bars.append(
            sample_bar(
                symbol=symbol,
                open_time_ms=since_ms + place * INTERVAL_MS,
                open_price=prices[0],
                close_price=prices[-1],
                min_price=min(prices),
                max_price=max(prices),
                quantity=buys + sells,
                buy_quantity=buys,
                value=price * (buys + sells),
                buy_value=price * buys,
                first_trade_id=3 * place + 1,
                last_trade_id=3 * place + 3,
            )
        )
        price = prices[-1]
    return bars


def tell_history(
    journal: Journal,
    symbol: str,
    bars: list[Bar],
    holes: Sequence[tuple[int, int]] = (),
    verified: int = 0,
    *,
    is_open: bool = True,
) -> None:
    """Have a journal know of *bars*, and of one more that still takes trades.

    From and up to the places of *holes* trades are missing; as many as *verified* are verified.
    """
    since = bars[0].open_time_ms
    ids = [
        Gap(
            3 * first + 1,
            3 * last + 3,
            since + first * INTERVAL_MS,
            since + last * INTERVAL_MS + 5_000,
            GapCause.RECONNECT,
            is_abandoned=True,
        )
        for first, last in holes
    ]
    end = bars[-1].end_time_ms
    ledger = LedgerState(bars[-1].last_trade_id + 1, bars[-1].last_trade_time_ms, tuple(ids))
    is_lost = {place for first, last in holes for place in range(first, last + 1)}
    open_bar = replace(
        bars[-1], open_time_ms=end, last_trade_time_ms=end + 4_000, first_trade_time_ms=end + 10
    )
    checkpoint = Checkpoint(
        ledger, (open_bar,) if is_open else (), bars[-1].open_time_ms, end, since
    )
    kept = {
        (symbol, bar.open_time_ms): bar for place, bar in enumerate(bars) if place not in is_lost
    }
    journal.write(WriteBatch(finished=kept, checkpoints={symbol: checkpoint}), end)
    spans, place = [], 0
    for first, last in [*holes, (verified, verified)]:
        spans.append((since + place * INTERVAL_MS, since + min(first, verified) * INTERVAL_MS))
        place = last + 1
    whole = tuple(
        (begin + -begin % 60_000, until - until % 60_000)
        for begin, until in spans
        if begin + 60_000 < until
    )
    journal.write(WriteBatch(audited=[BarsAudited(symbol, whole)]), end)


def a_story(journal: Journal, count: int = 500, now_ms: int | None = None) -> None:
    """Have a journal know of several symbols, two of which lack trades."""
    now = now_ms or time.time_ns() // 1_000_000
    since = now - now % 60_000 - (count - 1) * INTERVAL_MS
    since -= since % 60_000
    holes = {
        "ETHUSDT": [(count // 3, count // 3 + 30)],
        "SOLUSDT": [(60, 62), (count - 90, count - 75)],
    }
    symbols = [*_PRICES, "ADAUSDT", "BNBUSDT", "DOGEUSDT", "LINKUSDT", "币安人生USDT"]
    for place, symbol in enumerate(symbols):
        late = 60 * place if place > 5 else 0
        bars = walk(symbol, since, count)[late:]
        tell_history(
            journal, symbol, bars, holes.get(symbol, []), verified=count - late - 60 - 12 * place
        )


class Browser:
    """One page in a Chromium, by its debugging protocol."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=60, suppress_origin=True)
        self._number = 0
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def ask(self, method: str, **parameters: Any) -> Any:
        """Return the result of a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message))
        while (answer := json.loads(self._socket.recv())).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def value(self, expression: str) -> Any:
        """Return what JavaScript of the page returns."""
        answer = self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Return what JavaScript of the page returns, once that is true."""
        deadline = time.monotonic() + 120
        while not (value := self.value(expression)):
            assert time.monotonic() < deadline, expression
            time.sleep(0.05)
        return value

    def show(
        self, address: str, width: int, height: int, *, is_dark: bool = False, scale: int = 1
    ) -> None:
        """Go to a page, in a window of this size, of *scale* dots to a pixel of the page.

        It is asked not to move, so that pictures are not of something halfway.
        """
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme, still])
        self.ask("Page.navigate", url=address)
        self.wait("location.protocol === 'http:' && document.readyState === 'complete'")

    def picture(self) -> bytes:
        """Return what it shows, as PNG."""
        answer = self.ask("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Run a Chromium: the one on PATH, or Debian's, unpacked."""
    program, environment = _chromium()
    with subprocess.Popen(
        [
            *(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions"),
            *("--hide-scrollbars", "--remote-debugging-port=0", f"--user-data-dir={folder}"),
            "about:blank",
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            with closing(Browser(_address(folder, process))) as found:
                yield found
        finally:
            process.terminate()


def _chromium() -> tuple[Path, dict[str, str]]:
    """Return the program and its environment; skip the test where it cannot be had."""
    for name in ("chromium", "chromium-browser"):
        if found := shutil.which(name):
            return Path(found), dict(os.environ)
    folder = unpacked("chromium", with_others=True)
    libraries = [*folder.glob("usr/lib/*-linux-gnu"), *folder.glob("usr/lib/*/pulseaudio")]
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries))}
    return folder / "usr" / "lib" / "chromium" / "chromium", environment


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """Return where the first page is told what to do."""
    written = folder / "DevToolsActivePort"
    deadline = time.monotonic() + 120
    while not written.exists() or written.read_text().count("\n") < 1:
        assert process.poll() is None, "the browser has ended"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    port, path = written.read_text().split("\n")[:2]
    with closing(
        websocket.create_connection(
            f"ws://127.0.0.1:{port}{path}", timeout=60, suppress_origin=True
        )
    ) as whole:
        whole.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
        targets = json.loads(whole.recv())["result"]["targetInfos"]
    (page,) = (each["targetId"] for each in targets if each["type"] == "page")
    return f"ws://127.0.0.1:{port}/devtools/page/{page}"
