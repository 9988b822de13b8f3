"""Gaps: trades that were not received, and how gaps come and end. Immutable."""

from __future__ import annotations

from bisect import bisect_left
from enum import StrEnum

import msgspec
from msgspec.structs import replace


class GapKind(StrEnum):
    """What the ids of a gap mean."""

    IDS = "ids"
    """Each id from first_id to last_id is a trade that is missing."""

    BEGINNING = "beginning"
    """All trades since since_ms, however many: some of the ids up to last_id."""

    UNNUMBERED = "unnumbered"
    """Trades of which neither the number nor the ids are known. Such gaps of a symbol are counted,
    from 1: first_id and last_id both are that ordinal, negative, as journals and `bintrades gaps`
    show it. It is a key and no place among ids."""


class GapCause(StrEnum):
    """Where a gap comes from, as it is stored and shown."""

    SKIPPED = "skipped"
    """Ids were left out on the wire."""

    RECONNECT = "reconnect"
    RESTART = "restart"

    SILENT_STREAM = "silent stream"
    """The exchange has trades that its stream did not send."""

    UNUSABLE = "unusable message"
    """Sent in a message that cannot be used."""

    LOST = "lost with a journal"
    """Received, until the file that held their bars was damaged or removed."""

    START = "start"
    """Before the first trade ever, since its interval opened."""

    RENUMBERED = "renumbered"
    """The exchange has restarted its ids, as its test networks do."""


class GapState(StrEnum):
    """Whether the trades of a gap are still asked for, as it is counted and shown.

    A gap that has ended is shown with its GapOutcome instead.
    """

    OPEN = "open"
    """Its trades are asked for."""

    ABANDONED = "abandoned"
    """Its trades are not asked for any more, but still welcome."""

    APPROXIMATED = "approximated"
    """Aggregates stand in for its trades: bars have all of them, but not exactly in time."""


class GapOutcome(StrEnum):
    """How a gap ends, as it is stored and shown."""

    REPAIRED = "repaired"
    """Its trades came."""

    ABSENT = "absent"
    """The exchange has no trades with these ids."""

    EXCLUDED = "excluded"
    """The exchange has used these ids, but for no fill of the order book."""

    UNWANTED = "unwanted"
    """They were before the beginning."""

    LATE = "late"
    """Its trades came when their bar had left the journal: they are in no bar."""

    RENUMBERED = "renumbered"
    """The exchange has restarted its ids: the old ones cannot be requested."""


class Gap(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Consecutive trade ids of one symbol that were not received.

    The trades in it happened between since_ms, when the last trade before it did, and until_ms,
    when the first one after it did: the bars that this span touches lack trades. JSON, which the
    spare of a journal is, leaves defaults out: earlier programs had another one for absent_at.
    """

    first_id: int
    last_id: int
    since_ms: int
    until_ms: int
    cause: GapCause
    attempts: int = 0  # requests to the exchange that concerned it
    last_error: str | None = None  # why the last one brought nothing
    is_abandoned: bool = False  # it is not asked for any more, but its trades are still welcome
    absent_at: int | None = None
    """When, on its clock, the exchange had confirmed that no such ids exist; None: it has not."""
    looks: int = 0  # how often that was confirmed once more, later
    kind: GapKind = GapKind.IDS
    is_approximated: bool = False
    """Whether aggregates stand in for its trades: those are in bars, and wanted no more."""

    @classmethod
    def beginning(
        cls, last_id: int, since_ms: int, until_ms: int, last_error: str | None = None
    ) -> Gap:
        """Return the gap of all trades since *since_ms* with ids up to *last_id*."""
        return cls(
            0,
            last_id,
            since_ms,
            until_ms,
            GapCause.START,
            last_error=last_error,
            kind=GapKind.BEGINNING,
        )

    @classmethod
    def unnumbered(
        cls,
        since_ms: int,
        until_ms: int,
        cause: GapCause,
        *,
        ordinal: int = 1,
        last_error: str | None = None,
    ) -> Gap:
        """Return the record of trades that nobody can be asked for, a symbol's *ordinal*-th."""
        return cls(
            -ordinal,
            -ordinal,
            since_ms,
            until_ms,
            cause,
            last_error=last_error,
            is_abandoned=True,
            kind=GapKind.UNNUMBERED,
        )

    @property
    def is_wanted(self) -> bool:
        """Whether its trades are asked for."""
        return not (self.is_abandoned or self.is_approximated)

    @property
    def is_absent(self) -> bool:
        """Whether the ids are held not to exist: no bar lacks them; trades are still welcome."""
        return self.absent_at is not None

    @property
    def is_start(self) -> bool:
        """Whether it stands for all trades since since_ms, however many: their ids are unknown."""
        return self.kind is GapKind.BEGINNING

    @property
    def has_ids(self) -> bool:
        """Whether the ids of its trades are known."""
        return self.kind is not GapKind.UNNUMBERED

    @property
    def ordinal(self) -> int:
        """Of a gap without ids: which one of its symbol it is, 1 for the first."""
        return -self.first_id

    def with_ordinal(self, ordinal: int) -> Gap:
        """Return a gap without ids as the *ordinal*-th of its symbol."""
        return replace(self, first_id=-ordinal, last_id=-ordinal)

    @property
    def size(self) -> int:
        """Number of missing ids."""
        return self.last_id - self.first_id + 1

    def part(self, first_id: int, last_id: int) -> Gap:
        """Return the gap of some of its ids: behind the first ones no beginning is unknown."""
        is_behind = self.kind is GapKind.BEGINNING and first_id > self.first_id
        kind = GapKind.IDS if is_behind else self.kind
        return replace(self, first_id=first_id, last_id=last_id, kind=kind)

    def touches(self, open_time_ms: int, interval_ms: int) -> bool:
        """Whether a trade in the gap may belong to the interval that opens at *open_time_ms*."""
        return self.since_ms < open_time_ms + interval_ms and self.until_ms >= open_time_ms


def id_ranges(gaps: tuple[Gap, ...]) -> tuple[Gap, ...]:
    """Return those of *gaps* that have ids: they come behind those that have none."""
    return gaps[bisect_left(gaps, True, key=_has_ids) :]


def unnumbered_gaps(gaps: tuple[Gap, ...]) -> tuple[Gap, ...]:
    """Return those of *gaps* that have no ids: they come first."""
    return gaps[: bisect_left(gaps, True, key=_has_ids)]


def _has_ids(gap: Gap) -> bool:
    return gap.has_ids


class GapSet(msgspec.Struct, frozen=True):
    """What is missing of one symbol: a value, made by its ledger alone."""

    symbol: str
    missing: tuple[Gap, ...] = ()  # those without ids first, then the lowest ids
    absent: tuple[Gap, ...] = ()  # ids that the exchange does not have, lowest first
    answers: int = 0  # results of the backfill that the ledger had taken when it said so
    has_ended: bool = False  # nobody collects the symbol any more: it is to be forgotten
