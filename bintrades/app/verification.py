"""`bintrades verify`, assembled: which bars, which klines, and what repairs them."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from bintrades.app.preflight import work_in
from bintrades.core.verification import unit_ms
from bintrades.errors import BintradesError, ConfigError
from bintrades.exchange.registry import EXCHANGES
from bintrades.journal.meta import JournalScope
from bintrades.journal.reader import JournalReader
from bintrades.journal.repair import replace_bars
from bintrades.model.bar_fields import IN_CONTRACTS
from bintrades.net.dialing import Dialer
from bintrades.net.network import SystemNetwork
from bintrades.net.tls import Certificates
from bintrades.pipeline.audit.covered import covered_spans
from bintrades.pipeline.bar_repair import BarRepair, RepairOutcome
from bintrades.pipeline.verification import Tally, Verification
from bintrades.pipeline.verification_sources import ExchangeKlines, JournalBars, StoreBars
from bintrades.reading.sources import opened_store
from bintrades.util.clocks import utc_ms
from bintrades.util.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bintrades.config.loader import Config
    from bintrades.core.spans import Span
    from bintrades.core.verification import Difference
    from bintrades.exchange.port import Exchange
    from bintrades.model import SeriesKey
    from bintrades.pipeline.verification_sources import BarSource

_DAY_MS = 86_400_000
_END_OF_TIME = 2**62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What is to be compared with what.

    since and until are a moment, or how many milliseconds before the newest bar; None: since a day
    before it, until it; or all of the files, where there are some.
    """

    symbols: Sequence[str] = ()  # none: all
    since: int | datetime | None = None
    until: int | datetime | None = None
    store: str | None = None  # None: the journal
    kline_files: Sequence[Path] = ()  # none: the exchange is asked
    by_bar: bool = False
    is_repairing: bool = False


class Found(NamedTuple):
    """A difference, and what a repair has made of it, if there was one."""

    difference: Difference
    repair: RepairOutcome | None


class Progress(NamedTuple):
    """How far it is."""

    symbol: str
    done_ms: int
    total_ms: int


@dataclass(slots=True)
class Result:
    """What came of one symbol, or of all."""

    symbol: str
    tally: Tally = field(default_factory=Tally)
    differences: int = 0
    repaired: int = 0
    replaced: int = 0
    """Bars made again of trades for which aggregates had stood in."""

    def add(self, other: Result) -> None:
        """Count what *other* has counted."""
        self.tally.add(other.tally)
        self.differences += other.differences
        self.repaired += other.repaired
        self.replaced += other.replaced


@dataclass(frozen=True, slots=True)
class _Part:
    """One symbol, with the klines of one source."""

    symbol: str
    spans: Sequence[Span]
    verification: Verification
    repair: BarRepair | None = None


class VerifyRun:
    """The parts of one run, made by open_verification()."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = parts
        self._total_ms = sum(until - since for part in parts for since, until in part.spans)

    def run(self) -> Iterator[Found | Progress | Result]:
        """Compare; yields differences as they are found, and a result after each symbol.

        Raises BintradesError where bars or files cannot be read.
        """
        before_ms = 0
        for part in self._parts:
            result = Result(part.symbol)
            done_ms = 0
            for since, until in part.spans:
                if part.repair is not None:
                    result.replaced += part.repair.replace_approximations(part.symbol, since, until)
                for page in part.verification.verify(part.symbol, since, until, result.tally):
                    for found in _repaired(part.repair, page):
                        result.differences += 1
                        result.repaired += found.repair in _GOOD
                        yield found
                    yield Progress(
                        part.symbol, before_ms + done_ms + result.tally.total_ms, self._total_ms
                    )
            before_ms += sum(until - since for since, until in part.spans)
            yield result


_GOOD = (RepairOutcome.REPAIRED, RepairOutcome.REBUILT)  # whatever else: exit status 1


def _repaired(repair: BarRepair | None, page: Sequence[Difference]) -> Iterator[Found]:
    if repair is None or not page:
        yield from (Found(each, None) for each in page)
        return
    for each, outcome in zip(page, repair.repair(page), strict=True):
        yield Found(each, outcome)


@contextmanager
def open_verification(config: Config, request: VerifyRequest) -> Iterator[VerifyRun]:
    """Open all that *request* needs. Raises ConfigError for what makes no sense, BintradesError."""
    if request.is_repairing and request.kline_files:
        raise ConfigError("--repair asks the exchange for trades, --klines asks nobody: leave one")
    reader = JournalReader(config.journal.path)
    with ExitStack() as stack:
        coverage = partial(covered_spans, reader)
        journal_bars = JournalBars(reader, coverage)
        bars: BarSource = journal_bars
        if request.store is not None:
            bars = stack.enter_context(_open_store(config, request.store, reader, coverage))
        interval_ms = config.bars.interval_ms
        if request.kline_files:
            yield VerifyRun(list(_file_parts(config, request, bars, reader)))
            return
        _check_place(config, reader)
        exchange = stack.enter_context(_open_exchange(config, reader))
        klines = _klines_of(exchange)
        if request.by_bar:
            _check_by_bar(exchange.market.name, interval_ms, klines.intervals_ms("")[-1])
        verification = Verification(bars, klines, interval_ms, by_bar=request.by_bar)
        repair = None
        if request.is_repairing:
            options = config.exchange_options
            scope = JournalScope(options.market, interval_ms, config.exchange, options.stream)
            repair = BarRepair(
                bars,
                journal_bars,
                klines,
                partial(replace_bars, config.journal.path, scope),
                verification,
                series=partial(_series_of, exchange, reader),
                interval_ms=interval_ms,
            )
        span = _span(request, reader, interval_ms)
        symbols = _symbols(request, reader)
        yield VerifyRun([_Part(symbol, [span], verification, repair) for symbol in symbols])


def _check_place(config: Config, reader: JournalReader) -> None:
    """Raise ConfigError where the exchange that would be asked is not the one of the bars."""
    here = (config.exchange_options.market, config.environment)
    market, _ = reader.scope()
    there = (market, reader.environment())
    for ours, theirs in zip(here, there, strict=True):
        if None not in (ours, theirs) and ours != theirs:
            raise ConfigError(
                f"{config.journal.path}: holds bars of {theirs}, the configuration says {ours};"
                " set [journal] path to another file"
            )


def _check_by_bar(market: str, interval_ms: int, kline_ms: int) -> None:
    """Raise ConfigError where no klines are short enough to compare each bar by itself."""
    if unit_ms(interval_ms, kline_ms) != interval_ms:
        shortest = format_duration(kline_ms)
        raise ConfigError(
            f"--by-bar: the shortest klines of the market {market} are of {shortest}, too long for"
            f" bars of {format_duration(interval_ms)}; leave it out: whole units of {shortest} are"
            " compared then"
        )


def _file_parts(
    config: Config, request: VerifyRequest, bars: BarSource, reader: JournalReader
) -> Iterator[_Part]:
    """Yield a part for the files of each symbol and length of klines."""
    interval_ms = config.bars.interval_ms
    since_ms = 0 if request.since is None else _moment(request.since, reader)
    until_ms = _END_OF_TIME if request.until is None else _moment(request.until, reader)
    files = EXCHANGES[config.exchange].open_kline_files(request.kline_files)
    wanted = request.symbols or [each.symbol for each in files]
    if missing := set(wanted) - {each.symbol for each in files}:
        raise ConfigError(f"{', '.join(sorted(missing))}: none of the files is of it")
    for each in files:
        spans = [(max(since_ms, since), min(until_ms, until)) for since, until in each.spans]
        spans = [(since, until) for since, until in spans if since < until]
        if each.symbol in wanted and spans:
            yield _Part(each.symbol, spans, Verification(bars, each, interval_ms))


@contextmanager
def _open_store(
    config: Config,
    name: str,
    reader: JournalReader,
    coverage: Callable[[str], Sequence[Span]],
) -> Iterator[StoreBars]:
    work_in(config.folder)
    with opened_store(config, name) as store:
        options = config.store_options[name]
        yield StoreBars(store, options, reader, coverage, config.exchange_options.market)


@contextmanager
def _open_exchange(config: Config, reader: JournalReader) -> Iterator[Exchange]:
    exchange = EXCHANGES[config.exchange].open(
        config.exchange_options,
        SystemNetwork(Dialer(Certificates().context)),
        weight_share=config.repair.weight_share,
        banned_for_ms=reader.get_ban().left_ms(utc_ms()),
    )
    try:
        yield exchange
    finally:
        exchange.close()


def _series_of(exchange: Exchange, reader: JournalReader, symbol: str) -> SeriesKey:
    """Return the series of *symbol*, whose contracts are as large as its bars say."""
    bars = reader.bars(symbol, 0, _END_OF_TIME, 1)
    size = bars[0].contract_size if bars else None
    if size is None and exchange.market.name in IN_CONTRACTS:
        raise BintradesError(f"{symbol}: the journal has no bar that says how large contracts are")
    return exchange.series(symbol, size)


def _klines_of(exchange: Exchange) -> ExchangeKlines:
    reference = exchange.make_reference()
    if reference is None:
        raise ConfigError(
            f"of the market {exchange.market.name} no klines can be asked for; compare its bars"
            " with files: --klines FILE"
        )
    return ExchangeKlines(reference, exchange.budget)


def _symbols(request: VerifyRequest, reader: JournalReader) -> Sequence[str]:
    known = reader.symbols_known()
    unknown = [symbol for symbol in request.symbols if symbol not in known]
    if unknown and request.store is None:
        names = ", ".join(known[:10]) or "none yet"
        raise BintradesError(
            f"{', '.join(unknown)}: no trade of it was ever seen; the journal has: {names}"
        )
    return request.symbols or known


def _span(request: VerifyRequest, reader: JournalReader, interval_ms: int) -> Span:
    since = _DAY_MS if request.since is None else request.since
    if request.until is not None:
        until_ms = _moment(request.until, reader)
    else:
        until_ms = _newest_ms(reader) + interval_ms
    since_ms = _moment(since, reader)
    if since_ms >= until_ms:
        raise ConfigError("--since must be before --until")
    return since_ms, until_ms


def _moment(moment: int | datetime, reader: JournalReader) -> int:
    """Return milliseconds since the epoch; a duration counts from the newest bar."""
    if isinstance(moment, datetime):
        return max(0, (moment - _EPOCH) // timedelta(milliseconds=1))
    return max(0, _newest_ms(reader) - moment)


def _newest_ms(reader: JournalReader) -> int:
    newest = reader.newest_stored_open_time_ms()
    if newest is None:
        raise BintradesError("the journal has no bars, so say --since and --until as times")
    return newest
