"""The spare file: the checkpoints of all symbols once more beside the journal, each minute.

It proves that there was a journal, so that a removed or destroyed one is not taken for a first
start, and says where to go on: at the beginning of the bars that were open when it was written.
"""

from __future__ import annotations

import logging
import os
import time
import zlib
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint
from bintrades.journal.meta import JournalScope
from bintrades.journal.rows import NONE_CLOSED, known_through, known_time, with_kind
from bintrades.util.logs import LimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bintrades.model import Bar

log = logging.getLogger(__name__)

_EVERY_S = 60.0
_ABOUT = (
    b"bintrades keeps this file beside its journal, to go on where it was should the journal be"
    b" lost. To start from scratch, delete it together with the journal.\n"
)


class Spare(msgspec.Struct, frozen=True):
    """What the file holds. No checkpoint in it has open bars: it goes on before them."""

    market: str
    interval_ms: int
    checkpoints: dict[str, Checkpoint]
    exchange: str = "binance"
    stream: str = "trade"

    @classmethod
    def of(cls, scope: JournalScope, checkpoints: dict[str, Checkpoint]) -> Spare:
        """Return the spare of a journal of that scope."""
        return cls(scope.market, scope.interval_ms, checkpoints, scope.exchange, scope.stream)

    @property
    def scope(self) -> JournalScope:
        """The scope of its journal."""
        return JournalScope(self.market, self.interval_ms, self.exchange, self.stream)


class SpareKeeper:
    """Writes the spare of one journal. Belongs to the writer's thread."""

    def __init__(self, journal: Path, scope: JournalScope) -> None:
        self._journal = journal
        self._scope = scope
        self._written_at: float | None = None
        self._limited = LimitedLog(log, every_s=_EVERY_S)

    def save_if_due(
        self, checkpoints: Mapping[str, Checkpoint], bar_at: Callable[[str, int], Bar | None]
    ) -> None:
        """Save once a minute; see save()."""
        if self._written_at is None or time.monotonic() - self._written_at >= _EVERY_S:
            self.save(checkpoints, bar_at)

    def save(
        self, checkpoints: Mapping[str, Checkpoint], bar_at: Callable[[str, int], Bar | None]
    ) -> None:
        """Save where to go on; *bar_at* returns the stored bar of a symbol and an open time."""
        self._written_at = time.monotonic()
        before = {
            symbol: before_unfinished(checkpoint, partial(bar_at, symbol), self._scope.interval_ms)
            for symbol, checkpoint in checkpoints.items()
        }
        try:
            write_spare(self._journal, Spare.of(self._scope, before))
        except OSError as error:
            self._limited.warning(
                "spare_file_failed",
                "what is known of the symbols cannot be kept beside the journal as well",
                file=str(spare_file(self._journal)),
                error=str(error),
            )


def spare_file(journal: Path) -> Path:
    """Return where the spare of *journal* is."""
    return journal.with_name(journal.name + ".spare")


def write_spare(journal: Path, spare: Spare) -> None:
    """Replace the spare, so that there is always a whole one. Raises OSError."""
    path = spare_file(journal)
    new = path.with_name(path.name + ".new")
    content = msgspec.json.encode(_with_each(spare, _stored))
    descriptor = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
        file.write(_ABOUT + content + b"\n%08x\n" % zlib.crc32(content))
        file.flush()
        os.fsync(descriptor)
    new.replace(path)


def read_spare(journal: Path) -> Spare | None:
    """Return what the spare of *journal* holds; None when there is none.

    Raises ValueError for a corrupt one, and OSError.
    """
    try:
        lines = spare_file(journal).read_bytes().split(b"\n")
    except FileNotFoundError:
        return None
    if len(lines) != len((_ABOUT, "content", "sum", "")) or lines[2] != b"%08x" % zlib.crc32(
        lines[1]
    ):
        raise ValueError("its sum is not right")
    return _with_each(msgspec.json.decode(lines[1], type=Spare), _read)


def _with_each(spare: Spare, change: Callable[[Checkpoint], Checkpoint]) -> Spare:
    return replace(spare, checkpoints={k: change(c) for k, c in spare.checkpoints.items()})


def _stored(checkpoint: Checkpoint) -> Checkpoint:
    """Return *checkpoint* as earlier programs read it, too: a number stands for what is unknown."""
    if checkpoint.ledger.last_time is None:
        ledger = replace(checkpoint.ledger, last_time=0)
        checkpoint = replace(checkpoint, ledger=ledger)
    if checkpoint.closed_through is None:
        checkpoint = replace(checkpoint, closed_through=NONE_CLOSED)
    return checkpoint


def _read(checkpoint: Checkpoint) -> Checkpoint:
    """Return a stored checkpoint with None for what is not known.

    The kinds of its gaps were not written by earlier programs, and a gap was absent at 0 if it was
    not.
    """
    ledger = checkpoint.ledger
    last_time = known_time(ledger.next_id, ledger.last_time or 0)
    gaps = tuple(replace(with_kind(gap), absent_at=None) for gap in ledger.gaps)
    through = checkpoint.closed_through
    return replace(
        checkpoint,
        ledger=replace(ledger, last_time=last_time, gaps=gaps),
        closed_through=None if through is None else known_through(through),
    )


def before_unfinished(
    checkpoint: Checkpoint, bar_at: Callable[[int], Bar | None], interval_ms: int
) -> Checkpoint:
    """Return where to go on for whole bars where all that came later is lost.

    That is before the open bars, and before the bar in which the first gap that is still asked for
    begins: *bar_at* returns the stored bar of an open time. All from there on is to come again.
    """
    state = checkpoint.ledger
    places = [(bar.first_trade_id, bar.open_time_ms) for bar in checkpoint.open_bars]
    gap = next((gap for gap in state.gaps if gap.has_ids and gap.is_wanted), None)
    if gap is not None:
        open_time = gap.since_ms - gap.since_ms % interval_ms
        bar = None if gap.is_start else bar_at(open_time)
        places.append((bar.first_trade_id if bar else gap.first_id, open_time))
    if not places:
        return checkpoint
    first_id = min(place[0] for place in places)
    since = min(place[1] for place in places)
    gaps = tuple(
        replace(gap, last_id=first_id - 1) if gap.has_ids and gap.last_id >= first_id else gap
        for gap in state.gaps
        if not gap.has_ids or gap.first_id < first_id
    )
    next_id = None if gap is not None and gap.is_start else first_id
    through = checkpoint.closed_through
    through = None if through is None else known_through(min(through, since - interval_ms))
    absent = tuple(gap for gap in state.absent if gap.last_id < first_id)
    proven, covered = checkpoint.proven_ms, checkpoint.covered_since_ms
    proven = None if proven is None else min(proven, since)
    return Checkpoint(LedgerState(next_id, since, gaps, absent), (), through, proven, covered)
