"""`bintrades status --watch`: the page on a terminal; where there is none, the status repeated."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from bintrades.cli.exit_status import OK
from bintrades.cli.extras import lacking
from bintrades.cli.output import print_text
from bintrades.cli.status_text import format_status
from bintrades.cli.watched import Watched
from bintrades.errors import BintradesError, JournalError

if TYPE_CHECKING:
    from bintrades.config.loader import Config


def watch(config: Config, every_s: int) -> int:
    """Show the collector of *config* until Ctrl-C; return the exit status. Main thread.

    Raises BintradesError where stdout is a terminal and the extra `terminal` is not installed.
    """
    watched = Watched(config.journal.path, config.stores.enabled, config.symbols.shard_name)
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return _print_again_and_again(watched, every_s)
    try:
        import rich  # noqa: F401 - whether it can be
    except ImportError as error:
        raise lacking("status --watch", error.name, "terminal") from None
    return _show(watched, every_s)


def _print_again_and_again(watched: Watched, every_s: int) -> int:
    try:
        while True:
            try:
                text = format_status(watched.status())
            except (JournalError, OSError) as error:
                text = f"trouble     {error}"
            print_text(f"{text}\n")
            time.sleep(every_s)
    except KeyboardInterrupt:
        return OK


def _show(watched: Watched, every_s: int) -> int:
    from rich.console import Console, ConsoleDimensions
    from rich.live import Live

    from bintrades.cli.terminal import Event, Terminal
    from bintrades.cli.watch_screen import Screen

    screen = Screen(watched)
    console = Console(highlight=False, markup=False, emoji=False)
    with Terminal() as terminal:
        try:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                events: list[Event] = []
                while Event.END not in events:
                    if Event.SUSPEND in events:
                        live.stop()
                        terminal.suspend()
                        live.start()
                    for event in events:
                        screen.obey(event)
                    console.size = ConsoleDimensions(*terminal.size)
                    live.update(screen.draw(*terminal.size), refresh=True)
                    events = terminal.wait(every_s)
        except OSError as error:  # of the terminal: one of the journal is shown
            terminal.wait(0)
            if terminal.ended_by is None:
                raise BintradesError(f"the terminal cannot be used: {error.strerror}") from error
    return OK if terminal.ended_by is None else 128 + signal.Signals(terminal.ended_by)
