"""The screen of `bintrades status --watch`, drawn with rich: readable without colours, too."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bintrades.app.health import RESPONDING, CollectorState
from bintrades.app.monitoring.page_data import MOST_SYMBOLS
from bintrades.cli.status_text import (
    format_gaps,
    format_process,
    format_shares,
    moment,
    rest_troubles,
)
from bintrades.cli.terminal import Event
from bintrades.errors import JournalError
from bintrades.model import utc
from bintrades.util.clocks import utc_ms
from bintrades.util.text import showable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from bintrades.cli.watched import Rows, Watched

SPANS_MS = {
    "10 min": 600_000,
    "1 h": 3_600_000,
    "6 h": 21_600_000,
    "24 h": 86_400_000,
    "7 d": 604_800_000,
    "30 d": 2_592_000_000,
}

CELLS = {
    "verified": ("#", "#2f9a70 on #178a5e"),
    "proven": ("=", "#5fb889 on #86d9ae"),
    "hole": ("!", "bold #ffffff on #d9262c"),
    "unproven": (".", "#8a94a3 on #3a4350"),
    "none": (" ", ""),
}
"""How the strip shows each state of PageData's map: a letter, and its colours."""

LEGEND = "# verified  = proven  ! missing  . not proven yet"

_MOST_CELLS = 240
_FEWEST_CELLS = 8
_MOST_TROUBLES = 4
_MOST_LINES = 4
_MOST_STORES = 4
_LABEL = 12
_NAME_WIDTHS = (10, 22)
_COLUMNS = {"price": 14, "trades/min": 10, "lag": 6, "of 24 h": 9}
_LATE_MS = 300_000


class Screen:
    """Draws what is watched into a window of any size. Main thread."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._first = 0
        self._span = list(SPANS_MS).index("1 h")
        self._page = 1
        self._total = 0

    def obey(self, event: Event) -> None:
        """Look elsewhere, as a key wants it."""
        last = max(0, self._total - self._page)
        places = {
            Event.UP: self._first - 1,
            Event.DOWN: self._first + 1,
            Event.PAGE_UP: self._first - self._page,
            Event.PAGE_DOWN: self._first + self._page,
            Event.FIRST: 0,
            Event.LAST: last,
        }
        self._first = min(max(0, places.get(event, self._first)), last)
        step = {Event.LONGER: 1, Event.SHORTER: -1}.get(event, 0)
        self._span = min(max(0, self._span + step), len(SPANS_MS) - 1)

    def draw(self, width: int, height: int) -> RenderableType:
        """Return all of it for a window of *width* columns and *height* rows."""
        try:
            head = list(self._head(width))
            names = self._watched.names()
            self._page = max(0, min(height - len(head) - 4, MOST_SYMBOLS))
            self._total = len(names)
            self._first = max(0, min(self._first, self._total - self._page))
            shown = names[self._first : self._first + self._page]
            name_width, cells = _widths(shown, width)
            label, span_ms = tuple(SPANS_MS.items())[self._span]
            rows = self._watched.rows(shown, span_ms, max(1, cells))
        except (JournalError, OSError) as error:
            return Group(_title("bintrades"), *_wrapped("trouble", str(error), width, "bold red"))
        table = _table(rows, name_width, cells, label)
        title = _title(f"bintrades {rows.market}")
        return Group(title, *head, Text(""), table, self._foot(len(shown), width))

    def _head(self, width: int) -> Iterator[RenderableType]:
        """Yield a line for each thing that there is to say of the collector."""
        status = self._watched.status()
        collector, state = status["collector"], status["state"]
        style = "bold red" if status["problems"] else "green"
        yield _line("collector", format_process(state, collector), style)
        if state not in (CollectorState.STOPPED, CollectorState.NEVER_RUN):
            of_rest = rest_troubles(collector) if collector else []
            for trouble in _some([*status["problems"], *of_rest], _MOST_TROUBLES):
                yield from _wrapped("trouble", trouble, width, "bold red")
        if collector and "trades" in collector:
            yield _line("trades", self._trades(collector, state))
            if state in RESPONDING:
                yield from _connections(collector["connections"])
        gaps = status["gaps"]
        yield _line("gaps", format_gaps(gaps), "red" if gaps["open"] or gaps["abandoned"] else "")
        yield _line("coverage", _coverage(status))
        yield from _stores(status["stores"], collector, is_running=state in RESPONDING)

    def _trades(self, collector: dict[str, Any], state: CollectorState) -> str:
        text = f"{collector['trades']:,}"
        if state in RESPONDING:
            rate = self._watched.trades_a_second()
            text += "" if rate is None else f", {rate:,} a second"
            text += f"; lag {collector['lag_ms'] / 1_000:.1f} s"
        return (
            f"{text}; {collector['duplicates']:,} duplicates dropped,"
            f" {collector['bad_messages']:,} bad messages"
        )

    def _foot(self, shown: int, width: int) -> Text:
        more = self._total - shown
        place = f"{self._first + 1}-{self._first + shown} of {self._total}" if shown else "none"
        text = f"{place}, {more} more" if more else f"{self._total} symbols"
        legend = LEGEND if width > len(LEGEND) + len(text) else ""
        text = f"{legend}{text:>{max(1, width - len(legend))}}"
        return Text(text, style="dim", no_wrap=True, overflow="crop")


def _widths(names: Sequence[str], width: int) -> tuple[int, int]:
    """Return how wide names and the strip are; 0: there is no room for a strip."""
    least, most = _NAME_WIDTHS
    of_names = min(max([least, *(cell_len(showable(name)) for name in names)]), most)
    left = width - of_names - sum(_COLUMNS.values()) - len(_COLUMNS) - 1
    return of_names, min(left, _MOST_CELLS) if left >= _FEWEST_CELLS else 0


def _table(rows: Rows, name_width: int, cells: int, label: str) -> Table:
    """Return the symbols, each with a strip of so many *cells*."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("symbol", width=name_width, no_wrap=True)
    for title, column in _COLUMNS.items():
        table.add_column(title, justify="right", width=column, no_wrap=True)
    if cells:
        table.add_column(_axis(rows, label, cells), width=cells, no_wrap=True)
    for each in rows.symbols:
        row = _row(each, rows.now_ms)
        table.add_row(*row, *([_strip(each["runs"])] if cells else []))
    return table


def _title(text: str) -> Table:
    line = Table.grid(expand=True)
    line.add_column(no_wrap=True)
    line.add_column(no_wrap=True, justify="right")
    now = utc(utc_ms()).isoformat(sep=" ", timespec="seconds")
    line.add_row(Text(text, style="bold"), Text(f"{now[:19]} UTC   arrows, q", style="dim"))
    return line


def _line(label: str, text: str, style: str = "") -> Text:
    line = Text(f"{label:{_LABEL}}", style="dim", no_wrap=True, overflow="ellipsis")
    return line.append(showable(text), style=f"not dim {style}")


def _wrapped(label: str, text: str, width: int, style: str) -> Iterator[Text]:
    """Yield a text that may be long, in as many lines as it needs up to some."""
    lines = wrap(showable(text), max(_LABEL, width - _LABEL), break_on_hyphens=False)
    for place, line in enumerate(lines[:_MOST_LINES]):
        yield _line("" if place else label, line, style)


def _some(lines: Sequence[str], most: int) -> list[str]:
    """Return *lines*, or those that have room and how many there are more."""
    if len(lines) <= most:
        return list(lines)
    return [*lines[: most - 1], f"and {len(lines) - most + 1} more: `bintrades status`"]


def _connections(connections: Sequence[dict[str, Any]]) -> Iterator[Text]:
    well = [each for each in connections if not each["down_ms"]]
    symbols = sum(each["symbols"] for each in connections)
    yield _line(
        "connections",
        f"{len(well)} of {len(connections)} have all their streams, of {symbols} symbols",
        "" if len(well) == len(connections) else "bold yellow",
    )
    down = [
        f"{each['name']}: {each['state']}" + (f"; {each['error']}" if each["error"] else "")
        for each in connections
        if each not in well
    ]
    for text in _some(down, _MOST_TROUBLES):
        yield _line("", text, "yellow")


def _stores(
    stores: dict[str, Any], collector: dict[str, Any] | None, *, is_running: bool
) -> Iterator[Text]:
    """Yield how far each store is, and for how long it has not been caught up."""
    running = (collector or {}).get("stores", ()) if is_running else ()
    of_running = {each["name"]: each for each in running}
    lines = []
    for name, store in stores.items():
        own = of_running.get(name, {"behind_ms": 0, "error": None})
        text = f"{name}: {store['waiting_bars']:,} bars wait, {store['rejected_bars']:,} refused"
        if store["waiting_bars"] and own["behind_ms"]:
            text += f", {_lasting(own['behind_ms'])} behind"
        text += f"; {own['error']}" if own["error"] else ""
        is_late = store["waiting_bars"] and own["behind_ms"] > _LATE_MS
        lines.append((text, "red" if own["error"] or is_late else ""))
    for text, style in lines[:_MOST_STORES]:
        yield _line("store", text, style)
    if len(lines) > _MOST_STORES:
        yield _line("", f"and {len(lines) - _MOST_STORES} more: `bintrades status`")


def _coverage(status: dict[str, Any]) -> str:
    coverage, audit = status["coverage"], status["audit"]
    if not coverage["until"]:
        return "nothing is proven yet"
    text = format_shares(coverage)
    differences = audit["differences"]
    if audit["verified_minutes"] or any(differences.values()):
        open_or_stay = differences["open"] + differences["stays"]
        text += f"; {audit['verified_minutes']:,} minutes verified, {open_or_stay} differ"
    return text


def _axis(rows: Rows, label: str, cells: int) -> str:
    """Return since when the strip is, and up to when; cells are whole intervals, however narrow."""
    span_ms = rows.until_ms - rows.since_ms
    if span_ms * 10 > SPANS_MS[label] * 11:
        label = _lasting(span_ms)
    is_long = span_ms > 2 * SPANS_MS["24 h"]
    since, until = (
        moment(utc(ms).isoformat())[5:10] if is_long else moment(utc(ms).isoformat())[11:16]
        for ms in (rows.since_ms, rows.until_ms)
    )
    middle = f"- {label} -"
    if cells < len(since) + len(until) + len(middle) + 2:
        return label
    return f"{since}{middle:^{cells - len(since) - len(until)}}{until}"


def _row(each: dict[str, Any], now_ms: int) -> list[Text]:
    whole = bool(each["of_ms"]) and each["covered_ms"] == each["of_ms"]
    lag = "-" if each["proven_ms"] is None else _lasting(now_ms - each["proven_ms"])
    covered = _share(each["covered_ms"], each["of_ms"])
    gone = "" if each["is_collected"] else "dim"
    return [
        Text(showable(each["symbol"]), style=gone or "bold"),
        Text(each["price"] or "-", style=gone),
        Text(f"{each['trades_of_minute']:,}", style=gone),
        Text(lag if each["is_collected"] else "left", style=gone),
        Text(covered, style=gone or ("green" if whole else "red" if each["of_ms"] else "")),
    ]


def _strip(runs: Sequence[dict[str, Any]]) -> Text:
    strip = Text(no_wrap=True)
    for run in runs:
        letter, style = CELLS[run["state"]]
        strip.append(letter * run["cells"], style=style)
    return strip


def _share(part_ms: int, of_ms: int) -> str:
    """Return a share, rounded down: 100 % is all of it."""
    if not of_ms:
        return "-"
    hundredths = part_ms * 10_000 // of_ms
    return "100 %" if part_ms == of_ms else f"{hundredths // 100}.{hundredths % 100:02} %"


def _lasting(ms: int) -> str:
    seconds = max(0, ms) // 1_000
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7_200:
        return f"{seconds // 60} min"
    return f"{seconds // 3_600} h" if seconds < 172_800 else f"{seconds // 86_400} d"
