"""What the tests of several modules share: a journal, a real MongoDB."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
from hypothesis import settings

from bintrades.config.types import SHARD_VARIABLE
from bintrades.testing.mongod import NOT_FOUND, URI_VARIABLE, Mongod, find_mongod
from tests.engines import missing_engine
from tests.journals import journal_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database

    from bintrades.journal.writer import Journal

pytest.register_assert_rewrite("bintrades.testing.store_contract")
settings.register_profile("busy", deadline=None)  # a machine that is slow makes nothing wrong
settings.load_profile("busy")


@pytest.fixture(autouse=True)
def working_directory() -> Iterator[None]:
    """Return to where the tests run: `run` and `check` go to the folder of their configuration."""
    before = Path.cwd()
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def no_shard() -> Iterator[None]:
    """Have a shard that a command line names end with the test: it becomes the environment's."""
    before = os.environ.pop(SHARD_VARIABLE, None)
    yield
    os.environ.pop(SHARD_VARIABLE, None)
    if before is not None:
        os.environ[SHARD_VARIABLE] = before


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the proxies of the tester's environment out of every test."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(autouse=True)
def no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep colours out of what is printed: a host of tests asks for them, and argparse heeds it."""
    for name in ("FORCE_COLOR", "PYTHON_COLORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the journal is."""
    return tmp_path / "bars.journal"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """Return an open, empty journal."""
    with journal_at(path) as journal:
        yield journal


@pytest.fixture(scope="session")
def mongod_binary() -> Path:
    """Return the server's binary, for tests that run, kill or configure a Mongod of their own."""
    binary = find_mongod()
    if binary is None:
        missing_engine(NOT_FOUND)
    return binary


@pytest.fixture(scope="session")
def mongodb_uri(request: pytest.FixtureRequest) -> str:
    """Return the URI of the server of this test run; do not stop it, and use mongodb_database."""
    if uri := os.environ.get(URI_VARIABLE):
        return uri
    server: Mongod = request.getfixturevalue("mongod")
    return server.uri


@pytest.fixture(scope="session")
def mongod(mongod_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """Run one server for the whole run; mongodb_uri prefers the one that the tester runs."""
    with Mongod(mongod_binary, tmp_path_factory.mktemp("mongod")) as server:
        yield server


@pytest.fixture
def mongodb_database(mongodb_uri: str) -> Iterator[Database[dict[str, Any]]]:
    """Return a database of a name of its own, dropped after the test."""
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri, tz_aware=True) as client:
        database = client[f"bintrades_test_{uuid.uuid4().hex}"]
        yield database
        client.drop_database(database)
