"""What is covered and what is not, as a table for people and as JSON. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import chain
from typing import TYPE_CHECKING, Any

from bintrades.cli.tables import table_pieces
from bintrades.model import utc
from bintrades.util.durations import UNITS_MS
from bintrades.util.text import as_json, showable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bintrades.journal.coverage import SymbolCoverage

_HEADERS = ("symbol", "what", "from (UTC)", "to (UTC)", "lasts", "share", "verified", "cause")


class Shown:
    """The part of a symbol's coverage between two times."""

    def __init__(self, found: SymbolCoverage, since_ms: int, until_ms: int) -> None:
        self.symbol = found.symbol
        self.part = found.coverage.within(since_ms, until_ms)
        self.unproven_since_ms = found.coverage.until_ms
        """Also where what is shown begins later."""
        self.is_up_to_the_end = found.coverage.until_ms <= until_ms
        self._verified = found.verified

    def verified(self, since: int, until: int) -> int:
        """Return for how many milliseconds of a span bars are verified."""
        first = bisect_right(self._verified, since, key=lambda span: span[1])
        end = bisect_left(self._verified, until, key=lambda span: span[0])
        return sum(_overlap(span, (since, until)) for span in self._verified[first:end])

    def rows(self) -> Iterator[list[str]]:
        """Yield the rows of the table: spans and holes by time, what is not proven, all of it."""
        part, name = self.part, showable(self.symbol)
        found = [("covered", since, until, "") for since, until in part.spans]
        found += [
            ("hole", *each[:2], "; ".join(f"{state}: {cause}" for state, cause in each.causes))
            for each in part.holes
        ]
        for what, since, until, cause in sorted(found, key=lambda each: each[1]):
            share = self._verified_share(since, until) if what == "covered" else ""
            times = (_moment(since), _moment(until), lasting(until - since))
            yield [name, what, *times, "", share, cause]
        if self.is_up_to_the_end:
            yield [name, "not proven yet", _moment(self.unproven_since_ms), "", "", "", "", ""]
        if part.until_ms > part.since_ms:
            total = part.until_ms - part.since_ms
            times = (_moment(part.since_ms), _moment(part.until_ms), lasting(total))
            share = percent(part.covered_ms, total)
            verified = self._verified_share(part.since_ms, part.until_ms)
            yield [name, "in all", *times, share, verified, ""]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for programs."""
        part = self.part
        total = part.until_ms - part.since_ms
        return {
            "symbol": self.symbol,
            "since": _iso(part.since_ms),
            "until": _iso(part.until_ms),
            "covered_seconds": part.covered_ms / 1_000,
            "share": part.covered_ms / total if total else None,
            "spans": [
                {
                    "since": _iso(since),
                    "until": _iso(until),
                    "verified_seconds": self.verified(since, until) / 1_000,
                }
                for since, until in part.spans
            ],
            "holes": [
                {
                    "since": _iso(hole.since_ms),
                    "until": _iso(hole.until_ms),
                    "causes": [{"state": state, "cause": cause} for state, cause in hole.causes],
                }
                for hole in part.holes
            ],
            "unproven_since": _iso(self.unproven_since_ms) if self.is_up_to_the_end else None,
        }

    def _verified_share(self, since: int, until: int) -> str:
        return percent(self.verified(since, until), until - since)


def coverage_pieces(shown: Iterable[Shown]) -> Iterator[str]:
    """Yield pieces of one JSON array, an object for each symbol."""
    before = "[\n"
    for each in shown:
        yield before + as_json([each.as_dict()], indent=1)[2:-2]
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def coverage_table(shown: Iterable[Shown]) -> Iterator[str]:
    """Yield pieces of a table for people, one for each symbol."""
    pages = (list(each.rows()) for each in shown)
    first = next(pages, None)
    if first is None:
        yield "nothing is proven yet\n"
    else:
        yield from table_pieces(chain([first], pages), _HEADERS, right=(4, 5, 6))


def percent(part: int, total: int) -> str:
    """Return a share, rounded down: only all of it is 100 %."""
    thousandths = part * 100_000 // total if total else 0
    return f"{thousandths // 1_000}.{thousandths % 1_000:03} %"


def lasting(duration_ms: int) -> str:
    """Return a duration as people read it: 2d 3h 10s."""
    parts = []
    for unit, unit_ms in reversed(UNITS_MS.items()):
        count, duration_ms = divmod(duration_ms, unit_ms)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"


def _overlap(one: Sequence[int], other: Sequence[int]) -> int:
    return max(0, min(one[1], other[1]) - max(one[0], other[0]))


def _moment(time_ms: int) -> str:
    return f"{utc(time_ms):%Y-%m-%d %H:%M:%S}"


def _iso(time_ms: int) -> str:
    return utc(time_ms).isoformat(timespec="milliseconds")
