"""How long an exchange wants no requests from this address, kept over a restart. Pure."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_MS = 3 * 86_400_000
"""The longest that an exchange is taken at its word."""


@dataclass(frozen=True, slots=True)
class Ban:
    """What a new process must know: no requests before *until*, as said at *said_at*.

    Both by the local clock, which is all that is left over a restart: milliseconds UTC.
    """

    until: int
    said_at: int

    @classmethod
    def for_the_next(cls, wait: int, utc: int) -> Ban:
        """Return the ban that lasts *wait* milliseconds from now."""
        return cls(utc + wait, utc)

    @classmethod
    def read(cls, text: str | None) -> Ban:
        """Return what str() wrote; earlier versions wrote only when it ends."""
        until, _, said_at = (text or "0").partition(" ")
        return cls(int(until), int(said_at or 0))

    def __str__(self) -> str:
        return f"{self.until} {self.said_at}"

    def left_ms(self, utc: int) -> int:
        """Return how long it still lasts.

        No longer than it was said to: a clock that was ahead then, or is behind now, must not make
        days of a minute.
        """
        return max(0, min(self.until - utc, self.until - self.said_at, LONGEST_MS))
