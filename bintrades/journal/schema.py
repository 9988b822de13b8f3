"""The tables of the journal, and how those of an earlier version become today's.

A new file climbs the same ladder as an old one: each step is the difference to the version before.
What is asked for often is counted as it is written, by triggers, so that no question costs in
proportion to what is stored, whoever writes:

- `counts`: bars, those of them that are incomplete or unclosed, gaps by what became of them;
- `cursors`: beside a store's place, how many bars wait for it, are due again, were refused;
- `gaps`: where is_abandoned is 0 its trades are asked for, 1: not any more, 2: aggregates stand in
  for them;
- `absent`: ids that do not exist, as far as the exchange knows, of which trades are still welcome;
- `written`: which sequence number was the last at some times of the exchange's clock, by which bars
  grow old; `pruned`: up to which open time bars of a symbol have left;
- `lost_bars`: what a damaged file did not give back, until the ids of its trades are missing again;
- `proofs`: up to when the trades of a symbol are proven to be known, and since when they are
  collected. Apart from its checkpoint, since of a quiet symbol nothing else is to be written; of a
  busy one it stays as it is: where its last_time is not the checkpoint's, that is what is proven;
- index `past_gaps_late`: the few past gaps that are holes in the coverage, among all others;
- `undelivered`: from and up to which open time bars of a symbol had left before a store could have
  them: it was enabled later, or not enabled for a while, or has lost what it had;
- `verified`: in which spans the bars were found to be what the exchange has, one row for as long as
  neighbours join, counted in milliseconds; `differences`: what did not agree, counted by outcome;
- `rebuilt`: bars that another process made again, until the writer takes them over;
- `surplus`: of which bars the exchange has no trades at all: they are never complete;
- `excluded`: ids of futures that are used but are no fills of the order book, in ranges, by which
  a bar's ids are its trades and these;
- `blocks`: how many bars each symbol has in each hour. Rows of `bars` lie by time, since those of
  one moment are written together into few pages; an index by symbol would cost a page for each
  bar. The hours show where bars of a symbol are, and change as rarely as it has a first in one.
"""

from __future__ import annotations

APPLICATION_ID = 0x62746A31  # "btj1", so that a stranger's database is not taken for a journal
BLOCK_MS = 3_600_000
"""Length of a block: the SQL below has it in figures."""

_VERSION_1 = """
CREATE TABLE bars (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    version INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    is_closed INTEGER NOT NULL,
    is_complete INTEGER NOT NULL,
    trade_count INTEGER NOT NULL,
    buy_count INTEGER NOT NULL,
    quantity TEXT NOT NULL,
    buy_quantity TEXT NOT NULL,
    value TEXT NOT NULL,
    buy_value TEXT NOT NULL,
    open_price TEXT NOT NULL,
    close_price TEXT NOT NULL,
    min_price TEXT NOT NULL,
    max_price TEXT NOT NULL,
    first_trade_id INTEGER NOT NULL,
    last_trade_id INTEGER NOT NULL,
    first_trade_time INTEGER NOT NULL,
    last_trade_time INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (open_time, symbol)
) WITHOUT ROWID;
CREATE UNIQUE INDEX bars_by_sequence ON bars (sequence);
CREATE INDEX bars_unclosed ON bars (symbol) WHERE is_closed = 0;
CREATE INDEX bars_incomplete ON bars (symbol) WHERE is_complete = 0;
CREATE TABLE checkpoints (
    symbol TEXT PRIMARY KEY,
    next_id INTEGER,
    last_time INTEGER NOT NULL,
    open_bars TEXT NOT NULL,
    closed_through INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE gaps (
    symbol TEXT NOT NULL,
    first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    cause TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    last_error TEXT,
    is_abandoned INTEGER NOT NULL,
    PRIMARY KEY (symbol, first_id)
) WITHOUT ROWID;
CREATE TABLE past_gaps (
    symbol TEXT NOT NULL,
    first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    cause TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    last_error TEXT,
    outcome TEXT NOT NULL,
    closed_at INTEGER NOT NULL,
    PRIMARY KEY (symbol, last_id)
) WITHOUT ROWID;
CREATE TABLE cursors (store TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE rejected (
    store TEXT NOT NULL,
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    reason TEXT NOT NULL,
    rejected_at INTEGER NOT NULL,
    is_due INTEGER NOT NULL,
    PRIMARY KEY (open_time, symbol, store)
) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO facts VALUES ('sequence', '0');
"""

_VERSION_2 = """
DROP INDEX bars_unclosed;
DROP INDEX bars_incomplete;

CREATE TABLE counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counts SELECT 'bars', count(*) FROM bars;
INSERT INTO counts SELECT 'unclosed', count(*) FROM bars WHERE NOT is_closed;
INSERT INTO counts SELECT 'incomplete', count(*) FROM bars WHERE is_closed AND NOT is_complete;
INSERT INTO counts SELECT 'gaps open', count(*) FROM gaps WHERE NOT is_abandoned;
INSERT INTO counts SELECT 'gaps abandoned', count(*) FROM gaps WHERE is_abandoned;
INSERT INTO counts SELECT 'gaps ' || outcome, count(*) FROM past_gaps GROUP BY outcome;

CREATE TABLE blocks (
    block INTEGER NOT NULL,
    symbol TEXT NOT NULL,
    bars INTEGER NOT NULL,
    PRIMARY KEY (block, symbol)
) WITHOUT ROWID;
INSERT INTO blocks SELECT open_time / 3600000, symbol, count(*) FROM bars GROUP BY 1, 2;
CREATE INDEX blocks_by_symbol ON blocks (symbol, block);

CREATE INDEX rejected_due ON rejected (store, open_time, symbol) WHERE is_due = 1;
CREATE INDEX rejected_refused ON rejected (store, rejected_at) WHERE is_due = 0;
ALTER TABLE cursors ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cursors ADD COLUMN due INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cursors ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
UPDATE cursors SET
    waiting = (SELECT count(*) FROM bars WHERE bars.sequence > cursors.sequence),
    due = (SELECT count(*) FROM rejected WHERE store = cursors.store AND is_due = 1),
    refused = (SELECT count(*) FROM rejected WHERE store = cursors.store AND is_due = 0);

CREATE TABLE absent (
    symbol TEXT NOT NULL,
    first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    cause TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    last_error TEXT,
    is_abandoned INTEGER NOT NULL,
    absent_at INTEGER NOT NULL,
    looks INTEGER NOT NULL,
    PRIMARY KEY (symbol, first_id)
) WITHOUT ROWID;

CREATE INDEX gaps_by_time ON gaps (since, symbol, first_id);
CREATE INDEX gaps_of_symbol_by_time ON gaps (symbol, since, first_id);
CREATE INDEX past_gaps_by_time ON past_gaps (since, symbol, first_id);
CREATE INDEX past_gaps_of_symbol_by_time ON past_gaps (symbol, since, first_id);
CREATE INDEX past_gaps_by_end ON past_gaps (closed_at);

CREATE TRIGGER bar_added AFTER INSERT ON bars BEGIN
    UPDATE counts SET value = value + 1 WHERE name = 'bars';
    UPDATE cursors SET waiting = waiting + 1 WHERE sequence < NEW.sequence;
    INSERT INTO blocks VALUES (NEW.open_time / 3600000, NEW.symbol, 1)
        ON CONFLICT (block, symbol) DO UPDATE SET bars = bars + 1;
END;
CREATE TRIGGER bar_added_unclosed AFTER INSERT ON bars WHEN NOT NEW.is_closed BEGIN
    UPDATE counts SET value = value + 1 WHERE name = 'unclosed';
END;
CREATE TRIGGER bar_added_incomplete AFTER INSERT ON bars
WHEN NEW.is_closed AND NOT NEW.is_complete BEGIN
    UPDATE counts SET value = value + 1 WHERE name = 'incomplete';
END;
CREATE TRIGGER bar_sent_again AFTER UPDATE OF sequence ON bars BEGIN
    UPDATE cursors SET waiting = waiting + (sequence < NEW.sequence) - (sequence < OLD.sequence)
        WHERE (sequence < NEW.sequence) <> (sequence < OLD.sequence);
END;
CREATE TRIGGER bar_changed AFTER UPDATE OF is_closed, is_complete ON bars
WHEN (OLD.is_closed, OLD.is_complete) <> (NEW.is_closed, NEW.is_complete) BEGIN
    UPDATE counts SET value = value + (NOT NEW.is_closed) - (NOT OLD.is_closed)
        WHERE name = 'unclosed';
    UPDATE counts SET value = value + (NEW.is_closed AND NOT NEW.is_complete)
        - (OLD.is_closed AND NOT OLD.is_complete) WHERE name = 'incomplete';
END;
CREATE TRIGGER bar_removed AFTER DELETE ON bars BEGIN
    UPDATE counts SET value = value - 1 WHERE name = 'bars';
    UPDATE cursors SET waiting = waiting - 1 WHERE sequence < OLD.sequence;
    UPDATE blocks SET bars = bars - 1
        WHERE block = OLD.open_time / 3600000 AND symbol = OLD.symbol;
    DELETE FROM blocks
        WHERE block = OLD.open_time / 3600000 AND symbol = OLD.symbol AND bars = 0;
    DELETE FROM rejected WHERE open_time = OLD.open_time AND symbol = OLD.symbol;
END;
CREATE TRIGGER bar_removed_unclosed AFTER DELETE ON bars WHEN NOT OLD.is_closed BEGIN
    UPDATE counts SET value = value - 1 WHERE name = 'unclosed';
END;
CREATE TRIGGER bar_removed_incomplete AFTER DELETE ON bars
WHEN OLD.is_closed AND NOT OLD.is_complete BEGIN
    UPDATE counts SET value = value - 1 WHERE name = 'incomplete';
END;

CREATE TRIGGER cursor_added AFTER INSERT ON cursors BEGIN
    UPDATE cursors SET
        waiting = (SELECT value FROM counts WHERE name = 'bars')
            - (SELECT count(*) FROM bars WHERE bars.sequence <= NEW.sequence),
        due = (SELECT count(*) FROM rejected WHERE store = NEW.store AND is_due = 1),
        refused = (SELECT count(*) FROM rejected WHERE store = NEW.store AND is_due = 0)
        WHERE store = NEW.store;
END;
CREATE TRIGGER cursor_moved AFTER UPDATE OF sequence ON cursors BEGIN
    UPDATE cursors SET waiting = waiting
        - (SELECT count(*) FROM bars
            WHERE bars.sequence > OLD.sequence AND bars.sequence <= NEW.sequence)
        + (SELECT count(*) FROM bars
            WHERE bars.sequence > NEW.sequence AND bars.sequence <= OLD.sequence)
        WHERE store = NEW.store;
END;

CREATE TRIGGER rejected_added AFTER INSERT ON rejected BEGIN
    UPDATE cursors SET due = due + (NEW.is_due = 1), refused = refused + (NEW.is_due = 0)
        WHERE store = NEW.store;
END;
CREATE TRIGGER rejected_changed AFTER UPDATE OF is_due ON rejected BEGIN
    UPDATE cursors SET due = due + (NEW.is_due = 1) - (OLD.is_due = 1),
        refused = refused + (NEW.is_due = 0) - (OLD.is_due = 0)
        WHERE store = NEW.store;
END;
CREATE TRIGGER rejected_removed AFTER DELETE ON rejected BEGIN
    UPDATE cursors SET due = due - (OLD.is_due = 1), refused = refused - (OLD.is_due = 0)
        WHERE store = OLD.store;
END;

CREATE TRIGGER gap_added AFTER INSERT ON gaps BEGIN
    UPDATE counts SET value = value + 1
        WHERE name = CASE WHEN NEW.is_abandoned THEN 'gaps abandoned' ELSE 'gaps open' END;
END;
CREATE TRIGGER gap_removed AFTER DELETE ON gaps BEGIN
    UPDATE counts SET value = value - 1
        WHERE name = CASE WHEN OLD.is_abandoned THEN 'gaps abandoned' ELSE 'gaps open' END;
END;
CREATE TRIGGER gap_changed AFTER UPDATE OF is_abandoned ON gaps
WHEN NEW.is_abandoned <> OLD.is_abandoned BEGIN
    UPDATE counts SET value = value + NEW.is_abandoned - OLD.is_abandoned
        WHERE name = 'gaps abandoned';
    UPDATE counts SET value = value + OLD.is_abandoned - NEW.is_abandoned
        WHERE name = 'gaps open';
END;
CREATE TRIGGER past_gap_added AFTER INSERT ON past_gaps BEGIN
    INSERT INTO counts VALUES ('gaps ' || NEW.outcome, 1)
        ON CONFLICT (name) DO UPDATE SET value = value + 1;
END;
CREATE TRIGGER past_gap_removed AFTER DELETE ON past_gaps BEGIN
    UPDATE counts SET value = value - 1 WHERE name = 'gaps ' || OLD.outcome;
END;
"""

_VERSION_3 = """
CREATE TABLE lost_bars (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE written (at INTEGER PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE pruned (symbol TEXT PRIMARY KEY, through INTEGER NOT NULL) WITHOUT ROWID;
"""

_VERSION_4 = """
ALTER TABLE bars ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
"""

_PROOFS = """
CREATE TABLE proofs (
    symbol TEXT PRIMARY KEY,
    proven INTEGER,
    last_time INTEGER NOT NULL,
    covered_since INTEGER
) WITHOUT ROWID;
CREATE INDEX past_gaps_late ON past_gaps (symbol) WHERE outcome = 'late';
"""

_UNDELIVERED = """
CREATE TABLE undelivered (
    store TEXT NOT NULL,
    symbol TEXT NOT NULL,
    since INTEGER NOT NULL,
    through INTEGER NOT NULL,
    PRIMARY KEY (store, symbol, since)
) WITHOUT ROWID;
CREATE TRIGGER cursor_begun AFTER INSERT ON cursors BEGIN
    INSERT OR IGNORE INTO undelivered SELECT NEW.store, symbol, 0, through FROM pruned;
END;
"""

_AUDIT = """
CREATE TABLE verified (
    symbol TEXT NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (symbol, since)
) WITHOUT ROWID;
CREATE TABLE differences (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    interval INTEGER NOT NULL,
    ours TEXT NOT NULL,
    theirs TEXT NOT NULL,
    found_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time, interval)
) WITHOUT ROWID;
CREATE TABLE rebuilt (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    bar TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE surplus (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;

CREATE TRIGGER verified_added AFTER INSERT ON verified BEGIN
    INSERT INTO counts VALUES ('verified', NEW.until - NEW.since)
        ON CONFLICT (name) DO UPDATE SET value = value + NEW.until - NEW.since;
END;
CREATE TRIGGER verified_changed AFTER UPDATE OF since, until ON verified BEGIN
    UPDATE counts SET value = value + (NEW.until - NEW.since) - (OLD.until - OLD.since)
        WHERE name = 'verified';
END;
CREATE TRIGGER verified_removed AFTER DELETE ON verified BEGIN
    UPDATE counts SET value = value - (OLD.until - OLD.since) WHERE name = 'verified';
END;
CREATE TRIGGER difference_added AFTER INSERT ON differences BEGIN
    INSERT INTO counts VALUES ('differences ' || NEW.outcome, 1)
        ON CONFLICT (name) DO UPDATE SET value = value + 1;
END;
CREATE TRIGGER difference_removed AFTER DELETE ON differences BEGIN
    UPDATE counts SET value = value - 1 WHERE name = 'differences ' || OLD.outcome;
END;
"""

FIRST_PROOFS = """
INSERT OR IGNORE INTO proofs
    SELECT symbol, last_time, last_time,
        min(coalesce(first_bar, last_time), coalesce(first_gap, last_time))
    FROM checkpoints
        LEFT JOIN (SELECT symbol, min(open_time) AS first_bar FROM bars GROUP BY symbol)
            USING (symbol)
        LEFT JOIN (SELECT symbol, min(since) AS first_gap FROM gaps GROUP BY symbol)
            USING (symbol)
    WHERE next_id IS NOT NULL;
"""
"""Of symbols without one: proven by their last trade, collected since their first bar or gap."""

UNPROVEN = """
UPDATE bars SET is_complete = 0
    WHERE is_closed AND is_complete
        AND open_time + (SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'interval_ms')
            > (SELECT last_time FROM checkpoints WHERE checkpoints.symbol = bars.symbol);
"""
"""Of versions before 5, whose newest bars were held to be complete before that was proven."""

UNPROVING_VERSIONS = range(1, 5)

_VERSION_5 = f"""
{_PROOFS}
{_UNDELIVERED}
{_AUDIT}
{FIRST_PROOFS}
{UNPROVEN}
UPDATE gaps SET is_abandoned = 1 WHERE first_id < 0;
INSERT INTO undelivered SELECT store, symbol, 0, through FROM cursors JOIN pruned;
"""  # noqa: S608 - constants

_BARS_OF_FUTURES = """
ALTER TABLE bars ADD COLUMN excluded_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE bars ADD COLUMN is_approximate INTEGER NOT NULL DEFAULT 0;
ALTER TABLE bars ADD COLUMN contract_size TEXT;
"""

_APPROXIMATED = """
INSERT OR REPLACE INTO counts SELECT 'gaps approximated', count(*) FROM gaps WHERE is_abandoned = 2;
UPDATE counts SET value = (SELECT count(*) FROM gaps WHERE is_abandoned = 1)
    WHERE name = 'gaps abandoned';
DROP TRIGGER gap_added;
DROP TRIGGER gap_removed;
DROP TRIGGER gap_changed;
CREATE TRIGGER gap_added AFTER INSERT ON gaps BEGIN
    UPDATE counts SET value = value + 1 WHERE name = CASE NEW.is_abandoned
        WHEN 0 THEN 'gaps open' WHEN 2 THEN 'gaps approximated' ELSE 'gaps abandoned' END;
END;
CREATE TRIGGER gap_removed AFTER DELETE ON gaps BEGIN
    UPDATE counts SET value = value - 1 WHERE name = CASE OLD.is_abandoned
        WHEN 0 THEN 'gaps open' WHEN 2 THEN 'gaps approximated' ELSE 'gaps abandoned' END;
END;
CREATE TRIGGER gap_changed AFTER UPDATE OF is_abandoned ON gaps
WHEN NEW.is_abandoned <> OLD.is_abandoned BEGIN
    UPDATE counts SET value = value - 1 WHERE name = CASE OLD.is_abandoned
        WHEN 0 THEN 'gaps open' WHEN 2 THEN 'gaps approximated' ELSE 'gaps abandoned' END;
    UPDATE counts SET value = value + 1 WHERE name = CASE NEW.is_abandoned
        WHEN 0 THEN 'gaps open' WHEN 2 THEN 'gaps approximated' ELSE 'gaps abandoned' END;
END;
"""

_EXCLUDED = """
CREATE TABLE excluded (
    symbol TEXT NOT NULL,
    first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    PRIMARY KEY (symbol, first_id)
) WITHOUT ROWID;
"""

_VERSION_6 = f"{_BARS_OF_FUTURES}{_APPROXIMATED}{_EXCLUDED}"

LADDER = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4, _VERSION_5, _VERSION_6)
"""What makes each version of the one before. A released step is never changed: add another."""

UNCOUNTED = (_VERSION_1, _VERSION_4, _BARS_OF_FUTURES)  # these only add columns to its tables
COUNTING = (_VERSION_2, _VERSION_3, _PROOFS, _UNDELIVERED, _AUDIT, _APPROXIMATED, _EXCLUDED)
"""The same schema in two parts: the table of bars as it is today, and what counts its rows."""

SCHEMA_VERSION = len(LADDER)
