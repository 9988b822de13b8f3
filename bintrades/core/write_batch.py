"""What an aggregator has to have written down. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bintrades.core.ledger import LedgerState, in_numbering, with_lost
from bintrades.model import Bar, Gap, GapOutcome

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from bintrades.core.audit_result import BarsAudited
    from bintrades.core.ban import Ban
    from bintrades.model.symbol_record import SymbolRecord

Key = tuple[str, int]
"""Symbol and open time of a bar."""

IdRange = tuple[int, int]
"""First and last of consecutive ids."""

ALL_IDS = 2**63 - 1
"""No id is higher."""


class IdsRestart(NamedTuple):
    """Ids of a symbol have begun again: those up to *last_id* that were on record are of before."""

    begun: int  # when the first bar of the new ids opens, at the earliest
    last_id: int


class IdsTakenBack(NamedTuple):
    """Ids that were on record as no fills of the order book, until a fill of theirs came."""

    first_id: int
    last_id: int


class Checkpoint(msgspec.Struct, frozen=True):
    """All that one symbol needs to go on after a restart."""

    ledger: LedgerState
    open_bars: tuple[Bar, ...] = ()  # each as far as it has come
    closed_through: int | None = (
        None  # newest open time of which a bar may be stored; None: of none
    )
    proven_ms: int | None = None
    """Every trade with an earlier `T` was had, or is in a gap on record; None: nothing is proven.

    Milliseconds on the exchange's clock, as is the next one."""

    covered_since_ms: int | None = None
    """Since when trades are collected: what is proven and whole is so from here on."""

    newest_fill_id: int | None = None
    """The highest id that is known to be of a fill; None: the one before the next."""

    def proves(self, time_ms: int) -> bool:
        """Whether every trade before *time_ms* was had, or is in a gap on record."""
        return self.proven_ms is not None and self.proven_ms >= time_ms


@dataclass(slots=True)
class WriteBatch:
    """What happened since the last collect, ready to be written down in one transaction."""

    finished: dict[Key, Bar] = field(default_factory=dict)  # whole bars, for the stores
    amendments: dict[Key, Bar] = field(default_factory=dict)  # to be merged with the stored bar
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    resolved: list[tuple[str, int, int, GapOutcome]] = field(default_factory=list)
    """Ids missing no longer though their trades did not come: symbol, first id, last id, why."""

    reopened: list[tuple[str, Gap]] = field(default_factory=list)
    """Ids that were held to be absent, or no fills, until a trade of theirs came, by symbol."""

    excluded: dict[str, list[IdRange | IdsTakenBack | IdsRestart]] = field(default_factory=dict)
    """Ids that are no fills of the order book, in ranges, by symbol, and how that was changed."""

    attempts: dict[tuple[str, int], int] = field(default_factory=dict)
    """Requests so far, for those made about a gap since: by its symbol and last id."""

    rebuilt: dict[Key, Bar] = field(default_factory=dict)
    """Bars made again of the exchange's own trades, to take the place of the stored ones.

    One that is not complete is surplus: the exchange has no trades there."""

    audited: list[BarsAudited] = field(default_factory=list)
    symbols: dict[str, SymbolRecord] = field(default_factory=dict)
    """What changes of what is on record of symbols."""

    listing: str | None = None  # the exchange's list of symbols, if that has changed
    ban: Ban | None = None  # for how long the exchange wants no requests, if that has changed

    def __bool__(self) -> bool:
        bars = (self.finished, self.amendments, self.rebuilt)
        others = (self.checkpoints, self.audited, self.symbols, self.listing, self.ban)
        return any((*bars, *others))

    def amend(self, key: Key, part: Bar) -> None:
        """Have the trades in *part* join their bar, which has left memory."""
        for bars in (self.finished, self.amendments):
            if key in bars:
                bars[key] = bars[key].merge(part)
                return
        self.amendments[key] = part

    def exclude(self, symbol: str, first_id: int, last_id: int) -> None:
        """Record ids that are no fills of the order book."""
        ranges = self.excluded.setdefault(symbol, [])
        last = ranges[-1] if ranges else None
        if (
            last is not None
            and not isinstance(last, IdsTakenBack | IdsRestart)
            and last[1] + 1 == first_id
        ):
            first_id = last[0]
            ranges.pop()
        ranges.append((first_id, last_id))

    def take_back(self, symbol: str, gap: Gap) -> None:
        """Have ids be missing again that were recorded as no fills of the order book."""
        self.excluded.setdefault(symbol, []).append(IdsTakenBack(gap.first_id, gap.last_id))
        resolved = (symbol, gap.first_id, gap.last_id, GapOutcome.EXCLUDED)
        if resolved in self.resolved:  # nobody has read yet that they were missing no longer
            self.resolved.remove(resolved)
        else:
            self.reopened.append((symbol, gap))

    def restart_ids(self, symbol: str, begun: int, last_id: int = ALL_IDS) -> None:
        """Have what is recorded up to *last_id* be of bars that opened before *begun*."""
        self.excluded.setdefault(symbol, []).append(IdsRestart(begun, last_id))

    def lose(self, symbol: str, gaps: Sequence[Gap]) -> None:
        """Have trades of *symbol* which were had be missing again, with all of their bars.

        Late trades of those bars are missing with them: all will come together.
        """
        checkpoint = self.checkpoints.get(symbol)
        if checkpoint is not None:
            ledger = with_lost(checkpoint.ledger, in_numbering(checkpoint.ledger.next_id, gaps))
            self.checkpoints[symbol] = msgspec.structs.replace(checkpoint, ledger=ledger)
        for key, part in list(self.amendments.items()):
            if key[0] == symbol and any(_is_within(part, gap) for gap in gaps):
                del self.amendments[key]

    def take(self, symbols: Container[str]) -> WriteBatch:
        """Return what concerns *symbols*, and keep the rest.

        What does not come from the series is kept as well: a ban, what an audit has found, and
        what is on record of symbols.
        """
        taken = WriteBatch(
            finished={key: bar for key, bar in self.finished.items() if key[0] in symbols},
            amendments={key: bar for key, bar in self.amendments.items() if key[0] in symbols},
            checkpoints={name: each for name, each in self.checkpoints.items() if name in symbols},
            resolved=[each for each in self.resolved if each[0] in symbols],
            reopened=[each for each in self.reopened if each[0] in symbols],
            excluded={name: each for name, each in self.excluded.items() if name in symbols},
            attempts={key: count for key, count in self.attempts.items() if key[0] in symbols},
        )
        self.finished = {k: bar for k, bar in self.finished.items() if k not in taken.finished}
        self.amendments = {
            k: bar for k, bar in self.amendments.items() if k not in taken.amendments
        }
        self.checkpoints = {
            k: each for k, each in self.checkpoints.items() if k not in taken.checkpoints
        }
        self.resolved = [each for each in self.resolved if each[0] not in symbols]
        self.reopened = [each for each in self.reopened if each[0] not in symbols]
        self.excluded = {k: each for k, each in self.excluded.items() if k not in taken.excluded}
        self.attempts = {k: n for k, n in self.attempts.items() if k not in taken.attempts}
        return taken

    def update(self, later: WriteBatch) -> None:
        """Take over *later* changes, so that one write makes up for several that failed."""
        self.finished.update(later.finished)
        for key, part in later.amendments.items():
            self.amend(key, part)
        self.checkpoints.update(later.checkpoints)
        self.resolved += later.resolved
        self.reopened += later.reopened
        for symbol, ranges in later.excluded.items():
            self.excluded.setdefault(symbol, []).extend(ranges)
        self.attempts.update(later.attempts)
        self.rebuilt.update(later.rebuilt)
        self.audited += later.audited
        self.symbols.update(later.symbols)
        self.listing = later.listing or self.listing
        self.ban = later.ban or self.ban


def _is_within(part: Bar, gap: Gap) -> bool:
    is_of_that_time = gap.since_ms <= part.open_time_ms <= gap.until_ms
    return (
        is_of_that_time
        and gap.first_id <= part.first_trade_id
        and part.last_trade_id <= gap.last_id
    )
