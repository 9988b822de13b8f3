"""Draws the pictures of the page and of `bintrades status --watch`, from one real run.

    .venv/bin/python -m scripts.pictures docs

A simulated exchange trades on this machine, and a collector records most of its symbols; then it is
down for longer than it may repair, and goes on with all of them. So the strips have a hole each, or
begin later. Takes 12 minutes, since the exchange's klines are compared some minutes later. The page
(page.png, page-phone.png) is drawn by a Chromium, the one of the tests; the terminal (terminal.svg)
needs none. `--only` leaves the pictures of others as they are.
"""

from __future__ import annotations

import argparse
import io
import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rich.console import Console
from rich.terminal_theme import MONOKAI

from bintrades.cli.terminal import Event
from bintrades.cli.watch_screen import Screen
from bintrades.cli.watched import Watched
from tests.pages import browser

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FIRST = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "BNBUSDT", "DOGEUSDT", "ADAUSDT", "TRXUSDT")
LATER = ("LINKUSDT", "AVAXUSDT", "LTCUSDT")
SIZE = (100, 22)
PAGES = {"page": (1_200, 1_022, 2), "page-phone": (390, 844, 1)}
"""Names of pictures of the page, their width and height, and dots to a pixel of the page."""
KINDS = ("terminal", "page")
CELLS = (
    "[...document.querySelector('.strip').children]"
    ".reduce((sum, part) => sum + Number(part.style.flexGrow), 0)"
)
BEFORE_S, DOWN_S = 240, 40
CONFIG = """\
[binance]
stream_url = {streams}
rest_url = {rest}
[symbols]
include = {symbols}
[repair]
max_age = 10s
[journal]
path = demo.journal
[plugins]
path = {plugins}
[stores]
enabled = jsonl
[store:jsonl]
[http]
listen = {page}
"""


@contextmanager
def running(folder: Path, name: str, *arguments: str) -> Iterator[Path]:
    """Run a command of ours; yield the file of what it says. It is stopped in order."""
    log = folder / f"{name}.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [sys.executable, "-m", "bintrades", *arguments],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield log
        finally:
            process.terminate()


def address(log: Path, name: str) -> str:
    """Return where the simulator listens, once it says so."""
    deadline = time.monotonic() + 60
    while not (found := re.search(rf"^{name}: (\S+)$", log.read_text(), re.MULTILINE)):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    return found[1]


@contextmanager
def recording(folder: Path, values: dict[str, str], symbols: Sequence[str]) -> Iterator[None]:
    """Have a collector record *symbols* meanwhile."""
    config = folder / "demo.ini"
    config.write_text(CONFIG.format(symbols=", ".join(symbols), **values), encoding="utf-8")
    with running(folder, "collector", "run", "--config", str(config)):
        yield


def free_address() -> str:
    """Return an address of this machine at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


def draw(pictures: Path, minutes: int, kinds: Sequence[str]) -> None:
    """Have the exchange trade for so long, and draw what is seen then."""
    with TemporaryDirectory(prefix="bintrades-picture-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if "page" in kinds:
            with browser(folder / "tried"):
                pass  # that there is none is better said now than in minutes
        symbols = ",".join([*FIRST, *LATER])
        simulate = ("simulate", "--symbols", symbols, "--stream-port", "0", "--rest-port", "0")
        with running(folder, "simulator", *simulate, "--rate", "90") as log:
            values = {each: address(log, each) for each in ("streams", "rest")}
            values |= {"plugins": str(Path.cwd() / "plugins"), "page": free_address()}
            with recording(folder, values, FIRST):
                time.sleep(BEFORE_S)
            time.sleep(DOWN_S)
            with recording(folder, values, (*FIRST, *LATER)):
                time.sleep(60 * minutes - BEFORE_S - DOWN_S)
                if "page" in kinds:
                    draw_page(folder / "profile", values["page"], pictures)
                if "terminal" in kinds:
                    draw_screen(folder / "demo.journal", pictures / "terminal.svg")


def draw_page(profile: Path, address: str, pictures: Path) -> None:
    """Draw what a browser shows of a collector, wide and light, narrow and dark."""
    with browser(profile) as chromium:
        for name, (width, height, scale) in PAGES.items():
            where = f"http://{address}/?{name}#BTCUSDT"  # a new page, not the same once more
            chromium.show(where, width, height, is_dark=name == "page-phone", scale=scale)
            chromium.wait("document.getElementById('live').textContent === 'live'")
            chromium.wait(f"document.querySelectorAll('#rows tr').length === {len(FIRST + LATER)}")
            chromium.value("document.querySelector('#spans button').click()")
            chromium.wait(f"{CELLS} === 60")
            chromium.wait("document.querySelectorAll('.strip .hole').length >= 1")
            chromium.wait("document.getElementById('chart').dataset.candles > 20")
            (pictures / f"{name}.png").write_bytes(chromium.picture())


def draw_screen(journal: Path, picture: Path) -> None:
    """Draw what the command shows of a journal, with the strip of the last ten minutes."""
    watched = Watched(journal, ["jsonl"])
    watched.status()
    time.sleep(10)  # until it has said something else, by which trades a second are known
    screen = Screen(watched)
    screen.obey(Event.SHORTER)
    width, height = SIZE
    console = Console(width=width, height=height, record=True, file=io.StringIO())
    console.print(screen.draw(width, height))
    drawn = console.export_svg(title="bintrades status --watch", theme=MONOKAI)
    drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)  # would be loaded from afar
    picture.write_text(re.sub(r"\s+\n", "\n", drawn), encoding="utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", type=Path, help="the folder to draw into")
    parser.add_argument("--minutes", type=int, default=12, help="how long (default: %(default)s)")
    parser.add_argument("--only", choices=KINDS, help="draw that alone")
    arguments = parser.parse_args()
    kinds = [arguments.only] if arguments.only else KINDS
    draw(arguments.pictures, arguments.minutes, kinds)


if __name__ == "__main__":
    main()
