"""Bars that expire: the server deletes them, and nobody claims any more that they are there."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
from pymongo.errors import OperationFailure

from bintrades import BintradesError, ConfigError
from bintrades.model import CoveredSpan
from bintrades.stores.mongodb.expiry import BARS_INDEX, SPANS_INDEX
from bintrades.stores.mongodb.store import INDEX, MongoStore
from bintrades.testing.bars import sample_bar
from bintrades.testing.mongod import Mongod
from tests.stores.mongodb.test_store import opened

if TYPE_CHECKING:
    import logging
    from pathlib import Path

    from pymongo.collection import Collection
    from pymongo.database import Database

Document = dict[str, Any]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
DAY = timedelta(days=1)


@pytest.fixture
def bars(mongodb_database: Database[Document]) -> Collection[Document]:
    return mongodb_database["bars"]


@pytest.fixture
def spans(mongodb_database: Database[Document]) -> Collection[Document]:
    return mongodb_database["bars_coverage"]


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp()) // 10 * 10_000


def reopened(uri: str, bars: Collection[Document], expire_after: str) -> None:
    """Have a store with *expire_after* take a bar."""
    store = opened(uri, database=bars.database.name, expire_after=expire_after)
    try:
        store.store_bars([sample_bar(open_time_ms=now_ms())])
    finally:
        store.close_store()


def expiry_s(bars: Collection[Document]) -> int | None:
    index = bars.index_information().get(BARS_INDEX)
    return None if index is None else int(index["expireAfterSeconds"])


def span(since_ms: int, until_ms: int, symbol: str = "BTCUSDT") -> CoveredSpan:
    return CoveredSpan(symbol, "spot", since_ms, until_ms, 10_000)


def covered(spans: Collection[Document]) -> list[tuple[datetime, datetime]]:
    return [(each["since"], each["until"]) for each in spans.find().sort("since")]


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1_000, UTC)


def test_the_server_deletes_what_is_older_and_keeps_the_rest(
    mongod_binary: Path, tmp_path: Path
) -> None:
    now = now_ms()
    arguments = ["--setParameter=ttlMonitorSleepSecs=1"]
    with (
        Mongod(mongod_binary, tmp_path, arguments=arguments) as server,
        pymongo.MongoClient[Document](server.uri, tz_aware=True) as client,
    ):
        store = opened(server.uri, expire_after="2d")
        store.store_bars([sample_bar(open_time_ms=now - age * DAY_MS) for age in (3, 1)])
        deadline = time.monotonic() + 120
        while client["bintrades"]["bars"].count_documents({}) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (kept,) = client["bintrades"]["bars"].find()
        store.close_store()

    assert kept["open_time"] == moment(now - DAY_MS)


def test_the_index_follows_the_option_and_the_log_says_so(
    mongodb_uri: str, bars: Collection[Document], caplog: pytest.LogCaptureFixture
) -> None:
    bars.create_index("updated_at", name="mine", expireAfterSeconds=9_999_999)
    found = []
    for option in ("", "30d", "30d", "2d", "90d", ""):
        reopened(mongodb_uri, bars, option)
        found.append(expiry_s(bars))

    assert found == [None, *(days * 86_400 for days in (30, 30, 2, 90)), None]
    assert sorted(bars.index_information()) == ["_id_", "mine", INDEX.name]
    said = [each.getMessage() for each in caplog.records if _event(each) == "expiry_changed"]
    assert [each.rpartition(" is ")[2] for each in said[:3]] == ["30d ago", "2d ago", "90d ago"]
    assert "kept for ever" in said[3]
    assert len(said) == 4


def test_whoever_only_reads_changes_nothing(mongodb_uri: str, bars: Collection[Document]) -> None:
    reopened(mongodb_uri, bars, "2d")

    reader = opened(mongodb_uri, database=bars.database.name)
    read = list(reader.read_bars("BTCUSDT", moment(0), moment(now_ms() + DAY_MS), "spot"))
    reader.close_store()

    assert read
    assert expiry_s(bars) == 2 * 86_400


def test_an_index_of_the_user_that_deletes_bars_is_said(
    mongodb_uri: str, bars: Collection[Document], caplog: pytest.LogCaptureFixture
) -> None:
    bars.create_index("updated_at", name="mine", expireAfterSeconds=9_999_999)

    reopened(mongodb_uri, bars, "")

    assert "are deleted by the index mine, which is not ours" in caplog.text


def _event(record: logging.LogRecord) -> object:
    return record.__dict__.get("event")


def test_a_user_who_may_not_change_an_index_has_it_made_anew(
    mongod_binary: Path, tmp_path: Path
) -> None:
    """The role readWrite is enough."""
    with (
        Mongod(mongod_binary, tmp_path, auth=True) as server,
        pymongo.MongoClient[Document](server.uri) as root,
    ):
        may = [{"role": "readWrite", "db": "bintrades"}]
        root.admin.command("createUser", "writer", pwd="writer", roles=may)
        bars = root["bintrades"]["bars"]
        found = []
        for option in ("30d", "2d", ""):
            reopened(f"mongodb://writer:writer@{server.address}/", bars, option)
            found.append(expiry_s(bars))

    assert found == [30 * 86_400, 2 * 86_400, None]


def test_a_user_of_bars_and_spans_alone_may_go_on_where_none_expire(
    mongod_binary: Path, tmp_path: Path
) -> None:
    with (
        Mongod(mongod_binary, tmp_path, auth=True) as server,
        pymongo.MongoClient[Document](server.uri) as root,
    ):
        actions = ["find", "insert", "update", "remove", "createIndex", "listIndexes"]
        privileges = [
            {"resource": {"db": "bintrades", "collection": name}, "actions": actions}
            for name in ("bars", "bars_coverage")
        ]
        root.admin.command("createRole", "narrow", privileges=privileges, roles=[])
        root.admin.command("createUser", "narrow", pwd="narrow", roles=["narrow"])
        bars = root["bintrades"]["bars"]
        uri = f"mongodb://narrow:narrow@{server.address}/"

        reopened(uri, bars, "")
        with pytest.raises(OperationFailure):
            reopened(uri, bars, "2d")

        assert bars.count_documents({}) == 1


def test_a_dropped_collection_comes_again_with_its_expiry(
    mongodb_uri: str, bars: Collection[Document]
) -> None:
    store = opened(mongodb_uri, database=bars.database.name, expire_after="2d")
    bars.drop()
    store.store_bars([sample_bar(open_time_ms=now_ms())])
    assert expiry_s(bars) == 2 * 86_400

    bars.drop()
    store.identify_store()
    assert expiry_s(bars) == 2 * 86_400
    store.close_store()


@pytest.mark.parametrize("name", ["mine", BARS_INDEX])
def test_an_index_of_the_user_is_left_alone_and_named(
    mongodb_uri: str, bars: Collection[Document], name: str
) -> None:
    bars.create_index("open_time", name=name)

    with pytest.raises(BintradesError, match=rf'expire_after; .*dropIndex\("{name}"\)'):
        reopened(mongodb_uri, bars, "2d")

    assert "expireAfterSeconds" not in bars.index_information()[name]
    if name == "mine":
        reopened(mongodb_uri, bars, "")


def test_what_has_expired_is_not_claimed_and_no_claim_outlives_its_bars(
    mongodb_uri: str, bars: Collection[Document], spans: Collection[Document]
) -> None:
    now = now_ms()
    store = opened(mongodb_uri, database=bars.database.name, expire_after="2d")
    long_ago, long, recent = (now - 9 * DAY_MS, now - 5 * DAY_MS, now - DAY_MS)
    store.store_coverage(
        [span(long_ago, long_ago + HOUR_MS), span(long, recent), span(recent + HOUR_MS, now)]
    )
    store.close_store()

    first, last = covered(spans)
    assert timedelta(0) < first[0] - moment(now - 2 * DAY_MS) < timedelta(hours=3)
    assert first[1] == moment(recent)
    assert last == (moment(recent + HOUR_MS), moment(now))
    for each in spans.find():
        assert each["expires_at"] == each["since"] + 2 * DAY
    assert spans.index_information()[SPANS_INDEX]["expireAfterSeconds"] == 0


def test_a_claim_stays_the_same_document_while_it_grows(
    mongodb_uri: str, bars: Collection[Document], spans: Collection[Document]
) -> None:
    now = now_ms()
    store = opened(mongodb_uri, database=bars.database.name, expire_after="3650d")
    store.store_coverage([span(now - DAY_MS, now)])
    (before,) = spans.find()
    store.store_coverage([span(now - DAY_MS, now + 10_000)])
    (after,) = spans.find()
    store.close_store()

    assert after["_id"] == before["_id"]
    assert after["until"] > before["until"]


def test_claims_of_before_are_shortened_before_the_first_bar_is_deleted(
    mongodb_uri: str, bars: Collection[Document], spans: Collection[Document]
) -> None:
    now = now_ms()
    store = opened(mongodb_uri, database=bars.database.name)
    store.store_coverage([span(now - 90 * DAY_MS, now), span(now - 90 * DAY_MS, now, "ETHUSDT")])
    store.store_coverage([span(now - 90 * DAY_MS, now - 80 * DAY_MS, "OLDUSDT")])
    assert spans.count_documents({}) == 3
    store.close_store()
    spans.insert_one({"note": "mine"})

    reopened(mongodb_uri, bars, "40d")

    assert spans.delete_one({"note": "mine"}).deleted_count == 1
    assert len(covered(spans)) == 2
    for since, until in covered(spans):
        assert timedelta(0) < since - moment(now - 40 * DAY_MS) <= 2 * DAY + timedelta(minutes=10)
        assert until == moment(now)


@pytest.mark.parametrize("later", ["", "3650d"])
def test_a_longer_time_brings_no_claim_back(
    mongodb_uri: str, bars: Collection[Document], spans: Collection[Document], later: str
) -> None:
    now = now_ms()
    reopened(mongodb_uri, bars, "2d")
    store = opened(mongodb_uri, database=bars.database.name, expire_after=later)
    for _ in range(2):
        store.store_coverage([span(now - 9 * DAY_MS, now - 10_000)])
        store.close_store()
        store = opened(mongodb_uri, database=bars.database.name, expire_after=later)
    store.close_store()

    ((since, _),) = covered(spans)
    assert timedelta(0) <= since - moment(now - 2 * DAY_MS) < timedelta(minutes=10)
    (found,) = spans.find()
    assert ("expires_at" in found) == bool(later)
    assert (SPANS_INDEX in spans.index_information()) == bool(later)


def test_a_collection_that_was_made_anew_has_lost_nothing(
    mongodb_uri: str, bars: Collection[Document], spans: Collection[Document]
) -> None:
    now = now_ms()
    for option in ("2d", ""):
        reopened(mongodb_uri, bars, option)
    bars.drop()
    store = opened(mongodb_uri, database=bars.database.name)
    store.store_coverage([span(now - 9 * DAY_MS, now)])
    store.close_store()

    assert covered(spans) == [(moment(now - 9 * DAY_MS), moment(now))]


@pytest.mark.parametrize("interval_ms", [10_000, DAY_MS])
def test_claims_begin_with_a_whole_bar(
    mongodb_uri: str, bars: Collection[Document], spans: Collection[Document], interval_ms: int
) -> None:
    today = now_ms() // DAY_MS * DAY_MS
    store = opened(mongodb_uri, database=bars.database.name)
    told = CoveredSpan("BTCUSDT", "spot", today - 9 * DAY_MS, today, interval_ms)
    store.store_coverage([told])
    store.close_store()
    reopened(mongodb_uri, bars, "5d")
    ((withdrawn, _),) = covered(spans)
    store = opened(mongodb_uri, database=bars.database.name, expire_after="5d")
    store.store_coverage([told])
    store.close_store()

    ((told_again, _),) = covered(spans)
    for since in (withdrawn, told_again):
        assert int(since.timestamp() * 1_000) % interval_ms == 0


@pytest.mark.parametrize("value", ["1h", "3651d", "30", "never"])
def test_a_time_that_cannot_be_meant_is_refused_at_once(value: str) -> None:
    with pytest.raises(ConfigError, match=f"^expire_after = {value}: .*; allowed: 1d to 3650d"):
        MongoStore().check_store({"expire_after": value})
