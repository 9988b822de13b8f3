"""The exit statuses of the commands, and how long a refusal waits for a supervisor."""

from __future__ import annotations

import os
import signal
import time

from bintrades.cli.output import print_problems
from bintrades.util.durations import parse_duration

OK = 0
FAILURE = 1
BAD_USAGE = 2  # as argparse has it

EXIT_CODES = """\
exit status: 0 orderly stop; 1 a failure, said in the log; 2 bad configuration or command line"""

_REFUSAL_WAIT = "BINTRADES_REFUSAL_WAIT"
_LONGEST_REFUSAL_WAIT_MS = 3_600_000


def wait_before_refusal() -> None:
    """Wait before BAD_USAGE for as long as $BINTRADES_REFUSAL_WAIT says; by default not at all.

    supervisord heeds the status of a process only when that has lived for `startsecs`; it restarts
    what ends earlier, whatever the reason.
    """
    wait = os.environ.get(_REFUSAL_WAIT)
    if not wait:
        return
    try:
        wait_ms = parse_duration(wait)
    except ValueError as error:
        print_problems([f"{_REFUSAL_WAIT}={wait}: {error}"])
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    time.sleep(min(wait_ms, _LONGEST_REFUSAL_WAIT_MS) / 1000)
