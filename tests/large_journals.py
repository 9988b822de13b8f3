"""Journals of millions of bars, made within seconds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from bintrades.journal.migrations import statements
from bintrades.journal.schema import APPLICATION_ID, BLOCK_MS, LADDER
from tests.journals import INTERVAL_MS, journal_at

if TYPE_CHECKING:
    from pathlib import Path

SYMBOLS = 20
RARE, ALWAYS = "RAREUSDT", "S001USDT"
"""Symbols that trade in each twentieth interval, and in each."""

END_MS = 475_000 * BLOCK_MS
"""Where the newest bars end, whatever their number: the span of time grows to the past."""

REFUSED_BY_EACH = 10
_BARS = f"""
WITH RECURSIVE
    numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < :bars - 1),
    places (n, at, place) AS (
        SELECT n, {END_MS} - {INTERVAL_MS} * ((:bars - 1 - n) / {SYMBOLS} + 1), n % {SYMBOLS}
        FROM numbers
    )
INSERT INTO bars SELECT
    CASE WHEN place = 0 AND at / {INTERVAL_MS} % 20 = 0 THEN '{RARE}'
        ELSE printf('S%03dUSDT', place) END,
    at, 1, at, 1, place <> 7, 3, 1, '1', '1', '1', '1', '1', '1', '1', '1',
    3 * n + 1, 3 * n + 3, at, at, n + 1
FROM places
"""  # noqa: S608 - constants
_BESIDE = f"""
INSERT INTO checkpoints SELECT symbol, 9000000, {END_MS}, '[]', max(open_time), 0
    FROM bars WHERE sequence > :bars - 500 GROUP BY symbol;
INSERT INTO gaps
    WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 99)
    SELECT '{ALWAYS}', 10 * n, 10 * n, n, n, 'x', 0, NULL, 1 FROM numbers;
INSERT INTO past_gaps SELECT '{ALWAYS}', sequence, sequence, open_time, open_time, 'x', 1, NULL,
    'repaired', updated_at FROM bars WHERE sequence % 9 = 0;
INSERT INTO cursors VALUES ('even', :bars - 2000), ('behind', 0), ('refuses', :bars),
    ('again', :bars);
INSERT INTO rejected SELECT 'refuses', symbol, open_time, 'ugly', 1, 0 FROM bars
    WHERE sequence % 100 = 0;
INSERT INTO rejected SELECT 'again', symbol, open_time, 'ugly', 1, 1 FROM bars
    WHERE sequence % 100 = 50;
INSERT INTO rejected SELECT 'even', symbol, open_time, 'ugly', 1, 0 FROM bars
    WHERE sequence < {REFUSED_BY_EACH * 1_000} AND sequence % 1000 = 1;
INSERT INTO facts VALUES ('market', 'spot'), ('interval_ms', '{INTERVAL_MS}');
UPDATE facts SET value = :bars WHERE name = 'sequence';
"""  # noqa: S608 - constants


def make_journal(path: Path, bars: int) -> None:
    """Write a journal with so many bars of SYMBOLS symbols, as the first version would have.

    It is then brought up to date, which counts what there is.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for script in (LADDER[0], _BARS + ";", _BESIDE):
            for statement in statements(script):
                connection.execute(statement, {"bars": bars} if ":bars" in statement else {})
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("COMMIT")
    with journal_at(path):
        pass
