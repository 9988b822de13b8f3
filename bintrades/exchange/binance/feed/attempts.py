"""The exchange's limit of attempts to connect, kept by all readers together. Thread-safe."""

from __future__ import annotations

import collections
import threading
from typing import TYPE_CHECKING

from bintrades.exchange.binance.address_use import ALONE

if TYPE_CHECKING:
    from bintrades.exchange.binance.address_use import AddressUse
    from bintrades.exchange.binance.market import Market


class AttemptLimit:
    """Keeps all readers together within the exchange's limit of connection attempts per address.

    Thread-safe. Two thirds of the limit are used: other programs may share the address. Where
    processes share *address*, it is two thirds for all of them together.
    """

    def __init__(self, market: Market, address: AddressUse | None = None) -> None:
        self._address = address
        self._window = market.attempts_window_ms
        self._most = market.max_attempts * 2 // 3
        self._attempts: collections.deque[int] = collections.deque(maxlen=self._most)
        self._lock = threading.Lock()

    def wait_ms(self, now: int) -> int:
        """Return how long to wait before an attempt; 0 means go, and counts one."""
        with self._lock:
            if len(self._attempts) == self._most:
                wait = self._attempts[0] + self._window - now
                if wait > 0:
                    return wait
            if self._address is not None:
                shared = self._address.attempt(self._most, self._window, now)
                if shared is None:  # nobody knows how many others make
                    shared = self._wait_alone(now)
                if shared:
                    return shared
            self._attempts.append(now)
            return 0

    def _wait_alone(self, now: int) -> int:
        most = max(1, self._most // ALONE)
        if len(self._attempts) < most:
            return 0
        return max(0, self._attempts[-most] + self._window - now)
