"""The status of a collector, as read from its journal."""

from __future__ import annotations

import json
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from bintrades.app.coverage import coverage_figures
from bintrades.app.health import (
    RESPONDING,
    CollectorState,
    is_status_of,
    problem_of_shard,
    problems,
    state_of,
)
from bintrades.errors import JournalError
from bintrades.journal.lock import holder, is_in_use
from bintrades.journal.reader import JournalReader
from bintrades.journal.wal import WAL_LIMIT, reading_processes, wal_bytes
from bintrades.model import DifferenceOutcome, GapOutcome, GapState, utc
from bintrades.util.clocks import now_ms, utc_ms
from bintrades.util.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

_NEEDED = {"pid", "started_at", "updated_at"}  # fields of every status
_STATES = tuple(CollectorState)
_NUMBER_WITHIN_S = 1.0  # of taking the journal, a collector has put its number down
_LOOK_EVERY_S = 0.01


def with_journal_figures(figures: dict[str, Any], journal: Path) -> dict[str, Any]:
    """Return *figures* of a collector and what its journal says of gaps and of bars that wait.

    Where it cannot be read, its error.
    """
    reader = JournalReader(journal)
    try:
        figures["gaps"] = _gap_figures(reader)
        figures["audit"] |= {"on_record": _audit_figures(reader)}
        for store in figures["stores"]:
            store.update(_store_figures(reader, store["name"]))
        figures |= _sizes(journal)
    except (JournalError, OSError) as error:
        figures["journal_error"] = figures["journal_error"] or str(error)
    return figures


def read_status(journal: Path, stores: Sequence[str], shard: str | None = None) -> dict[str, Any]:
    """Return what the journal says of the collector and of each of *stores*.

    With a *shard*, such as 2/5, it is a problem that the collector is another one. Raises
    JournalError where there is no journal, or none that can be read.
    """
    reader = JournalReader(journal)
    has_process = is_in_use(journal)  # asked before its status is read, which may be its last
    text = reader.get_status()
    figures = _figures(text)
    if has_process and figures:
        _wait_for_successor(journal, figures["pid"])
    now = now_ms()
    process = holder(journal)
    if has_process and not is_status_of(figures, process, now):
        figures = None
    state = state_of(figures, is_in_use=has_process, now=now)
    of_stores = {name: _store_figures(reader, name) for name in stores}
    found = problems(state, figures, _waiting(of_stores), now, taken_ms=process[1])
    if has_process and (of_shard := problem_of_shard(figures, shard)):
        found.insert(0, of_shard)
    return _status(state, found, figures, of_stores, _on_record(reader, journal))


def live_status(figures: dict[str, Any], journal: Path, stores: Sequence[str]) -> dict[str, Any]:
    """Return the same for the collector of this process, of which *figures* are.

    Where the journal cannot be read, what it says is left out, and that is a problem. Any thread.
    """
    state, now = CollectorState(figures["state"]), now_ms()
    reader = JournalReader(journal)
    try:
        of_stores = {name: _store_figures(reader, name) for name in stores}
        on_record = _on_record(reader, journal)
    except (JournalError, OSError) as error:
        found = [*problems(state, figures, {}, now), str(error)]
        return _status(state, found, figures, {}, {})
    found = problems(state, figures, _waiting(of_stores), now)
    return _status(state, found, figures, of_stores, on_record)


def status_of_holder(journal: Path) -> dict[str, Any] | None:
    """Return what the collector that has the journal has last said of itself; None: not known.

    Any thread.
    """
    try:
        figures = _parsed(JournalReader(journal).get_status())
    except (JournalError, OSError, ValueError):
        return None
    return figures if is_status_of(figures, holder(journal), now_ms()) else None


def waiting_bars(journal: Path, stores: Sequence[str]) -> dict[str, int]:
    """Return how many bars wait for each of *stores*. Raises JournalError."""
    reader = JournalReader(journal)
    return {name: reader.store(name).waiting_bars for name in stores}


def _waiting(of_stores: Mapping[str, Any]) -> dict[str, int]:
    return {name: store["waiting_bars"] for name, store in of_stores.items()}


def _on_record(reader: JournalReader, journal: Path) -> dict[str, Any]:
    """Return what the journal says of everything but the stores."""
    return {
        "journal": _journal_figures(reader, journal),
        "gaps": {**_gap_figures(reader), "symbols": reader.symbols_with_gaps()},
        "coverage": coverage_figures(reader),
        "audit": _audit_figures(reader),
    }


def _status(
    state: CollectorState,
    found: Sequence[str],
    figures: dict[str, Any] | None,
    of_stores: Mapping[str, Any],
    on_record: Mapping[str, Any],
) -> dict[str, Any]:
    of_running = {each["name"]: each for each in (figures or {}).get("stores", ())}
    for name, store in of_stores.items():
        store["error"] = of_running.get(name, {}).get("error")
    return {
        "state": state,
        "problems": found,
        **on_record,
        "stores": of_stores,
        "is_running": state in RESPONDING,
        "collector": figures,
    }


def _figures(text: str | None) -> dict[str, Any] | None:
    """Return what a collector has said of itself, if that can be read."""
    try:
        return _parsed(text)
    except ValueError as error:
        log.warning(
            "the collector's last status in the journal cannot be read",
            extra={"event": "status_unreadable", "error": str(error)},
        )
        return None


def _parsed(text: str | None) -> dict[str, Any] | None:
    """Return what a collector has said of itself, None if that is no status. Raises ValueError."""
    figures = json.loads(text or "null")
    is_status = isinstance(figures, dict) and figures.keys() >= _NEEDED
    # Earlier versions wrote no state.
    return figures if is_status and figures.get("state", _STATES[0]) in _STATES else None


def _wait_for_successor(journal: Path, number: int) -> None:
    """Wait a moment for whoever has the journal to put its number in the place of a dead one's.

    A process of another container cannot be seen, and looks dead: that costs the whole moment.
    """
    deadline = time.monotonic() + _NUMBER_WITHIN_S
    while holder(journal)[0] == number and not _is_process(number):
        if time.monotonic() > deadline:
            return
        time.sleep(_LOOK_EVERY_S)


def _is_process(number: int) -> bool:
    """Whether a process of this number can be seen; one of another container cannot."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # a process of another user
    return True


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
    return {
        state: counts.get(state, 0)
        for state in (
            *GapState,
            GapOutcome.REPAIRED,
            GapOutcome.ABSENT,
            GapOutcome.EXCLUDED,
            GapOutcome.LATE,
        )
    }


def _audit_figures(reader: JournalReader) -> dict[str, Any]:
    counts = reader.audit_counts()
    return {
        "verified_minutes": counts["verified_ms"] // 60_000,
        "differences": {outcome.value: counts[outcome] for outcome in DifferenceOutcome},
    }


def _store_figures(reader: JournalReader, name: str) -> dict[str, Any]:
    state, since_ms = reader.store(name), reader.waiting_since_ms(name)
    figures: dict[str, Any] = {
        "waiting_bars": state.waiting_bars,
        "lag_ms": 0 if since_ms is None else max(0, utc_ms() - since_ms),
        "rejected_bars": state.rejected_bars,
        "last_reason": redacted(state.last_reason),
    }
    if state.resending_from_ms is not None:
        figures["resending_from"] = utc(state.resending_from_ms).isoformat()
    return figures
