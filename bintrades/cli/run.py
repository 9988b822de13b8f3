"""`bintrades run`: collect until a signal, and end with a status that a supervisor understands."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from bintrades.app.shutdown import StopReasons
from bintrades.cli.arguments import add_command
from bintrades.cli.exit_status import BAD_USAGE, FAILURE, wait_before_refusal
from bintrades.cli.output import flush_output, print_problems
from bintrades.errors import BintradesError, ConfigError
from bintrades.util.systemd import ServiceManager

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Sequence

log = logging.getLogger(__name__)

_LEAVE_WITHIN_S = 5.0


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command."""
    add_command(commands, "run", summary).description = (
        "Collect until SIGTERM or SIGINT (Ctrl-C), or until the terminal closes; a second signal"
        " cuts waiting short. SIGHUP: read the section [symbols] of FILE again, and go on."
    )


def execute(options: argparse.Namespace) -> int:
    """Collect until there is a reason to stop; return the exit status. Main thread."""
    own_threads = set(threading.enumerate())
    status = _run(options)
    if left := _threads_left(own_threads):
        log.warning(
            "threads of plugins have not ended, and the process ends all the same: %s",
            ", ".join(left),
            extra={"event": "threads_left", "threads": left},
        )
        _leave(status)
        os._exit(status)  # Python would wait for them, for ever
    return status


def _threads_left(own: Collection[threading.Thread]) -> list[str]:
    """Return the names of those threads for which Python waits when it ends."""
    return sorted(
        thread.name
        for thread in threading.enumerate()
        if not (thread.daemon or thread in own or thread is threading.current_thread())
    )


def _run(options: argparse.Namespace) -> int:
    manager = ServiceManager()
    reasons = StopReasons(
        manager.alive
    )  # before plugins are imported: from here on a signal is an orderly stop

    from bintrades.app import service
    from bintrades.app.preflight import prepare
    from bintrades.util.logs import log_what_python_would_print, set_up_logging

    try:
        config, stores = prepare(options.config, set_up_logging)
        log_what_python_would_print()
        return _leave(service.run(config, stores, reasons, manager.ready))
    except ConfigError as error:
        _leave(BAD_USAGE, error.problems)
        wait_before_refusal()
        return BAD_USAGE
    except BintradesError as error:
        return _leave(FAILURE, [str(error)])
    except Exception:
        log.critical(
            "the collector failed, which is a bug",
            exc_info=True,
            extra={"event": "collector_failed"},
        )
        return _leave(FAILURE)


def _leave(status: int, problems: Sequence[str] = ()) -> int:
    """Print *problems* and return *status*; where stdout or stderr block, end the process."""

    def speak() -> None:
        for handler in logging.getLogger().handlers:
            handler.flush()  # what led to the problems comes before them
        print_problems(problems)
        flush_output()

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    speaker.join(_LEAVE_WITHIN_S)
    if speaker.is_alive():
        os._exit(status)
    return status
