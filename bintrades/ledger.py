"""Which trade ids of a symbol were seen and which are missing.

Spot trade ids are consecutive per symbol (protocol: "trade id"), so one number and the list of
holes below it tell everything: whether a trade is new, whether it was had before, what was lost.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace

from bintrades.model import Gap


@dataclass(frozen=True, slots=True)
class LedgerState:
    """A ledger as it is written down."""

    next_id: int
    last_time: int
    gaps: tuple[Gap, ...]


class Ledger:
    """The ids of one symbol. Pure: time comes in with the trades.

    A ledger that knows nothing yet takes the first id as its beginning.
    """

    __slots__ = ("_gaps", "last_time", "next_id")

    def __init__(self, state: LedgerState | None = None) -> None:
        self.next_id = state.next_id if state else None  # None: no trade was ever seen
        self.last_time = state.last_time if state else 0  # `T` of the highest id, milliseconds
        self._gaps = list(state.gaps) if state else []  # lowest first, never adjacent by accident

    @property
    def state(self) -> LedgerState | None:
        """What to write down; None while no trade was seen."""
        if self.next_id is None:
            return None
        return LedgerState(self.next_id, self.last_time, tuple(self._gaps))

    def admit(self, trade_id: int, time: int, cause: str = "skipped") -> bool:
        """Note a trade; return whether it is to be counted, which is true once per id.

        An id beyond the next opens a gap, named after *cause*; an id inside a gap is welcome
        however late it comes.
        """
        next_id = self.next_id
        if trade_id != next_id and next_id is not None:
            if trade_id < next_id:
                return self._fill(trade_id, time)
            since = min(self.last_time, time)
            self._gaps.append(Gap(next_id, trade_id - 1, since, time, cause))
        self.next_id = trade_id + 1
        self.last_time = time
        return True

    def admit_next(self, trade_id: int, time: int) -> bool:
        """Note a trade if it is the one expected next, as nearly every trade is."""
        if trade_id != self.next_id:
            return False
        self.next_id = trade_id + 1
        self.last_time = time
        return True

    def want_since(self, since: int) -> None:
        """Note, after the first trade ever, that the trades since *since* are wanted too.

        How many there are is unknown: every lower id may be one of them.
        """
        if self.next_id is not None and self.next_id > 1:
            self._gaps.append(Gap(0, self.next_id - 2, since, self.last_time, "start"))

    def _fill(self, trade_id: int, time: int) -> bool:
        """Take *trade_id* out of the gap that holds it; return whether there was one."""
        index = bisect_right(self._gaps, trade_id, key=lambda gap: gap.first_id) - 1
        if index < 0 or trade_id > self._gaps[index].last_id:
            return False
        gap = self._gaps[index]
        before = replace(gap, last_id=trade_id - 1, since_ms=min(gap.since_ms, time), until_ms=time)
        after = replace(gap, first_id=trade_id + 1, since_ms=time, until_ms=max(gap.until_ms, time))
        self._gaps[index : index + 1] = [part for part in (before, after) if part.size > 0]
        return True
