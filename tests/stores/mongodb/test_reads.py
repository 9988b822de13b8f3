"""Bars read back from MongoDB."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from bson.decimal128 import Decimal128
from msgspec.structs import replace

from bintrades.errors import BintradesError
from bintrades.model.bar import utc
from bintrades.stores.mongodb.bar_bson import document
from bintrades.stores.mongodb.store import MongoStore
from bintrades.testing.bars import sample_bar, sample_bars

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database

Document = dict[str, Any]
EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))


@pytest.fixture
def store(mongodb_uri: str, mongodb_database: Database[Document]) -> Iterator[MongoStore]:
    """Return an open store of an empty collection."""
    store = MongoStore()
    store.open_store({"uri": mongodb_uri, "database": mongodb_database.name})
    yield store
    store.close_store()


def test_a_document_of_an_earlier_version_is_of_epoch_0(
    store: MongoStore, mongodb_database: Database[Document]
) -> None:
    store.store_bars([sample_bar()])
    assert mongodb_database["bars"].update_one({}, {"$unset": {"epoch": True}}).modified_count

    assert list(store.read_bars("BTCUSDT", *EVER, "spot")) == [sample_bar()]


def test_a_bar_of_contracts_comes_back_with_its_values_in_34_digits(store: MongoStore) -> None:
    value, rounded = Decimal("0." + "3" * 60), Decimal("0." + "3" * 34)
    bar = sample_bar(
        market="coinm",
        value=value,
        buy_value=value / 2,
        contract_size=Decimal(100),
        excluded_count=4,
        is_approximate=True,
        is_complete=False,
    )
    store.store_bars([bar])

    (back,) = store.read_bars("BTCUSDT", *EVER, "coinm")

    assert back == replace(bar, value=rounded, buy_value=bar.as_dict()["buy_value"])
    assert back.as_dict() == bar.as_dict() | {
        name: back.as_dict()[name] for name in ("sell_value", "average_price")
    }, "but for the last digit of what is derived"


def test_numbers_come_back_exactly(store: MongoStore) -> None:
    bar = sample_bar(
        value=Decimal("9999999999999999.999999999999999999"),
        buy_value=Decimal(0),
        min_price=Decimal("1E-18"),
        max_price=Decimal("1E+15"),
        last_trade_id=2**63 - 1,
        symbol="币安人生USDT",
    )
    store.store_bars([bar])

    assert list(store.read_bars(bar.symbol, *EVER, "spot")) == [bar]


@pytest.mark.parametrize(
    "wrong",
    [
        {"trade_count": "3"},
        {"value": 1.5},
        {"value": Decimal128("NaN")},
        {"first_trade_time": None},
        {"is_closed": 1},
    ],
    ids=str,
)
def test_a_document_that_is_no_bar_is_left_out_and_logged(
    store: MongoStore,
    mongodb_database: Database[Document],
    wrong: Document,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = sample_bars(2)
    store.store_bars([second])
    mongodb_database["bars"].insert_one(document(first) | wrong)

    with caplog.at_level(logging.WARNING):
        assert list(store.read_bars("BTCUSDT", *EVER, "spot")) == [second]

    (record,) = caplog.records
    assert record.__dict__["event"] == "document_unreadable"
    assert record.__dict__["open_time"] == str(first.open_time)


def test_reading_uses_the_index_that_keeps_bars_single(
    store: MongoStore, mongodb_database: Database[Document]
) -> None:
    store.store_bars(sample_bars(10))
    query = {"symbol": "BTCUSDT", "open_time": {"$gte": utc(0)}}

    plan = mongodb_database["bars"].find(query).sort("open_time").explain()

    assert "SORT" not in str(plan["queryPlanner"]["winningPlan"])
    assert "IXSCAN" in str(plan["queryPlanner"]["winningPlan"])


def test_a_store_that_is_not_open_cannot_be_read() -> None:
    with pytest.raises(BintradesError, match="open_store comes before read_bars"):
        list(MongoStore().read_bars("BTCUSDT", *EVER, "spot"))
