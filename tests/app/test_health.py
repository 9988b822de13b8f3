"""When a collector is well, and why it is not."""

from __future__ import annotations

from typing import Any

import pytest

from bintrades.app.health import (
    CollectorState,
    is_status_of,
    other_shard,
    problem_of_shard,
    problems,
    state_of,
)

NOW = 10_000_000
MINUTE = 60_000


def figures(**changed: Any) -> dict[str, Any]:
    return {
        "pid": 17,
        "state": "running",
        "started_ms": NOW - 1_000,
        "beat_ms": NOW - 1_000,
        "workers": [{"name": "repairer", "idle_ms": 200, "is_vital": True}],
        "delay_ms": 0,
        "journal_error": None,
        "connections": [{"name": "reader-1", "down_ms": 0, "empty_connections": 0, "error": None}],
        "stores": [{"name": "mongodb", "behind_ms": 500, "error": None}],
        **changed,
    }


def state(word: dict[str, Any] | None, *, is_in_use: bool = True) -> CollectorState:
    return state_of(word, is_in_use=is_in_use, now=NOW)


def found(word: dict[str, Any] | None, **waiting: int) -> list[str]:
    return problems(state(word), word, waiting, NOW)


def test_without_a_process_it_has_stopped_or_never_run() -> None:
    assert state(figures(), is_in_use=False) == "stopped"
    assert state(None, is_in_use=False) == "never run"
    assert problems(CollectorState.STOPPED, figures(), {}, NOW) == ["it does not run"]
    assert problems(CollectorState.NEVER_RUN, None, {}, NOW) == ["it does not run"]


def test_a_process_without_a_word_is_starting() -> None:
    assert state(None) == "starting"
    assert found(None) == []
    assert problems(CollectorState.STARTING, None, {}, NOW, taken_ms=NOW - 90_000) == []


def test_a_process_that_never_leaves_a_word_is_not_well() -> None:
    (problem,) = problems(CollectorState.STARTING, None, {}, NOW, taken_ms=NOW - 5 * MINUTE)

    assert problem == "it has been opening its journal for 5 min, without a word"


@pytest.mark.parametrize(
    ("doing", "silence_ms", "expected"),
    [
        ("running", 20_000, "running"),
        ("running", 20_001, "not responding"),
        ("starting", 90_000, "starting"),
        ("starting", 90_001, "not responding"),
        ("stopping", 60 * MINUTE, "stopping"),
    ],
)
def test_silence_is_long_for_one_that_runs_and_less_so_for_one_that_starts_or_stops(
    doing: str, silence_ms: int, expected: str
) -> None:
    assert state(figures(state=doing, beat_ms=NOW - silence_ms)) == expected


def test_a_word_is_that_of_the_process_that_has_the_journal() -> None:
    assert is_status_of(figures(), (17, NOW - 9_000), NOW)
    assert is_status_of(figures(), (None, 0), NOW)
    assert not is_status_of(figures(), (18, NOW - 9_000), NOW)
    assert not is_status_of(figures(), (17, NOW - 500), NOW)  # the same number again
    assert not is_status_of(figures(beat_ms=NOW + 1), (17, NOW - 9_000), NOW)
    assert not is_status_of(None, (17, NOW - 9_000), NOW)
    assert not is_status_of({"pid": 17}, (17, NOW - 9_000), NOW)


def test_one_that_runs_is_well() -> None:
    assert found(figures()) == []
    assert found(figures(), mongodb=5) == []


def test_one_that_starts_has_two_minutes() -> None:
    assert found(figures(state="starting", started_ms=NOW - 2 * MINUTE)) == []
    assert found(figures(state="starting", started_ms=NOW - 5 * MINUTE)) == [
        "it has been starting for 5 min"
    ]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            {"workers": [{"name": "repairer", "idle_ms": 3 * MINUTE}]},
            "the thread repairer has not moved for 3 min",
        ),
        ({"delay_ms": 61_000}, "what arrives is recorded 61 s later"),
        ({"journal_error": "disk full"}, "disk full"),
        (
            {"connections": [{"name": "reader-1", "down_ms": 120_001, "error": "no host"}]},
            "reader-1 has had no streams for 2 min: no host",
        ),
        (
            {"stores": [{"name": "mongodb", "behind_ms": 3 * 60 * MINUTE, "error": None}]},
            "7 bars wait for store mongodb, 3 h by now",
        ),
    ],
)
def test_each_reason_is_reported(changed: dict[str, Any], problem: str) -> None:
    assert found(figures(**changed), mongodb=7) == [problem]


@pytest.mark.parametrize(
    "changed",
    [
        {"workers": [{"name": "repairer", "idle_ms": 170_000}]},
        {"delay_ms": 59_000},
        {"connections": [{"name": "reader-1", "down_ms": 119_000, "error": "no host"}]},
        {"stores": [{"name": "mongodb", "behind_ms": 290_000, "error": "no host"}]},
    ],
)
def test_what_has_not_lasted_long_is_no_reason(changed: dict[str, Any]) -> None:
    assert found(figures(**changed), mongodb=7) == []


def test_a_store_that_nothing_waits_for_is_not_behind() -> None:
    word = figures(stores=[{"name": "mongodb", "behind_ms": 60 * MINUTE, "error": "no host"}])

    assert found(word, mongodb=0) == []


ADVICE = "give each shard a journal of its own, such as var/bintrades-${SHARD}.journal"


@pytest.mark.parametrize(
    ("having", "wanted", "is_and_is_not"),
    [
        ("1/2", "2/2", "shard 1/2, not shard 2/2"),
        (None, "2/2", "that of all symbols, not shard 2/2"),
        ("1/2", None, "shard 1/2, not that of all symbols"),
    ],
)
def test_of_two_collectors_with_one_journal_the_second_one_is_told_whose_it_is(
    having: str | None, wanted: str | None, is_and_is_not: str
) -> None:
    said = other_shard(figures(shard=having), wanted)

    assert said == f"the collector that has this journal is {is_and_is_not}: {ADVICE}"


@pytest.mark.parametrize(
    "of_holder",
    [None, figures(), figures(shard="2/5"), figures(shard="2/6")],
    ids=["not known", "of an earlier version", "the same", "the same of more shards"],
)
def test_a_collector_of_the_same_symbols_as_far_as_known_is_no_other_shard(
    of_holder: dict[str, Any] | None,
) -> None:
    assert other_shard(of_holder, "2/5") is None


def test_a_shard_that_nobody_collects_is_not_well() -> None:
    said = problem_of_shard(figures(shard="1/5"), "2/5")

    assert said == f"the collector that has this journal is shard 1/5, not shard 2/5: {ADVICE}"
    assert problem_of_shard(figures(shard="2/5"), "2/5") is None


def test_a_shard_that_does_not_know_yet_how_many_there_are_is_not_well() -> None:
    said = problem_of_shard(figures(shard="2/5"), "2/6")

    assert said == "it runs as shard 2/5, not 2/6: restart it, or have it read its file again"


def test_whoever_asks_for_no_shard_is_told_of_any() -> None:
    assert problem_of_shard(figures(shard="2/5"), None) is None
    assert problem_of_shard(figures(), "2/5") is None, "earlier versions do not say"
    assert problem_of_shard(None, "2/5") is None
