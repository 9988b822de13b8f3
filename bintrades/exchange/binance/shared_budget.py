"""One budget for several threads: backfill, audit and the list of symbols ask one exchange.

Other processes on the same address may share it as well.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from bintrades.exchange.binance.address_use import ALONE
from bintrades.exchange.binance.budget import Budget

if TYPE_CHECKING:
    from bintrades.exchange.binance.address_use import AddressUse


class SharedBudget(Budget):
    """A Budget that one thread at a time uses, so that nothing is spent twice. Any thread.

    With *address*, the processes that share it never spend more together than one may alone.
    """

    def __init__(
        self,
        weight_per_minute: int,
        share_percent: int,
        banned_for: int = 0,
        now: int = 0,
        *,
        address: AddressUse | None = None,
    ) -> None:
        self._lock = threading.RLock()
        self._address = address
        super().__init__(weight_per_minute, share_percent, banned_for, now)

    def banned_for(self, now: int) -> int:
        """Return how long a new process would have to wait; 0: it may ask."""
        with self._lock:
            return super().banned_for(now)

    def blocked_for(self, now: int) -> int:
        """Return how long nothing may be asked, whatever the refusal was."""
        with self._lock:
            return super().blocked_for(now)

    def failing_for(self, now: int) -> int:
        """Return since when every request has failed, milliseconds; 0: the last was answered."""
        with self._lock:
            return super().failing_for(now)

    def wait_ms(self, weight: int, now: int) -> int:
        """Return how long to wait before a request of *weight*; 0 means go, and spends it."""
        with self._lock:
            wait = super().wait_ms(weight, now)
            if wait or self._address is None:
                return wait
            shared = self._address.spend(weight, self._allowed, now)
            if shared is None:
                shared = self._wait_alone(now)
            if shared:
                self.give_back(weight)
                self.last_error = self.last_error or "other processes use the shared budget"
            return shared

    def record_limit(self, weight_per_minute: int) -> None:
        """Take over what the exchange says that one address may ask in a minute."""
        with self._lock:
            super().record_limit(weight_per_minute)

    def record_weight(self, weight: int, now: int, minute_left: int | None = None) -> None:
        """Take over what the exchange counts for this address in this minute."""
        with self._lock:
            super().record_weight(weight, now, minute_left)

    def record_answer(self, now: int) -> None:
        """Record that a request was answered well."""
        with self._lock:
            super().record_answer(now)

    def record_failure(
        self, error: str, now: int, status: int | None = None, retry_after_s: int | None = None
    ) -> None:
        """Record that a request failed, and stop asking if the answer concerns every request."""
        with self._lock:
            super().record_failure(error, now, status, retry_after_s)
            banned_for = super().banned_for(now)
            if banned_for and self._address is not None:
                self._address.ban(banned_for, now)

    def _wait_alone(self, now: int) -> int:
        """Return how long to wait where nobody knows what other processes spend."""
        if self._used <= max(1, self._allowed // ALONE):
            return 0
        return self._roll_over(now) - now
