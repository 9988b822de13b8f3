"""The collector in simulated worlds: nothing is lost in silence, nothing is counted twice."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.simulation.conftest import FRESH_SEEDS
from tests.simulation.harsh import HARSH_FROM
from tests.simulation.kinds import KINDS_FROM, TURNS
from tests.simulation.world import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BATCH = 10
HINT = "scripts/simulate.sh --seed N tells what happened, step by step"
SEEDS = range(160)
"""Those of which MUTATIONS.md tells what they catch."""

HARSH_SEEDS = range(HARSH_FROM, HARSH_FROM + 80)
KINDS_SEEDS = range(KINDS_FROM, KINDS_FROM + 2 * TURNS)
FRESH = {
    "plain": (2_000, HARSH_FROM - 14, 14),
    "harsh": (2 * HARSH_FROM, 2**31, 14),
    "of any market": (KINDS_FROM + 1_000_000, 2 * KINDS_FROM, TURNS),
}
"""Bounds of the seeds of which some are drawn anew at each run, and how many.

They are printed at its end.
"""

EXTRA = (
    *(228, 279, 333, 546, 1_810, 500_002, 700_837, 708_390, 2_000_040, 2_000_334),
    *(2_000_091, 2_000_104, 3_100_224, 27_509_066, 31_415_124, 91_128_095, 91_128_932),
    *(91_128_971, 10_000_000_027, 10_000_000_041, 10_000_000_423, 10_000_001_026),
    *(10_000_001_035, 10_000_003_045, 10_000_005_025, 10_000_005_137, 10_000_005_169),
    *(10_000_006_090, 10_000_009_024),
)
"""Seeds beyond those that caught a break or once found what was wrong."""


def failures(seeds: Iterable[int]) -> dict[int, str]:
    """Return the first problem of each of *seeds* that has one."""
    found = {seed: simulate(seed).problems for seed in seeds}
    return {seed: problems[0] for seed, problems in found.items() if problems}


@pytest.mark.parametrize("first", SEEDS[::BATCH])
def test_every_bar_is_exact_or_its_gap_is_on_record(first: int) -> None:
    assert failures(range(first, first + BATCH)) == {}, HINT


@pytest.mark.parametrize("seed", EXTRA)
def test_so_it_is_in_worlds_that_caught_what_others_did_not(seed: int) -> None:
    assert simulate(seed).problems == []


@pytest.mark.parametrize("first", HARSH_SEEDS[::BATCH])
def test_no_bar_is_untrue_in_worlds_that_are_harsh(first: int) -> None:
    assert failures(range(first, first + BATCH)) == {}, HINT


@pytest.mark.parametrize("first", KINDS_SEEDS[::TURNS])
def test_so_it_is_of_every_market_and_stream(first: int) -> None:
    assert failures(range(first, first + TURNS)) == {}, HINT


@pytest.mark.parametrize("kind", FRESH)
def test_so_it_is_in_worlds_that_nobody_has_seen_before(
    kind: str, record_property: Callable[[str, object], None]
) -> None:
    *bounds, count = FRESH[kind]
    first = random.SystemRandom().randrange(*bounds)
    seeds = range(first, first + count)
    record_property(FRESH_SEEDS, f"{seeds[0]} to {seeds[-1]}")

    assert failures(seeds) == {}, HINT


def test_a_seed_is_the_same_world_every_time() -> None:
    first, second = (simulate(3, is_traced=True) for _ in range(2))

    assert first.trace == second.trace
    assert first.trace


def test_ten_breaks_of_the_code_are_on_record_as_caught() -> None:
    text = (Path(__file__).parent / "MUTATIONS.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \|.*\|$", text, re.MULTILINE)

    assert len(rows) >= 10
    assert all(re.search(r"\d+ of \d+", row) for row in rows)
