"""What `bintrades bars` prints of several symbols, of some time, and in longer bars."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bintrades.cli import main
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.model import Gap, GapCause
from bintrades.testing.bars import OPEN_TIME_MS, sample_bars
from tests.journals import by_key, journal_at, stored

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bintrades.model import Bar

    Bars = Callable[..., list[dict[str, Any]]]

HOUR_MS = 3_600_000
GAP = Gap(5, 6, OPEN_TIME_MS + 605_000, OPEN_TIME_MS + 608_000, GapCause.RECONNECT)
"""In the 61st bar of those of BTCUSDT."""


def proven(bars: list[Bar], *gaps: Gap, still_open: tuple[Bar, ...] = ()) -> Checkpoint:
    """Return what a collector says that has had all trades up to the end of *bars*."""
    end_ms = bars[-1].end_time_ms
    return Checkpoint(
        LedgerState(10**6, end_ms, gaps),
        still_open,
        closed_through=bars[-1].open_time_ms,
        proven_ms=end_ms,
        covered_since_ms=OPEN_TIME_MS,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return the configuration of a journal of three symbols.

    An hour of BTCUSDT with a gap, and half an hour of ETHUSDT, whole; BNBUSDT has one that is open.
    """
    path = tmp_path / "bintrades.ini"
    path.write_text("[journal]\npath = a.journal\n[stores]\nenabled =\n", encoding="utf-8")
    btc, eth = sample_bars(360), sample_bars(180, symbol="ETHUSDT")
    bnb = sample_bars(6, symbol="BNBUSDT")
    saved = {
        "BTCUSDT": proven(btc, GAP),
        "ETHUSDT": proven(eth),
        "BNBUSDT": proven(bnb[:3], still_open=(replace(bnb[3], is_closed=False),)),
    }
    bars = [*btc, *eth, *bnb[:3]]
    with journal_at(tmp_path / "a.journal") as journal:
        journal.write(WriteBatch(finished=by_key(bars), checkpoints=saved), OPEN_TIME_MS)
    return path


@pytest.fixture
def bars(config: Path, capsys: pytest.CaptureFixture[str]) -> Bars:
    """Return what returns the bars that the command prints."""

    def run(*arguments: str) -> list[dict[str, Any]]:
        status = main(["bars", *arguments, "--config", str(config), "--format", "ndjson"])
        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        return [json.loads(line) for line in out.splitlines()]

    return run


def problems(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Return the status of a command that fails, and what it says."""
    status = main(["bars", *arguments, "--config", str(config)])
    out, err = capsys.readouterr()
    assert out == ""
    return status, err


def places(found: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Return of which symbol each bar is, and the how manieth of the sample bars it is."""
    begin = datetime.fromtimestamp(OPEN_TIME_MS // 1_000, UTC)
    return [
        (bar["symbol"], (datetime.fromisoformat(bar["open_time"]) - begin).seconds // 10)
        for bar in found
    ]


def test_several_symbols_come_one_after_the_other_each_with_as_many_bars(bars: Bars) -> None:
    assert places(bars("ETHUSDT", "btcusdt", "--limit", "2")) == [
        ("BTCUSDT", 358),
        ("BTCUSDT", 359),
        ("ETHUSDT", 178),
        ("ETHUSDT", 179),
    ]


def test_a_pattern_stands_for_all_symbols_that_it_fits(bars: Bars) -> None:
    found = places(bars("B*USDT", "BTCUSDT", "--limit", "1"))

    assert found == [("BNBUSDT", 3), ("BTCUSDT", 359)]


def test_time_is_given_as_times_or_as_durations_before_the_newest_bar(bars: Bars) -> None:
    times = ["--since", "2024-08-08T00:10", "--until", "2024-08-08T00:10:20"]

    assert places(bars("BTCUSDT", *times)) == [("BTCUSDT", 60), ("BTCUSDT", 61)]
    assert places(bars("BTCUSDT", "--since", "20s")) == [
        ("BTCUSDT", each) for each in range(358, 360)
    ]
    assert places(bars("BTCUSDT", "--until", "59m", "--limit", "1")) == [("BTCUSDT", 5)]
    assert bars("BTCUSDT", "--since", "today") == []


def test_several_symbols_have_a_column_in_the_table(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bars", "*USDT", "--limit", "1", "--config", str(config)]) == 0

    head, _rule, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "symbol"
    assert [line.split()[0] for line in lines] == ["BNBUSDT", "BTCUSDT", "ETHUSDT"]
    assert "2024-08-08 00:00:30+" in lines[0]


def test_longer_bars_are_exact_sums_and_say_what_is_not_proven(config: Path, bars: Bars) -> None:
    first, second = bars("ETHUSDT", "--interval", "15m")

    parts = stored(config.with_name("a.journal"), "ETHUSDT")[:90]
    assert first["interval_seconds"] == 900
    assert first["value"] == "14877.000000000000009"
    assert first["trade_count"] == sum(part.trade_count for part in parts)
    assert (first["is_closed"], first["is_complete"], first["missing"]) == (True, True, [])
    assert second["open_time"] == "2024-08-08T00:15:00.000+00:00"
    (lacking,) = bars("BTCUSDT", "--interval", "1m", "--since", "50m", "--until", "49m")
    assert not lacking["is_complete"]
    assert lacking["covered_seconds"] == 50
    assert lacking["missing"] == [
        {"since": "2024-08-08T00:10:00.000+00:00", "until": "2024-08-08T00:10:10.000+00:00"}
    ]


def test_the_newest_longer_bars_are_found_however_long_ago_they_were(bars: Bars) -> None:
    assert [
        bar["open_time"][11:16] for bar in bars("ETHUSDT", "--interval", "10m", "--limit", "2")
    ] == [
        "00:10",
        "00:20",
    ]
    assert len(bars("BTCUSDT", "--interval", "1m")) == 60
    assert len(bars("BTCUSDT", "--interval", "1m", "--limit", "61")) == 60
    assert len(bars("BTCUSDT", "--interval", "1m", "--last", "5m")) == 5


def test_a_longer_bar_whose_parts_still_take_trades_is_open(bars: Bars) -> None:
    (bar,) = bars("BNBUSDT", "--interval", "1m")

    assert (bar["is_closed"], bar["is_complete"], bar["trade_count"]) == (False, False, 12)


def test_what_was_not_collected_is_missing_from_a_longer_bar(config: Path, bars: Bars) -> None:
    ltc = sample_bars(12, symbol="LTCUSDT")[3:]
    saved = replace(proven(ltc), covered_since_ms=OPEN_TIME_MS + 30_000)
    with journal_at(config.with_name("a.journal")) as journal:
        batch = WriteBatch(finished=by_key(ltc), checkpoints={"LTCUSDT": saved})
        journal.write(batch, OPEN_TIME_MS)

    first, second = bars("LTCUSDT", "--interval", "1m")

    assert (first["is_complete"], first["covered_seconds"]) == (False, 30)
    assert [span["until"][14:19] for span in first["missing"]] == ["00:30"]
    assert (second["is_complete"], second["covered_seconds"]) == (True, 60)


def test_the_interval_of_the_journal_is_no_longer_one(bars: Bars) -> None:
    assert bars("ETHUSDT", "--interval", "10s") == bars("ETHUSDT")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--interval", "15s"], "--interval: 15s is no multiple of 10s, as the bars are"),
        (["--last", "1h", "--since", "1h"], "--last and --since or --until: both say"),
        (["--follow", "--until", "1h"], "--follow and --until"),
        (["--follow", "--format", "json"], "--format ndjson does"),
        (["--since", "1h", "--until", "2h"], "--since must be before --until"),
    ],
)
def test_what_makes_no_sense_is_refused(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    status, err = problems(config, capsys, "BTCUSDT", *arguments)

    assert status == 2
    assert said in err


@pytest.mark.parametrize("text", ["0s", "500ms", "1500ms", "ten", "999d"])
def test_a_length_that_no_bar_can_have_is_refused(
    config: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bars", "BTCUSDT", "--interval", text, "--config", str(config)])

    assert ended.value.code == 2
    assert f"argument --interval: '{text}' is not" in capsys.readouterr().err


def test_a_pattern_that_nothing_fits_is_answered_with_what_there_is(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, err = problems(config, capsys, "*USDC")

    assert status == 1
    assert err == (
        "bintrades: *USDC: the journal has no bars of it; it has: BNBUSDT, BTCUSDT, ETHUSDT\n"
    )
