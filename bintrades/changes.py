"""What an aggregator has to have written down. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bintrades.ledger import LedgerState
    from bintrades.model import Bar

Key = tuple[str, int]
"""Symbol and open time of a bar."""


@dataclass(slots=True)
class Changes:
    """What happened since the last collect, ready to be written down in one transaction."""

    finished: dict[Key, Bar] = field(default_factory=dict)  # whole bars, for the stores
    unfinished: dict[Key, Bar] = field(default_factory=dict)  # whole bars so far, for a restart
    amendments: dict[Key, Bar] = field(default_factory=dict)  # to be merged with the stored bar
    ledgers: dict[str, LedgerState] = field(default_factory=dict)
    explained: list[tuple[str, int, int, str]] = field(default_factory=list)
    """Ids missing no longer though their trades did not come: symbol, first id, last id, why."""

    facts: dict[str, str] = field(default_factory=dict)  # to be remembered under their names

    def __bool__(self) -> bool:
        return any((self.finished, self.unfinished, self.amendments, self.ledgers, self.facts))

    def finish(self, key: Key, bar: Bar) -> None:
        """Note that *bar* takes no more trades for now."""
        self.unfinished.pop(key, None)
        self.finished[key] = bar

    def amend(self, key: Key, part: Bar) -> None:
        """Note that the trades in *part* belong to a bar that left memory."""
        for bars in (self.finished, self.amendments):
            if key in bars:
                bars[key] = bars[key].merge(part)
                return
        self.amendments[key] = part

    def update(self, later: Changes) -> None:
        """Take over *later* changes, so that one write makes up for several that failed."""
        for key, bar in later.finished.items():
            self.finish(key, bar)
        self.unfinished.update(later.unfinished)
        for key, part in later.amendments.items():
            self.amend(key, part)
        self.ledgers.update(later.ledgers)
        self.explained += later.explained
        self.facts.update(later.facts)
