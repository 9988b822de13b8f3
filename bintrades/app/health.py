"""Whether a collector is healthy, judged by the last status that it wrote into the journal.

Times are milliseconds of the monotonic clock, which all processes of a machine share and none
can set: a jump of the local clock makes no collector look dead.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class CollectorState(StrEnum):
    """The state of a collector, as its status has it and as it is shown."""

    STARTING = "starting"
    """It opens its journal, asks the exchange for symbols, or opens its stores."""

    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"

    NOT_RESPONDING = "not responding"
    """Its process has the journal, but has not written its status for too long."""

    NEVER_RUN = "never run"
    """It has no process, and its journal no status."""


RESPONDING = frozenset((CollectorState.STARTING, CollectorState.RUNNING, CollectorState.STOPPING))
"""The states of a collector that has a process which writes its status."""

NOT_RESPONDING_AFTER_MS = {CollectorState.RUNNING: 20_000, CollectorState.STARTING: 90_000}
"""One that runs writes its status every 5 seconds at least; one that starts may wait for an answer
first, and one that stops, for stores."""

STARTED_WITHIN_MS = 120_000
DISCONNECTED_AFTER_MS = 120_000
STUCK_AFTER_MS = 180_000
LATE_AFTER_MS = 60_000
UNREADY_AFTER_MS = 10_000
"""Without streams: a connection that is replaced in order is without them for less."""

UNREADY_AFTER_EMPTY = 2
"""Connections in a row that brought nothing: one may have met a quiet moment of rare symbols."""

BEHIND_AFTER_MS = 300_000


def is_status_of(
    figures: Mapping[str, Any] | None, holder: tuple[int | None, int], now: int
) -> bool:
    """Whether *figures* are a status of the *holder* of the journal, not of an earlier holder.

    *holder* is the number of its process, None if unknown, and since when it has the journal. A
    status from the future was written before the machine was started.
    """
    if not figures or "beat_ms" not in figures:
        return False
    number, since = holder
    return number in (None, figures["pid"]) and since <= figures["beat_ms"] <= now


def state_of(figures: Mapping[str, Any] | None, *, is_in_use: bool, now: int) -> CollectorState:
    """Return the state of the collector whose last status is *figures*.

    *is_in_use*: a process has the journal open; without figures it has not written its status yet.
    """
    if not is_in_use:
        return CollectorState.STOPPED if figures else CollectorState.NEVER_RUN
    if figures is None:
        return CollectorState.STARTING
    state = CollectorState(figures["state"])
    is_late = now - figures["beat_ms"] > NOT_RESPONDING_AFTER_MS.get(state, 2**62)
    return CollectorState.NOT_RESPONDING if is_late else state


def problems(
    state: CollectorState,
    figures: Mapping[str, Any] | None,
    waiting: Mapping[str, int],
    now: int,
    taken_ms: int = 0,
) -> list[str]:
    """Return why a collector in this *state* is not healthy; nothing when it is.

    *waiting* has the number of bars that wait for each store; *taken_ms* is since when the process
    has the journal, or 0 if unknown: without a status since then it is still opening it.
    """
    if state in (CollectorState.STOPPED, CollectorState.NEVER_RUN):
        return ["it does not run"]
    if figures is None:
        silence = now - taken_ms if taken_ms else 0
        if silence <= NOT_RESPONDING_AFTER_MS[CollectorState.STARTING]:
            return []
        return [f"it has been opening its journal for {_duration(silence)}, without a word"]
    age = now - figures["beat_ms"]
    if state == CollectorState.NOT_RESPONDING:
        return [
            f"no word for {_duration(age)}: it is frozen, or its journal cannot be written,"
            " which the log would say"
        ]
    if state == CollectorState.STOPPING:
        return ["it is about to end"]
    if state == CollectorState.STARTING:
        since = now - figures["started_ms"]
        return [f"it has been starting for {_duration(since)}"] if since > STARTED_WITHIN_MS else []
    return list(_problems_of_running(figures, waiting, age))


def other_shard(figures: Mapping[str, Any] | None, shard: str | None) -> str | None:
    """Return, as a sentence, that the collector of *figures* collects other symbols than *shard*.

    A *shard* is such as 2/5, or None: all symbols. None is returned where both collect the same,
    where it is the same shard of another number of shards, which a restart makes right, and where
    it is not known: earlier versions do not say.
    """
    if figures is None or "shard" not in figures:
        return None
    having = figures["shard"]
    if having == shard or (having and shard and _number(having) == _number(shard)):
        return None
    return (
        f"the collector that has this journal is {_named(having)}, not {_named(shard)}: give each"
        " shard a journal of its own, such as var/bintrades-${SHARD}.journal"
    )


def problem_of_shard(figures: Mapping[str, Any] | None, shard: str | None) -> str | None:
    """Return why nobody collects *shard*, though the collector of *figures* runs; None: it is this
    one, or nobody asks for a shard, or it is not known.
    """
    if figures is None or shard is None:
        return None
    having = figures.get("shard", shard)
    if having != shard and other_shard(figures, shard) is None:
        return f"it runs as shard {having}, not {shard}: restart it, or have it read its file again"
    return other_shard(figures, shard)


def _number(shard: str) -> str:
    return shard.partition("/")[0]


def _named(shard: str | None) -> str:
    return "that of all symbols" if shard is None else f"shard {shard}"


def stuck_workers(figures: Mapping[str, Any]) -> list[str]:
    """Return which threads do not move any more without which it does not go on; see is_vital.

    *figures* are of this moment.
    """
    return [
        f"the thread {worker['name']} has not moved for {_duration(worker['idle_ms'])}"
        for worker in figures.get("workers", ())
        if worker["is_vital"] and worker["idle_ms"] > STUCK_AFTER_MS
    ]


def unready(figures: Mapping[str, Any], waiting: Mapping[str, int]) -> list[str]:
    """Return why a collector does not record all that it should at this moment, sooner than it is
    called unhealthy.

    *figures* are of this moment, and *waiting* has the bars that wait for each store.
    """
    if figures["state"] != CollectorState.RUNNING:
        return [f"it is {figures['state']}"]
    found = list(_problems_of_running(figures, waiting, 0))
    for connection in figures["connections"]:
        if UNREADY_AFTER_MS < connection["down_ms"] <= DISCONNECTED_AFTER_MS:
            reason = f": {connection['error']}" if connection["error"] else ""
            found.append(f"{connection['name']} has no streams{reason}")
        elif (empty := connection["empty_connections"]) >= UNREADY_AFTER_EMPTY:
            found.append(f"the last {empty} connections of {connection['name']} brought no data")
    return found


def _problems_of_running(
    figures: Mapping[str, Any], waiting: Mapping[str, int], age: int
) -> Iterator[str]:
    for worker in figures["workers"]:
        if (idle := worker["idle_ms"] + age) > STUCK_AFTER_MS:
            yield f"the thread {worker['name']} has not moved for {_duration(idle)}"
    if figures["delay_ms"] > LATE_AFTER_MS:
        yield f"what arrives is recorded {_duration(figures['delay_ms'])} later"
    if figures["journal_error"]:
        yield str(figures["journal_error"])
    for connection in figures["connections"]:
        if connection["down_ms"] > DISCONNECTED_AFTER_MS:
            reason = f": {connection['error']}" if connection["error"] else ""
            down = _duration(connection["down_ms"])
            yield f"{connection['name']} has had no streams for {down}{reason}"
    for store in figures["stores"]:
        behind = store["behind_ms"] + age
        if waiting.get(store["name"]) and behind > BEHIND_AFTER_MS:
            reason = f": {store['error']}" if store["error"] else ""
            bars = waiting[store["name"]]
            yield f"{bars} bars wait for store {store['name']}, {_duration(behind)} by now{reason}"


def _duration(ms: int) -> str:
    seconds = ms // 1000
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7_200:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h"
