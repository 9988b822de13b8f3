"""The recorded market, read once, and an exchange to play it on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.testing.recordings import read_recording
from tests.recordings import generate_recording, open_recording, real_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from pymongo.database import Database

    from tests.end_to_end.market import Fields, Key
    from tests.end_to_end.stage import Stage
    from tests.recordings import Recording

pytest.register_assert_rewrite(
    "tests.end_to_end.market", "tests.end_to_end.stage", "tests.end_to_end.watcher"
)

DATABASES = ("database", "mongodb_database")
"""Fixtures that are the database of a test, the first one that it has."""
STREAMS = ("btcusdt@trade", "ethusdt@trade")


@pytest.fixture(scope="session", params=["generated", *(["real"] if real_folder() else [])])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Return a recording of eleven minutes; every test runs on each one that there is."""
    if request.param == "generated":
        return generate_recording(tmp_path_factory.mktemp("recorded") / "spot_20240808")
    folder = real_folder()
    assert folder is not None
    return open_recording(folder)


@pytest.fixture(scope="session")
def recorded_frames(recorded: Recording) -> list[tuple[int, bytes]]:
    """Return the trades of BTCUSDT and ETHUSDT in eleven minutes around a midnight, as received."""
    return list(read_recording(*recorded.trades))


@pytest.fixture(scope="session")
def recorded_bars(recorded_frames: list[tuple[int, bytes]]) -> dict[Key, Fields]:
    """Return what the recorded trades determine of each of their bars."""
    from tests.end_to_end.market import expected_bars  # its asserts are registered above by now

    return expected_bars(recorded_frames)


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    """Run an exchange of BTCUSDT and ETHUSDT."""
    with ExchangeSimulator() as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def watcher(request: pytest.FixtureRequest) -> Iterator[None]:
    """Watch the test's database, and fail a test that stores an untrue bar as closed and complete.

    A test that damages what was stored, on purpose, is marked: untrue_bars("why").
    """
    from tests.end_to_end.watcher import Watcher  # not before its asserts are registered above

    name = next((each for each in DATABASES if each in request.fixturenames), None)
    marker = request.node.get_closest_marker("untrue_bars")
    if name is None or "exchange" not in request.fixturenames or marker is not None:
        assert marker is None or marker.args, "untrue_bars has no reason"
        yield
        return
    database = request.getfixturevalue(name)
    with Watcher(database, request.getfixturevalue("exchange").market):
        yield


@pytest.fixture
def stage(
    recorded_frames: list[tuple[int, bytes]],
    recorded_bars: dict[Key, Fields],
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> Stage:
    """Return the recorded market, to be played to collectors that repair."""
    from tests.end_to_end.stage import Stage  # not before its asserts are registered above

    return Stage(recorded_frames, recorded_bars, exchange, mongodb_database, mongodb_uri, tmp_path)
