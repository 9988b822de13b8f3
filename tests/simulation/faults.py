"""Which faults strike now."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from tests.simulation.clock import Clock
    from tests.simulation.schedule import Fault


class Faults:
    """The faults of a schedule that strike while they last, as time passes."""

    def __init__(self, faults: Iterable[Fault], clock: Clock, rng: Random) -> None:
        self._by_kind: dict[tuple[str, str], list[Fault]] = {}
        for fault in faults:
            self._by_kind.setdefault((fault.place, fault.kind), []).append(fault)
        self._clock = clock
        self._rng = rng

    def active(self, place: str, kind: str, target: int = 0) -> Fault | None:
        """Return the fault of that kind that lasts now, if there is one."""
        for fault in self._by_kind.get((place, kind), ()):
            if fault.since <= self._clock.elapsed < fault.until and fault.target in (None, target):
                return fault
        return None

    def strikes(self, place: str, kind: str, target: int = 0) -> bool:
        """Whether such a fault hits this time: its amount is the chance."""
        fault = self.active(place, kind, target)
        return fault is not None and self._rng.random() < fault.amount
