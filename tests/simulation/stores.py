"""A store that fails in every way, and keeps the contract's rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from bintrades.errors import RejectedBars

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

    from bintrades.model import Bar
    from tests.simulation.faults import Faults


class FaultyStore:
    """In the place of bintrades.plugins.Store; what it has survives the collector."""

    def __init__(self, number: int, faults: Faults, rng: Random, seam: Callable[[], None]) -> None:
        self.name = f"store{number}"
        self.bars: dict[tuple[str, int], Bar] = {}
        self.errors: list[str] = []
        self._number = number
        self._faults = faults
        self._rng = rng
        self._seam = seam
        self._is_open = False

    @property
    def is_hanging(self) -> bool:
        """Whether a call would not return now."""
        return self._faults.active("store", "hang", self._number) is not None

    def open(self, _options: Mapping[str, str]) -> None:
        """Open, or fail."""
        if self._faults.strikes("store", "closed", self._number):
            raise OSError("no route to the database")
        self._is_open = True

    def close(self) -> None:
        """Close."""
        self._is_open = False

    def write(self, bars: Sequence[Bar]) -> None:
        """Keep *bars*, or some of them, or none, and say so, or not."""
        self._seam()
        if not self._is_open or not bars:
            self.errors.append(f"{len(bars)} bars for a store that is open: {self._is_open}")
        if self._faults.strikes("store", "fail", self._number):
            raise OSError("the database is away")
        is_failing = self._faults.strikes("store", "apply and fail", self._number)
        rejected = []
        for bar in bars[: self._rng.randint(0, len(bars))] if is_failing else bars:
            if self._faults.strikes("store", "refuse bars", self._number):
                rejected.append((bar, "not today"))
            else:
                self._keep(bar)
        self._seam()
        if is_failing:
            raise TimeoutError("nobody knows what was written")
        if rejected:
            raise RejectedBars(rejected)

    def _keep(self, bar: Bar) -> None:
        key = (bar.symbol, bar.open_time_ms)
        stored = self.bars.get(key)
        if stored is None:
            self.bars[key] = bar
            return
        if bar.trade_count < stored.trade_count or bar.version < stored.version:
            self.errors.append(f"an older or smaller bar: {bar} after {stored}")
        if bar.version == stored.version and replace(bar, updated_at_ms=0) != replace(
            stored, updated_at_ms=0
        ):
            self.errors.append(f"two bars of one version: {bar} after {stored}")
        if bar.rank > stored.rank:
            self.bars[key] = bar
