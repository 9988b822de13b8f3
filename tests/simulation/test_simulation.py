"""The collector in simulated worlds: nothing is lost in silence, nothing is counted twice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.simulation.world import simulate

BATCH = 20
SEEDS = range(160)
"""Those of which MUTATIONS.md tells what they catch."""

EXTRA = (228, 279, 333, 546, 1810)
"""Seeds beyond those that caught a break or once found what was wrong."""


@pytest.mark.parametrize("first", SEEDS[::BATCH])
def test_every_bar_is_exact_or_its_gap_is_on_record(first: int) -> None:
    failed = {}
    for seed in range(first, first + BATCH):
        if problems := simulate(seed).problems:
            failed[seed] = problems[0]

    assert not failed, "scripts/simulate.sh --seed N tells what happened, step by step"


@pytest.mark.parametrize("seed", EXTRA)
def test_so_it_is_in_worlds_that_caught_what_others_did_not(seed: int) -> None:
    assert simulate(seed).problems == []


def test_a_seed_is_the_same_world_every_time() -> None:
    first, second = (simulate(3, is_traced=True) for _ in range(2))

    assert first.trace == second.trace
    assert first.trace


def test_ten_breaks_of_the_code_are_on_record_as_caught() -> None:
    text = (Path(__file__).parent / "MUTATIONS.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \|.*\|$", text, re.MULTILINE)

    assert len(rows) >= 10
    assert all(re.search(r"\d+ of \d+", row) for row in rows)
