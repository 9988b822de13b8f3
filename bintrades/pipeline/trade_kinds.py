"""What the exchange calls the trades of futures: counted, and what is not known reported once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from bintrades.util.text import one_line

if TYPE_CHECKING:
    from bintrades.exchange.batch import Decoded

log = logging.getLogger(__name__)

_MOST_KINDS = 30
"""Of which each is counted; whatever else comes counts as one more, so that memory is bounded."""
_OTHERS = "others"
_MOST_REPORTS = 1_000
_WIDTH = 40


class TradeKinds:
    """Counts since the start. Calls come from one thread; counts is for any."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._reported: set[tuple[str, str]] = set()

    def take(self, decoded: Decoded) -> None:
        """Count the trades of a batch; report what is of a kind that is not known."""
        counts = self.counts
        for kind, count in decoded.kinds.items():
            name = one_line(kind, _WIDTH)
            if name not in counts and len(counts) >= _MOST_KINDS:
                name = _OTHERS
            counts[name] = counts.get(name, 0) + count
        for symbol, kind in decoded.unknown_kinds:
            self._report(symbol, one_line(kind, _WIDTH))

    def _report(self, symbol: str, kind: str) -> None:
        """Say once of each kind and symbol that it is not known."""
        if (symbol, kind) in self._reported or len(self._reported) >= _MOST_REPORTS:
            return
        self._reported.add((symbol, kind))
        log.warning(
            "a trade is of a kind that is not known: its id is used up, and it is in no bar",
            extra={"event": "trade_kind_unknown", "symbol": symbol, "kind": kind},
        )
