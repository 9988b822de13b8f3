"""Simulations by the thousand, or one of them step by step: see scripts/simulate.sh."""

# ruff: noqa: T201 - a command line prints

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from bintrades.testing.amounts import whole_number
from tests.simulation.kinds import KINDS_FROM
from tests.simulation.world import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.world import Outcome


def main() -> int:
    """Run what the command line asks for; return 1 if anything went wrong that must not."""
    options = _parser().parse_args()
    if options.seed is not None:
        return _show(simulate(options.seed, is_traced=True))
    first = KINDS_FROM + options.first if options.kinds else options.first
    seeds = range(first, first + options.seeds)
    started = time.monotonic()
    failed = []
    kinds: Counter[str] = Counter()
    for number, outcome in enumerate(_outcomes(seeds, options.jobs), 1):
        kinds[outcome.kind] += 1
        if outcome.problems:
            failed.append(outcome.seed)
            problem = outcome.problems[0][:300]
            print(f"seed {outcome.seed} ({outcome.kind}): {problem}", flush=True)
        if number % 1_000 == 0:
            print(f"{number} worlds, {len(failed)} failed", flush=True)
    took_s = time.monotonic() - started
    print(", ".join(f"{count} of {kind}" for kind, count in sorted(kinds.items())))
    print(
        f"{len(seeds)} worlds in {took_s:.1f} s, {len(seeds) / took_s * 60:.0f} a minute;"
        f" failed: {sorted(failed) or 'none'}"
    )
    return 1 if failed else 0


def _outcomes(seeds: range, jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        yield from map(simulate, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(simulate, seeds, chunksize=8)


def _show(outcome: Outcome) -> int:
    print("\n".join(outcome.trace))
    print(f"\n{outcome.trades} trades, {outcome.requests} requests, ", end="")
    print(f"at rest after {outcome.elapsed_ms / 1000:.1f} s")
    for problem in outcome.problems:
        print(f"PROBLEM: {problem}")
    return 1 if outcome.problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/simulate.sh",
        description="Let the collector live through simulated accidents; each seed is a schedule.",
    )
    parser.add_argument(
        "--seeds", type=whole_number(1, 10**9), default=2_000, metavar="N", help="how many worlds"
    )
    parser.add_argument(
        "--first", type=whole_number(0, 10**12), default=0, metavar="S", help="the first seed"
    )
    parser.add_argument(
        "--kinds",
        action="store_true",
        help=f"count from {KINDS_FROM} on, where worlds are of any market and stream",
    )
    parser.add_argument(
        "--jobs", type=whole_number(1, 1_000), default=2, metavar="N", help="processes"
    )
    parser.add_argument(
        "--seed", type=whole_number(0, 10**12), metavar="S", help="one world, told step by step"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
