"""The audit, assembled; nothing starts here."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from bintrades.pipeline.audit.audit import Audit
from bintrades.pipeline.audit.comparer import Comparer
from bintrades.pipeline.audit.covered import covered_spans
from bintrades.pipeline.audit.findings import Findings
from bintrades.pipeline.audit.reference import LimitedReference
from bintrades.pipeline.audit.thread import AuditThread
from bintrades.pipeline.audit.weight_share import WeightShare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.core.audit_schedule import AuditTimes
    from bintrades.exchange.events import Event
    from bintrades.exchange.port import RateBudget, Reference
    from bintrades.journal.reader import JournalReader
    from bintrades.model import SeriesKey
    from bintrades.util.runtime import Runtime


def make_audit(
    symbols: Sequence[str],
    reference: Reference,
    budget: RateBudget,
    reader: JournalReader,
    *,
    put: Callable[[Event], None],
    exchange_time: Callable[[], int],
    series: Callable[[str], SeriesKey],
    interval_ms: int,
    weight_per_minute: int,
    times: AuditTimes,
    runtime: Runtime,
) -> AuditThread:
    """Return the audit of *symbols*, whose requests weigh *weight_per_minute* at most.

    *put* takes what it finds, from its thread.
    """
    stopping = threading.Event()
    limited = LimitedReference(
        reference,
        WeightShare(budget, weight_per_minute),
        budget,
        put=put,
        may_go_on=lambda: not stopping.is_set(),
        runtime=runtime,
    )
    comparer = Comparer(
        reader,
        limited,
        partial(covered_spans, reader),
        interval_ms=interval_ms,
        behind_ms=times.behind_ms,
    )
    audit = Audit(
        symbols,
        comparer,
        Findings(reader, put),
        series=series,
        exchange_time=exchange_time,
        times=times,
        runtime=runtime,
    )
    return AuditThread(audit, stopping)
