"""Symbols that come and go: what the exchange lists, and what the configuration selects of it.

Drawn apart from the rest of the world, as what quiet worlds have besides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.harsh import is_harsh
from tests.simulation.kinds import KINDS_FROM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.schedule import Schedule

TRADING = "TRADING"
_SHARE = 0.4  # of all worlds with a kind
_UNDISTURBED_SHARE = 0.4  # of those: nothing happens to connections, nor to the process
_DAY_MS = 86_400_000
_FATES = (
    *("stays", "comes", "goes", "goes", "returns", "halts"),
    *("deselected", "reselected", "selected late"),
)
_AFTER_FAULTS_MS = 8_000  # until when something may change
_AWAY_MS = (3_000, 30_000)
_GOES_ON_MS = 30_000  # after the last change
_BEFORE_ALL = -(10**12)


@dataclass(frozen=True, slots=True)
class Listing:
    """What the exchange says of a symbol from a time on; times are milliseconds after the start."""

    at: int
    symbol: str
    status: str | None  # None: it is not listed


@dataclass(frozen=True, slots=True)
class Selection:
    """What the configuration selects from a time on; a signal has it read at once."""

    at: int
    include: tuple[str, ...]
    exclude: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listings:
    """All that changes in one world, in the order of time."""

    listings: tuple[Listing, ...]
    selections: tuple[Selection, ...]
    refresh: int
    """How often the collector asks what is listed, in milliseconds."""

    def statuses(self, elapsed: int) -> dict[str, str]:
        """Return the status of every symbol that is listed then."""
        found: dict[str, str] = {}
        for each in self.listings:
            if each.at > elapsed:
                break
            found.pop(each.symbol, None)
            if each.status is not None:
                found[each.symbol] = each.status
        return found

    def is_traded(self, symbol: str, elapsed: int) -> bool:
        """Whether *symbol* is traded then."""
        status = None
        for each in self.listings:
            if each.at > elapsed:
                break
            if each.symbol == symbol:
                status = each.status
        return status == TRADING

    def selection(self, elapsed: int) -> Selection:
        """Return what the configuration says then."""
        return [each for each in self.selections if each.at <= elapsed][-1]

    def first_listed(self, symbol: str) -> int:
        """Return since when *symbol* is listed."""
        return next(each.at for each in self.listings if each.symbol == symbol)

    def is_selected(self, symbol: str, elapsed: int) -> bool:
        """Whether the configuration has *symbol* be collected then, if it is listed."""
        return symbol not in self.selection(elapsed).exclude

    def is_wanted(self, symbol: str, elapsed: int) -> bool:
        """Whether *symbol* is to be collected then."""
        return self.is_selected(symbol, elapsed) and self.is_traded(symbol, elapsed)


def with_listings(schedule: Schedule, symbols: tuple[str, ...]) -> Schedule:
    """Return *schedule*, or what becomes of it where some of *symbols* come and go."""
    rng = Random(f"listings {schedule.seed}")
    if schedule.seed < KINDS_FROM or is_harsh(schedule.seed) or rng.random() >= _SHARE:
        return schedule
    is_futures = schedule.kind.has_fillers
    halted, delisted = ("PENDING_TRADING", "SETTLING") if is_futures else ("HALT", "BREAK")
    listings: list[Listing] = []
    moves: list[tuple[int, str, bool]] = []  # when which symbol is selected, or no longer
    left_out: set[str] = set()
    for symbol in symbols:
        fate = "stays" if symbol == symbols[0] else rng.choice(_FATES)
        first = rng.randrange(2_000, schedule.faults_end + _AFTER_FAULTS_MS)
        second = first + rng.randint(*_AWAY_MS)
        if fate == "comes":
            listings.append(Listing(first, symbol, TRADING))
            continue
        listings.append(Listing(_BEFORE_ALL, symbol, TRADING))
        if fate in ("goes", "returns"):
            listings.append(Listing(first, symbol, rng.choice([delisted, delisted, None])))
        if fate == "halts":
            listings.append(Listing(first, symbol, halted))
        if fate in ("returns", "halts"):
            listings.append(Listing(second, symbol, TRADING))
        if fate in ("deselected", "reselected"):
            moves.append((first, symbol, False))
        if fate == "reselected":
            moves.append((second, symbol, True))
        if fate == "selected late":
            left_out.add(symbol)
            moves.append((first, symbol, True))
    faults, is_undisturbed = schedule.faults, rng.random() < _UNDISTURBED_SHARE
    if is_undisturbed:
        faults = tuple(each for each in faults if each.place not in ("stream", "process"))
    last = max([0, *(each.at for each in listings), *(at for at, _, _ in moves)])
    return replace(
        schedule,
        symbols=symbols,
        faults=faults,
        rotate_after=_DAY_MS if is_undisturbed else schedule.rotate_after,
        silence_timeout=_DAY_MS if is_undisturbed else schedule.silence_timeout,
        listings=Listings(
            tuple(sorted(listings, key=lambda each: each.at)),
            tuple(_selections(sorted(moves), left_out)),
            rng.choice([2_000, 5_000, 20_000]),
        ),
        trading_ends=max(schedule.trading_ends, last + _GOES_ON_MS),
    )


def _selections(moves: list[tuple[int, str, bool]], left_out: set[str]) -> Iterator[Selection]:
    """Yield what the configuration says, at first and after each of *moves*."""
    left_out = set(left_out)
    yield Selection(_BEFORE_ALL, ("*USDT",), tuple(sorted(left_out)))
    for at, symbol, is_selected in moves:
        (left_out.discard if is_selected else left_out.add)(symbol)
        yield Selection(at, ("*USDT",), tuple(sorted(left_out)))
