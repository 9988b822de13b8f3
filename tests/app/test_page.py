"""What the page is made of, over HTTP, and that nobody who looks at it keeps a probe waiting."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bintrades.app.monitoring import live, web
from bintrades.app.monitoring.endpoints import Endpoints
from bintrades.app.monitoring.page_data import Cell, PageData, map_cells
from bintrades.core.coverage import Collected, HoleCause, Missing, coverage_of
from bintrades.core.write_batch import WriteBatch
from bintrades.journal.coverage import SymbolCoverage
from bintrades.model.numbers import plain
from bintrades.model.symbol_record import SymbolRecord
from bintrades.options.types import HostAndPort
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.collectors import Stage
from tests.journals import finished, journal_at
from tests.pages import INTERVAL_MS, a_story, browser, tell_history, walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal
    from http.client import HTTPResponse
    from pathlib import Path

    from bintrades.journal.writer import Journal

LOST = HoleCause("abandoned", "reconnect")


def coverage(since: int, until: int, *missing: Missing, verified: tuple[int, int]) -> Any:
    """Return the coverage of a symbol, in places of bars."""
    collected = Collected(since * INTERVAL_MS, until * INTERVAL_MS, missing=missing)
    span = (verified[0] * INTERVAL_MS, verified[1] * INTERVAL_MS)
    found = coverage_of(collected, INTERVAL_MS)
    return SymbolCoverage("BTCUSDT", found, until * INTERVAL_MS, [span])


def test_a_cell_of_the_map_is_what_is_known_of_all_of_its_time() -> None:
    hole = Missing(5 * INTERVAL_MS, 5 * INTERVAL_MS + 20, LOST)
    found = coverage(1, 9, hole, verified=(2, 4))

    cells = map_cells(found, 0, INTERVAL_MS, 11)

    states = [cell.state for cell in cells]
    assert states == [
        *("none", "proven", "verified", "verified", "proven", "hole", "proven", "proven", "proven"),
        *("unproven", "unproven"),
    ]
    assert cells[5] == Cell("hole", INTERVAL_MS, ("abandoned: reconnect",))


def test_a_coarse_cell_is_red_for_one_bar_and_says_how_much_is_missing() -> None:
    hole = Missing(5 * INTERVAL_MS, 5 * INTERVAL_MS + 20, LOST)
    found = coverage(1, 9, hole, verified=(1, 9))

    cells = map_cells(found, -5 * INTERVAL_MS, 5 * INTERVAL_MS, 3)

    assert [cell.state for cell in cells] == ["none", "verified", "hole"]
    assert cells[2].missing_ms == INTERVAL_MS


def test_the_map_ends_where_a_symbol_has_left() -> None:
    found = coverage(0, 4, verified=(0, 0))

    cells = map_cells(found, 0, INTERVAL_MS, 6, left_ms=4 * INTERVAL_MS)

    assert [cell.state for cell in cells] == ["proven"] * 4 + ["none"] * 2


def shown(value: Decimal) -> str:
    """Return a decimal as answers have it."""
    return str(plain(value))


@contextmanager
def page(path: Path) -> Iterator[tuple[Journal, HostAndPort]]:
    """Yield a journal and where the page of its collector is had."""
    with journal_at(path) as journal, socket.create_server(("127.0.0.1", 0)) as probe:
        address = HostAndPort("127.0.0.1", probe.getsockname()[1])
        probe.close()
        figures = Stage(path, journal).collector.figures
        server = web.WebServer(address, Endpoints(figures, path, ["jsonl"]), path)
        server.start()
        try:
            yield journal, address
        finally:
            server.stop()
            assert server.join(10)


def ask(address: HostAndPort, path: str) -> HTTPResponse:
    """Return the answer to a GET; try again until somebody listens."""
    deadline = time.monotonic() + 120
    while True:
        connection = HTTPConnection(*address, timeout=20)
        try:
            connection.request("GET", path)
            return connection.getresponse()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def data(address: HostAndPort, path: str) -> Any:
    """Return the data that is the answer."""
    with ask(address, path) as answer:
        text = answer.read()
        assert answer.status == 200, text
        return json.loads(text)


def test_the_page_is_all_there_and_asks_nobody_else(path: Path) -> None:
    with page(path) as (_, address):
        texts = {}
        for name in ("/", "/page.js", "/page.css", "/chart.js", "/icon.svg"):
            with ask(address, name) as answer:
                texts[name] = answer.read().decode()
                assert answer.status == 200
                assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")

    addresses = [word for text in texts.values() for word in text.split() if "://" in word]
    assert [word for word in addresses if "www.w3.org" not in word] == []


def test_bars_are_exact_and_as_many_as_are_asked_for(path: Path) -> None:
    with page(path) as (journal, address):
        tell_history(journal, "BTCUSDT", sample_bars(20), is_open=False)
        found = data(address, "/api/bars?symbol=BTCUSDT&limit=3")

    assert [each["open_time_ms"] for each in found["candles"]] == [
        OPEN_TIME_MS + place * INTERVAL_MS for place in (17, 18, 19)
    ]
    assert found["candles"][-1]["open_price"] == "55000.01"
    assert found["candles"][-1]["buy_quantity"] == "0.001"
    assert found["candles"][-1]["sell_quantity"] == "0.002"
    assert found["candles"][-1]["trade_count"] == 3


def test_bars_of_a_minute_are_one_candle(path: Path) -> None:
    with page(path) as (journal, address):
        bars = walk("BTCUSDT", OPEN_TIME_MS, 12)
        tell_history(journal, "BTCUSDT", bars, is_open=False)
        first, second = data(address, "/api/bars?symbol=BTCUSDT&step=60")["candles"]

    assert first["open_price"] == shown(bars[0].open_price)
    assert first["close_price"] == shown(bars[5].close_price)
    assert second["open_time_ms"] == OPEN_TIME_MS + 60_000
    assert second["max_price"] == shown(max(bar.max_price for bar in bars[6:]))
    assert second["trade_count"] == 18


def test_symbols_come_by_the_page_with_price_trades_and_what_is_covered(path: Path) -> None:
    with page(path) as (journal, address):
        a_story(journal)
        found = data(address, "/api/symbols?limit=2&offset=2")
        searched = data(address, "/api/symbols?search=eth")

    assert [each["symbol"] for each in found["symbols"]] == ["BTCUSDT", "DOGEUSDT"]
    assert found["total"] == 9
    (ether,) = searched["symbols"]
    assert ether["price"] == shown(walk("ETHUSDT", 0, 500)[-1].close_price)
    assert ether["trades_of_minute"] == 18
    assert 0 < ether["covered_ms"] < ether["of_ms"]


def test_the_map_has_runs_of_all_cells_and_the_causes_of_holes(path: Path) -> None:
    with page(path) as (journal, address):
        a_story(journal)
        found = data(address, "/api/completeness?span=7200&cells=240&search=SOL")

    (row,) = found["symbols"]
    assert sum(run["cells"] for run in row["runs"]) == 240
    holes = [run for run in row["runs"] if run["state"] == "hole"]
    assert [run["causes"] for run in holes] == [["abandoned: reconnect"]] * len(holes)
    assert {"verified", "proven", "hole", "none"} <= {run["state"] for run in row["runs"]}


def test_symbols_come_first_of_which_most_of_the_day_is_not_covered(journal: Journal) -> None:
    begin = OPEN_TIME_MS - OPEN_TIME_MS % 60_000
    for symbol, count, holes in (
        ("WHOLE", 100, []),
        ("SHORT", 100, [(3, 3)]),
        ("LONG", 100, [(3, 3), (7, 20)]),
        ("NEW", 2, []),
        ("FROZEN", 60, []),  # nothing of it is proven for longer than quiet symbols need
        ("ALSOWHOLE", 100, []),
    ):
        since = begin + (98 if symbol == "NEW" else 0) * INTERVAL_MS
        tell_history(journal, symbol, walk(symbol, since, count), holes)
    journal.write(WriteBatch(symbols={"LONG": SymbolRecord(begin, "*", left_ms=begin + 1)}), begin)

    found = PageData(journal.path).by_trouble()

    assert found == ["FROZEN", "SHORT", "ALSOWHOLE", "NEW", "WHOLE", "LONG"]


@pytest.mark.parametrize(
    "question",
    [
        *("symbols?limit=101", "symbols?limit=0", "symbols?offset=-1", "symbols?limit=x"),
        *("completeness?cells=241", "completeness?span=999999999", "bars?symbol=BTCUSDT&limit=301"),
        *("bars?symbol=NOSUCH", "bars", "passwords"),
    ],
)
def test_what_would_be_too_much_or_is_not_there_is_refused(path: Path, question: str) -> None:
    with page(path) as (journal, address):
        tell_history(journal, "BTCUSDT", sample_bars(6))
        with ask(address, f"/api/{question}") as answer:
            assert (answer.status, answer.read().count(b"\n")) == (400, 1)


def test_a_journal_that_cannot_be_read_is_said(path: Path) -> None:
    with page(path) as (journal, address):
        journal.close()
        path.unlink()
        with ask(address, "/api/symbols") as answer:
            assert (answer.status, b"no journal" in answer.read()) == (503, True)


def events(answer: HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield the bars that a listener hears of."""
    while line := answer.readline():
        if line.startswith(b'data: {"bars"'):
            yield from json.loads(line[6:])["bars"]


def listen(address: HostAndPort, query: str) -> HTTPResponse:
    """Return what a listener hears, from the moment on that nothing is missed."""
    answer = ask(address, f"/events?{query}")
    while answer.status == 200 and answer.readline() != b"event: ready\n":
        pass
    return answer


def test_a_listener_hears_of_bars_of_its_symbols_when_they_are_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_EVERY_S", 0.05)
    with (
        page(path) as (journal, address),
        listen(address, "symbols=XRPUSDT"),  # of others, others hear
        listen(address, "symbols=ETHUSDT,BTCUSDT") as answer,
    ):
        heard = events(answer)
        bars = [sample_bar(symbol=each) for each in ("XRPUSDT", "ETHUSDT")]
        # The sequence is looked at for the first time a moment after the listener came.
        for age in range(100):
            late = [replace(bar, trade_count=3 + age) for bar in bars]
            journal.write(finished(*late), OPEN_TIME_MS + age)
            if age > 3:
                break
            time.sleep(0.2)
        first, second = next(heard), next(heard)

    assert (first["symbol"], second["symbol"]) == ("ETHUSDT", "ETHUSDT")
    assert first["close_price"] == "55200"


def test_a_listener_sees_the_bar_that_takes_trades_of_what_it_charts(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_EVERY_S", 0.05)
    with page(path) as (journal, address):
        bars = walk("BTCUSDT", OPEN_TIME_MS, 10)
        tell_history(journal, "BTCUSDT", bars)
        with listen(address, "symbol=BTCUSDT") as answer:
            first = next(events(answer))

    assert first["open_time_ms"] == bars[-1].end_time_ms
    assert not first["is_complete"]


def test_listeners_are_so_many_and_no_more_and_one_that_goes_makes_room(path: Path) -> None:
    with page(path) as (_, address), ExitStack() as all_of_them:
        listeners = [
            all_of_them.enter_context(listen(address, "symbol=BTCUSDT"))
            for _ in range(live.MOST_LISTENERS)
        ]
        with ask(address, "/events") as refused:
            assert refused.status == 503
        listeners[0].close()
        deadline = time.monotonic() + 120
        while True:
            with listen(address, "symbol=BTCUSDT") as answer:
                if answer.status == 200:
                    break
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_who_does_not_take_what_it_hears_is_cut_off(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_EVERY_S", 0.001)
    monkeypatch.setattr(web, "_CUT_OFF_AFTER_S", 1.0)
    count = 0

    def much(data: PageData, sequence: int, symbols: Any, charted: Any) -> Any:
        nonlocal count
        count += 1
        return count, [
            {"symbol": "BTCUSDT", "open_time_ms": count * 500 + place, "filler": "x" * 500}
            for place in range(500)
        ]

    monkeypatch.setattr(PageData, "changes", much)
    with page(path) as (_, address), socket.socket() as slow:
        ask(address, "/healthz").read()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow.settimeout(20)
        slow.connect(address)
        slow.sendall(b"GET /events?symbol=BTCUSDT HTTP/1.1\r\nHost: x\r\n\r\n")
        stood_still_at = -1
        while count != stood_still_at:  # it is gone, so that nobody listens any more
            stood_still_at = count
            time.sleep(0.5)
            assert count < 1_000_000
        with suppress(ConnectionResetError):
            while slow.recv(65_536):
                pass  # it has ended: else this would time out


def test_a_probe_is_answered_while_fifty_listen_and_a_heavy_answer_is_made(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    begun = threading.Event()

    def heavy(data: PageData, question: str, given: Any) -> dict[str, Any]:
        begun.set()
        while not release.is_set():
            sum(range(10_000))  # holds Python's lock
        return {}

    monkeypatch.setattr(PageData, "answer", heavy)
    with page(path) as (_, address), ExitStack() as listeners:
        for _ in range(50):
            listeners.enter_context(listen(address, "symbol=BTCUSDT"))
        asking = threading.Thread(target=lambda: data(address, "/api/symbols"))
        asking.start()
        try:
            assert begun.wait(20)
            for _ in range(5):
                begins = time.monotonic()
                for probe in ("/healthz", "/readyz"):
                    with ask(address, probe) as answer:
                        assert answer.read() == b"ok\n"
                assert time.monotonic() - begins < 5
        finally:
            release.set()
            asking.join(20)
        assert not asking.is_alive()


CANDLES = """(() => {
    const canvas = document.getElementById("chart");
    const colors = {};
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    for (let place = 0; place < pixels.length; place += 4) {
        if (pixels[place + 3] < 255) continue;
        const color = pixels.slice(place, place + 3).join();
        colors[color] = (colors[color] ?? 0) + 1;
    }
    return colors;
})()"""
LIGHT = {"23,138,94": "up", "217,61,74": "down"}
DARK = {"47,191,134": "up", "240,97,109": "down"}


@pytest.mark.parametrize(("width", "is_dark"), [(1_200, False), (390, True)])
def test_a_browser_draws_candles_table_and_map(
    path: Path, tmp_path: Path, width: int, *, is_dark: bool
) -> None:
    with page(path) as (journal, address), browser(tmp_path / "profile") as chromium:
        a_story(journal)
        ask(address, "/healthz").read()
        chromium.show(f"http://{address}/#ETHUSDT", width, 1_000, is_dark=is_dark)
        chromium.wait("document.querySelectorAll('#rows tr').length === 9")
        chromium.wait("document.getElementById('chart').dataset.candles > 25")
        chromium.wait("document.getElementById('live').textContent === 'live'")
        colors = chromium.value(CANDLES)
        table = chromium.value("document.getElementById('rows').innerText")
        state = chromium.value("document.getElementById('state').textContent")
        tips = chromium.value(
            "[...document.querySelectorAll('.strip i')]"
            ".filter((each) => each.getBoundingClientRect().width > 2)"
            ".map((each) => `${each.className}|${each.dataset.tip}`)"
        )
        is_too_wide = chromium.value("document.documentElement.scrollWidth > innerWidth")
        trouble = chromium.value("document.getElementById('trouble').textContent")
        picture = chromium.picture()

    for color in DARK if is_dark else LIGHT:
        assert colors.get(color, 0) > 300, colors
    assert shown(walk("ETHUSDT", 0, 500)[-1].close_price) in table
    assert {tip.partition("|")[0] for tip in tips} >= {"proven", "verified", "hole", "none"}
    assert [tip for tip in tips if tip.startswith("hole|ETHUSDT") and "abandoned: reconnect" in tip]
    assert (state, trouble, is_too_wide) == ("running", "", False)
    assert len(picture) > 10_000


def test_what_is_written_is_seen_in_a_browser_at_once(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_EVERY_S", 0.1)
    with page(path) as (journal, address), browser(tmp_path / "profile") as chromium:
        a_story(journal)
        ask(address, "/healthz").read()
        chromium.show(f"http://{address}/#BTCUSDT", 1_200, 1_000)
        chromium.wait("document.getElementById('live').textContent === 'live'")
        chromium.wait("document.getElementById('chart').dataset.candles > 25")
        chromium.wait("document.querySelectorAll('#rows tr').length === 9")
        newest = data(address, "/api/bars?symbol=BTCUSDT&limit=1")["candles"][0]["open_time_ms"]
        bars = walk("BTCUSDT", newest, 2)
        last = replace(
            bars[-1], close_price=bars[-1].max_price + 1, max_price=bars[-1].max_price + 1
        )
        tell_history(journal, "BTCUSDT", [bars[0], last], is_open=False)
        price = shown(last.close_price)
        chromium.wait(f"document.getElementById('price').textContent === '{price}'")
        chromium.wait(f"document.getElementById('rows').innerText.includes('{price}')")


def test_an_address_that_names_no_symbol_shows_the_first_one(path: Path, tmp_path: Path) -> None:
    with page(path) as (journal, address), browser(tmp_path / "profile") as chromium:
        a_story(journal)
        ask(address, "/healthz").read()
        chromium.show(f"http://{address}/#%", 1_200, 1_000)
        chromium.wait("document.getElementById('symbol').textContent === 'ADAUSDT'")
        chromium.wait("document.getElementById('chart').dataset.candles > 25")


CELLS = """(() => {
    const [strip] = document.getElementsByClassName("strip");
    return [...strip?.children ?? []].reduce((sum, part) => sum + Number(part.style.flexGrow), 0);
})()"""
LEFTMOST = """(() => {
    const canvas = document.getElementById("chart");
    const { width, height } = canvas;
    const volumes = canvas.getContext("2d").getImageData(0, height - 22, width, 1).data;
    for (let x = 0; x < width; x++) if (volumes[x * 4 + 3]) return x / width;
})()"""


def test_what_is_minutes_old_is_drawn_large(path: Path, tmp_path: Path) -> None:
    """The map of ten minutes has a cell for each bar, and few candles are wider ones."""
    with page(path) as (journal, address), browser(tmp_path / "profile") as chromium:
        minute = time.time_ns() // 60_000_000_000 * 60_000
        bars = walk("BTCUSDT", minute - 60 * INTERVAL_MS, 60)
        tell_history(journal, "BTCUSDT", bars)
        ask(address, "/healthz").read()
        chromium.show(f"http://{address}/#BTCUSDT", 1_200, 1_000)
        chromium.wait("document.getElementById('chart').dataset.candles > 25")
        chromium.wait(f"{CELLS} === 120")
        chromium.value("document.querySelector('#spans button').click()")
        chromium.wait(f"{CELLS} === 60")
        leftmost = chromium.value(LEFTMOST)

    assert leftmost < 0.2
