"""Runs the plain way of collecting (plain.py) as it is measured."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from scripts.benchmark.processes import Measured, Sender, ended, measure

if TYPE_CHECKING:
    from scripts.benchmark.load import Load


def run_plain(load: Load, sender: Sender, ca_file: str) -> Measured:
    """Measure the plain way, and check that it counted every trade."""
    url = f"{'wss' if load.is_tls else 'ws'}://localhost:{sender.port}/stream"
    command = [sys.executable, "-m", "scripts.benchmark.plain", url, str(load.symbols), ca_file]
    sender.send("serve")
    with ended(subprocess.Popen(command, stdout=subprocess.PIPE)) as process:
        measured = measure(sender, process, by_signal=False)
        assert process.stdout is not None
        counted = int(process.stdout.read())
    if counted != load.trades:
        raise ValueError(f"the plain way counted {counted} of {load.trades} trades")
    return measured
