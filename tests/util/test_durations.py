"""Durations as text and as milliseconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.util.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [
        ("500ms", 500),
        ("10s", 10_000),
        ("5m", 300_000),
        ("23h", 82_800_000),
        ("7d", 604_800_000),
        ("0ms", 0),
        ("007s", 7_000),
    ],
)
def test_a_duration_is_a_whole_number_and_its_unit(text: str, duration_ms: int) -> None:
    assert parse_duration(text) == duration_ms


@pytest.mark.parametrize(
    "text", ["", "10", "s", "1.5s", "-1s", "+1s", "1 s", "1S", "1w", "1s2m", "٣s", "9" * 5000 + "s"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a whole number with a unit"):
        parse_duration(text)


@given(st.integers(0, 10**15 - 1))
def test_a_formatted_duration_reads_as_itself(duration_ms: int) -> None:
    assert parse_duration(format_duration(duration_ms)) == duration_ms


def test_the_largest_unit_that_fits_is_written() -> None:
    assert [format_duration(ms) for ms in (0, 1, 1_000, 90_000, 3_600_000, 172_800_000)] == [
        "0ms",
        "1ms",
        "1s",
        "90s",
        "1h",
        "2d",
    ]
