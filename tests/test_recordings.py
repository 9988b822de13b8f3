"""The generated recording has what makes the real ones hard, so that it can stand for them."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.testing.recordings import read_recording
from tests.recordings import (
    FOLDER_VARIABLE,
    Recording,
    generate_recording,
    open_recording,
    real_folder,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture(scope="module", params=["generated", *(["real"] if real_folder() else [])])
def recording(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Recording:
    """Return each recording that there is: what is said of one is to be so of the other."""
    folder = real_folder() if request.param == "real" else None
    if folder is None:
        return generate_recording(tmp_path_factory.mktemp("recorded"))
    return open_recording(folder)


def trades(path: Path) -> list[dict[str, Any]]:
    """Return the trades of one file as they came."""
    events = [json.loads(frame)["data"] for _, frame in read_recording(path)]
    assert {event["e"] for event in events} == {"trade"}
    return events


def by_symbol(recording: Recording) -> list[list[dict[str, Any]]]:
    """Return the trades of each symbol over both days."""
    first, second, third, fourth = map(trades, recording.trades)
    return [first + second, third + fourth]


def test_ids_follow_each_other_over_midnight(recording: Recording) -> None:
    for events in by_symbol(recording):
        ids = [event["t"] for event in events]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        assert len({event["s"] for event in events}) == 1
        assert len(ids) > 10_000


def test_hundreds_of_trades_share_a_millisecond_and_most_do_not(recording: Recording) -> None:
    for events in by_symbol(recording):
        sizes = Counter(Counter(event["T"] for event in events).values())
        assert max(sizes) > 200
        assert sizes[1] > sum(sizes.values()) / 2


def test_every_interval_has_trades_and_some_are_far_busier_than_others(
    recording: Recording,
) -> None:
    for events in by_symbol(recording):
        counts = Counter(event["T"] // 10_000 for event in events)
        assert len(counts) == 66
        assert max(counts.values()) > 5 * min(counts.values())


def test_some_trades_are_reported_when_their_interval_is_over(recording: Recording) -> None:
    for events in by_symbol(recording):
        lags = [event["E"] - event["T"] for event in events]
        assert min(lags) == 0
        assert max(lags) < 1_000
        assert any(event["T"] // 10_000 < event["E"] // 10_000 for event in events)


def test_the_recorders_clock_is_behind_and_symbols_take_turns(recording: Recording) -> None:
    frames = list(read_recording(*recording.trades))
    times = [time_ns for time_ns, _ in frames]
    assert times == sorted(times)
    events = [json.loads(frame)["data"] for _, frame in frames]
    assert all(
        time_ns < event["E"] * 1_000_000 for time_ns, event in zip(times, events, strict=True)
    )
    assert sum(one["s"] != other["s"] for one, other in pairwise(events)) > 1_000


def test_a_session_has_the_same_trades_among_several_times_as_much_else(
    recording: Recording,
) -> None:
    (session,) = set(recording.session) - set(recording.trades)
    messages = [json.loads(frame) for _, frame in read_recording(session)]
    streams = Counter(message.get("stream", "REST").rpartition("@")[2] for message in messages)
    assert {*streams} == {"trade", "bookTicker", "100ms", "REST"}
    assert streams["bookTicker"] > 2 * streams["trade"]
    there = [message["data"] for message in messages if message.get("stream") == "btcusdt@trade"]
    assert there == trades(recording.trades[0])


def test_the_same_seed_gives_the_same_files_and_another_one_others(tmp_path: Path) -> None:
    one, same, other = (
        contents(generate_recording(tmp_path / name, seed).session)
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert one == same
    assert all(mine != theirs for mine, theirs in zip(one, other, strict=True))


def contents(paths: Sequence[Path]) -> list[bytes]:
    """Return what is in the files."""
    return [path.read_bytes() for path in paths]


def test_the_real_recording_is_the_one_that_the_readme_names(tmp_path: Path) -> None:
    """Where nobody has it, that its place must be right is all there is to see."""
    if (folder := real_folder()) is not None:
        assert len(list(read_recording(*open_recording(folder).trades))) == 34_419
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(tmp_path))
        with pytest.raises(FileNotFoundError, match="spot_20240808"):
            real_folder()
        (tmp_path / "spot_20240808").mkdir()
        assert real_folder() == tmp_path / "spot_20240808"
