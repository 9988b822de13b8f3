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

pytest.register_assert_rewrite("tests.end_to_end.market", "tests.end_to_end.stage")

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
