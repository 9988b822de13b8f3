"""What the collector needs, looked at every few seconds while it runs."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bintrades.errors import JournalError
from bintrades.journal.reader import JournalReader

if TYPE_CHECKING:
    from collections.abc import Callable

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the process and at what it has written."""

    at_s: float  # since the beginning of the soak
    pid: int
    trades: int  # sent so far
    bars: int  # in the store so far
    cpu_s: float  # of this process, user and system
    memory_mib: float
    files: int
    threads: int
    journal_mib: float
    wal_mib: float
    log_mib: float  # written so far
    waiting_bars: int  # which the store lacks


class Sampler:
    """Looks at one collector after the other; *trades* and *bars* tell how far everything is."""

    def __init__(
        self, journal: Path, log: Path, trades: Callable[[], int], bars: Callable[[], int]
    ) -> None:
        self.samples: list[Sample] = []
        self._journal = journal
        self._log = log
        self._trades = trades
        self._bars = bars
        self._bars_so_far = 0
        self._began = time.monotonic()

    @property
    def now_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def sample(self, pid: int) -> None:
        """Take a sample of the process *pid*; none if it is gone, or has no journal yet."""
        try:
            self.samples.append(self._sample(pid))
        except (OSError, IndexError, JournalError):
            return

    def _sample(self, pid: int) -> Sample:
        process = Path(f"/proc/{pid}")
        fields = process.joinpath("stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        self._bars_so_far = max(self._bars_so_far, self._bars())
        return Sample(
            at_s=self.now_s,
            pid=pid,
            trades=self._trades(),
            bars=self._bars_so_far,
            cpu_s=(int(fields[11]) + int(fields[12])) * _TICK_S,
            memory_mib=int(fields[21]) * _PAGE_BYTES / 2**20,
            files=len(list(process.joinpath("fd").iterdir())),
            threads=int(fields[17]),
            journal_mib=_mib(self._journal),
            wal_mib=_mib(self._journal.with_name(self._journal.name + "-wal")),
            log_mib=_mib(self._log),
            waiting_bars=JournalReader(self._journal).store("mongodb").waiting_bars,
        )


def _mib(path: Path) -> float:
    return path.stat().st_size / 2**20 if path.exists() else 0.0
