"""What a program may say for a time, an interval and symbols, as values. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from bintrades.errors import BintradesError
from bintrades.model import milliseconds
from bintrades.util.durations import format_duration, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Moment = datetime | date | str
"""A time with its zone, a day of UTC, or text: "2026-11-27T10:00" (UTC unless it says else), or how
long before the newest bar, "90s", "10m", "2h", "1d"."""

LONGEST_INTERVAL_MS = 366 * 86_400_000
"""Of the bars that can be made of shorter ones."""

LAST_MS = 253_402_300_799_999
"""Of the year 9999: what Python can make a date of."""


def moment_ms(moment: Moment, name: str, newest_ms: Callable[[], int]) -> int:
    """Return *moment*, the argument *name*, in milliseconds since the epoch.

    A duration counts from what *newest_ms* returns. Raises BintradesError for what is no time.
    """
    if isinstance(moment, str):
        try:
            before_ms = parse_duration(moment)
        except ValueError:
            moment = _read(moment, name)
        else:
            return max(0, newest_ms() - before_ms)
    if not isinstance(moment, date):  # as every datetime is
        raise BintradesError(
            f"{name}: {moment!r} is no time; allowed: datetime(2026, 11, 27, 10, tzinfo=UTC), a"
            " date, '2026-11-27T10:00', or '2h' for so long before the newest bar"
        )
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if moment.tzinfo is None:
        raise BintradesError(
            f"{name}: {moment.isoformat()} has no time zone; say for example"
            " datetime(2026, 11, 27, 10, tzinfo=UTC), or '2026-11-27T10:00', which is UTC"
        )
    return min(max(0, milliseconds(moment)), LAST_MS)


def _read(text: str, name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BintradesError(
            f"{name}: {text!r} is neither a time, such as '2026-11-27T10:00', nor a duration"
            " before the newest bar, such as '2h'"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def interval_of(interval: str | timedelta | None, shortest_ms: int) -> int:
    """Return *interval* in milliseconds; None: that of the bars, *shortest_ms*.

    Raises BintradesError for what is no multiple of that.
    """
    if interval is None:
        return shortest_ms
    shortest = format_duration(shortest_ms)
    try:
        if isinstance(interval, timedelta):
            interval_ms, rest = divmod(interval, timedelta(milliseconds=1))
        else:
            interval_ms, rest = parse_duration(interval), timedelta()
    except ValueError as error:
        raise BintradesError(f"interval: {interval!r} is {error}") from None
    except TypeError:
        raise BintradesError(
            f"interval: {interval!r} is none; allowed: such as '1m', or a timedelta"
        ) from None
    if interval_ms > LONGEST_INTERVAL_MS:
        longest = format_duration(LONGEST_INTERVAL_MS)
        raise BintradesError(f"interval: {interval} is too long; allowed: up to {longest}")
    if interval_ms <= 0 or interval_ms % shortest_ms or rest:
        raise BintradesError(
            f"interval: {interval} is no multiple of {shortest}, of which the bars are; allowed:"
            " such as 1m, 5m, 1h, 1d"
        )
    return interval_ms


def names_of(symbols: str | Iterable[str] | None) -> list[str] | None:
    """Return the names of *symbols*, each once, in the order of the result; None: of all."""
    if symbols is None:
        return None
    try:
        names = sorted({symbols} if isinstance(symbols, str) else set(symbols))
    except TypeError:
        raise BintradesError(
            f"symbols: {symbols!r} is neither a name nor several; allowed: 'BTCUSDT', or"
            " ['BTCUSDT', 'ETHUSDT']"
        ) from None
    if not names:
        raise BintradesError("symbols: none is named; leave the argument out for all")
    return names
