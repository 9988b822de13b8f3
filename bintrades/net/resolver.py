"""Host names to addresses, in bounded time: the system's own resolver knows no deadline."""

from __future__ import annotations

import socket
import threading
import time

from bintrades.net.addresses import Address

_KEPT_S = 60.0


class Resolver:
    """Asks the system for addresses, afresh each time. Callable from any thread.

    A question that takes too long goes on, and a caller who asks the same meanwhile, or soon after,
    gets its answer: a dead name server holds one thread for each name, not one for each attempt.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._questions: dict[tuple[str, int], _Question] = {}

    def addresses(self, host: str, port: int, within_s: float) -> list[Address]:
        """Return the addresses of *host* in the system's order; raises OSError."""
        key = (host, port)
        with self._lock:
            question = self._questions.get(key)
            if question is None or question.is_stale:
                question = _Question(host, port)
                question.start()
                self._questions[key] = question
        question.join(within_s)
        with self._lock:
            if question.is_alive():
                raise TimeoutError(f"{host}: the name is not resolved after {within_s:.1f} s")
            if self._questions.get(key) is question:
                del self._questions[key]
        if question.error is not None:
            raise OSError(*question.error.args) from question.error
        return question.found


class _Question(threading.Thread):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(name=f"resolve {host}", daemon=True)
        self.found: list[Address] = []
        self.error: OSError | None = None
        self._host = host
        self._port = port
        self._answered_s: float | None = None

    @property
    def is_stale(self) -> bool:
        """Whether the answer came too long ago to be of use."""
        return self._answered_s is not None and time.monotonic() - self._answered_s > _KEPT_S

    def run(self) -> None:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self.found = [Address(family, place) for family, _, _, _, place in found]
        except UnicodeError as error:
            self.error = OSError(f"{self._host}: cannot be the name of a host: {error}")
        except OSError as error:
            self.error = error
        self._answered_s = time.monotonic()
