"""A batch is as large as a store can take in a few seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.pipeline.batch_size import BatchSize

if TYPE_CHECKING:
    from collections.abc import Iterable


def feed(size: BatchSize, *, bars: int, per_bar_s: float, timeout_s: float) -> Iterable[int]:
    """Feed *bars* to a store of that speed; yield the size of each attempt."""
    while bars > 0:
        batch = min(bars, size.limit)
        yield batch
        if batch * per_bar_s > timeout_s:
            size.timed_out(batch)
        else:
            size.took(batch, batch * per_bar_s)
            bars -= batch


def test_a_quick_store_soon_gets_the_largest_batches() -> None:
    batches = list(feed(BatchSize(4_000), bars=20_000, per_bar_s=0.00003, timeout_s=30))

    assert batches[:7] == [100, 200, 400, 800, 1_600, 3_200, 4_000]


def test_a_slow_store_never_meets_its_time_limit() -> None:
    batches = list(feed(BatchSize(4_000), bars=1_000, per_bar_s=0.04, timeout_s=30))

    assert sum(batches) == 1_000
    assert set(batches[1:]) == {50}, "two seconds each"


def test_after_a_timeout_a_batch_is_halved_and_grows_again() -> None:
    size = BatchSize(1_000, first=1_000)

    size.timed_out(1_000)
    assert size.limit == 500
    size.timed_out(500)
    assert size.limit == 250

    size.took(250, 0.01)
    assert size.limit == 262
    while size.limit < 500:
        size.took(size.limit, 0.01)
    size.took(size.limit, 0.01)
    assert size.limit == 1_000


def test_what_was_too_large_once_is_tried_again_but_not_at_every_other_batch() -> None:
    def is_too_large(batch: int) -> bool:
        return batch > 300

    size = BatchSize(1_000)
    timeouts = 0
    for _ in range(100):
        if is_too_large(size.limit):
            timeouts += 1
            size.timed_out(size.limit)
        else:
            size.took(size.limit, 0.01)

    assert 2 <= timeouts <= 12


def test_a_store_that_gets_quicker_gets_more() -> None:
    size = BatchSize(1_000)

    size.took(size.limit, 100.0)
    assert size.limit == 2
    for _ in range(20):
        size.took(size.limit, 0.01)

    assert size.limit == 1_000


def test_batches_that_are_not_full_say_nothing_about_larger_ones() -> None:
    size = BatchSize(1_000)

    for _ in range(20):
        size.took(99, 0.01)

    assert size.limit == 100


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e9])
def test_one_bar_is_the_least_and_the_largest_the_most(seconds: float) -> None:
    size = BatchSize(3)
    for _ in range(10):
        size.took(size.limit, seconds)

    assert size.limit == (1 if seconds > 1 else 3)


@given(
    st.integers(1, 5_000),
    st.lists(st.tuples(st.booleans(), st.floats(0, 1e6), st.integers(1, 5_000)), max_size=50),
)
def test_whatever_happens_the_size_is_one_that_can_be(
    largest: int, steps: list[tuple[bool, float, int]]
) -> None:
    size = BatchSize(largest)
    for is_timeout, seconds, bars in steps:
        batch = min(bars, size.limit)
        if is_timeout:
            size.timed_out(batch)
            assert size.limit <= max(1, batch // 2)
        else:
            size.took(batch, seconds)
        assert 1 <= size.limit <= largest
