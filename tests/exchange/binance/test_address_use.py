"""Processes on one address keep to its limits together, whatever becomes of one of them."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from bintrades.config.schema import ExchangeConfig
from bintrades.exchange.binance.address_use import ALONE, AddressUse
from bintrades.exchange.binance.exchange import open_exchange
from bintrades.exchange.binance.feed.attempts import AttemptLimit
from bintrades.exchange.binance.shared_budget import SharedBudget
from bintrades.exchange.binance.spot import SPOT
from bintrades.util.clocks import now_ms
from tests.exchange.test_registry import NoNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MINUTE = 60_000
NOW = 10_000_000

Asked = tuple[int, int]
"""When a process asked, and had its answer."""

ASKER = textwrap.dedent(
    """
    import json, sys, time
    from pathlib import Path
    from bintrades.exchange.binance.address_use import AddressUse

    path, what, weight, seconds, speed = sys.argv[1:]
    address = AddressUse(Path(path), "spot")
    print("ready", flush=True)
    sys.stdin.readline()
    clock = lambda: int(time.monotonic() * 1000 * int(speed))  # one for all processes
    ends = time.monotonic() + float(seconds)
    had = []
    while time.monotonic() < ends:
        now = clock()
        if what == "spend":
            wait = address.spend(int(weight), 1_000, now)
        else:
            wait = address.attempt(200, 300_000, now)
        if wait == 0:
            had.append((now, clock()))
        else:
            time.sleep(min(wait or 1_000, 2_000) / 1000 / int(speed))
    print(json.dumps(had))
    """
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "shared.budget"


@pytest.fixture
def use(path: Path) -> Iterator[Callable[..., AddressUse]]:
    """Make shares in the file, as of as many processes, and close them at the end."""
    with ExitStack() as stack:
        yield lambda pool="spot", at=path: stack.enter_context(closing(AddressUse(at, pool)))


@contextmanager
def begun(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program that says a word once it has begun; kill it at the end."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def run_together(
    path: Path, *askers: tuple[str, int], seconds: float, speed: int
) -> list[list[Asked]]:
    """Return when each of several processes that began at one moment was told to go."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(begun(ASKER, path, what, weight, seconds, speed))
            for what, weight in askers
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate(timeout=60)[0]) for process in processes]


def most_within(granted: list[tuple[Asked, int]], window_ms: int) -> int:
    """Return the most that was certainly spent in a window so long, wherever it begins."""
    begins = {before - 1 for (before, _), _ in granted}
    return max(
        sum(
            weight
            for (before, after), weight in granted
            if begin < before and after <= begin + window_ms
        )
        for begin in begins
    )


def test_four_processes_spend_no_more_in_any_minute_than_one_may_and_none_starves(
    path: Path,
) -> None:
    weights = [4, 25, 25, 400]

    had = run_together(path, *(("spend", each) for each in weights), seconds=4, speed=60)

    spent = [(each, weight) for weight, times in zip(weights, had, strict=True) for each in times]
    assert 1_000 - 400 < most_within(spent, MINUTE) <= 1_000
    assert all(len(times) >= 2 for times in had), [len(times) for times in had]


def test_four_processes_connect_no_more_often_than_one_may(path: Path) -> None:
    had = run_together(path, *[("attempt", 1)] * 4, seconds=7, speed=60)

    attempts = [(each, 1) for times in had for each in times]
    assert 150 < most_within(attempts, 300_000) <= 200
    assert len(attempts) > 200


def test_pools_are_apart_and_bans_are_of_a_pool(use: Callable[..., AddressUse]) -> None:
    spot, usdm, coinm = (use(pool) for pool in ("spot", "futures", "futures"))

    assert usdm.spend(600, 1_000, NOW) == 0
    assert spot.spend(600, 1_000, NOW) == 0
    assert coinm.spend(600, 1_000, NOW + 1_000) == MINUTE - 1_000
    coinm.ban(120_000, NOW)
    assert usdm.spend(1, 1_000, NOW + 20_000) == 100_000
    assert spot.spend(1, 1_000, NOW + 20_000) == 0


def test_a_budget_counts_and_heeds_what_other_processes_do(use: Callable[..., AddressUse]) -> None:
    one, other = (SharedBudget(6_000, 50, address=use()) for _ in range(2))

    assert one.wait_ms(2_000, NOW) == 0
    assert other.wait_ms(2_000, NOW + 10_000) == MINUTE - 10_000
    assert other.wait_ms(1_000, NOW + 10_000) == 0
    one.record_failure("too much", NOW + 70_000, 429, 7)
    assert other.wait_ms(1, NOW + 70_000) == 7_000
    assert other.last_error is not None


def test_one_that_has_waited_longest_goes_first(use: Callable[..., AddressUse]) -> None:
    heavy, light = use(), use()
    assert light.spend(900, 1_000, NOW) == 0

    assert heavy.spend(400, 1_000, NOW + 1_000)
    assert light.spend(50, 1_000, NOW + 2_000), "there is room, but not for both"
    assert heavy.spend(400, 1_000, NOW + MINUTE) == 0
    assert light.spend(50, 1_000, NOW + MINUTE) == 0


def test_one_that_asks_no_more_keeps_nobody_waiting(use: Callable[..., AddressUse]) -> None:
    gone, light = use(), use()
    assert light.spend(900, 1_000, NOW) == 0
    wait = gone.spend(400, 1_000, NOW)
    assert wait

    assert light.spend(700, 1_000, NOW + wait)
    assert light.spend(700, 1_000, NOW + wait + 11_000) == 0


def test_what_was_spent_before_the_machine_was_started_again_counts_no_more(
    use: Callable[..., AddressUse],
) -> None:
    before, after = use(), use()
    before.spend(1_000, 1_000, NOW)
    before.attempt(1, 300_000, NOW)
    before.ban(100_000, NOW)

    assert after.spend(1_000, 1_000, 5_000) == 0
    assert after.attempt(1, 300_000, 5_000) == 0
    assert after.spend(1, 1_000, NOW + 1) == 0, "as old as the start before was at its ban"


def test_a_corrupt_file_is_begun_anew(
    use: Callable[..., AddressUse], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = use()
    assert first.spend(600, 1_000, NOW) == 0
    first.close()
    header = path.read_bytes()[:100]
    path.write_bytes(header + b"x" * 5_000)

    one, other = use(), use()
    assert one.spend(600, 1_000, NOW) == 0
    assert other.spend(600, 1_000, NOW) == MINUTE
    assert [record.__dict__["event"] for record in caplog.records] == ["shared_budget_replaced"]


@pytest.mark.parametrize("empty", [b"", b"\0" * 5_000])
def test_a_file_without_anything_in_it_is_taken(
    use: Callable[..., AddressUse], path: Path, empty: bytes
) -> None:
    path.parent.mkdir()
    path.write_bytes(empty)

    assert use().spend(600, 1_000, NOW) == 0
    assert use().spend(600, 1_000, NOW) == MINUTE


def test_a_file_of_another_program_is_never_touched(
    use: Callable[..., AddressUse], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE theirs (x)")
    for content in (path.read_bytes(), b"[binance]\nmarket = spot\n"):
        path.write_bytes(content)
        assert use().spend(600, 1_000, NOW) is None
        assert path.read_bytes() == content
        assert list(path.parent.iterdir()) == [path]

    assert "another program's file" in str(caplog.records[0].__dict__["error"])


def test_values_that_cannot_be_are_begun_anew(use: Callable[..., AddressUse], path: Path) -> None:
    address = use()
    assert address.spend(600, 1_000, NOW) == 0
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("INSERT INTO spent VALUES ('spot', 9999999, 'many')")

    assert address.spend(600, 1_000, NOW) == 0


def test_one_that_is_killed_in_the_middle_of_a_write_harms_nobody(
    use: Callable[..., AddressUse], path: Path
) -> None:
    address = use()
    assert address.spend(600, 1_000, NOW) == 0
    with begun(HOLDER, path):
        pass  # which ends by SIGKILL

    assert address.spend(600, 1_000, NOW) == MINUTE


HOLDER = """
import sqlite3, sys, time
file = sqlite3.connect(sys.argv[1], isolation_level=None)
file.execute('BEGIN IMMEDIATE')
file.execute('INSERT INTO spent VALUES (?, ?, ?)', ('spot', 1, 1))
print('ready', flush=True)
time.sleep(60)
"""
"""Is in the middle of a write."""


def test_one_that_stops_in_the_middle_of_a_write_leaves_the_others_on_their_own_for_a_while(
    use: Callable[..., AddressUse], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = use()
    assert address.spend(1, 1_000, NOW) == 0
    with begun(HOLDER, path) as holder:
        holder.send_signal(signal.SIGSTOP)
        assert address.spend(1, 1_000, NOW) is None
        assert [address.spend(1, 1_000, NOW + 1) for _ in range(100)] == [None] * 100

    assert address.spend(1, 1_000, NOW + 20_000) == 0
    assert [record.__dict__["event"] for record in caplog.records] == ["shared_budget_unusable"]


def test_where_the_file_cannot_be_used_a_process_takes_a_quarter(
    use: Callable[..., AddressUse], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    address = use(at=tmp_path / "file" / "shared.budget")
    budget = SharedBudget(6_000, 50, address=address)
    limit = AttemptLimit(SPOT, address)

    granted = sum(budget.wait_ms(25, NOW) == 0 for _ in range(200))
    connected = sum(limit.wait_ms(NOW) == 0 for _ in range(300))

    assert granted == 3_000 // ALONE // 25
    assert connected == 200 // ALONE
    assert budget.wait_ms(25, NOW + MINUTE) == 0
    assert limit.wait_ms(NOW + 300_000) == 0
    assert len(caplog.records) == 1


def test_a_file_that_is_removed_while_it_is_used_is_made_again(
    use: Callable[..., AddressUse], path: Path
) -> None:
    one, other = use(), use()
    assert one.spend(600, 1_000, NOW) == 0
    path.unlink()

    assert one.spend(600, 1_000, NOW) == 0
    assert other.spend(600, 1_000, NOW) == MINUTE


def test_threads_of_one_process_may_ask_at_once(use: Callable[..., AddressUse]) -> None:
    address = use()
    had: list[int] = []

    def ask() -> None:
        had.extend(1 for _ in range(50) if address.spend(10, 1_000, NOW) == 0)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(had) == 100


@pytest.mark.parametrize("market", ["coinm", "spot"])
def test_processes_of_one_pool_share_the_file_that_their_configurations_name(
    market: str, path: Path
) -> None:
    with ExitStack() as stack:
        usdm, other = (
            stack.enter_context(
                closing(
                    open_exchange(
                        ExchangeConfig(market=name, shared_budget=path),
                        NoNetwork(),
                        weight_share=50,
                        banned_for_ms=0,
                    )
                )
            )
            for name in ("usdm", market)
        )

        now = now_ms()
        assert usdm.budget.wait_ms(1_000, now) == 0
        assert bool(other.budget.wait_ms(1_000, now)) is (market == "coinm")
