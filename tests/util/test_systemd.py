"""What systemd is told of a service."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from bintrades.util import systemd
from bintrades.util.systemd import ServiceManager

if TYPE_CHECKING:
    from pathlib import Path


def listening(address: str) -> socket.socket:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(address)
    manager.settimeout(5)
    return manager


@pytest.mark.parametrize("is_abstract", [False, True])
def test_it_is_told_that_the_service_has_started_and_goes_on(
    tmp_path: Path, is_abstract: bool
) -> None:
    name = f"bintrades-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    with closing(listening(f"\0{name}" if is_abstract else name)) as manager:
        service = ServiceManager(f"@{name}" if is_abstract else name)
        service.ready()
        service.alive()

        assert [manager.recv(100) for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]


def test_it_is_told_that_the_service_goes_on_every_few_seconds_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(listening(str(tmp_path / "notify"))) as manager:
        manager.setblocking(False)
        service = ServiceManager(str(tmp_path / "notify"))
        for _ in range(50):
            service.alive()
        assert manager.recv(100) == b"WATCHDOG=1"
        with pytest.raises(BlockingIOError):
            manager.recv(100)
        monkeypatch.setattr(systemd, "_ALIVE_EVERY_S", 0.0)
        service.alive()
        assert manager.recv(100) == b"WATCHDOG=1"


def test_nobody_who_cannot_be_told_holds_anything_up(tmp_path: Path) -> None:
    ServiceManager("").ready()
    ServiceManager(str(tmp_path / "nobody")).ready()
    with closing(listening(str(tmp_path / "full"))):
        service = ServiceManager(str(tmp_path / "full"))
        for _ in range(1_000):  # more than the socket takes
            service.ready()


def test_the_address_is_not_inherited_by_what_the_process_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")

    ServiceManager()

    assert "NOTIFY_SOCKET" not in os.environ
