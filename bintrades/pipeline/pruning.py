"""When old bars leave the journal: as the exchange's clock goes on, the local one has no say.

Every minute of that clock the bars of about a minute leave, in lives of days as in lives of
minutes: what the stores have had for a while is remembered in the journal itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.pipeline.delivered import Delivered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.journal.writer import Journal

_AT_MOST_EVERY_MS = 1_000  # however fast the exchange's clock goes on: each time is a commit
_NEXT_BATCH_AFTER_MS = 250  # a batch takes some 20 ms, for which bars of a burst would wait


class Pruning:
    """Prunes *journal* of what all *stores* have. Belongs to the journal's thread.

    Bars stay for *retention_ms* after they were last written, and for a while after delivery.
    """

    def __init__(self, journal: Journal, stores: Sequence[str], retention_ms: int) -> None:
        """Raises JournalError."""
        self._journal = journal
        self._stores = stores
        self._retention_ms = retention_ms
        self._delivered = Delivered(retention_ms, journal.get_delivered())
        self._pruned_at = 0  # on the exchange's clock
        self._next_at = 0  # monotonic

    def prune_if_due(self, exchange_ms: int, now: int) -> int:
        """Delete what may go by *exchange_ms*, the exchange's clock; return how many bars went.

        It is 0 while it is not known. *now* is milliseconds, monotonic. Raises JournalError: it is
        due again at the next call.
        """
        if not self._is_due(exchange_ms, now):
            return 0
        count = self._journal.prune(
            self._stores,
            exchange_ms - self._retention_ms,
            lambda sequence: self._delivered.for_a_while(sequence, exchange_ms),
        )
        if self._stores:
            self._journal.set_delivered(self._delivered.text)
        self._pruned_at = exchange_ms
        has_more = self._journal.has_more_to_prune
        self._next_at = now + (_NEXT_BATCH_AFTER_MS if has_more else _AT_MOST_EVERY_MS)
        return count

    def _is_due(self, exchange_ms: int, now: int) -> bool:
        if not exchange_ms or now < self._next_at:
            return False
        passed = exchange_ms - self._pruned_at
        return self._journal.has_more_to_prune or not 0 <= passed < self._delivered.every_ms
