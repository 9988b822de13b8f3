"""The server of the tests keeps its data and its port, and never outlives the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pymongo
import pytest
from pymongo.errors import PyMongoError

from bintrades.testing.mongod import Mongod

if TYPE_CHECKING:
    from pathlib import Path

STARTER = """
import sys
from pathlib import Path
from bintrades.testing.mongod import Mongod

with Mongod(Path(sys.argv[1]), Path(sys.argv[2])) as server:
    print(server.uri, flush=True)
    sys.stdin.read()
"""


def answers(uri: str) -> bool:
    with pymongo.MongoClient[dict[str, object]](uri, serverSelectionTimeoutMS=100) as client:
        try:
            client.admin.command("ping")
        except PyMongoError:
            return False
        return True


@pytest.mark.parametrize("replica_set", ["", "rs0"])
def test_a_restarted_server_has_its_port_and_its_data(
    mongod_binary: Path, tmp_path: Path, replica_set: str
) -> None:
    with Mongod(mongod_binary, tmp_path, replica_set=replica_set) as server:
        uri = server.uri
        with pymongo.MongoClient[dict[str, object]](uri, journal=True) as client:
            client.test.things.insert_one({"_id": 1})
            server.restart()
            assert client.test.things.find_one() == {"_id": 1}
            server.terminate()
            assert not answers(uri)
            server.start()
            assert client.test.things.find_one() == {"_id": 1}
        assert server.uri == uri
    assert not answers(uri)


def test_the_server_dies_with_a_process_that_is_killed(mongod_binary: Path, tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(mongod_binary), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    assert starter.stdout is not None
    uri = starter.stdout.readline().strip()
    assert answers(uri)

    starter.send_signal(signal.SIGKILL)
    starter.communicate()

    deadline = time.monotonic() + 120
    while answers(uri):
        assert time.monotonic() < deadline
