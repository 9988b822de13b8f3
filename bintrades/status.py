"""What the collector has, waits for and lacks: gathered while running, printed by a command."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from bintrades.clocks import now_ms, utc_ms
from bintrades.errors import JournalError
from bintrades.foreign_text import as_json, redact, redacted, showable
from bintrades.journal_lock import is_in_use
from bintrades.journal_reader import JournalReader
from bintrades.log_writer import lost_lines
from bintrades.model import ABSENT, REPAIRED, utc
from bintrades.version import __version__

if TYPE_CHECKING:
    import queue
    from collections.abc import Sequence
    from pathlib import Path

    from bintrades.aggregator import Aggregator
    from bintrades.binance.budget import Budget
    from bintrades.binance.connections import Connections
    from bintrades.binance.events import Event
    from bintrades.binance.repairer import Repairer
    from bintrades.delivery import Delivery
    from bintrades.recording import Recording


class Status:
    """The figures of a running collector. Filled in by service, read from any thread."""

    def __init__(
        self,
        symbols: Sequence[str],
        inbox: queue.Queue[Event],
        aggregator: Aggregator,
        connections: Connections,
        repairer: Repairer | None,
        budget: Budget,
        deliveries: Sequence[Delivery],
    ) -> None:
        self.unlisted: list[str] = []  # configured names that the exchange does not list
        self._symbols = symbols
        self._inbox = inbox
        self._aggregator = aggregator
        self._connections = connections
        self._repairer = repairer
        self._budget = budget
        self._deliveries = deliveries
        self._started_at = utc_ms()

    def figures(self, recording: Recording) -> dict[str, Any]:
        """Return everything worth knowing, without secrets; counts are since the start."""
        figures: dict[str, Any] = {
            "version": __version__,
            "pid": os.getpid(),
            "started_at": utc(self._started_at).isoformat(),
            "updated_at": utc(utc_ms()).isoformat(),
            "symbols": len(self._symbols),
            "unlisted_symbols": self.unlisted,
            "trades": self._aggregator.trade_count,
            "duplicates": self._aggregator.duplicate_count,
            "repaired_trades": self._aggregator.repaired_count,
            "foreign_trades": self._aggregator.foreign_count,
            "bad_messages": recording.bad_count,
            "unknown_messages": recording.unknown_count,
            "bars": self._aggregator.bar_count,
            "open_bars": self._aggregator.open_bar_count,
            "lag_ms": recording.lag_ms,
            "queue": self._inbox.qsize(),
            "journal_error": recording.journal_error,
            "log_lines_lost": lost_lines(),
            "connections": [
                {
                    "name": reader.name,
                    "state": reader.state,
                    "symbols": len(reader.symbols),
                    "connections": reader.connection_count,
                    "error": reader.last_error,
                }
                for reader in self._connections.readers
            ],
            "repair": self._repair_figures(utc_ms()),
            "stores": [
                {
                    "name": delivery.store_name,
                    "delivered": delivery.delivered_count,
                    "error": delivery.last_error,
                }
                for delivery in self._deliveries
            ],
        }
        return {name: redacted(value) for name, value in figures.items()}

    def text(self, recording: Recording) -> str:
        """Return the figures as they are kept in the journal."""
        return as_json(self.figures(recording))

    def summary(self, recording: Recording, journal: Path) -> dict[str, Any]:
        """Return the figures, and what the journal says of gaps and of bars that wait.

        Where it cannot be read, its error.
        """
        figures = self.figures(recording)
        reader = JournalReader(journal)
        try:
            figures["gaps"] = _gap_figures(reader)
            for store in figures["stores"]:
                store.update(_store_figures(reader, store["name"]))
            figures["journal_bytes"] = journal.stat().st_size
        except (JournalError, OSError) as error:
            figures["journal_error"] = figures["journal_error"] or str(error)
        return figures

    def _repair_figures(self, now: int) -> dict[str, Any]:
        blocked_for = self._budget.blocked_for(now_ms())
        return {
            "is_enabled": self._repairer is not None,
            "requests": self._repairer.request_count if self._repairer else 0,
            "blocked_until": utc(now + blocked_for).isoformat() if blocked_for else None,
            "error": self._budget.last_error,  # of any request, that for the list of symbols too
        }


def read_status(journal: Path, stores: Sequence[str]) -> dict[str, Any]:
    """Return what the journal says of the collector and of each of *stores*.

    Raises JournalError where there is no journal, or none that can be read.
    """
    reader = JournalReader(journal)
    text = reader.fact("status")
    collector: dict[str, Any] | None = json.loads(text) if text else None
    return {
        "journal": {"path": str(journal), **reader.counts(), "symbols": len(reader.symbols())},
        "gaps": {**_gap_figures(reader), "symbols": reader.symbols_with_gaps()},
        "stores": {name: _store_figures(reader, name) for name in stores},
        "is_running": is_in_use(journal),
        "collector": collector,
    }


def _gap_figures(reader: JournalReader) -> dict[str, int]:
    counts = reader.gap_counts()
    return {state: counts.get(state, 0) for state in ("open", "abandoned", REPAIRED, ABSENT)}


def _store_figures(reader: JournalReader, name: str) -> dict[str, Any]:
    state = reader.store(name)
    return {
        "waiting_bars": state.waiting_bars,
        "rejected_bars": state.rejected_bars,
        "last_reason": redact(state.last_reason) if state.last_reason else None,
    }


def tell(status: dict[str, Any]) -> str:
    """Return *status* as a page for people, without anything that a terminal would obey."""
    return "\n".join(map(showable, _lines(status)))


def _lines(status: dict[str, Any]) -> list[str]:
    journal, gaps, collector = status["journal"], status["gaps"], status["collector"]
    lines = [
        f"journal     {journal['path']}",
        f"bars        {journal['bars']}, of {journal['symbols']} symbols;"
        f" {journal['unclosed']} still open, {journal['incomplete']} lack trades",
        f"gaps        {gaps['open']} open, {gaps['repaired']} repaired, {gaps['absent']} absent,"
        f" {gaps['abandoned']} abandoned (`bintrades gaps` lists them)",
    ]
    for name, store in status["stores"].items():
        lines.append(
            f"store       {name}: {store['waiting_bars']} bars wait,"
            f" {store['rejected_bars']} refused"
            + (f" ({store['last_reason']})" if store["last_reason"] else "")
        )
    if collector is None:
        state = "is starting" if status["is_running"] else "has not run yet"
        return [f"collector   {state}", *lines]
    state = "running" if status["is_running"] else "stopped"
    head = [
        f"collector   {state} (process {collector['pid']},"
        f" since {_moment(collector['started_at'])},"
        f" last word {_moment(collector['updated_at'])} UTC)",
        f"trades      {collector['trades']}, {collector['duplicates']} duplicates dropped,"
        f" {collector['bad_messages']} bad messages",
    ]
    head += [
        f"connection  {connection['name']}: {connection['state']},"
        f" {connection['symbols']} symbols, connected {connection['connections']} times"
        + (f"; {connection['error']}" if connection["error"] else "")
        for connection in collector["connections"]
    ]
    head.append(f"repair      {_tell_repair(collector)}")
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


def _tell_repair(collector: dict[str, Any]) -> str:
    repair = collector["repair"]
    if not repair["is_enabled"]:
        return "switched off"
    done = f"{repair['requests']} requests, {collector['repaired_trades']} trades fetched"
    if repair["blocked_until"]:
        done += f"; no requests until {_moment(repair['blocked_until'])} UTC: {repair['error']}"
    elif repair["error"]:
        done += f"; the last request failed: {repair['error']}"
    return done


def _moment(text: str) -> str:
    return text[:19].replace("T", " ")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
