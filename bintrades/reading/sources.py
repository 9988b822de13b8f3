"""Where bars are read from: a journal, or a store together with the journal. No thread.

Nothing is open between two pages of a journal. What a store opens is open until it is closed, and
is used by the thread that takes the bars.
"""

from __future__ import annotations

import contextlib
import heapq
from itertools import groupby, islice
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from bintrades.config.loader import load_config
from bintrades.core.spans import Span, clipped
from bintrades.errors import BarsLeft, BintradesError, ConfigError
from bintrades.journal.reader import JournalReader
from bintrades.stores.loader import load_stores
from bintrades.util.redaction import remember_more_secrets
from bintrades.util.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bintrades.config.loader import Config
    from bintrades.model import Bar
    from bintrades.stores.store import Store

_T = TypeVar("_T")

_SQLITE = b"SQLite format 3\0"
_AT_A_TIME = 1_000


class Known(NamedTuple):
    """What is known of a symbol beside its bars."""

    kept_since_ms: int = 0
    """Older bars have left the place that is read: an interval without one says nothing."""
    proven_ms: int = 0
    """Intervals before that are over."""
    covered: Sequence[Span] = ()
    """Where an interval without a bar had no trades."""


class Source(Protocol):
    """A place that bars are read from. Every call may raise BintradesError."""

    market: str
    interval_ms: int

    def symbols(self) -> list[str]:
        """Return the symbols that are known."""

    def check(self, symbol: str) -> None:
        """Raise BintradesError if there is nothing of *symbol*, as far as anybody knows."""

    def newest_ms(self) -> int:
        """Return the first millisecond after the newest bar of any symbol."""

    def known(self, symbol: str) -> Known:
        """Return what is known of *symbol*; to be asked before its bars are read."""

    def read(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Bar]:
        """Yield the bars with since_ms <= open time < until_ms, oldest first."""


class JournalSource:
    """The bars in a journal, and those that still take trades."""

    def __init__(self, path: Path) -> None:
        self._reader = JournalReader(path)
        self.market, self.interval_ms = self._reader.scope()
        self._seen: list[str] | None = None

    def symbols(self) -> list[str]:
        """Return the symbols with a trade, or proven to have had none so far."""
        return self._reader.symbols_known()

    def check(self, symbol: str) -> None:
        """Raise BintradesError if no trade of *symbol* was ever seen."""
        if self._seen is None or symbol not in self._seen:
            self._seen = self.symbols()  # not for each of thousands
        known = self._seen
        if symbol not in known:
            names = ", ".join(known[:10]) or "none yet"
            raise BintradesError(
                f"{symbol}: no trade of it was ever seen{did_you_mean(symbol, known)};"
                f" the journal has: {names}"
            )

    def newest_ms(self) -> int:
        """Return the first millisecond after the newest bar that stores can have."""
        newest = self._reader.newest_stored_open_time_ms()
        if newest is None:
            raise BintradesError(f"{self._reader.path}: has no bars yet")
        return newest + self.interval_ms

    def known(self, symbol: str) -> Known:
        """Return what is covered, and of which no bar has left the journal."""
        pruned = self._reader.pruned_through(symbol)
        kept_since_ms = 0 if pruned is None else pruned + self.interval_ms
        found = self._reader.coverage(symbol)
        if found is None:
            return Known(kept_since_ms)
        spans = clipped(found.coverage.spans, kept_since_ms, found.proven_ms)
        return Known(kept_since_ms, found.proven_ms, spans)

    def stream(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Bar]:
        """Yield the bars that open in that time and are still there."""
        return self._reader.stream(symbol, since_ms, until_ms)

    def read(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Bar]:
        """Yield the same; BarsLeft if some leave before they are read."""
        return self._reader.kept_bars(symbol, since_ms, until_ms)


def again_if_left(read: Callable[[], Iterator[_T]]) -> Iterator[_T]:
    """Yield what *read* does, called once more where bars leave before it has given anything.

    The oldest bars of all symbols leave a journal every minute: what begins with them does so.
    """
    while True:
        found = read()
        try:
            first = next(found)
        except StopIteration:
            return
        except BarsLeft:
            continue
        yield first
        yield from found
        return


class StoreSource:
    """The bars in a store, and those of the journal, if there is one here: the better of each.

    What is covered is what the journal says of the time of which it still has the bars: of older
    ones, nobody here knows what the store has lost, let expire, or never got. There, and without a
    journal, only bars say what is whole.
    """

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._store = store
        self._options = config.store_options[store.name]
        self._journal: JournalSource | None = None
        self.market, self.interval_ms = config.exchange_options.market, config.bars.interval_ms
        if config.journal.path.exists():
            self._journal = JournalSource(config.journal.path)
            self.market, self.interval_ms = self._journal.market, self._journal.interval_ms

    def symbols(self) -> list[str]:
        """Return the symbols that the journal knows."""
        if self._journal is None:
            raise BintradesError(
                f"name the symbols: there is no journal at {self._config.journal.path} that says"
                " which there are"
            )
        return self._journal.symbols()

    def check(self, symbol: str) -> None:
        """Do nothing: a store may have what no journal knows of."""

    def newest_ms(self) -> int:
        """Return the first millisecond after the newest bar that the journal has."""
        if self._journal is None:
            raise BintradesError(
                f"say times: there is no journal at {self._config.journal.path} that says how new"
                " the newest bar is"
            )
        return self._journal.newest_ms()

    def known(self, symbol: str) -> Known:
        """Return what the journal has proven and still has; nothing has left the store."""
        if self._journal is None:
            return Known()
        return self._journal.known(symbol)._replace(kept_since_ms=0)

    def read(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Bar]:
        """Yield the bars that open in that time, of each the version of the highest rank."""
        sources = [self._stored(symbol, since_ms, until_ms)]
        if self._journal is not None:
            sources.append(self._journal.stream(symbol, since_ms, until_ms))
        versions = heapq.merge(*sources, key=_open_time)
        for _, same in groupby(versions, key=_open_time):
            yield max(same, key=_rank)

    def _stored(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Bar]:
        """Yield what the store has, some at a time, each time in the configuration's folder."""
        try:
            with contextlib.chdir(self._config.folder):
                stored = self._store.read(symbol, since_ms, until_ms, self.market)
            while True:
                with contextlib.chdir(self._config.folder):
                    some = list(islice(stored, _AT_A_TIME))
                if not some:
                    return
                for bar in some:
                    if bar.interval_ms == self.interval_ms:
                        yield bar
        except BintradesError:
            raise
        except Exception as error:
            reason = self._store.without_secrets(str(error), self._options)
            raise BintradesError(f"{self._store.name} cannot be read: {reason}") from error


def _open_time(bar: Bar) -> int:
    return bar.open_time_ms


def _rank(bar: Bar) -> tuple[int, int, bool, bool, int]:
    return bar.rank


@contextlib.contextmanager
def open_source(path: Path, store: str | None) -> Iterator[Source]:
    """Open the journal of a configuration file, the journal *path* itself, or a store.

    Raises BintradesError for what is none, ConfigError for a configuration that cannot be used.
    """
    if _is_journal(path):
        if store is not None:
            raise ConfigError(
                f"{path}: is a journal; a store is named in a configuration file: give that"
            )
        yield JournalSource(path)
        return
    config = load_config(path)
    if store is None:
        yield JournalSource(config.journal.path)
        return
    with opened_store(config, store) as opened:
        yield StoreSource(config, opened)


def _is_journal(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise BintradesError(
            f"{path}: cannot be read: {error.strerror or error}; allowed: a configuration file,"
            " such as etc/bintrades.ini, or a journal"
        ) from error


@contextlib.contextmanager
def opened_store(config: Config, name: str) -> Iterator[Store]:
    """Yield the enabled store *name*, open for reading, and close it.

    It is opened and closed in the folder of the configuration, whatever the working directory is.
    Raises ConfigError where there is no such store, or it cannot be read at all; BintradesError
    where it cannot be opened now.
    """
    if name not in config.stores.enabled:
        hint = did_you_mean(name, config.stores.enabled)
        known = ", ".join(config.stores.enabled) or "none"
        raise ConfigError(f"{name}: is not an enabled store{hint}; enabled: {known}")
    (store,) = load_stores([name], config.plugins.path, config.store_plugins)
    if not store.can_be_read:
        raise ConfigError(f"{name}: cannot be read, since its plugin has no hook read_bars")
    options = config.store_options[name]
    remember_more_secrets(store.secrets(options))
    try:
        with contextlib.chdir(config.folder):
            store.open(options)
    except ConfigError:
        raise
    except Exception as error:
        reason = store.without_secrets(str(error), options)
        raise BintradesError(f"{name}: cannot be opened: {reason}") from error
    try:
        yield store
    finally:
        with contextlib.chdir(config.folder):
            store.close()
