-- What bintrades made of the one of version 4 when its journal was of version 5.
PRAGMA journal_mode = WAL;
PRAGMA application_id = 1651796529;
PRAGMA user_version = 5;
BEGIN TRANSACTION;
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
INSERT INTO "absent" VALUES('ETHUSDT',400,409,1723075255000,1723075256000,'reconnect',3,NULL,0,1723075259000,1);
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
    sequence INTEGER NOT NULL, epoch INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (open_time, symbol)
) WITHOUT ROWID;
INSERT INTO "bars" VALUES('BTCUSDT',1723075200000,1,1723075260000,1,1,3,1,'0.00300000','0.00100000','165.3000000000000001','55.1000000000000001','55000.01','55200.00','55000.01','55200.00',1,3,1723075200017,1723075209999,1,0);
INSERT INTO "bars" VALUES('ETHUSDT',1723075200000,2,1723075260001,1,1,4,2,'0.00600000','0.00200000','330.6000000000000002','110.2000000000000002','55000.01','55200.00','55000.01','55200.00',1,100,1723075200017,1723075209999,9,0);
INSERT INTO "bars" VALUES('BTCUSDT',1723075210000,1,1723075260000,1,1,3,1,'0.00300000','0.00100000','165.3000000000000001','55.1000000000000001','55000.01','55200.00','55000.01','55200.00',4,6,1723075210017,1723075219999,3,0);
INSERT INTO "bars" VALUES('ETHUSDT',1723075210000,1,1723075260000,1,1,3,1,'0.00300000','0.00100000','165.3000000000000001','55.1000000000000001','55000.01','55200.00','55000.01','55200.00',4,6,1723075210017,1723075219999,4,0);
INSERT INTO "bars" VALUES('BTCUSDT',1723075220000,1,1723075260000,1,0,3,1,'0.00300000','0.00100000','165.3000000000000001','55.1000000000000001','55000.01','55200.00','55000.01','55200.00',7,9,1723075220017,1723075229999,5,0);
INSERT INTO "bars" VALUES('ETHUSDT',1723075220000,1,1723075260000,1,0,3,1,'0.00300000','0.00100000','165.3000000000000001','55.1000000000000001','55000.01','55200.00','55000.01','55200.00',7,9,1723075220017,1723075229999,6,0);
INSERT INTO "bars" VALUES('BTCUSDT',1723075230000,1,1723075260000,1,1,3,1,'0.00300000','0.00100000','165.3000000000000001','55.1000000000000001','55000.01','55200.00','55000.01','55200.00',10,12,1723075230017,1723075239999,7,0);
INSERT INTO "bars" VALUES('BTCUSDT',1723075240000,1,1723075260000,1,1,3,1,'0.00300000','0.00100000','165.3000000000000001','55.1000000000000001','55000.01','55200.00','55000.01','55200.00',13,15,1723075240017,1723075249999,8,0);
INSERT INTO "bars" VALUES('BTCUSDT',1723075250000,1,1723075260001,0,1,3,1,'0.00300000','0.00100000','165.3000000000000001','55.1000000000000001','55000.01','55200.00','55000.01','55200.00',16,18,1723075250017,1723075259999,10,0);
CREATE TABLE blocks (
    block INTEGER NOT NULL,
    symbol TEXT NOT NULL,
    bars INTEGER NOT NULL,
    PRIMARY KEY (block, symbol)
) WITHOUT ROWID;
INSERT INTO "blocks" VALUES(478632,'BTCUSDT',6);
INSERT INTO "blocks" VALUES(478632,'ETHUSDT',3);
CREATE TABLE checkpoints (
    symbol TEXT PRIMARY KEY,
    next_id INTEGER,
    last_time INTEGER NOT NULL,
    open_bars TEXT NOT NULL,
    closed_through INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO "checkpoints" VALUES('BTCUSDT',1000,1723075260000,'[["BTCUSDT","spot",1723075250000,10000,3,1,"0.00300000","0.00100000","165.3000000000000001","55.1000000000000001","55000.01","55200.00","55000.01","55200.00",16,18,1723075250017,1723075259999,false,true,1,1723075260500]]',-1,1723075260001);
INSERT INTO "checkpoints" VALUES('ETHUSDT',1000,1723075229999,'[]',1723075220000,1723075260000);
CREATE TABLE counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "counts" VALUES('bars',9);
INSERT INTO "counts" VALUES('gaps abandoned',1);
INSERT INTO "counts" VALUES('gaps open',1);
INSERT INTO "counts" VALUES('gaps repaired',1);
INSERT INTO "counts" VALUES('incomplete',2);
INSERT INTO "counts" VALUES('unclosed',1);
CREATE TABLE cursors (store TEXT PRIMARY KEY, sequence INTEGER NOT NULL, waiting INTEGER NOT NULL DEFAULT 0, due INTEGER NOT NULL DEFAULT 0, refused INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
INSERT INTO "cursors" VALUES('jsonl',5,5,2,0);
INSERT INTO "cursors" VALUES('mongodb',5,5,0,1);
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
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "facts" VALUES('delivered','[[1723075260000,5]]');
INSERT INTO "facts" VALUES('exchange','binance');
INSERT INTO "facts" VALUES('interval_ms','10000');
INSERT INTO "facts" VALUES('listed_symbols','[["BTCUSDT","BTC","USDT"],["ETHUSDT","ETH","USDT"]]');
INSERT INTO "facts" VALUES('lost_through','{"ETHUSDT":1723075190000}');
INSERT INTO "facts" VALUES('market','spot');
INSERT INTO "facts" VALUES('reopened','{"BTCUSDT":[[7,9]]}');
INSERT INTO "facts" VALUES('resend shelf','[1723075220000, ""]');
INSERT INTO "facts" VALUES('rest_blocked_until','1723075260000');
INSERT INTO "facts" VALUES('sequence','10');
INSERT INTO "facts" VALUES('status','{"pid": 1}');
INSERT INTO "facts" VALUES('stream','trade');
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
INSERT INTO "gaps" VALUES('BTCUSDT',1,2,5,6,'reconnect',4,'too old',1);
INSERT INTO "gaps" VALUES('BTCUSDT',7,9,1723075220100,1723075220200,'skipped',0,NULL,0);
CREATE TABLE lost_bars (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
INSERT INTO "lost_bars" VALUES('ETHUSDT',1723075190000,'it could not be read');
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
INSERT INTO "past_gaps" VALUES('BTCUSDT',20,29,1723075260000,1723075260500,'reconnect',2,'no answer','repaired',1723075260001);
CREATE TABLE proofs (
    symbol TEXT PRIMARY KEY,
    proven INTEGER,
    last_time INTEGER NOT NULL,
    covered_since INTEGER
) WITHOUT ROWID;
INSERT INTO "proofs" VALUES('BTCUSDT',1723075260000,1723075260000,5);
INSERT INTO "proofs" VALUES('ETHUSDT',1723075229999,1723075229999,1723075200000);
CREATE TABLE pruned (symbol TEXT PRIMARY KEY, through INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "pruned" VALUES('BTCUSDT',1723075190000);
CREATE TABLE rebuilt (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    bar TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE rejected (
    store TEXT NOT NULL,
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    reason TEXT NOT NULL,
    rejected_at INTEGER NOT NULL,
    is_due INTEGER NOT NULL,
    PRIMARY KEY (open_time, symbol, store)
) WITHOUT ROWID;
INSERT INTO "rejected" VALUES('jsonl','BTCUSDT',1723075200000,'reason 0',1795818232603,1);
INSERT INTO "rejected" VALUES('mongodb','ETHUSDT',1723075200000,'reason 1',1795818232595,0);
INSERT INTO "rejected" VALUES('jsonl','ETHUSDT',1723075210000,'reason 3',1795818232603,1);
CREATE TABLE surplus (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE undelivered (
    store TEXT NOT NULL,
    symbol TEXT NOT NULL,
    since INTEGER NOT NULL,
    through INTEGER NOT NULL,
    PRIMARY KEY (store, symbol, since)
) WITHOUT ROWID;
INSERT INTO "undelivered" VALUES('jsonl','BTCUSDT',0,1723075190000);
INSERT INTO "undelivered" VALUES('mongodb','BTCUSDT',0,1723075190000);
CREATE TABLE verified (
    symbol TEXT NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (symbol, since)
) WITHOUT ROWID;
CREATE TABLE written (at INTEGER PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "written" VALUES(1723075260000,10);
CREATE UNIQUE INDEX bars_by_sequence ON bars (sequence);
CREATE INDEX blocks_by_symbol ON blocks (symbol, block);
CREATE INDEX rejected_due ON rejected (store, open_time, symbol) WHERE is_due = 1;
CREATE INDEX rejected_refused ON rejected (store, rejected_at) WHERE is_due = 0;
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
CREATE INDEX past_gaps_late ON past_gaps (symbol) WHERE outcome = 'late';
CREATE TRIGGER cursor_begun AFTER INSERT ON cursors BEGIN
    INSERT OR IGNORE INTO undelivered SELECT NEW.store, symbol, 0, through FROM pruned;
END;
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
COMMIT;
