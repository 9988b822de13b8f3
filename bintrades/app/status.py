"""What `bintrades status` shows of a collector: read from its journal."""

from __future__ import annotations

import json
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from bintrades.app.figures import STATUS
from bintrades.app.health import (
    NEVER_RUN,
    NOT_RESPONDING,
    RUNNING,
    STARTING,
    STOPPED,
    STOPPING,
    is_word_of,
    problems,
    state_of,
)
from bintrades.errors import JournalError
from bintrades.journal.lock import holder, is_in_use
from bintrades.journal.reader import JournalReader
from bintrades.journal.wal import WAL_LIMIT, reading_processes, wal_bytes
from bintrades.model import ABSENT, LATE, REPAIRED, utc
from bintrades.util.clocks import now_ms
from bintrades.util.text import redact, showable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

_NEEDED = {"pid", "started_at", "updated_at"}  # what every word of a collector has
_NUMBER_WITHIN_S = 0.1  # of taking the journal, a collector has put its number down


def with_journal_figures(figures: dict[str, Any], journal: Path) -> dict[str, Any]:
    """Return *figures* of a collector and what its journal says of gaps and of bars that wait.

    Where it cannot be read, its error.
    """
    reader = JournalReader(journal)
    try:
        figures["gaps"] = _gap_figures(reader)
        for store in figures["stores"]:
            store.update(_store_figures(reader, store["name"]))
        figures |= _sizes(journal)
    except (JournalError, OSError) as error:
        figures["journal_error"] = figures["journal_error"] or str(error)
    return figures


def read_status(journal: Path, stores: Sequence[str]) -> dict[str, Any]:
    """Return what the journal says of the collector and of each of *stores*.

    Raises JournalError where there is no journal, or none that can be read.
    """
    reader = JournalReader(journal)
    has_process = is_in_use(journal)  # before its word is read, which may be its last
    text = reader.get_meta(STATUS)
    figures = _figures(text)
    if has_process and figures and not _is_process(figures["pid"]):
        time.sleep(_NUMBER_WITHIN_S)
    now = now_ms()
    process = holder(journal)
    if has_process and not is_word_of(figures, process, now):
        figures = None
    state = state_of(figures, is_in_use=has_process, now=now)
    of_stores = {name: _store_figures(reader, name) for name in stores}
    waiting = {name: store["waiting_bars"] for name, store in of_stores.items()}
    return {
        "state": state,
        "problems": problems(state, figures, waiting, now, taken_ms=process[1]),
        "journal": _journal_figures(reader, journal),
        "gaps": {**_gap_figures(reader), "symbols": reader.symbols_with_gaps()},
        "stores": of_stores,
        "is_running": state in (STARTING, RUNNING, STOPPING),
        "collector": figures,
    }


def _figures(text: str | None) -> dict[str, Any] | None:
    """Return what a collector has said of itself, if that can be read."""
    try:
        figures = json.loads(text or "null")
    except ValueError as error:
        log.warning(
            "what the collector has said last is nonsense in the journal",
            extra={"event": "status_unreadable", "error": str(error)},
        )
        return None
    return figures if isinstance(figures, dict) and figures.keys() >= _NEEDED else None


def _is_process(number: int) -> bool:
    """Whether a process of this number can be seen; one of another container cannot."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's
    return True


def format_health(status: dict[str, Any]) -> str:
    """Return in one line whether the collector is well, and if not, why."""
    troubles = "; ".join(status["problems"])
    return showable(f"{status['state']}: {troubles or 'well'}")


def _journal_figures(reader: JournalReader, journal: Path) -> dict[str, Any]:
    sizes = _sizes(journal)
    return {
        "path": str(journal),
        **reader.counts(),
        "symbols": len(reader.symbols()),
        "bytes": sizes["journal_bytes"],
        "wal_bytes": sizes["wal_bytes"],
        "wal_held_by": reading_processes(journal) if sizes["wal_bytes"] > WAL_LIMIT else [],
    }


def _sizes(journal: Path) -> dict[str, int]:
    """Return the bytes of the journal with its write-ahead log, and of that alone."""
    in_log = wal_bytes(journal)
    return {"journal_bytes": journal.stat().st_size + in_log, "wal_bytes": in_log}


def _gap_figures(reader: JournalReader) -> dict[str, int]:
    counts = reader.gap_counts()
    return {state: counts.get(state, 0) for state in ("open", "abandoned", REPAIRED, ABSENT, LATE)}


def _redacted(text: str | None) -> str | None:
    return text and redact(text)


def _store_figures(reader: JournalReader, name: str) -> dict[str, Any]:
    state = reader.store(name)
    figures: dict[str, Any] = {
        "waiting_bars": state.waiting_bars,
        "rejected_bars": state.rejected_bars,
        "last_reason": _redacted(state.last_reason),
    }
    if state.resending_from_ms is not None:
        figures["resending_from"] = utc(state.resending_from_ms).isoformat()
    return figures


def tell(status: dict[str, Any]) -> str:
    """Return *status* as a page for people, without anything that a terminal would obey."""
    return "\n".join(map(showable, _lines(status)))


def _lines(status: dict[str, Any]) -> list[str]:
    journal, gaps, collector = status["journal"], status["gaps"], status["collector"]
    lines = [
        f"journal     {journal['path']}, {_megabytes(journal['bytes'])}",
        f"bars        {journal['bars']}, of {journal['symbols']} symbols;"
        f" {journal['unclosed']} still open, {journal['incomplete']} lack trades",
        f"gaps        {gaps['open']} open, {gaps['repaired']} repaired, {gaps['absent']} absent,"
        f" {gaps['abandoned']} abandoned{_format_late(gaps)} (`bintrades gaps` lists them)",
    ]
    if journal["wal_bytes"] > WAL_LIMIT:
        lines.append(f"trouble     {_format_wal(journal)}")
    for name, store in status["stores"].items():
        lines.append(
            f"store       {name}: {store['waiting_bars']} bars wait,"
            f" {store['rejected_bars']} refused"
            + (f" ({store['last_reason']})" if store["last_reason"] else "")
            + _format_resending(store.get("resending_from"))
        )
    head = [f"collector   {_format_process(status['state'], collector)}"]
    if status["state"] not in (STOPPED, NEVER_RUN):
        head += [f"trouble     {problem}" for problem in status["problems"]]
    if collector is None or "trades" not in collector:
        return head + lines
    head.append(
        f"trades      {collector['trades']}, {collector['duplicates']} duplicates dropped,"
        f" {collector['bad_messages']} bad messages",
    )
    head += [
        f"connection  {connection['name']}: {connection['state']},"
        f" {connection['symbols']} symbols, connected {connection['connections']} times"
        + (f"; {connection['error']}" if connection["error"] else "")
        for connection in collector["connections"]
    ]
    head.append(f"repair      {_format_backfill(collector)}")
    head += [
        f"trouble     store {store['name']}: {store['error']}"
        for store in collector["stores"]
        if store["error"]
    ]
    if collector["journal_error"]:
        head.append(f"trouble     {collector['journal_error']}")
    if collector.get("log_lines_lost"):
        head.append(f"log         {collector['log_lines_lost']} lines could not be written")
    if collector["unlisted_symbols"]:
        head.append(f"unlisted    {_some(collector['unlisted_symbols'])}")
    return head + lines


def _format_process(state: str, collector: dict[str, Any] | None) -> str:
    if collector is None:
        return "has not run yet" if state == NEVER_RUN else "is starting"
    since, last = _moment(collector["started_at"]), _moment(collector["updated_at"])
    if state == NOT_RESPONDING:
        return f"not responding since {last} UTC (process {collector['pid']}, since {since})"
    return f"{state} (process {collector['pid']}, since {since}, last word {last} UTC)"


def _format_backfill(collector: dict[str, Any]) -> str:
    repair = collector["repair"]
    if not repair["is_enabled"]:
        return "switched off"
    done = f"{repair['requests']} requests, {collector['repaired_trades']} trades fetched"
    if repair["blocked_until"]:
        done += f"; no requests until {_moment(repair['blocked_until'])} UTC: {repair['error']}"
    elif repair["error"]:
        done += f"; the last request failed: {repair['error']}"
    return done


def _format_late(gaps: dict[str, int]) -> str:
    return f", {gaps[LATE]} late" if gaps[LATE] else ""


def _format_wal(journal: dict[str, Any]) -> str:
    processes = ", ".join(map(str, journal["wal_held_by"]))
    holder = f"process {processes} keeps" if processes else "if it stays, another program keeps"
    return (
        f"{_megabytes(journal['wal_bytes'])} of the journal are its write-ahead log:"
        f" {holder} a transaction open on it; end that, or the disk will be full"
    )


def _megabytes(count: int) -> str:
    return f"{count / 1_000_000:.1f} MB"


def _format_resending(since: str | None) -> str:
    return f"; gets all bars from {_moment(since)} UTC on again" if since else ""


def _moment(text: str) -> str:
    return text[:19].replace("T", " ")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
