"""A collector as users run it: an INI file, a process of its own, signals."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import termios
import time
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import TYPE_CHECKING, Any

from bintrades.errors import JournalError
from bintrades.journal.reader import JournalReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from bintrades.model import Bar
    from bintrades.testing.exchange_simulator import ExchangeSimulator

    Sections = Mapping[str, Mapping[str, object]]
    Key = tuple[str, int]

REPOSITORY = Path(__file__).resolve().parents[2]
POLL_S = 0.02
PATIENCE_S = 180.0


class Collector:
    """`bintrades run` in *folder*, connected to *exchange*; not started yet.

    *sections* are added to an INI that collects BTCUSDT and ETHUSDT, repairs nothing, asks for
    proofs as often as may be and has no store. Whatever is left running at the end of the with
    block is killed, and a failure inside of it shows the log. *python* is that of its environment.
    """

    def __init__(
        self,
        folder: Path,
        exchange: ExchangeSimulator,
        *sections: Sections,
        environ: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        self._python = python
        self.ini = folder / "bintrades.ini"
        self.plugins = folder / "plugins"
        self.journal = JournalReader(folder / "bintrades.journal")
        self._log_file = folder / "log"
        self._environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        self._sections: list[Sections] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._terminal: int | None = None
        self.plugins.mkdir()
        self.configure(self._defaults(exchange), *sections, environ=environ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self.kill()
        if error is not None:
            error.add_note(f"the log of the collector:\n{self.log}")

    @property
    def log(self) -> str:
        """Everything that the process wrote, over all its starts."""
        return self._log_file.read_text(encoding="utf-8") if self._log_file.exists() else ""

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log's whole lines as JSON; raises ValueError for a line that is none."""
        return [json.loads(line) for line in self.log.splitlines(keepends=True) if "\n" in line]

    def messages(self, level: str) -> list[str]:
        """Return the messages of the log's lines of a level."""
        return [event["message"] for event in self.events if event["level"] == level]

    def configure(self, *sections: Sections, environ: Mapping[str, str] | None = None) -> None:
        """Add *sections* to the INI and *environ* to the environment, for all that starts next."""
        self._sections += sections
        self._environ |= environ or {}
        self.ini.write_text(_ini(*self._sections), encoding="utf-8")

    def start(self, output: int | None = None, *, on_terminal: bool = False) -> None:
        """Start the process; *output* is where its stdout and stderr go instead of to the log.

        It has no terminal, or one of its own, which close_terminal() closes.
        """
        assert self._process is None, "it runs already"
        ours, theirs = os.openpty() if on_terminal else (None, None)
        self._terminal = ours
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("run"),
                env=self._environ,
                stdin=subprocess.DEVNULL if theirs is None else theirs,
                stdout=log if output is None else output,
                stderr=log if output is None else output,
                start_new_session=True,  # Ctrl-C is for the tests, which then end the process
                preexec_fn=_take_terminal if on_terminal else None,
            )
        if theirs is not None:
            os.close(theirs)

    def close_terminal(self) -> None:
        """Close the terminal of the process, whose kernel then tells it so by a signal."""
        assert self._terminal is not None
        os.close(self._terminal)
        self._terminal = None

    def send_signal(self, number: Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for the end of the process; return its exit status."""
        assert self._process is not None
        status = self._process.wait(timeout_s)
        self._process = None
        return status

    def stop(self, number: Signals = SIGTERM) -> int:
        """Ask the process to end; return its exit status."""
        self.send_signal(number)
        return self.wait()

    def kill(self) -> None:
        """End the process as a power cut would (kill -9); does nothing if it does not run."""
        if self._process is not None:
            self.send_signal(SIGKILL)
            self.wait()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another command of bintrades with the same configuration."""
        return subprocess.run(
            self._command(*words),
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def bars(self) -> dict[Key, Bar]:
        """Return every bar of the journal by symbol and open time, the open ones too."""
        try:
            return {
                (symbol, bar.open_time_ms): bar
                for symbol in self.journal.symbols()
                for bar in self.journal.bars(symbol, 0, 2**62, 2**31)
            }
        except JournalError:
            return {}  # not begun yet

    def trade_count(self) -> int:
        """Return how many trades the bars of the journal have together."""
        return sum(bar.trade_count for bar in self.bars().values())

    def status(self) -> dict[str, Any]:
        """Return what the process last wrote of itself, with counts since its start."""
        figures: dict[str, Any] = json.loads(self.journal.get_status() or "{}")
        return figures

    def wait_for_trades(self, count: int) -> None:
        """Wait until the journal holds exactly so many trades."""
        self.wait_until(
            lambda: self.trade_count() == count, lambda: f"{self.trade_count()} of {count} trades"
        )

    def wait_for_log(self, text: str, count: int = 1) -> None:
        """Wait until the log has *text* so many times."""
        self.wait_until(
            lambda: self.log.count(text) >= count, lambda: f"{text!r} is not {count} times logged"
        )

    def wait_until(
        self,
        is_met: Callable[[], bool],
        problem: Callable[[], str],
        timeout_s: float = PATIENCE_S,
    ) -> None:
        """Wait until *is_met*; fail with the *problem* when it takes too long or nothing runs."""
        deadline = time.monotonic() + timeout_s
        while not is_met():
            assert self._process is not None, "not started"
            status = self._process.poll()
            assert status is None, f"the collector has ended with status {status}: {problem()}"
            assert time.monotonic() < deadline, f"{problem()} after {timeout_s} s"
            time.sleep(POLL_S)

    def _command(self, *words: str) -> list[str]:
        return [self._python, "-m", "bintrades", *words, "--config", str(self.ini)]

    def _defaults(self, exchange: ExchangeSimulator) -> Sections:
        return {
            "binance": {"stream_url": exchange.stream_url, "rest_url": exchange.rest_url},
            "repair": {"enabled": "no"},
            "proof": {"every": "10s"},
            "journal": {"path": self.journal.path, "checkpoint_every": "20ms"},
            "http": {"listen": ""},
            "plugins": {"path": self.plugins},
            "stores": {"enabled": ""},
        }


def _take_terminal() -> None:
    """Have stdin be the terminal that controls this process, which leads a session."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _ini(*layers: Sections) -> str:
    """Return the file that has every option of every layer; a later one wins."""
    merged: dict[str, dict[str, object]] = {}
    for layer in layers:
        for section, options in layer.items():
            merged.setdefault(section, {}).update(options)
    return "".join(
        f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in options.items())
        for section, options in merged.items()
    )


def to_mongodb(uri: str, database: str) -> Sections:
    """Return the sections that have bars stored in MongoDB."""
    return {
        "stores": {"enabled": "mongodb"},
        "store:mongodb": {"uri": uri, "database": database},
    }
