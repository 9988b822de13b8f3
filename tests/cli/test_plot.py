"""What `bintrades plot` draws: a picture that says what it has, and pages that ask no network."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bintrades.app.stored_bars import StoredBars
from bintrades.cli import main
from bintrades.cli.chart import Drawn, draw
from bintrades.cli.plot import _drawn, _interval
from bintrades.core.ledger import LedgerState
from bintrades.core.resample import resample
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.errors import ConfigError
from bintrades.journal.reader import JournalReader
from bintrades.reading.sources import JournalSource
from bintrades.testing.bars import OPEN_TIME_MS, sample_bars
from tests.checkout import REPOSITORY
from tests.cli.test_export import GAP, fill
from tests.journals import journal_at

if TYPE_CHECKING:
    from collections.abc import Sequence

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
HOUR = (OPEN_TIME_MS, OPEN_TIME_MS + HOUR_MS)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return the configuration of a journal with an hour of one symbol, in which a bar lacks."""
    path = tmp_path / "bintrades.ini"
    path.write_text("[journal]\npath = a.journal\n[stores]\nenabled =\n", encoding="utf-8")
    fill(tmp_path / "a.journal", {"BTCUSDT": sample_bars(360)}, GAP)
    return path


def hour(interval_ms: int, *, covered: Sequence[tuple[int, int]] = (HOUR,)) -> Drawn:
    """Return an hour of candles."""
    candles = list(resample(sample_bars(360), covered, interval_ms))
    judged_until_ms = OPEN_TIME_MS + 50 * MINUTE_MS
    return Drawn("BTCUSDT", "spot", interval_ms, *HOUR, candles, covered, judged_until_ms)


def texts(svg: bytes) -> set[str]:
    """Return the texts of a picture."""
    return set(re.findall(r"<text[^>]*>([^<]+)</text>", svg.decode()))


def rows(drawn: Drawn, place: int) -> list[dict[str, Any]]:
    """Return the data of a part of the picture."""
    from bintrades.cli.chart import _chart

    chart = json.loads(_chart(drawn).to_json())
    data = chart["vconcat"][place]["data"]
    found: list[dict[str, Any]] = chart["datasets"][data["name"]]
    return found


def test_a_picture_has_its_scales_the_time_zone_and_what_the_colours_mean() -> None:
    said = texts(draw(hour(MINUTE_MS), ".svg"))

    assert said >= {
        *("BTCUSDT · spot · 1m", "time (UTC)", "price", "quantity", "takers", "buyers", "sellers"),
        *("proven", "trades may be missing", "not proven yet"),
    }
    subtitle = "2024-08-08 00:00:00 to 2024-08-08 01:00:00 UTC · 60 candles, all proven whole"
    assert subtitle in said
    assert said >= {"08 Aug", "00:05", "00:50"}


def test_a_png_is_sharp_and_a_page_asks_no_network() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png, page = draw(hour(MINUTE_MS), ".png"), draw(hour(MINUTE_MS), ".html").decode()

    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    assert width > 1_900
    assert height > 1_000
    assert "BTCUSDT" in page
    assert len(page) > 500_000, "what draws is in it"
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=", page)


def test_prices_are_drawn_as_they_are_to_the_last_digit() -> None:
    candle = rows(hour(10_000), 0)[0]

    assert [candle[name] for name in ("open", "high", "low", "close", "trades", "way")] == [
        *("55000.01", "55200", "55000.01", "55200"),
        *(3, "up"),
    ]
    buyers, sellers = rows(hour(10_000), 1)[:2]
    assert (buyers["side"], buyers["quantity"]) == ("buyers", "0.001")
    assert (sellers["side"], sellers["quantity"]) == ("sellers", "0.002")


def test_what_is_not_proven_is_told_from_what_may_be_missing() -> None:
    covered = [(OPEN_TIME_MS + 60_000, OPEN_TIME_MS + 120_000)]

    runs = [
        (run["state"], run["from"][11:16], run["to"][11:16])
        for run in rows(hour(MINUTE_MS, covered=covered), 2)
    ]

    assert runs == [
        ("trades may be missing", "00:00", "00:01"),
        ("proven", "00:01", "00:02"),
        ("trades may be missing", "00:02", "00:50"),
        ("not proven yet", "00:50", "01:00"),
    ]


def test_candles_that_are_not_proven_are_pale_and_counted(config: Path, tmp_path: Path) -> None:
    path = tmp_path / "btc.svg"
    words = ["plot", "btcusdt", "--interval", "1m", "--to", str(path), "--config", str(config)]

    assert main(words) == 0

    said = texts(path.read_bytes())
    assert "BTCUSDT · spot · 1m" in said
    counted = [each for each in said if "60 candles" in each]
    assert counted[0].endswith("60 candles, 1 of them (pale) not proven to be whole")
    assert b'opacity="0.35"' in path.read_bytes()


def test_a_bar_that_still_takes_trades_is_no_hole(config: Path, tmp_path: Path) -> None:
    still_open = replace(sample_bars(1)[0], is_closed=False, open_time_ms=HOUR[1])
    saved = Checkpoint(
        LedgerState(10**7, HOUR[1] + 5_000, ()),
        (still_open,),
        closed_through=HOUR[1] - 10_000,
        proven_ms=HOUR[1] + 5_000,
        covered_since_ms=OPEN_TIME_MS,
    )
    path = tmp_path / "whole.journal"
    fill(path, {"BTCUSDT": sample_bars(360)})
    with journal_at(path) as journal:
        journal.write(WriteBatch(checkpoints={"BTCUSDT": saved}), OPEN_TIME_MS)
    bars = StoredBars(JournalSource(path), JournalReader(path), with_open=True)

    drawn = _drawn(bars, "BTCUSDT", (OPEN_TIME_MS, HOUR[1] + 10_000), 10_000)

    assert [run["state"] for run in rows(drawn, 2)] == ["proven", "not proven yet"]
    assert len(drawn.candles) == 361
    assert bars.holes("BTCUSDT", OPEN_TIME_MS, HOUR[1] + 10_000) == []


def test_time_is_chosen_and_so_is_an_interval_that_fits_it(config: Path, tmp_path: Path) -> None:
    for since, shown in ((["--since", "5m"], "10s"), ([], "10s")):
        path = tmp_path / "btc.svg"
        words = ["plot", "BTCUSDT", *since, "--to", str(path), "--force", "--config", str(config)]
        assert main(words) == 0
        assert f"BTCUSDT · spot · {shown}" in texts(path.read_bytes())


@pytest.mark.parametrize(
    ("length_ms", "stored_ms", "chosen_ms"),
    [
        (HOUR_MS, 10_000, 10_000),
        (DAY_MS, 10_000, 2 * MINUTE_MS),
        (30 * DAY_MS, 10_000, HOUR_MS),
        (10_000 * DAY_MS, 10_000, 14 * DAY_MS),
        (HOUR_MS, 8_000, 8_000),
        (DAY_MS, 8_000, 2 * MINUTE_MS),
    ],
)
def test_without_an_interval_there_are_at_most_a_thousand_candles(
    length_ms: int, stored_ms: int, chosen_ms: int
) -> None:
    assert _interval(None, (0, length_ms), stored_ms) == chosen_ms
    assert length_ms <= chosen_ms * 1_000


def test_more_candles_than_can_be_seen_are_refused_with_an_interval_that_does() -> None:
    with pytest.raises(
        ConfigError, match=r"8640 candles are too many .* --interval 2m makes fewer"
    ):
        _interval(10_000, (0, DAY_MS), 10_000)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["BTCUSDT", "--to", "a.pdf"], 2, "its ending says no form; known are .png, .svg, .html"),
        (["BTCUDST", "--to", "a.png"], 1, "no trade of it was ever seen; did you mean 'BTCUSDT'?"),
        (["BTCUSDT", "--to", "a.png", "--interval", "15s"], 2, "15s is no multiple of 10s"),
        (
            ["BTCUSDT", "--to", "a.png", "--since", "2020-01-01", "--until", "2020-01-02"],
            1,
            "no ba",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    config: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(config.parent)

    assert main(["plot", *words, "--config", str(config)]) == status

    assert said in capsys.readouterr().err
    assert not Path("a.png").exists()


@pytest.mark.parametrize(
    ("module", "package"), [("altair", "altair"), ("vl_convert", "vl-convert-python")]
)
def test_without_the_extra_it_says_how_to_have_it(config: Path, module: str, package: str) -> None:
    words = ["plot", "BTCUSDT", "--to", "a.png", "--config", str(config)]
    program = f"""
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == {module!r} else find(name, *more)
from bintrades.cli import main
sys.exit(main({words}))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1
    assert f"plot needs {package}, which is not installed" in ended.stderr
    assert "[plot]'" in ended.stderr
