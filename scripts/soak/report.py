"""Is it flat? The samples as figures over time: a verdict on each, a table, a picture."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from tabulate import tabulate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from scripts.soak.sampling import Sample

Point = tuple[float, float]
"""Seconds since the beginning, and the value then."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done to the collector or its store, and until when it shows."""

    name: str
    since_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report.

    It is flat if the median of the last third of the time is above that of the second third by
    no more than *factor* and *slack*; the first third is for warming up.
    """

    name: str
    points: Sequence[Point]
    factor: float
    slack: float

    @property
    def thirds(self) -> tuple[float, float, float]:
        """The median of each third of the time; 0 where there is nothing."""
        if not self.points:
            return (0.0, 0.0, 0.0)
        begin, end = self.points[0][0], self.points[-1][0]
        edges = [begin, begin + (end - begin) / 3, begin + (end - begin) * 2 / 3, end + 1]
        first, second, last = (
            statistics.median([value for at, value in self.points if low <= at < high] or [0.0])
            for low, high in pairwise(edges)
        )
        return first, second, last

    @property
    def highest(self) -> float:
        """The largest value."""
        return max((value for _, value in self.points), default=0.0)

    @property
    def is_flat(self) -> bool:
        """Whether the figure does not grow with time; without points nothing is shown."""
        _, second, last = self.thirds
        return bool(self.points) and last <= second * self.factor + self.slack


def figures(samples: Sequence[Sample], events: Sequence[Event]) -> list[Figure]:
    """Return every figure, without the moments in which something was done to the collector."""
    quiet = [sample for sample in samples if not _is_disturbed(sample.at_s, events)]
    pairs = [
        (before, after)
        for before, after in pairwise(samples)
        if before.pid == after.pid
        and not _is_disturbed(before.at_s, events)
        and not _is_disturbed(after.at_s, events)
        and not any(before.at_s < event.since_s < after.at_s for event in events)
    ]

    def level(name: str, value: Callable[[Sample], float], factor: float, slack: float) -> Figure:
        return Figure(name, [(sample.at_s, value(sample)) for sample in quiet], factor, slack)

    def rate(
        name: str,
        of: Callable[[Sample], float],
        per: Callable[[Sample], float],
        unit: float,
        factor: float,
    ) -> Figure:
        points = [
            (after.at_s, (of(after) - of(before)) / (per(after) - per(before)) * unit)
            for before, after in pairs
            if per(after) > per(before) and of(after) >= of(before)
        ]
        return Figure(name, points, factor, 0.0)

    return [
        rate("CPU us per trade", lambda s: s.cpu_s, lambda s: s.trades, 1e6, 1.2),
        rate("CPU us per bar", lambda s: s.cpu_s, lambda s: s.bars, 1e6, 1.2),
        level("memory MiB", lambda s: s.memory_mib, 1.15, 5.0),
        level("open files", lambda s: s.files, 1.0, 2.0),
        level("threads", lambda s: s.threads, 1.0, 1.0),
        level("journal MiB", lambda s: s.journal_mib, 1.15, 5.0),
        level("WAL MiB", lambda s: s.wal_mib, 1.15, 5.0),
        rate("log KiB per minute", lambda s: s.log_mib * 1024, lambda s: s.at_s, 60.0, 1.2),
        level("bars that wait", lambda s: s.waiting_bars, 1.2, 5_000.0),
    ]


def _is_disturbed(at_s: float, events: Sequence[Event]) -> bool:
    return any(event.since_s <= at_s <= event.until_s for event in events)


def table(found: Sequence[Figure]) -> str:
    """Return the figures as a Markdown table."""
    rows = [
        [
            figure.name,
            *(_short(value) for value in figure.thirds),
            _short(figure.highest),
            "yes" if figure.is_flat else "NO",
        ]
        for figure in found
    ]
    headers = ["figure", "first third", "second third", "last third", "highest", "flat"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def draw(found: Sequence[Figure], events: Sequence[Event], title: str, path: Path) -> None:
    """Draw every figure over time into a PNG, with a line for each event."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rows = -(-len(found) // 3)
    drawing, places = pyplot.subplots(
        rows, 3, figsize=(13, 2.6 * rows), sharex=True, layout="constrained", squeeze=False
    )
    for figure, place in zip(found, places.flat, strict=False):
        place.plot(
            [at / 60 for at, _ in figure.points],
            [value for _, value in figure.points],
            linewidth=1,
            color="tab:blue",
        )
        for event in events:
            place.axvline(event.since_s / 60, color="tab:red", linewidth=0.4, alpha=0.6)
        place.set_title(figure.name, fontsize=10)
        place.set_ylim(bottom=0, top=max(1.0, 1.15 * figure.highest))
        place.grid(visible=True, linewidth=0.3)
    for place in places[-1]:
        place.set_xlabel("minutes", fontsize=9)
    drawing.suptitle(title, fontsize=11)
    drawing.savefig(path, dpi=100)
    pyplot.close(drawing)
