"""What SQLite is asked, from where, and how much work that is: real connections, looked over."""

from __future__ import annotations

import ast
import contextlib
import sqlite3
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

Site = tuple[str, int]
"""Name of a module's file, and line."""

_STATEMENTS = ("execute", "executemany")


class Meter:
    """Collects the statements of all connections that are opened while metering."""

    def __init__(self) -> None:
        self.statements: dict[tuple[Site, str], Any] = {}  # with parameters of one call
        self.steps = 0
        """Steps of SQLite's machine at which it looks around: at each jump, so in each loop."""

    def note(self, site: Site, sql: str, parameters: Any) -> None:
        """Keep a statement with what was bound to it."""
        self.statements[site, sql] = parameters
        self.steps += 1

    def step(self) -> int:
        """Count; called by SQLite."""
        self.steps += 1
        return 0


class _Connection(sqlite3.Connection):
    def __init__(self, meter: Meter, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._meter = meter
        self.set_progress_handler(meter.step, 1)

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Note the statement and run it."""
        self._meter.note(_caller(), sql, parameters)
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        """Note the statement, if it is run at all, and run it."""
        rows = list(parameters)
        if rows:
            self._meter.note(_caller(), sql, rows[0])
        return super().executemany(sql, rows)


def _caller() -> Site:
    frame = sys._getframe(2)
    return Path(frame.f_code.co_filename).name, frame.f_lineno


@contextlib.contextmanager
def metering() -> Iterator[Meter]:
    """Look over all connections that are opened meanwhile."""
    meter = Meter()
    with pytest.MonkeyPatch.context() as patch:
        opened = partial(sqlite3.connect, factory=partial(_Connection, meter))
        patch.setattr(sqlite3, "connect", opened)
        yield meter


def statements_in(module: Path) -> Iterator[tuple[range, str]]:
    """Yield the lines on which *module* hands statements to SQLite, and their text as written."""
    for node in ast.walk(ast.parse(module.read_bytes())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _STATEMENTS
        ):
            end = node.end_lineno or node.lineno
            yield range(node.lineno, end + 1), ast.unparse(node.args[0]).lstrip("f'\"")
