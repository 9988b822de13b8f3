"""Which bars every store has had for a while, so that they may leave the journal.

A store that was away for days gets bars older than the retention. They stay a while after that,
too: whoever finds that the store has lost them again can have them sent once more.
"""

from __future__ import annotations

import msgspec

KEEP_MS = 3_600_000
"""How long a bar stays in the journal after its delivery, where the retention is not shorter."""

_SAMPLES = 60  # within that time; a bar may stay longer by the time between two of them
_Samples = list[tuple[int, int]]


class Delivered:
    """Remembers up to where the stores were when. Belongs to one thread."""

    def __init__(self, retention_ms: int, text: str | None = None) -> None:
        """Begin with what an earlier run remembered, if *text* is what text() returned then."""
        self._keep_ms = min(KEEP_MS, retention_ms)
        self._samples = _read(text)  # when, and the sequence number by then; both only grow

    @property
    def every_ms(self) -> int:
        """How often it is worth asking, in milliseconds."""
        return self._keep_ms // _SAMPLES

    @property
    def text(self) -> str:
        """What is remembered, as a restart has to know it: else nothing leaves for that long."""
        return msgspec.json.encode(self._samples).decode()

    def for_a_while(self, sequence: int, now: int) -> int:
        """Return up to where bars have been delivered for long enough.

        By *now*, on the exchange's clock, all stores have everything up to *sequence*.
        """
        samples = [(at, min(then, sequence)) for at, then in self._samples if at <= now]
        if not samples or now - samples[-1][0] >= self.every_ms:
            samples.append((now, sequence))
        while len(samples) > 1 and samples[1][0] <= now - self._keep_ms:
            del samples[0]
        self._samples = samples
        since, then = samples[0]
        return then if since <= now - self._keep_ms else 0


def _read(text: str | None) -> _Samples:
    try:
        return msgspec.json.decode(text or "[]", type=_Samples)
    except msgspec.MsgspecError:
        return []  # bars stay a while longer
