"""Stores that a command reads: opened as the collector opens them, and read without secrets."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bintrades.app.preflight import work_in
from bintrades.app.stored_bars import END_MS, all_ended_ms
from bintrades.core.spans import clipped
from bintrades.errors import BintradesError, ConfigError
from bintrades.journal.cursor import Cursor
from bintrades.journal.rows import stored_row
from bintrades.pipeline.verification_sources import read_store
from bintrades.stores.loader import load_stores
from bintrades.util.redaction import remember_more_secrets
from bintrades.util.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from bintrades.config.loader import Config
    from bintrades.core.spans import Span
    from bintrades.journal.rows import Row
    from bintrades.stores.store import Store

_PAGE_ROWS = 1_000
_ATTEMPTS, _EVERY_S = 30, 0.1
"""How often, until the store has all bars, it is asked what is covered of it."""


class StoreSource:
    """The bars that a store has, as a BarSource; what is covered of them, the journal tells."""

    def __init__(self, store: Store, options: Mapping[str, str], journal: Path) -> None:
        self._store = store
        self._options = options
        cursor = Cursor(journal, store.name)
        self.market, self.interval_ms = cursor.scope()
        self._covered = _delivered(cursor)
        self._ended_ms = all_ended_ms(cursor)

    @property
    def is_behind(self) -> bool:
        """Whether bars wait for the store, so that nothing can be said to be covered."""
        return self._covered is None

    def ended_ms(self) -> int:
        """Return what all_ended_ms() did when the store was opened."""
        return self._ended_ms

    def pages(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Sequence[Row]]:
        """Yield them as the store gives them."""
        page: list[Row] = []
        span = (since_ms, min(until_ms, END_MS))
        for bar in read_store(self._store, self._options, symbol, span, self.market):
            if bar.is_closed and bar.interval_ms == self.interval_ms:
                page.append(stored_row(bar))
            if len(page) >= _PAGE_ROWS:
                yield page
                page = []
        if page:
            yield page

    def covered(self, symbol: str, since_ms: int, until_ms: int) -> list[Span]:
        """Return of which time the store had every bar when it was opened."""
        return clipped((self._covered or {}).get(symbol, ()), since_ms, until_ms)


def _delivered(cursor: Cursor) -> dict[str, Sequence[Span]] | None:
    for _ in range(_ATTEMPTS):
        with cursor.coverage_of_delivered() as found:
            if found is not None:
                return {each.symbol: each.spans for each in found}
        time.sleep(_EVERY_S)  # of a collector that runs, new bars come to the store all the time
    return None


@contextmanager
def open_store(config: Config, name: str) -> Iterator[tuple[Store, Mapping[str, str]]]:
    """Open the store *name*, an enabled one; it comes with its options. Main thread.

    The configuration's folder becomes the working directory. Raises ConfigError for a store that is
    not enabled, cannot be read or has wrong options, BintradesError where it cannot be opened.
    """
    if name not in config.stores.enabled:
        hint = did_you_mean(name, config.stores.enabled)
        known = ", ".join(config.stores.enabled) or "none"
        raise ConfigError(f"{name}: is not an enabled store{hint}; enabled: {known}")
    work_in(config.folder)
    (store,) = load_stores([name], config.plugins.path, config.store_plugins)
    if not store.can_be_read:
        raise ConfigError(f"{name}: cannot be read, since its plugin has no hook read_bars")
    options = config.store_options[name]
    remember_more_secrets(store.secrets(options))
    try:
        store.open(options)
    except ConfigError:
        raise
    except Exception as error:
        reason = store.without_secrets(str(error), options)
        raise BintradesError(f"{name}: cannot be opened: {reason}") from error
    try:
        yield store, options
    finally:
        store.close()
