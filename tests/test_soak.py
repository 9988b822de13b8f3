"""What the soak calls flat, what it plays, and a short run of the whole."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from scripts.soak.market import DAY_MS, Market
from scripts.soak.play import Plan
from scripts.soak.report import Event, Figure, figures, table
from scripts.soak.sampling import Sample

REPOSITORY = Path(__file__).resolve().parent.parent


def figure(*values: float, factor: float = 1.1, slack: float = 0.0) -> Figure:
    return Figure("figure", [(float(at), value) for at, value in enumerate(values)], factor, slack)


def sample(at_s: float, **values: float) -> Sample:
    """Return a look at a process that costs 10 us a trade and has always done so."""
    usual = {"trades": at_s * 1_000, "bars": at_s * 100, "cpu_s": at_s * 0.01, "memory_mib": 50.0}
    usual |= {"files": 12, "threads": 8, "journal_mib": 5.0, "wal_mib": 4.0, "log_mib": at_s}
    usual |= {"waiting_bars": 0, "pid": 1}
    return Sample(at_s=at_s, **(usual | values))  # type: ignore[arg-type]


def by_name(samples: list[Sample], events: list[Event] | None = None) -> dict[str, Figure]:
    return {each.name: each for each in figures(samples, events or [])}


def test_what_stays_is_flat() -> None:
    assert figure(5, 5, 5, 5, 5, 5, 5, 5, 5).is_flat


def test_what_grows_to_the_end_is_not_flat() -> None:
    assert not figure(1, 2, 3, 4, 5, 6, 7, 8, 9).is_flat


def test_what_grows_only_at_first_is_flat() -> None:
    assert figure(1, 3, 5, 8, 8, 8, 8, 8, 8).is_flat


def test_one_peak_does_not_count() -> None:
    assert figure(5, 5, 5, 5, 5, 5, 5, 90, 5).is_flat


def test_a_figure_without_points_shows_nothing_and_is_not_called_flat() -> None:
    assert not figure().is_flat


def test_a_process_that_stays_as_it_is_is_flat_in_every_figure() -> None:
    found = figures([sample(float(at)) for at in range(1, 60)], [])

    assert all(each.is_flat for each in found), table(found)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("memory_mib", "memory MiB"),
        ("files", "open files"),
        ("threads", "threads"),
        ("journal_mib", "journal MiB"),
        ("wal_mib", "WAL MiB"),
    ],
)
def test_a_level_that_grows_with_time_is_not_flat(field: str, name: str) -> None:
    samples = [sample(float(at), **{field: 10 + at}) for at in range(1, 60)]

    assert [each for each, found in by_name(samples).items() if not found.is_flat] == [name]


def test_waiting_bars_that_become_ever_more_are_not_flat() -> None:
    samples = [sample(float(at), waiting_bars=at * 1_000) for at in range(1, 60)]

    assert not by_name(samples)["bars that wait"].is_flat


def test_trades_that_cost_ever_more_are_not_flat() -> None:
    samples = [sample(float(at), cpu_s=at * at * 0.01) for at in range(1, 60)]

    found = by_name(samples)

    assert not found["CPU us per trade"].is_flat
    assert not found["CPU us per bar"].is_flat


def test_lines_of_the_log_that_come_ever_faster_are_not_flat() -> None:
    samples = [sample(float(at), log_mib=at * at) for at in range(1, 60)]

    assert not by_name(samples)["log KiB per minute"].is_flat


def test_what_happens_during_an_accident_does_not_count() -> None:
    samples = [sample(float(at), memory_mib=500.0 if at in (10, 11) else 50.0) for at in range(60)]

    assert by_name(samples, [Event("kill", 9.5, 11.5)])["memory MiB"].highest == 50.0


def test_no_cost_is_counted_across_two_processes() -> None:
    samples = [sample(1.0, cpu_s=9.0), sample(2.0, cpu_s=0.1, pid=2), sample(3.0, cpu_s=0.2, pid=2)]

    assert [at for at, _ in by_name(samples)["CPU us per trade"].points] == [3.0]


def test_the_same_seed_gives_the_same_market() -> None:
    one, other = Market(20, 1_000, 1.0, seed=7), Market(20, 1_000, 1.0, seed=7)

    assert one.next_trades(300) + one.next_trades(700) == other.next_trades(1_000)
    assert Market(20, 1_000, 1.0, seed=8).next_trades(1_000) != one.next_trades(1_000)


def test_the_market_ends_with_its_last_trade_at_the_end_of_its_days() -> None:
    market = Market(20, 1_000, 2.0, seed=0)
    first_ms = market.time_ms

    trades = market.next_trades(5_000)

    assert len(trades) == 1_000
    assert market.next_trades(1) == []
    assert market.time_ms - first_ms == 2 * 86_400_000


def test_the_sums_are_those_of_the_trades_and_ids_are_consecutive() -> None:
    market = Market(5, 2_000, 1.0, seed=3)
    trades = market.next_trades(2_000)

    for symbol, sums in market.sums.items():
        own = [trade for trade in trades if trade.symbol == symbol]
        assert [trade.trade_id for trade in own] == list(range(1, len(own) + 1))
        assert sums.trades == len(own)
        assert sums.buys == sum(not trade.buyer_is_maker for trade in own)
        assert sums.quantity == sum(Decimal(trade.quantity) for trade in own) * 10**8
        value = sum(Decimal(trade.price) * Decimal(trade.quantity) for trade in own)
        assert sums.value == value * 10**16


@pytest.mark.parametrize(
    ("minutes", "days", "kept_days"), [(60, 30, 3), (10, 5, 1.5), (20, 10, 2), (1, 0.5, 1.5)]
)
def test_bars_stay_three_days_or_less_in_a_short_run_but_minutes_of_this_machine(
    minutes: float, days: float, kept_days: float
) -> None:
    assert Plan(minutes * 60, days).retention_ms == kept_days * DAY_MS


@pytest.mark.usefixtures("mongod_binary")
def test_a_short_soak_survives_every_accident_and_stores_exact_sums(tmp_path: Path) -> None:
    picture = tmp_path / "soak.png"
    command = [sys.executable, "-m", "scripts.soak", "--minutes", "0.3", "--symbols", "8"]
    command += ["--trades-per-day", "70000", "--sample-every", "0.5", "--picture", str(picture)]

    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240)

    # Half a minute on a busy machine may look as if it grew: that is no matter of this test.
    assert "0 bars lack trades; the sums of 8 of 8 symbols are exact" in ended.stdout, ended
    assert "19 accidents" in ended.stdout
    assert ended.returncode in (0, 1)
    assert picture.read_bytes().startswith(b"\x89PNG")
