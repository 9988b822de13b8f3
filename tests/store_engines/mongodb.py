"""The tester's MongoDB, or one that runs as long as it is needed."""

from __future__ import annotations

import os
import uuid
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pymongo

from bintrades.testing.mongod import NOT_FOUND, URI_VARIABLE, Mongod, find_mongod
from tests.engines import missing_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def mongodb_options(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the options of a database of its own, which is dropped at the end."""
    with ExitStack() as stack:
        uri = os.environ.get(URI_VARIABLE) or _server(stack, folder)
        client = stack.enter_context(pymongo.MongoClient[dict[str, Any]](uri))
        database = f"bintrades_test_{uuid.uuid4().hex}"
        stack.callback(client.drop_database, database)
        yield {"uri": uri, "database": database}


def _server(stack: ExitStack, folder: Path) -> str:
    binary = find_mongod()
    if binary is None:
        missing_engine(NOT_FOUND)
    return stack.enter_context(Mongod(binary, folder / "mongod")).uri
