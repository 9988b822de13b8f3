"""Brings the schema of a journal up to date, step by step of the ladder."""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING

from bintrades.journal.connection import transaction
from bintrades.journal.schema import APPLICATION_ID, COUNTING, LADDER, SCHEMA_VERSION, UNCOUNTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

log = logging.getLogger(__name__)


def create_schema(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty file; bring those of an earlier version up to date.

    All steps are one transaction. Raises sqlite3.Error.
    """
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # a commit survives a loss of power
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version >= SCHEMA_VERSION:
        return
    if version:
        log.info(
            "the journal is brought up to date, which takes some seconds for each million bars",
            extra={
                "event": "journal_migrated",
                "from_version": version,
                "to_version": SCHEMA_VERSION,
            },
        )
    _apply(connection, LADDER[version:], SCHEMA_VERSION)


def create_uncounted(connection: sqlite3.Connection) -> None:
    """Make the table of bars as it is today in an empty file, with nothing counted yet.

    Where many rows are to be put in, to count them all at the end, by count_rows(), costs less
    than to count each. Raises sqlite3.Error.
    """
    _apply(connection, UNCOUNTED, 0)


def count_rows(connection: sqlite3.Connection) -> None:
    """Make all else of today's schema after create_uncounted(). Raises sqlite3.Error."""
    _apply(connection, COUNTING, SCHEMA_VERSION)


def _apply(connection: sqlite3.Connection, steps: Iterable[str], version: int) -> None:
    with transaction(connection):
        for step in steps:
            for statement in statements(step):
                connection.execute(statement)
        connection.execute(f"PRAGMA main.application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA main.user_version = {version}")


def statements(script: str) -> Iterator[str]:
    """Yield the statements of *script*, the bodies of triggers whole."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
