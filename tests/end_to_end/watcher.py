"""Watches a store while a test runs: what it calls closed and complete must be the whole truth."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from pymongo.errors import PyMongoError

from bintrades.testing.simulated_market import trade_payload
from tests.end_to_end.market import INTERVAL_MS, bars_of, documents, in_the_trades

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Self

    from pymongo.database import Database

    from bintrades.testing.simulated_market import SimulatedMarket
    from tests.end_to_end.market import Fields, Key

EVERY_S = 0.1


class Watcher:
    """Reads every bar of *database* again and again while the with block runs.

    At its end it compares each version that it saw and that says closed and complete with the
    trades that *market* has by then: such a bar can get no more of them. Raises AssertionError
    for one that differs. A server that is away meanwhile is no fault.
    """

    def __init__(self, database: Database[Fields], market: SimulatedMarket) -> None:
        self._database = database
        self._market = market
        self._seen: dict[tuple[Key, int, int], Fields] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self.assert_true()

    def assert_true(self) -> None:
        """Assert that each version seen so far equals its trades, naming the first that does not.

        Calls come from the test's thread.
        """
        expected = self._expected()
        for (key, epoch, version), bar in sorted(self._seen.items()):
            stored = in_the_trades([bar])[key]
            whole = expected.get(key)
            assert stored == whole, (
                f"{key[0]} {key[1]}, epoch {epoch}, version {version} was called closed and "
                f"complete with {bar['trade_count']} of "
                f"{whole['trade_count'] if whole else 0} trades"
            )

    def _watch(self) -> None:
        while not self._is_over.wait(EVERY_S):
            self._look()
        self._look()

    def _look(self) -> None:
        try:
            stored = documents(self._database, {"is_closed": True, "is_complete": True})
        except PyMongoError:
            return
        for bar in stored:
            key = bar["symbol"], bar["open_time"]
            self._seen.setdefault((key, bar["epoch"], bar["version"]), bar)

    def _expected(self) -> dict[Key, Fields]:
        seen = {(symbol, _ms(open_time)) for (symbol, open_time), _, _ in self._seen}
        trades: list[dict[str, Any]] = [
            json.loads(trade_payload(trade))
            for symbol in {symbol for symbol, _ in seen}
            for trade in self._market.page(symbol, 0, 2**62)
            if (symbol, trade.time_ms // INTERVAL_MS * INTERVAL_MS) in seen
        ]
        return bars_of(trades, self._market.rules.name)


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)
