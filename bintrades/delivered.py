"""Which bars every store has had for a while, so that they may leave the journal.

A store that was away for days gets bars older than the retention. They stay a while after that,
too: whoever finds that the store has lost them again can have them sent once more.
"""

from __future__ import annotations

from collections import deque

KEEP_MS = 3_600_000
"""How long a bar stays in the journal after its delivery, where the retention is not shorter."""

_SAMPLES = 60  # within that time; a bar may stay longer by the time between two of them


class Delivered:
    """Remembers up to where the stores were when. Belongs to one thread."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque()  # when, and the sequence number by then

    def for_a_while(self, sequence: int, retention_ms: int, now: int) -> int:
        """Return up to where bars have been delivered for long enough.

        By *now*, on the exchange's clock, all stores have everything up to *sequence*.
        """
        keep_ms = min(KEEP_MS, retention_ms)
        samples = self._samples
        if not samples or now - samples[-1][0] >= keep_ms // _SAMPLES:
            samples.append((now, sequence))
        while len(samples) > 1 and samples[1][0] <= now - keep_ms:
            samples.popleft()
        since, then = samples[0]
        return min(then, sequence) if since <= now - keep_ms else 0
