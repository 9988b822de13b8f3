"""The status of a collector as text: a page, and the line of `--check`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bintrades.app.health import CollectorState
from bintrades.journal.wal import WAL_LIMIT
from bintrades.model import GapOutcome, GapState
from bintrades.util.text import showable

if TYPE_CHECKING:
    from collections.abc import Sequence


_FAILING_AFTER_MS = 120_000
"""One request that fails is no trouble: it is made again."""

_MORE_COUNTS = {"excluded": "ids that are no fills", "invalid_aggregates": "invalid aggregates"}
"""What is counted of some markets and streams only."""


def format_health(status: dict[str, Any]) -> str:
    """Return in one line whether the collector is healthy, and if not, why."""
    troubles = "; ".join(status["problems"])
    return showable(f"{status['state']}: {troubles or 'well'}")


def format_status(status: dict[str, Any]) -> str:
    """Return *status* as a page for people, without anything that a terminal would obey."""
    return "\n".join(map(showable, _lines(status)))


def _lines(status: dict[str, Any]) -> list[str]:
    journal, gaps, collector = status["journal"], status["gaps"], status["collector"]
    audit = status["audit"]
    lines = [
        f"journal     {journal['path']}, {_megabytes(journal['bytes'])}",
        f"bars        {journal['bars']}, of {journal['symbols']} symbols;"
        f" {journal['unclosed']} still open, {journal['incomplete']} incomplete",
        f"gaps        {format_gaps(gaps)} (`bintrades gaps` lists them)",
    ]
    if status["coverage"]["until"]:
        lines.append(f"coverage    {_format_coverage(status['coverage'])}")
    if audit["verified_minutes"] or any(audit["differences"].values()):
        lines.append(f"audit       {_format_audit(audit)}")
    if journal["wal_bytes"] > WAL_LIMIT:
        lines.append(f"trouble     {_format_wal(journal)}")
    for name, store in status["stores"].items():
        lines.append(
            f"store       {name}: {store['waiting_bars']} bars wait,"
            f" {store['rejected_bars']} refused"
            + (f" ({store['last_reason']})" if store["last_reason"] else "")
            + _format_lag(store["lag_ms"])
            + _format_resending(store.get("resending_from"))
        )
    head = [f"collector   {format_process(status['state'], collector)}"]
    if status["state"] not in (CollectorState.STOPPED, CollectorState.NEVER_RUN):
        head += [f"trouble     {problem}" for problem in status["problems"]]
    if collector is None or "trades" not in collector:
        return head + lines
    head.append(
        f"trades      {collector['trades']}, {collector['duplicates']} duplicates dropped,"
        f" {collector['bad_messages']} bad messages"
        + "".join(
            f", {count} {what}"
            for name, what in _MORE_COUNTS.items()
            if (count := collector.get(name))
        )
    )
    if kinds := collector.get("trade_kinds"):  # of futures
        most_first = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        head.append("kinds       " + ", ".join(f"{count} {kind}" for kind, count in most_first))
    head += [
        f"connection  {connection['name']}: {connection['state']},"
        f" {connection['symbols']} symbols, connected {connection['connections']} times"
        + (f"; {connection['error']}" if connection["error"] else "")
        for connection in collector["connections"]
    ]
    head += [f"trouble     {each}" for each in rest_troubles(collector)]
    head.append(f"repair      {_format_backfill(collector)}")
    if "unproven_symbols" in collector:  # earlier versions had none
        head.append(f"proof       {_format_proof(collector)}")
    if running := collector.get("audit"):  # earlier versions had none
        head.append(f"audit       {_format_running_audit(running)}")
    head += [
        f"trouble     store {store['name']}: {store['error']}"
        for store in collector["stores"]
        if store["error"]
    ]
    head += [
        f"trouble     store {store['name']} does not take the coverage: {error}"
        for store in collector["stores"]
        if (error := store.get("coverage_error"))  # earlier versions had none
    ]
    if collector["journal_error"]:
        head.append(f"trouble     {collector['journal_error']}")
    if collector.get("log_lines_lost"):
        head.append(f"log         {collector['log_lines_lost']} lines could not be written")
    head += _symbol_lines(collector)
    if collector["unlisted_symbols"]:
        head.append(f"unlisted    {_some(collector['unlisted_symbols'])}")
    return head + lines


def _format_lag(lag_ms: int) -> str:
    seconds = lag_ms // 1000
    return f"; the oldest has waited {seconds} s" if seconds else ""


def _symbol_lines(collector: dict[str, Any]) -> list[str]:
    """Return what became of symbols since the start; earlier versions do not say."""
    lines = []
    changes = collector.get("symbol_changes", {})
    if any(changes.values()):
        lines.append(
            f"symbols     {collector['symbols']}; since the start {changes['added']} were added,"
            f" {changes['returned']} returned, {changes['left']} left (`bintrades symbols`)"
        )
    if halted := collector.get("halted_symbols"):
        lines.append(f"halted      {_some(halted)}")
    return lines


def rest_troubles(collector: dict[str, Any]) -> list[str]:
    """Return what is wrong with the exchange's REST side, which leaves the collector healthy."""
    troubles = []
    failing_ms = collector.get("rest", {}).get("failing_ms", 0)  # earlier versions do not say
    if failing_ms >= _FAILING_AFTER_MS:
        error = collector["repair"]["error"] or "it says nothing"
        minutes = failing_ms // 60_000
        troubles.append(f"the exchange's REST side has not answered for {minutes} min: {error}")
    if error := collector.get("symbol_list_error"):
        troubles.append(f"the list of symbols cannot be had: {error}")
    return troubles


def format_process(state: str, collector: dict[str, Any] | None) -> str:
    """Return the state of a collector, its process, and when it last said something."""
    if collector is None:
        return "has not run yet" if state == CollectorState.NEVER_RUN else "is starting"
    since, last = moment(collector["started_at"]), moment(collector["updated_at"])
    shard = f"shard {collector['shard']}, " if collector.get("shard") else ""
    process = f"{shard}process {collector['pid']}, since {since}"
    if state == CollectorState.NOT_RESPONDING:
        return f"not responding since {last} UTC ({process})"
    return f"{state} ({process}, last status {last} UTC)"


def _format_backfill(collector: dict[str, Any]) -> str:
    repair = collector["repair"]
    if not repair["is_enabled"]:
        return "switched off"
    done = f"{repair['requests']} requests, {collector['repaired_trades']} trades fetched"
    if repair["blocked_until"]:
        done += f"; no requests until {moment(repair['blocked_until'])} UTC: {repair['error']}"
    elif repair["error"]:
        done += f"; the last request failed: {repair['error']}"
    return done


def _format_proof(collector: dict[str, Any]) -> str:
    count, repair = collector["unproven_symbols"], collector["repair"]
    found = "every closed bar is proven to be whole, or lacks trades on record"
    if count:
        found = f"{count} symbols have a closed bar that is not proven to be whole yet"
    if not repair["is_enabled"]:
        return found + "; the exchange is not asked, since repair is switched off"
    if error := repair.get("proof_error"):
        return found + f"; the exchange does not say which trades are its newest: {error}"
    return found


def _format_running_audit(audit: dict[str, Any]) -> str:
    if not audit["is_enabled"]:
        return "switched off"
    until = audit["verified_until"]
    done = f"verified up to {moment(until)} UTC" if until else "nothing could be compared yet"
    done += f"; {audit['verified_minutes']} minutes since the start, {audit['requests']} requests"
    if audit["error"]:
        done += f"; the last one failed: {audit['error']}"
    return done


def _format_audit(audit: dict[str, Any]) -> str:
    found = audit["differences"]
    return (
        f"{audit['verified_minutes']} minutes equal the exchange's klines; differences:"
        f" {found['open']} open, {found['repaired']} repaired, {found['stays']} stay"
    )


def format_shares(coverage: dict[str, Any]) -> str:
    """Return what share is covered of the hour and the day, of the time since all is collected."""
    shares = {each: coverage[each]["share"] for each in ("hour", "day")}
    if None in shares.values():
        return "nothing was collected yet"
    return ", ".join(f"{percent(share)} of the last {each}" for each, share in shares.items())


def _format_coverage(coverage: dict[str, Any]) -> str:
    text = f"{format_shares(coverage)} before {moment(coverage['until'])} UTC"
    if new := coverage.get("new_symbols"):  # earlier versions had none
        text += f"; {new} of {coverage['symbols']} symbols are collected for less than a day"
    if worst := coverage["day"]["worst"]:
        least = (f"{each['symbol']} {percent(each['share'])}" for each in worst[:3])
        text += f"; least of the day: {', '.join(least)}"
    if count := coverage["unproven_symbols"]:
        text += f"; {count} symbols left out, of which nothing is proven for a day"
    return text


def percent(share: float) -> str:
    """Return a share of whole millionths, rounded down: 100 % is all of it."""
    hundredths = round(share * 1_000_000) // 100
    return f"{hundredths // 100}.{hundredths % 100:02} %"


def format_gaps(gaps: dict[str, int]) -> str:
    """Return how many gaps there are, by state: of rare states only where there are any."""
    usual = (GapState.OPEN, GapOutcome.REPAIRED, GapOutcome.ABSENT, GapState.ABANDONED)
    rare = (GapOutcome.EXCLUDED, GapState.APPROXIMATED, GapOutcome.LATE)
    states = [*usual, *(state for state in rare if gaps.get(state))]
    return ", ".join(f"{gaps[state]} {state}" for state in states)


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
    return f"; gets all bars from {moment(since)} UTC on again" if since else ""


def moment(text: str) -> str:
    """Return a time as people read it, without its zone, which is UTC."""
    return text[:19].replace("T", " ")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
