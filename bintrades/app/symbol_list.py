"""The symbols to collect: what the configuration selects of those that the exchange lists.

What is collected, since when and why is on record in the journal, and so is the last list of the
exchange, for a time at which it does not answer.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bintrades.core.ban import Ban
from bintrades.core.symbol_changes import NewSymbol, SymbolsChanged
from bintrades.errors import ConfigError, ExchangeError
from bintrades.exchange.events import RateLimited
from bintrades.exchange.symbols import SymbolInfo, choose, is_pattern, nearest_names
from bintrades.model.symbol_record import LeftBecause, SymbolRecord
from bintrades.pipeline.request_counts import RequestCounts
from bintrades.util.backoff import Backoff
from bintrades.util.logs import LimitedLog
from bintrades.util.runtime import SYSTEM, Runtime
from bintrades.util.text import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from bintrades.config.loader import SymbolsConfig
    from bintrades.exchange.events import Event
    from bintrades.exchange.port import Exchange
    from bintrades.exchange.symbols import Choice
    from bintrades.journal.writer import Journal
    from bintrades.model import SeriesKey

log = logging.getLogger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_ANSWER_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.1
"""How long a start waits for the list, where it can do without."""

_BEFORE_MS = 5_000  # a list may have been so old when it came
_NO_CONTRACT_SIZE = "without a contract size"
_MANY = 10  # symbols that are gone at once, if they are most of all: it may be maintenance
_BELIEVED_AFTER_MS = 3_600_000  # that they are gone for good
_SHOWN = 5
_COMPARED = 20
"""Names that are compared with all of the exchange's, each for some milliseconds."""


class _StoppedError(Exception):
    """The process is to stop."""


class ListedRow(NamedTuple):
    """A symbol of the list as the journal keeps it; earlier versions kept the first two."""

    symbol: str
    status: str
    is_delisted: bool | None = None
    contract_size: str | None = None


_listing = msgspec.json.Decoder(list[ListedRow])
_DELISTED = "BREAK"  # in lists that earlier versions kept


@dataclass(frozen=True, slots=True)
class SymbolsSnapshot:
    """What became of symbols since the start, for the status."""

    added: int = 0
    returned: int = 0
    left: int = 0
    unlisted: Sequence[str] = ()  # configured names that the exchange does not list
    halted: Sequence[str] = ()  # that are collected, and not traded now
    list_error: str | None = None  # why the list is not the exchange's present one
    requests: RequestCounts = field(default_factory=RequestCounts)
    """For the list; one that may not be made now has failed."""
    had_at_ms: int | None = None
    """When the list was last had, on the local clock, UTC; None: not since the start."""


@dataclass(frozen=True, slots=True)
class _List:
    """A list of the exchange's symbols, and when it was asked for."""

    symbols: Sequence[SymbolInfo]
    asked_at: int | None = None  # monotonic; None: by an earlier process
    trading: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, symbols: Sequence[SymbolInfo], asked_at: int | None) -> _List:
        return cls(symbols, asked_at, frozenset(_trading(symbols)))


class SymbolList:
    """Chooses the symbols, at the start and whenever the exchange or the configuration changes.

    start() belongs to the main thread, everything else to the one that looks at the symbols.
    """

    def __init__(
        self,
        config: SymbolsConfig,
        exchange: Exchange,
        journal: Journal,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._snapshot = SymbolsSnapshot()
        self._requests = RequestCounts()
        self._had_at_ms: int | None = None
        self._config = config
        self._exchange = exchange
        self._runtime = runtime
        self._asking = threading.Lock()  # the list is asked for by one at a time
        self._records = journal.get_symbol_records()
        self._known = {*self._records, *journal.checkpoints}  # ever collected
        self._list = _kept(journal)
        self._listing = journal.get_symbol_list()
        self._halted: dict[str, str] = {}
        self._told_halted: frozenset[str] = frozenset()  # as whoever ingests was told
        self._has_contracts = exchange.market.has_contracts
        self._contract_sizes: dict[str, Decimal] = {}
        self._collected: dict[str, None] = {}  # as whoever ingests was told
        self._is_list_late = True  # whether the last request brought none, or not yet
        self._gone_since: int | None = None  # most symbols; monotonic
        self._has_ended = False
        self._limited = LimitedLog(log, every_s=600.0)

    @property
    def snapshot(self) -> SymbolsSnapshot:
        """The figures of this moment. Any thread."""
        return replace(self._snapshot, requests=self._requests, had_at_ms=self._had_at_ms)

    def start(self, journal: Journal, wait: Callable[[float], bool]) -> tuple[str, ...] | None:
        """Return the symbols to collect; None when *wait* says to stop before they are known.

        The exchange is asked. If it does not answer soon, names need no list, and patterns take the
        last one; without any, it is asked for until it comes. Raises ConfigError, with all
        problems: for a name that the exchange does not list, unless the journal has it, and when
        nothing is left to collect.
        """
        is_fresh = self._ask_at_start(journal, wait)
        if is_fresh is None:
            return None
        choice = self._choose(is_fresh=is_fresh)
        if is_fresh:
            self._refuse_unknown(choice)
        self._keep_ended(choice)
        if choice.is_empty:
            raise ConfigError(_nothing_left(self._config))
        self._log_choice(choice, new_patterns=True)
        records = self._new_records(choice)
        self._records.update(records)
        journal.set_symbols(records, self._new_listing())
        self._collected = dict.fromkeys(choice.wanted)
        self._told_halted = self.halted
        self._publish(choice)
        return tuple(choice.wanted)

    def series(self, symbol: str) -> SeriesKey:
        """Return which series the trades of *symbol* are."""
        return self._exchange.series(symbol, self._contract_sizes.get(symbol))

    @property
    def halted(self) -> frozenset[str]:
        """The symbols that are collected and not traded."""
        return frozenset(self._halted)

    @property
    def has_answer(self) -> bool:
        """Whether the exchange has told its list to this process."""
        return self._list is not None and self._list.asked_at is not None

    @property
    def has_ended(self) -> bool:
        """Whether symbols have started that are to leave as soon as the list is looked at again."""
        return self._has_ended

    def reconfigure(self, config: SymbolsConfig) -> None:
        """Have another configuration select the symbols. Raises ConfigError if it leaves none."""
        before, self._config = self._config, config
        if self._choose(is_fresh=self.has_answer).is_empty:
            self._config = before
            raise ConfigError(_nothing_left(config))

    def refresh(
        self, put: Callable[[Event], None], exchange_time: Callable[[], int], *, is_new: bool
    ) -> bool:
        """Ask the exchange, have come and go what is to; return whether it has answered.

        *put* takes the events, *exchange_time* gives the exchange's clock. *is_new*: the
        configuration is, so that changes follow without an answer too.
        """
        before = self._list
        try:
            self._ask()
        except ExchangeError as error:
            self._record_failure(error, put)
            if is_new:
                self._change(put, exchange_time, before, is_fresh=False, is_new=True)
            return False
        self._change(put, exchange_time, before, is_fresh=True, is_new=is_new)
        self._has_ended = False
        return True

    def _change(
        self,
        put: Callable[[Event], None],
        exchange_time: Callable[[], int],
        before: _List | None,
        *,
        is_fresh: bool,
        is_new: bool,
    ) -> None:
        """Have come and go what is to, by the list that there is now; *before* was the last one."""
        choice = self._choose(is_fresh=is_fresh)
        self._log_choice(choice, new_patterns=is_new)
        records = self._new_records(choice)
        added = [symbol for symbol in choice.wanted if symbol not in self._collected]
        left = [symbol for symbol in self._collected if symbol not in choice.wanted]
        since = self._last_unlisted(before, exchange_time)
        new = [
            NewSymbol(
                self.series(symbol),
                since if before is not None and symbol not in before.trading else None,
            )
            for symbol in added
        ]
        self._log_changes(added, left, records, choice)
        self._records.update(records)
        self._known.update(added)
        self._collected = dict.fromkeys(choice.wanted)
        listing = self._new_listing()
        halted_before, self._told_halted = self._told_halted, self.halted
        if new or left or records or listing or self.halted != halted_before:
            put(
                SymbolsChanged(
                    at=self._runtime.now(),
                    added=new,
                    left=left,
                    halted=self.halted,
                    records=records,
                    listing=listing,
                )
            )
        returned = sum(records[symbol].returned_ms is not None for symbol in added)
        self._publish(choice, added=len(added) - returned, returned=returned, left=len(left))

    def _ask_at_start(self, journal: Journal, wait: Callable[[float], bool]) -> bool | None:
        """Ask for the list; return whether it has come, None: the process is to stop."""
        backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        # A value of contracts cannot be told without what one is worth.
        needs_list = any(map(is_pattern, self._config.include)) or self._has_contracts
        while True:
            try:
                error = self._ask_for_a_while(wait)
            except _StoppedError:
                return None
            if error is None:
                return True
            banned_for = self._exchange.budget.banned_for(self._runtime.now())
            journal.set_ban(Ban.for_the_next(banned_for, self._runtime.utc()))
            if self._list is not None or not needs_list:
                self._say_list_failed(error)
                return False
            wait_s = backoff.next_wait_s()
            log.warning(
                "the list of symbols cannot be had, and is needed; next attempt in %.1f s",
                wait_s,
                extra={"event": "symbol_list_awaited", "error": error},
            )
            if wait(wait_s):
                return None

    def _ask_for_a_while(self, wait: Callable[[float], bool]) -> str | None:
        """Ask for the list on a thread of its own; return why it has not come in time.

        Raises _StoppedError when *wait* says to stop.
        """
        errors: list[str] = []

        def ask() -> None:
            try:
                self._ask()
            except ExchangeError as error:
                errors.append(str(error))
            except Exception as error:  # a fault of ours is no answer either: it is said as one
                errors.append(repr(error))

        asker = threading.Thread(target=ask, name="symbols-start", daemon=True)
        asker.start()
        deadline = self._runtime.now() + int(1000 * _ANSWER_WITHIN_S)
        asker.join(_LOOK_EVERY_S)
        while asker.is_alive() and self._runtime.now() < deadline:
            if wait(_LOOK_EVERY_S):
                raise _StoppedError
        if asker.is_alive():
            return f"no whole answer within {_ANSWER_WITHIN_S:g} s"
        return errors[0] if errors else None

    def _ask(self) -> None:
        """Ask the exchange for its list. Raises ExchangeError."""
        asked_at = self._runtime.now()
        self._is_list_late = True
        with self._asking:
            made, failed = self._requests
            self._requests = RequestCounts(made + 1, failed)
            try:
                symbols = self._exchange.catalog.list_symbols()
            except Exception:
                self._requests = RequestCounts(made + 1, failed + 1)
                raise
            self._had_at_ms = self._runtime.utc()
        self._list = _List.of(symbols, asked_at)
        self._is_list_late = False

    def _choose(self, *, is_fresh: bool) -> Choice:
        """Return what to collect, by the list that there is; most symbols are not gone at once."""
        listed = [] if self._list is None else self._list.symbols
        collected = [name for name, record in self._records.items() if record.is_collected]
        include, exclude = self._config.include, self._config.exclude
        shard = self._config.shard
        choice = choose(include, exclude, listed, collected, is_fresh=is_fresh, shard=shard)
        gone = [
            symbol for symbol, reason in choice.gone.items() if reason is not LeftBecause.DESELECTED
        ]
        if len(gone) < _MANY or 2 * len(gone) <= len(collected):
            self._gone_since = None
        else:
            if self._gone_since is None:
                self._gone_since = self._runtime.now()
            if self._runtime.now() - self._gone_since < _BELIEVED_AFTER_MS:
                self._keep_for_now(choice, gone)
        self._halted = choice.halted
        if self._has_contracts:
            self._note_contract_sizes()
            for symbol in choice.wanted.keys() - self._contract_sizes.keys():
                del choice.wanted[symbol]
                choice.waiting[symbol] = _NO_CONTRACT_SIZE
        return choice

    def _keep_ended(self, choice: Choice) -> None:
        """Have what was delisted while nobody collected start once more, and then leave in order.

        Its last trades may be missing, and the exchange may still have them.
        """
        ended = [
            symbol
            for symbol, reason in choice.gone.items()
            if reason is not LeftBecause.DESELECTED
            and (symbol in self._contract_sizes or not self._has_contracts)
        ]
        self._keep(choice, ended)
        self._has_ended = bool(ended)

    def _keep_for_now(self, choice: Choice, gone: Sequence[str]) -> None:
        self._limited.warning(
            "symbols_gone_doubted",
            "the exchange lists most symbols as gone, as in a maintenance; they stay for an hour",
            count=len(gone),
            symbols=_some(gone),
        )
        self._keep(choice, gone)

    def _keep(self, choice: Choice, gone: Sequence[str]) -> None:
        """Have *gone* symbols be collected, as halted ones."""
        infos = {info.symbol: info for info in (self._list.symbols if self._list else ())}
        for symbol in gone:
            choice.wanted[symbol] = self._records[symbol].why
            choice.halted[symbol] = infos[symbol].status if symbol in infos else "unlisted"
            choice.waiting.pop(symbol, None)
            del choice.gone[symbol]

    def _refuse_unknown(self, choice: Choice) -> None:
        """Raise ConfigError for names that the exchange does not list and that were never had."""
        unknown = [symbol for symbol in choice.unlisted if symbol not in self._known]
        if unknown:
            raise ConfigError(*self._describe_unknown(unknown))

    def _describe_unknown(self, names: Sequence[str]) -> Iterator[str]:
        """Yield what to say of *names*: of many, the first ones only with what is spelt alike."""
        listed = self._list.symbols if self._list else ()
        for number, name in enumerate(names):
            near = nearest_names(name, listed) if number < _COMPARED else []
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            yield f"[symbols] include: {name} is not listed by the exchange{hint}"

    def _log_choice(self, choice: Choice, *, new_patterns: bool) -> None:
        for pattern in choice.unmatched if new_patterns else ():
            log.warning(
                "[symbols] include: no symbol of the exchange fits %s now",
                pattern,
                extra={"event": "pattern_unmatched"},
            )
        told = set(self.snapshot.unlisted)
        unlisted = [symbol for symbol in choice.unlisted if symbol not in told]
        for symbol in unlisted:
            if symbol in self._known:
                log.warning(
                    "[symbols] include: %s is not listed by the exchange any more; it is collected"
                    " once it is again",
                    symbol,
                    extra={"event": "symbol_unlisted_now", "symbol": symbol},
                )
        unknown = [symbol for symbol in unlisted if symbol not in self._known]
        for symbol, problem in zip(unknown, self._describe_unknown(unknown), strict=True):
            log.error(
                "%s; it is collected once it is listed",
                problem,
                extra={"event": "symbol_unlisted", "symbol": symbol},
            )
        not_traded = choice.halted | choice.waiting
        for symbol in self.snapshot.halted:
            if symbol in choice.wanted and symbol not in not_traded:
                log.info(
                    "a symbol is traded again",
                    extra={"event": "symbol_resumed", "symbol": symbol},
                )
        for symbol, status in not_traded.items():
            if symbol not in self.snapshot.halted:
                log.warning(
                    "a symbol is not traded now",
                    extra={
                        "event": "symbol_halted",
                        "symbol": symbol,
                        "status": status,
                        "is_collected": symbol in choice.wanted,
                    },
                )

    def _log_changes(
        self,
        added: Iterable[str],
        left: Iterable[str],
        records: Mapping[str, SymbolRecord],
        choice: Choice,
    ) -> None:
        for symbol in added:
            record = records[symbol]
            facts = {"symbol": symbol, "why": record.why, "status": record.status}
            if record.returned_ms is None:
                log.info(
                    "a symbol is new: it is collected from its first trade on",
                    extra={"event": "symbol_added", **facts},
                )
            else:
                log.info(
                    "a symbol has returned: it goes on where it had ended",
                    extra={"event": "symbol_returned", **facts},
                )
        for symbol in left:
            log.info(
                "a symbol is to leave: it ends when its last bar is stored",
                extra={
                    "event": "symbol_leaving",
                    "symbol": symbol,
                    "because": choice.gone.get(symbol),
                },
            )

    def _new_records(self, choice: Choice) -> dict[str, SymbolRecord]:
        """Return what changes of what is on record of symbols."""
        now = self._runtime.utc()
        statuses = {info.symbol: info.status for info in self._list.symbols} if self._list else {}
        records: dict[str, SymbolRecord] = {}
        for symbol, why in choice.wanted.items():
            old = self._records.get(symbol)
            status = statuses.get(symbol, old.status if old else None)
            new = SymbolRecord(now, why, status)
            if old is not None:
                returned = old.returned_ms if old.is_collected else now
                new = SymbolRecord(old.since_ms, why, status, returned)
            if new != old:
                records[symbol] = new
        for symbol, reason in choice.gone.items():
            old = self._records[symbol]
            records[symbol] = SymbolRecord(
                old.since_ms,
                old.why,
                statuses.get(symbol, old.status),
                old.returned_ms,
                now,
                reason,
            )
        return records

    def _last_unlisted(self, before: _List | None, exchange_time: Callable[[], int]) -> int | None:
        """Return when the list before this one was given, on the exchange's clock, if known."""
        clock = exchange_time()
        if not clock or before is None or before.asked_at is None:
            return None
        return clock - (self._runtime.now() - before.asked_at) - _BEFORE_MS

    def _note_contract_sizes(self) -> None:
        """Remember what a contract of each symbol is worth, also when the list lacks it one day."""
        listed = [] if self._list is None else self._list.symbols
        sizes = {info.symbol: info.contract_size for info in listed if info.contract_size}
        self._contract_sizes = {**self._contract_sizes, **sizes}

    def _new_listing(self) -> str | None:
        """Return the list as it is to be kept, if that has changed."""
        if self._list is None:
            return None
        rows = [
            ListedRow(
                info.symbol,
                info.status,
                info.is_delisted,
                None if info.contract_size is None else str(info.contract_size),
            )
            for info in self._list.symbols
        ]
        text = msgspec.json.encode(rows).decode()
        if text == self._listing:
            return None
        self._listing = text
        return text

    def _record_failure(self, error: ExchangeError, put: Callable[[Event], None]) -> None:
        if banned_for := self._exchange.budget.banned_for(self._runtime.now()):
            put(RateLimited(Ban.for_the_next(banned_for, self._runtime.utc())))
        self._say_list_failed(str(error))

    def _say_list_failed(self, error: str) -> None:
        self._snapshot = replace(self._snapshot, list_error=storable(error))
        self._limited.warning(
            "symbol_list_failed",
            "the list of symbols cannot be had: names are collected all the same, patterns select"
            " of the last list; it is asked for again",
            error=error,
        )

    def _publish(self, choice: Choice, *, added: int = 0, returned: int = 0, left: int = 0) -> None:
        last = self._snapshot
        self._snapshot = SymbolsSnapshot(
            last.added + added,
            last.returned + returned,
            last.left + left,
            choice.unlisted,
            tuple(choice.halted | choice.waiting),
            last.list_error if self._is_list_late else None,
        )


def _nothing_left(config: SymbolsConfig) -> str:
    by = "" if config.shard is None else f" by shard {config.shard}"
    return (
        f"[symbols] include, exclude: no symbol of the exchange is left to collect{by}; allowed:"
        " names and patterns that leave some"
    )


def _trading(symbols: Iterable[SymbolInfo]) -> Iterable[str]:
    return (info.symbol for info in symbols if info.is_trading and not info.is_delisted)


def _some(names: Collection[str]) -> str:
    return ", ".join(islice(names, _SHOWN))


def _kept(journal: Journal) -> _List | None:
    """Return the list that was last kept, if there is one that can be read."""
    text = journal.get_symbol_list()
    if text is None:
        return None
    try:
        infos = [_info(row) for row in _listing.decode(text)]
    except (msgspec.DecodeError, ArithmeticError) as error:
        log.warning(
            "the list of symbols of the last start cannot be read and is discarded",
            extra={"event": "symbol_list_discarded", "error": str(error)},
        )
        return None
    return _List.of(infos, None)


def _info(row: ListedRow) -> SymbolInfo:
    is_delisted = row.status == _DELISTED if row.is_delisted is None else row.is_delisted
    size = None if row.contract_size is None else Decimal(row.contract_size)
    return SymbolInfo(row.symbol, is_delisted, row.status, size)
