"""Gaps: consecutive trade ids that were not received, and how they come and end. Immutable."""

from __future__ import annotations

import msgspec

SKIPPED, RECONNECT, RESTART = "skipped", "reconnect", "restart"
SILENT_STREAM, UNUSABLE = "silent stream", "unusable message"
"""Causes of gaps: ids left out on the wire, across a reconnect, across a restart; never sent; sent
in a message that cannot be used."""

LOST = "lost with a journal"
"""Cause of gaps that were none until the file which held their bars was spoilt or removed."""

ABSENT, UNWANTED, REPAIRED = "absent", "unwanted", "repaired"
"""How a gap ends: the exchange has no such ids; they were before the beginning; trades came."""

LATE = "late"
"""How a gap ends whose trades came when their bar had left the journal: they are in no bar."""

RENUMBERED = "renumbered"
"""Cause and end of gaps where the exchange has begun its ids anew, as its test networks do."""

START = "start"
"""Cause of the gap before the first trade ever, which reaches back to its interval's open."""


class Gap(msgspec.Struct, frozen=True, gc=False):
    """Consecutive trade ids of one symbol that were not received.

    The trades in it happened between since_ms, when the last trade before it did, and until_ms,
    when the first one after it did: the bars that this span touches lack trades.
    """

    first_id: int
    last_id: int
    since_ms: int
    until_ms: int
    cause: str
    attempts: int = 0  # requests to the exchange that concerned it
    last_error: str | None = None  # why the last one brought nothing
    is_abandoned: bool = False  # it is not asked for any more, but its trades are still welcome
    absent_at: int = 0  # when the exchange had confirmed, on its clock, that there are no such ids
    looks: int = 0  # how often that was confirmed once more, later

    @property
    def is_absent(self) -> bool:
        """Whether the ids are held not to exist: no bar lacks them; trades are still welcome."""
        return self.absent_at > 0

    @property
    def is_start(self) -> bool:
        """Whether it stands for all trades since since_ms, however many: their ids are unknown."""
        return self.first_id == 0 and self.cause == START

    @property
    def size(self) -> int:
        """Number of missing ids."""
        return self.last_id - self.first_id + 1

    def touches(self, open_time_ms: int, interval_ms: int) -> bool:
        """Whether a trade in the gap may belong to the interval that opens at *open_time_ms*."""
        return self.since_ms < open_time_ms + interval_ms and self.until_ms >= open_time_ms
