"""How long bars took to their store."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bintrades.pipeline.latency import BOUNDS_MS, LatencyHistogram
from bintrades.testing.bars import sample_bar


@pytest.mark.parametrize(
    ("taken_ms", "bucket"),
    [(0, 0), (1_000, 0), (1_001, 1), (3_600_000, 9), (3_600_001, 10), (-5, 0)],
)
def test_a_bar_is_counted_where_it_belongs(taken_ms: int, bucket: int) -> None:
    histogram, bar = LatencyHistogram(), sample_bar()

    histogram.add([bar], bar.end_time_ms + taken_ms)

    expected = [0] * (len(BOUNDS_MS) + 1)
    expected[bucket] = 1
    assert list(histogram.snapshot().counts) == expected
    assert histogram.snapshot().sum_ms == max(0, taken_ms)


def test_a_bar_that_was_amended_says_nothing_of_how_long_it_took() -> None:
    histogram, bar = LatencyHistogram(), sample_bar()

    histogram.add([replace(bar, version=2)], bar.end_time_ms + 7)

    assert sum(histogram.snapshot().counts) == 0
