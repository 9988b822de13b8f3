"""A store that fails in every way, and keeps the contract's rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from bintrades.errors import RejectedBars

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

    from bintrades.core.write_batch import Key
    from bintrades.model import Bar, CoveredSpan
    from tests.simulation.clock import Clock
    from tests.simulation.faults import Faults
    from tests.simulation.watch import Watch


class FaultyStore:
    """In the place of bintrades.stores.store.Store; what it has survives the collector.

    In a harsh world versions come from more than one journal, or from one that has lost some.
    """

    def __init__(
        self,
        number: int,
        faults: Faults,
        rng: Random,
        seam: Callable[[], None],
        clock: Clock,
        watch: Watch,
        *,
        is_harsh: bool,
    ) -> None:
        self.name = f"store{number}"
        self.bars: dict[tuple[str, int], Bar] = {}
        self.errors: list[str] = []
        self._number = number
        self._faults = faults
        self._rng = rng
        self._seam = seam
        self._is_open = False
        self._clock = clock
        self._watch = watch
        self._is_harsh = is_harsh
        self._replaced: list[tuple[int, Key, Bar | None]] = []  # when, and what was there before

    @property
    def is_hanging(self) -> bool:
        """Whether a call would not return now."""
        return self._faults.active("store", "hang", self._number) is not None

    def open(self, _options: Mapping[str, str]) -> None:
        """Open, or fail."""
        if self._faults.strikes("store", "closed", self._number):
            raise OSError("no route to the database")
        self._is_open = True

    def identity(self) -> str | None:
        """Return None: it does not tell itself from another one."""
        return None

    def without_secrets(self, text: str, _options: Mapping[str, str]) -> str:
        """Return *text*: there are none."""
        return text

    def close(self) -> None:
        """Close."""
        self._is_open = False

    def write(self, bars: Sequence[Bar]) -> None:
        """Keep *bars*, or some of them, or none, and say so, or not."""
        self._watch.look_at(bars, self.name)
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
                self.keep(bar)
        self._seam()
        if is_failing:
            raise TimeoutError("nobody knows what was written")
        if rejected:
            raise RejectedBars(rejected)

    @property
    def takes_coverage(self) -> bool:
        """Whether it wants to know what is covered."""
        return True

    def cover(self, spans: Sequence[CoveredSpan]) -> None:
        """Compare *spans* with the bars that it has been given, or fail."""
        self._seam()
        if self._faults.strikes("store", "fail", self._number):
            raise OSError("the database is away")
        if not self._is_harsh:
            for span in spans:
                bars = {at: self.bars.get((span.symbol, at)) for at in _open_times(span)}
                self._watch.look_at_cover(bars, span.symbol, self.name)
        self._seam()

    def roll_back(self, past_ms: int) -> int:
        """Forget what was acknowledged in the *past_ms* before now; return how much that was."""
        since = self._clock.elapsed - past_ms
        count = 0
        while self._replaced and self._replaced[-1][0] >= since:
            _, key, before = self._replaced.pop()
            count += 1
            if before is None:
                self.bars.pop(key, None)
            else:
                self.bars[key] = before
        return count

    def keep(self, bar: Bar) -> None:
        """Store *bar* unless a better version is there, as the contract has it."""
        key = (bar.symbol, bar.open_time_ms)
        stored = self.bars.get(key)
        if stored is None or bar.rank > stored.rank:
            self._replaced.append((self._clock.elapsed, key, stored))
            self.bars[key] = bar
        if stored is not None and not self._is_harsh:
            self._complain(bar, stored)

    def _complain(self, bar: Bar, stored: Bar) -> None:
        is_smaller = (bar.epoch, bar.trade_count) < (stored.epoch, stored.trade_count)
        if is_smaller or bar.version < stored.version:
            self.errors.append(f"an older or smaller bar: {bar} after {stored}")
        if bar.version == stored.version and replace(bar, updated_at_ms=0) != replace(
            stored, updated_at_ms=0
        ):
            self.errors.append(f"two bars of one version: {bar} after {stored}")


def _open_times(span: CoveredSpan) -> range:
    return range(span.since_ms, span.until_ms, span.interval_ms)


class OtherClient:
    """A second collector's own connection to a FaultyStore, which always works."""

    takes_coverage = False

    def __init__(self, store: FaultyStore) -> None:
        self.name = store.name
        self.is_hanging = False
        self._store = store

    def open(self, _options: Mapping[str, str]) -> None:
        """Open."""

    def identity(self) -> str | None:
        """Return None, as the other."""
        return None

    def without_secrets(self, text: str, _options: Mapping[str, str]) -> str:
        """Return *text*: it has none."""
        return text

    def close(self) -> None:
        """Close."""

    def write(self, bars: Sequence[Bar]) -> None:
        """Keep *bars*."""
        self._store._watch.look_at(bars, self.name)
        for bar in bars:
            self._store.keep(bar)
