"""The processes of the benchmark: who sends, who is measured, and what the kernel says of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.benchmark.sender import SETTLES_S, send_loads

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from scripts.benchmark.load import Load, Sums

TIMEOUT_S = 300.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Measured:
    """What one process needed for one load."""

    cpu_s: float
    elapsed_s: float
    peak_mib: float
    written_bytes: int = 0  # to disk, while the load was sent, which took sending_s
    sending_s: float = 0.0


class Sender:
    """The sending process, ready to send one load any number of times."""

    def __init__(self, load: Load, certificate: str = "") -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=send_loads, args=(theirs, load, certificate), daemon=True
        )
        self._process.start()
        self.sums: dict[str, Sums]
        self.port, self.rest_port, self.sums = self.receive()

    def send(self, word: str | None) -> None:
        """Tell the sender to go on."""
        self._pipe.send(word)

    def receive(self, process: subprocess.Popen[bytes] | None = None) -> Any:
        """Return what the sender says next.

        Raises TimeoutError when it says nothing, RuntimeError when *process*, to which it talks,
        has ended.
        """
        deadline = time.monotonic() + TIMEOUT_S
        while not self._pipe.poll(0.5):
            if process is not None and process.poll() is not None:
                raise RuntimeError(f"exit status {process.returncode} of {process.args!r}")
            if time.monotonic() > deadline:
                raise TimeoutError("the sender waits for a collector that does not come, or read")
        return self._pipe.recv()

    def close(self) -> None:
        """End the process."""
        self.send(None)
        self._process.join(5)

    def kill(self) -> None:
        """End the process in the middle of whatever it does."""
        self._process.kill()
        self._process.join(5)


def measure(sender: Sender, process: subprocess.Popen[bytes], *, by_signal: bool) -> Measured:
    """Feed *process*, which is about to connect, and let it end.

    The collector ends *by_signal*, the plain way when the connection is closed.
    """
    sender.receive(process)
    time.sleep(SETTLES_S)
    cpu_before, written_before = cpu_seconds(process.pid), written_bytes(process.pid)
    started = time.perf_counter()
    sender.send("go")
    sender.receive(process)
    sending_s = time.perf_counter() - started
    written = written_bytes(process.pid) - written_before
    if by_signal:
        process.send_signal(signal.SIGTERM)
    else:
        sender.send("end")
    _, status, usage = os.wait4(process.pid, 0)
    elapsed_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if by_signal:
        sender.send("end")
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode} of {process.args!r}")
    cpu_s = usage.ru_utime + usage.ru_stime - cpu_before
    return Measured(cpu_s, elapsed_s, usage.ru_maxrss / 1024, written, sending_s)


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a running process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def written_bytes(pid: int) -> int:
    """Return what a running process has caused to be written to a disk."""
    for line in Path(f"/proc/{pid}/io").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(": ")
        if name == "write_bytes":
            return int(value)
    raise ValueError("the kernel does not count what a process writes")


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Leave no process behind."""
    with process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
